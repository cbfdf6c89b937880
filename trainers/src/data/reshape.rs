//! Rows of one format made rows of another; what cannot become one, and what is lost on the way, is counted.
use super::others::{Calls, adopt_alone};
use super::preference_rows::{RowKind, Side, judged_rows, ranked_rows};
use super::read::Row;
use crate::error::Result;
use crate::named::named;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

named! {
    /// A format of TRL's that rows can be made of.
    pub enum RowFormat: fn(Row) -> Reshaped {
        /// `messages`, a whole conversation.
        Messages = "messages" => messages,
        /// `prompt` and `completion`, the last answer.
        PromptCompletion = "prompt-completion" | "prompt_completion" => prompt_completion,
        /// `prompt`, `chosen` and `rejected`.
        Preference = "preference" => preference,
        /// `prompt`, `completion` and `label`; two rows of each pair.
        UnpairedPreference = "unpaired-preference" | "unpaired_preference" => unpaired,
    }
}

/// What a row has become.
pub enum Reshaped {
    /// These rows; columns whose values are in none of them.
    Rows(Vec<Map<String, Json>>, Vec<&'static str>),
    /// Nothing, since it is as this says.
    Not(&'static str),
}

/// Counts of what was not taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Rows by what was wrong with them, with the line of the first.
    pub rows: BTreeMap<&'static str, (usize, usize)>,
    /// Values by column.
    pub values: BTreeMap<&'static str, usize>,
}

impl Losses {
    /// A line each.
    pub fn notes(&self) -> Vec<String> {
        let row = |(why, (n, line)): (&&str, &(usize, usize))| {
            format!("dropped: {n} rows {why} (the first is in line {line})")
        };
        let value = |(column, n): (&&str, &usize)| format!("dropped: {n} values of {column}");
        self.rows.iter().map(row).chain(self.values.iter().map(value)).collect()
    }
}

/// The rows that a row becomes; what is lost is counted. ShareGPT's and Alpaca's rows are understood, the latter as
/// conversations of instruction and output.
///
/// Errors: a field that is not as the row's format wants it.
pub fn reshape(row: Row, format: RowFormat, losses: &mut Losses) -> Result<Vec<Map<String, Json>>> {
    let line = row.line;
    Ok(match (format.value())(adopt_alone(row, Calls::AsCalls, true)?) {
        Reshaped::Rows(rows, lost) => {
            lost.into_iter().for_each(|column| *losses.values.entry(column).or_default() += 1);
            rows
        }
        Reshaped::Not(why) => {
            losses.rows.entry(why).or_insert((0, line)).0 += 1;
            Vec::new()
        }
    })
}

fn filled(row: &Row, name: &str) -> bool {
    row.fields.get(name).is_some_and(|value| !value.is_null())
}

/// The columns of a row without these, then these values.
fn with(row: &Row, without: &[&str], values: Vec<(&str, Json)>) -> Map<String, Json> {
    let kept = row.fields.iter().filter(|(name, _)| !without.contains(&name.as_str()));
    let mut fields: Map<String, Json> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    fields.extend(values.into_iter().map(|(name, value)| (name.to_string(), value)));
    fields
}

/// A prompt or an answer as messages: a text is what `role` says.
fn said(value: &Json, role: &str) -> Vec<Json> {
    match value {
        Json::Array(list) => list.clone(),
        other => vec![json!({"role": role, "content": other})],
    }
}

const COLUMNS: [&str; 7] = ["messages", "prompt", "completion", "chosen", "rejected", "completions", "margin"];
const OTHER: &str = "have no conversation, no prompt with an answer and no preference";

/// Prompt and best answer, and the columns that are lost with that.
fn best_answer(row: &Row) -> std::result::Result<(Json, Json, Vec<&'static str>), &'static str> {
    let value = |name: &str| row.fields.get(name).cloned().unwrap_or_default();
    match RowKind::of(row) {
        Some(RowKind::Pair | RowKind::Ranking) => {
            let (ranked, _) =
                ranked_rows(std::slice::from_ref(row), true).map_err(|_| "are preferences that cannot be read")?;
            let Some(ranked) = ranked.first() else { return Err(OTHER) };
            let side = |side: &Side| match side {
                Side::Text(text) => json!(text),
                Side::Messages(list) => Json::Array(list.clone()),
            };
            let lost = ["rejected", "completions", "margin"].into_iter().filter(|name| filled(row, name)).collect();
            Ok((side(&ranked.prompt), ranked.answers.first().map(side).unwrap_or_default(), lost))
        }
        Some(RowKind::Labelled) if value("label") == json!(false) || value("label") == json!(0) => {
            Err("are answers that are labelled as bad")
        }
        _ if filled(row, "prompt") && filled(row, "completion") => Ok((value("prompt"), value("completion"), vec![])),
        _ => Err(OTHER),
    }
}

fn messages(row: Row) -> Reshaped {
    if filled(&row, "messages") {
        return Reshaped::Rows(vec![row.fields], vec![]);
    }
    match best_answer(&row) {
        Ok((prompt, answer, lost)) => {
            let all: Vec<Json> = said(&prompt, "user").into_iter().chain(said(&answer, "assistant")).collect();
            Reshaped::Rows(vec![with(&row, &COLUMNS, vec![("messages", Json::Array(all))])], lost)
        }
        Err(why) => Reshaped::Not(why),
    }
}

fn prompt_completion(row: Row) -> Reshaped {
    let Some(Json::Array(list)) = row.fields.get("messages").filter(|value| !value.is_null()) else {
        return match best_answer(&row) {
            Ok((prompt, answer, lost)) => {
                Reshaped::Rows(vec![with(&row, &COLUMNS, vec![("prompt", prompt), ("completion", answer)])], lost)
            }
            Err(why) => Reshaped::Not(why),
        };
    };
    match list.split_last() {
        Some((last, _)) if last["role"] != "assistant" => Reshaped::Not("do not end with what the assistant says"),
        Some((last, before)) if !before.is_empty() => {
            let values = vec![("prompt", json!(before)), ("completion", json!([last]))];
            Reshaped::Rows(vec![with(&row, &COLUMNS, values)], vec![])
        }
        _ => Reshaped::Not("have nothing before the last answer"),
    }
}

fn preference(row: Row) -> Reshaped {
    match RowKind::of(&row) {
        Some(RowKind::Labelled) => return Reshaped::Not("are single answers with a label, which stand for no pair"),
        None => return Reshaped::Not("are no preferences"),
        Some(RowKind::Pair | RowKind::Ranking) => {}
    }
    let Ok((ranked, _)) = ranked_rows(std::slice::from_ref(&row), true) else {
        return Reshaped::Not("are preferences that cannot be read");
    };
    let [ranked] = &ranked[..] else { return Reshaped::Not("are no preferences") };
    let side = |side: &Side| match side {
        Side::Text(text) => json!(text),
        Side::Messages(list) => Json::Array(list.clone()),
    };
    let (first, last) = (ranked.answers.first().map(side), ranked.answers.last().map(side));
    let values = vec![
        ("prompt", side(&ranked.prompt)),
        ("chosen", first.unwrap_or_default()),
        ("rejected", last.unwrap_or_default()),
    ];
    let lost = if ranked.answers.len() > 2 { vec!["completions between the best and the last"] } else { vec![] };
    Reshaped::Rows(vec![with(&row, &["completions", "prompt", "chosen", "rejected"], values)], lost)
}

fn unpaired(row: Row) -> Reshaped {
    match RowKind::of(&row) {
        Some(RowKind::Labelled) => return Reshaped::Rows(vec![row.fields], vec![]),
        Some(RowKind::Pair) => {}
        Some(RowKind::Ranking) => {
            return Reshaped::Not("rank several answers, which are good or bad only beside each other");
        }
        None => return Reshaped::Not("are no preferences"),
    }
    let Ok((judged, _)) = judged_rows(std::slice::from_ref(&row)) else {
        return Reshaped::Not("are preferences that cannot be read");
    };
    let side = |side: &Side| match side {
        Side::Text(text) => json!(text),
        Side::Messages(list) => Json::Array(list.clone()),
    };
    let made = judged.iter().map(|one| {
        let values =
            vec![("prompt", side(&one.prompt)), ("completion", side(&one.answer)), ("label", json!(one.label))];
        with(&row, &COLUMNS, values)
    });
    let lost = if filled(&row, "margin") { vec!["margin"] } else { vec![] };
    Reshaped::Rows(made.collect(), lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn reshaped(format: RowFormat, row: Json) -> (Vec<Json>, Vec<String>) {
        let Json::Object(fields) = row else { unreachable!() };
        let row = Row { path: Arc::new("d.jsonl".into()), line: 3, fields };
        let mut losses = Losses::default();
        let rows = reshape(row, format, &mut losses).unwrap();
        (rows.into_iter().map(Json::Object).collect(), losses.notes())
    }

    fn turn(role: &str, content: &str) -> Json {
        json!({"role": role, "content": content})
    }

    #[test]
    fn everything_with_an_answer_becomes_a_conversation() {
        let chat = json!([turn("user", "q"), turn("assistant", "a")]);
        let of = |row: Json| reshaped(RowFormat::Messages, row);
        for row in [
            json!({"id": 1, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
            json!({"id": 1, "instruction": "q", "input": "", "output": "a"}),
            json!({"id": 1, "prompt": "q", "completion": "a"}),
            json!({"id": 1, "prompt": [turn("user", "q")], "completion": [turn("assistant", "a")]}),
            json!({"id": 1, "messages": chat}),
        ] {
            assert_eq!(of(row.clone()), (vec![json!({"id": 1, "messages": chat})], vec![]), "{row}");
        }
        let (rows, said) = of(json!({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1}));
        assert_eq!(rows, [json!({"messages": chat})]);
        assert_eq!(said, ["dropped: 1 values of margin", "dropped: 1 values of rejected"]);
        let (rows, said) = of(json!({"text": "t"}));
        assert!(rows.is_empty() && said[0].starts_with("dropped: 1 rows have no conversation"), "{said:?}");
        assert!(said[0].ends_with("(the first is in line 3)"), "{said:?}");
        assert!(of(json!({"prompt": "q", "completion": "a", "label": false})).1[0].contains("labelled as bad"));
    }

    #[test]
    fn the_last_answer_is_the_completion() {
        let of = |list: Vec<Json>| reshaped(RowFormat::PromptCompletion, json!({"messages": list, "id": 7}));
        let (user, says) = (turn("user", "q"), turn("assistant", "a"));
        let (rows, said) = of(vec![user.clone(), says.clone(), user.clone(), says.clone()]);
        assert_eq!(rows, [json!({"id": 7, "prompt": [user, says, user], "completion": [says]})]);
        assert!(said.is_empty());
        assert!(of(vec![says.clone(), user]).1[0].contains("do not end with"));
        assert!(of(vec![says]).1[0].contains("nothing before"));
    }

    #[test]
    fn pairs() {
        let of = |row: Json| reshaped(RowFormat::Preference, row);
        let pair = json!({"id": 1, "prompt": "The sky is", "chosen": " blue", "rejected": " red"});
        assert_eq!(
            of(json!({"id": 1, "chosen": "The sky is blue", "rejected": "The sky is red"})).0,
            std::slice::from_ref(&pair)
        );
        let (rows, said) = of(json!({"id": 1, "prompt": "The sky is", "completions": [" blue", " grey", " red"]}));
        assert_eq!(
            (rows, said[0].as_str()),
            (vec![pair.clone()], "dropped: 1 values of completions between the best and the last")
        );
        assert!(of(json!({"prompt": "q", "completion": "a", "label": true})).1[0].contains("single answers"));
        let (rows, said) = reshaped(RowFormat::UnpairedPreference, pair);
        let one =
            |text: &str, label: bool| json!({"id": 1, "prompt": "The sky is", "completion": text, "label": label});
        assert_eq!((rows, said), (vec![one(" blue", true), one(" red", false)], vec![]));
    }
}
