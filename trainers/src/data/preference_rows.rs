//! Rows that say which of two answers is the better one, or whether one answer is good; each kind made from the other.
//!
//! - preference: `prompt`, `chosen`, `rejected`, as text or as lists of messages; without `prompt`, it is what both
//!   answers begin with (TRL's `extract_prompt`)
//! - unpaired preference: `prompt`, `completion`, `label`
//!
//! A pair becomes two unpaired rows (TRL's `unpair_preference_dataset`); unpaired rows become
//! pairs where a prompt has both good and bad answers. What was done to a data set is said in its notes.
use super::format::{messages, template_kwargs, text, tools};
use super::read::{Row, kind};
use crate::error::{Error, Result};
use crate::plural::{WAS, counted, counted_of};
use serde_json::{Map, Value as Json};

/// The columns that rows of preferences are read from.
pub const COLUMNS: [&str; 9] =
    ["prompt", "chosen", "rejected", "completions", "completion", "label", "margin", "tools", "chat_template_kwargs"];

/// A prompt or an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// Plain text, as it stands in the row.
    Text(String),
    /// Messages of a conversation, objects with `role` and `content`.
    Messages(Vec<Json>),
}

impl Side {
    /// Whether it says nothing: no text, or only messages without content and tool calls.
    pub fn is_empty(&self) -> bool {
        match self {
            Side::Text(text) => text.is_empty(),
            Side::Messages(list) => list.iter().all(|m| m["content"] == "" && m.get("tool_calls").is_none()),
        }
    }
}

/// What the chat template gets besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// A list of tools; None where the row has none.
    pub tools: Option<Json>,
    /// Further variables: the row's `chat_template_kwargs`.
    pub template_kwargs: Option<Map<String, Json>>,
}

/// One prompt and answers to it, the best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The row it comes from, which errors name.
    pub row: Row,
    /// What is answered; empty where the answers have no common beginning.
    pub prompt: Side,
    /// At least two; of a pair: chosen, rejected.
    pub answers: Vec<Side>,
    /// By how much the first should be ahead of the second.
    pub margin: Option<f32>,
    /// What the template gets besides, the same for every answer.
    pub extras: Extras,
}

/// One answer and whether it is good.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRow {
    /// The row it comes from, which errors name.
    pub row: Row,
    /// What is answered.
    pub prompt: Side,
    /// The one answer.
    pub answer: Side,
    /// True for a good answer.
    pub label: bool,
    /// What the template gets besides.
    pub extras: Extras,
}

fn has(row: &Row, field: &str) -> bool {
    row.fields.get(field).is_some_and(|value| !value.is_null())
}

fn side(row: &Row, field: &str) -> Result<Side> {
    match row.fields.get(field) {
        Some(Json::Array(_)) => messages(row, field).map(Side::Messages),
        _ => text(row, field).map(|text| Side::Text(text.into())),
    }
}

fn extras(row: &Row) -> Result<Extras> {
    Ok(Extras { tools: tools(row)?, template_kwargs: template_kwargs(row)? })
}

/// What kind of preference a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// `chosen` and `rejected`
    Pair,
    /// `completions`, the best first
    Ranking,
    /// `completion` and `label`
    Labelled,
}

impl RowKind {
    /// The kind of a row; None of one that is no preference.
    pub fn of(row: &Row) -> Option<RowKind> {
        if has(row, "chosen") && has(row, "rejected") {
            Some(RowKind::Pair)
        } else if has(row, "completions") {
            Some(RowKind::Ranking)
        } else {
            (has(row, "completion") && has(row, "label")).then_some(RowKind::Labelled)
        }
    }

    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Pair => "pair of chosen and rejected",
            RowKind::Ranking => "prompt with completions",
            RowKind::Labelled => "completion with a label",
        }
    }
}

/// Rows as rankings. `rankings`: rows with `completions`, the best first, are taken too.
pub fn ranked_rows(rows: &[Row], rankings: bool) -> Result<(Vec<Ranked>, Vec<String>)> {
    let Some(first) = rows.first() else { return Err(Error::input("the data set has no rows")) };
    if has(first, "chosen") && has(first, "rejected") {
        return pairs(rows);
    }
    if rankings && has(first, "completions") {
        return Ok((rows.iter().map(ranking).collect::<Result<_>>()?, Vec::new()));
    }
    if has(first, "completion") && has(first, "label") {
        return paired(judged(rows)?);
    }
    let rankings = if rankings { ", or prompt and completions (a list, the best first)" } else { "" };
    Err(first.error(format!(
        "has the fields {:?}, which are no preference. A row needs chosen and rejected (with or without prompt), \
         or prompt, completion and label{rankings}",
        first.fields.keys().collect::<Vec<_>>()
    )))
}

fn pairs(rows: &[Row]) -> Result<(Vec<Ranked>, Vec<String>)> {
    let mut n_implicit = 0;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let (chosen, rejected) = (side(row, "chosen")?, side(row, "rejected")?);
        let explicit = has(row, "prompt").then(|| side(row, "prompt")).transpose()?;
        // A plain prompt beside conversations only repeats what they begin with.
        let explicit =
            explicit.filter(|p| matches!((p, &chosen), (Side::Text(_), Side::Text(_)) | (Side::Messages(_), _)));
        let (prompt, answers) = match (explicit, chosen, rejected) {
            (Some(prompt @ Side::Text(_)), chosen @ Side::Text(_), rejected @ Side::Text(_))
            | (Some(prompt @ Side::Messages(_)), chosen @ Side::Messages(_), rejected @ Side::Messages(_)) => {
                (prompt, vec![chosen, rejected])
            }
            (None, Side::Text(chosen), Side::Text(rejected)) => {
                n_implicit += 1;
                let (chosen, rejected): (Vec<char>, Vec<char>) = (chosen.chars().collect(), rejected.chars().collect());
                let mut n = common_prefix(&chosen, &rejected);
                if n > 0 && n < chosen.len().min(rejected.len()) && chosen[n - 1] == ' ' {
                    // The blank before an answer belongs to the answer.
                    n -= 1;
                }
                let text = |part: &[char]| Side::Text(part.iter().collect());
                (text(&chosen[..n]), vec![text(&chosen[n..]), text(&rejected[n..])])
            }
            (None, Side::Messages(chosen), Side::Messages(rejected)) => {
                n_implicit += 1;
                let n = common_prefix(&chosen, &rejected);
                let list = |part: &[Json]| Side::Messages(part.to_vec());
                (list(&chosen[..n]), vec![list(&chosen[n..]), list(&rejected[n..])])
            }
            _ => return Err(row.error("prompt, chosen and rejected must all be text, or all be lists of messages")),
        };
        all.push(Ranked { row: row.clone(), prompt, answers, margin: margin(row)?, extras: extras(row)? });
    }
    let mut notes = Vec::new();
    if n_implicit > 0 {
        notes.push(format!(
            "{n_implicit} of {} rows have no prompt of their own; it is what chosen and rejected begin with",
            rows.len()
        ));
    }
    Ok((all, notes))
}

/// How much of the beginning is the same, but less than all of the shorter one: an answer must be left (TRL's
/// `extract_prompt`).
fn common_prefix<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let shorter = a.len().min(b.len());
    a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(shorter.saturating_sub(1))
}

fn margin(row: &Row) -> Result<Option<f32>> {
    match row.fields.get("margin") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Number(number)) => Ok(number.as_f64().map(|x| x as f32)),
        Some(other) => Err(row.error(format!("the field \"margin\" must be a number, found {}", kind(other)))),
    }
}

fn ranking(row: &Row) -> Result<Ranked> {
    let prompt = side(row, "prompt")?;
    let list = match row.fields.get("completions") {
        Some(Json::Array(list)) if list.len() >= 2 => list,
        Some(Json::Array(_)) => return Err(row.error("\"completions\" must have at least two answers to rank")),
        Some(other) => return Err(row.error(format!("\"completions\" must be a list, found {}", kind(other)))),
        None => return Err(row.error("the field \"completions\" is missing")),
    };
    let mut answers = Vec::new();
    for (i, answer) in list.iter().enumerate() {
        let name = format!("completions[{i}]");
        let one = Row { fields: Map::from_iter([(name.clone(), answer.clone())]), ..row.clone() };
        let answer = side(&one, &name)?;
        if std::mem::discriminant(&answer) != std::mem::discriminant(&prompt) {
            return Err(row.error(format!("prompt and {name} must both be text, or both be lists of messages")));
        }
        answers.push(answer);
    }
    Ok(Ranked { row: row.clone(), prompt, answers, margin: None, extras: extras(row)? })
}

fn judged(rows: &[Row]) -> Result<Vec<LabelledRow>> {
    rows.iter()
        .map(|row| {
            let label = match row.fields.get("label") {
                Some(Json::Bool(label)) => *label,
                Some(Json::Number(n)) if matches!(n.as_f64(), Some(0.0 | 1.0)) => n.as_f64() == Some(1.0),
                Some(other) => {
                    return Err(row.error(format!("the field \"label\" must be true or false, found {}", kind(other))));
                }
                None => return Err(row.error("the field \"label\" is missing")),
            };
            let (prompt, answer) = (side(row, "prompt")?, side(row, "completion")?);
            if std::mem::discriminant(&answer) != std::mem::discriminant(&prompt) {
                return Err(row.error("prompt and completion must both be text, or both be lists of messages"));
            }
            Ok(LabelledRow { row: row.clone(), prompt, answer, label, extras: extras(row)? })
        })
        .collect()
}

/// Good and bad answers to the same prompt, first with first, second with second.
fn paired(rows: Vec<LabelledRow>) -> Result<(Vec<Ranked>, Vec<String>)> {
    let (n_rows, first) = (rows.len(), rows.first().map(|r| r.row.clone()));
    let mut open: Vec<(LabelledRow, Vec<LabelledRow>)> = Vec::new();
    let mut place: std::collections::HashMap<String, usize> = Default::default();
    for row in rows {
        let key = format!("{:?}", row.prompt);
        match place.get(&key) {
            Some(&i) => open[i].1.push(row),
            None => {
                place.insert(key, open.len());
                open.push((row, Vec::new()));
            }
        }
    }
    let mut all = Vec::new();
    for (head, rest) in open {
        let (good, bad): (Vec<LabelledRow>, Vec<LabelledRow>) =
            std::iter::once(head).chain(rest).partition(|r| r.label);
        for (good, bad) in good.into_iter().zip(bad) {
            let answers = vec![good.answer, bad.answer];
            all.push(Ranked { row: good.row, prompt: good.prompt, answers, margin: None, extras: good.extras });
        }
    }
    match first {
        Some(first) if all.is_empty() => Err(first.error(format!(
            "none of the {n_rows} rows makes a pair: no prompt has both an answer with label true and one with label \
             false. Unpaired rows are what kto and bco train on"
        ))),
        _ => {
            let note = format!(
                "{} made {}: of each prompt the answers with label true, each with one with label false; {} left out",
                counted(n_rows, "unpaired row"),
                counted(all.len(), "pair"),
                counted_of(n_rows - 2 * all.len(), n_rows, "row", WAS)
            );
            Ok((all, vec![note]))
        }
    }
}

/// Of so many pairs at a time come first all chosen answers, then all rejected ones: the order that TRL's
/// `unpair_preference_dataset` makes.
const UNPAIRED_AT_ONCE: usize = 1000;

/// Rows as single answers with their labels.
pub fn judged_rows(rows: &[Row]) -> Result<(Vec<LabelledRow>, Vec<String>)> {
    let Some(first) = rows.first() else { return Err(Error::input("the data set has no rows")) };
    if has(first, "chosen") && has(first, "rejected") {
        let (pairs, mut notes) = pairs(rows)?;
        let mut all = Vec::with_capacity(2 * pairs.len());
        for group in pairs.chunks(UNPAIRED_AT_ONCE) {
            for (i, label) in [true, false].into_iter().enumerate() {
                all.extend(group.iter().map(|pair| LabelledRow {
                    row: pair.row.clone(),
                    prompt: pair.prompt.clone(),
                    answer: pair.answers[i].clone(),
                    label,
                    extras: pair.extras.clone(),
                }));
            }
        }
        notes.push(format!(
            "{} became {}: chosen with label true, rejected with false",
            counted(rows.len(), "pair"),
            counted(all.len(), "row")
        ));
        return Ok((all, notes));
    }
    if !(has(first, "completion") && first.fields.contains_key("label")) {
        return Err(first.error(format!(
            "has the fields {:?}, which are no unpaired preference. A row needs prompt, completion and label (true or \
             false), or chosen and rejected",
            first.fields.keys().collect::<Vec<_>>()
        )));
    }
    Ok((judged(rows)?, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn row(value: Json) -> Row {
        let Json::Object(fields) = value else { unreachable!() };
        Row { path: Arc::new("d.jsonl".into()), line: 3, fields }
    }
    fn plain(text: &str) -> Side {
        Side::Text(text.into())
    }

    /// What TRL 1.16's extract_prompt returns for the same rows.
    #[test]
    fn implicit_prompts() {
        let of = |chosen: &str, rejected: &str| {
            let (rows, notes) = ranked_rows(&[row(json!({"chosen": chosen, "rejected": rejected}))], false).unwrap();
            assert!(notes[0].starts_with("1 of 1 rows have no prompt"), "{notes:?}");
            (rows[0].prompt.clone(), rows[0].answers.clone())
        };
        assert_eq!(of("sky is blue", "sky is red"), (plain("sky is"), vec![plain(" blue"), plain(" red")]));
        assert_eq!(of("äb", "äc"), (plain("ä"), vec![plain("b"), plain("c")]));
        assert_eq!(of("ab", "abc"), (plain("a"), vec![plain("b"), plain("bc")]));
        let chat = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        let rows = [row(json!({"prompt": "q", "chosen": chat("a"), "rejected": chat("b")}))];
        let (rows, _) = ranked_rows(&rows, false).unwrap();
        assert_eq!(rows[0].prompt, Side::Messages(vec![json!({"role": "user", "content": "q"})]));
        assert_eq!(rows[0].answers[1], Side::Messages(vec![json!({"role": "assistant", "content": "b"})]));
    }

    #[test]
    fn pairs_and_single_answers_become_each_other() {
        let pair = [row(json!({"prompt": "q", "chosen": "a", "rejected": "b"}))];
        let (single, notes) = judged_rows(&pair).unwrap();
        assert_eq!(
            single.iter().map(|j| (j.answer.clone(), j.label)).collect::<Vec<_>>(),
            [(plain("a"), true), (plain("b"), false)]
        );
        assert!(notes[0].contains("1 pair became 2 rows"), "{notes:?}");
        let one = |p: &str, c: &str, l: bool| row(json!({"prompt": p, "completion": c, "label": l}));
        let rows = [one("q", "bad", false), one("r", "lone", true), one("q", "good", true), one("q", "worse", false)];
        let (pairs, notes) = ranked_rows(&rows, false).unwrap();
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs[0].answers, [plain("good"), plain("bad")]);
        assert!(notes[0].contains("made 1 pair:") && notes[0].contains("2 of 4 rows were left out"), "{notes:?}");
        let told = ranked_rows(&rows[..2], false).unwrap_err().to_string();
        assert!(told.contains("none of the 2 rows makes a pair"), "{told}");
    }

    #[test]
    fn errors_name_line_and_field() {
        let told = |v: Json| ranked_rows(&[row(v)], true).unwrap_err().to_string();
        assert!(told(json!({"text": "a"})).starts_with("d.jsonl:3: has the fields [\"text\"]"));
        assert!(told(json!({"chosen": "a", "rejected": 1})).contains("\"rejected\" must be a string"));
        assert!(
            told(json!({"prompt": [{"role": "user", "content": "a"}], "chosen": "a", "rejected": "b"}))
                .contains("all be text")
        );
        assert!(told(json!({"prompt": "a", "completions": ["b"]})).contains("at least two"));
        assert!(told(json!({"chosen": "a", "rejected": "b", "margin": "x"})).contains("\"margin\" must be a number"));
        let told =
            judged_rows(&[row(json!({"prompt": "a", "completion": "b", "label": "x"}))]).unwrap_err().to_string();
        assert!(told.contains("\"label\" must be true or false"), "{told}");
    }
}
