//! What there is in a data set: columns, format, lengths, speakers, duplicates, empty answers.
use super::duplicates::SeenTexts;
use super::format::{Format, recognise};
use super::preference_rows::RowKind;
use super::read::Row;
use crate::text::exact_json;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Characters of the longest bar of a histogram.
const BAR: usize = 40;

/// What was counted.
#[derive(Default)]
pub struct Survey {
    rows: usize,
    format: Option<String>,
    /// Rows of another format than the first, with the line of the first of them.
    others: Places,
    /// Of each column, how many values of each type.
    columns: Vec<(String, BTreeMap<&'static str, usize>)>,
    /// Characters of each part of a row.
    parts: Vec<(&'static str, Vec<usize>)>,
    /// (length, line) of each row in characters, or in tokens where these are known.
    whole: Vec<(usize, usize)>,
    /// Messages of each conversation.
    turns: Vec<usize>,
    roles: BTreeMap<String, usize>,
    seen: Option<SeenTexts>,
    duplicates: Places,
    empty_answers: Places,
    /// Characters that the chosen answer has more than the rejected one.
    ahead: Vec<i64>,
}

/// How many rows, and the line of the first.
#[derive(Clone, Copy, Default)]
struct Places(usize, usize);

impl Places {
    fn add(&mut self, line: usize) {
        if self.0 == 0 {
            self.1 = line;
        }
        self.0 += 1;
    }

    fn show(self, what: &str, text: &mut String) {
        if self.0 > 0 {
            line(text, format!("{} {what}, the first in line {}", self.0, self.1));
        }
    }
}

fn line(text: &mut String, said: String) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{said}");
}

/// A format in words; whether a trainer takes such rows.
pub fn format_in_words(row: &Row, text_field: &str) -> Option<String> {
    let has = |name: &str| row.fields.get(name).is_some_and(|value| !value.is_null());
    let spoken = |name: &str| row.fields.get(name).is_some_and(Json::is_array);
    let kind = |is_list: bool| if is_list { "conversations" } else { "text" };
    match RowKind::of(row) {
        Some(RowKind::Pair) => {
            let prompt = if has("prompt") { "" } else { ", the prompt in both" };
            Some(format!("preference ({}{prompt})", kind(spoken("chosen"))))
        }
        Some(RowKind::Ranking) => Some(format!("ranked completions ({})", kind(spoken("prompt")))),
        Some(RowKind::Labelled) => Some(format!("unpaired preference ({})", kind(spoken("completion")))),
        None => match recognise(row, text_field) {
            Ok(Format::Text) => Some("text".into()),
            Ok(Format::Messages) => Some("conversations (messages)".into()),
            Ok(format) => Some(format!("prompt-completion ({})", kind(format.is_conversational()))),
            Err(_) if has("prompt") => Some(format!("prompt only ({})", kind(spoken("prompt")))),
            Err(_) => None,
        },
    }
}

/// All that is said in a prompt, an answer or a conversation.
pub fn said(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(list) => list.iter().map(said).collect::<Vec<_>>().join("\n"),
        Json::Object(fields) if exact_json::exact_number(value).is_none() => {
            fields.get("content").or(fields.get("text")).map(said).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn type_name(value: &Json) -> &'static str {
    match value {
        number if exact_json::exact_number(number).is_some() => "number",
        Json::Null => "null",
        Json::Bool(_) => "truth value",
        Json::Number(_) => "number",
        Json::String(_) => "text",
        Json::Array(_) => "list",
        Json::Object(_) => "object",
    }
}

/// The parts of a row whose lengths are told.
const PARTS: [&str; 6] = ["messages", "prompt", "completion", "chosen", "rejected", "completions"];
const ANSWERS: [&str; 3] = ["completion", "chosen", "rejected"];

impl Survey {
    /// Takes a row in: as it stands in the file, and in TRL's formats. `tokens`: of the longest sequence it makes.
    pub fn add(&mut self, as_it_stands: &Row, row: &Row, text_field: &str, tokens: Option<usize>) {
        let format = format_in_words(row, text_field).map(|format| format + origin(as_it_stands));
        if self.rows == 0 {
            self.format = format;
        } else if self.format != format {
            self.others.add(row.line);
        }
        self.rows += 1;
        self.count_columns(as_it_stands);
        let mut whole = 0;
        for (name, column) in PARTS.into_iter().map(|name| (name, name)).chain([("text", text_field)]) {
            let Some(value) = row.fields.get(column).filter(|value| !value.is_null()) else { continue };
            let n = said(value).chars().count();
            whole += n;
            part(&mut self.parts, name).push(n);
            if ANSWERS.contains(&name) && said(value).trim().is_empty() && !calls_functions(value) {
                self.empty_answers.add(row.line);
            }
            self.count_turns(value);
        }
        self.whole.push((tokens.unwrap_or(whole), row.line));
        if let (Some(chosen), Some(rejected)) = (row.fields.get("chosen"), row.fields.get("rejected")) {
            self.ahead.push(said(chosen).chars().count() as i64 - said(rejected).chars().count() as i64);
        }
        let text = exact_json::to_text(&Json::Object(as_it_stands.fields.clone()));
        if self.seen.get_or_insert_with(|| SeenTexts::new(None)).check(self.rows, &text).is_some() {
            self.duplicates.add(row.line);
        }
    }

    fn count_columns(&mut self, row: &Row) {
        for (name, value) in &row.fields {
            let at = self.columns.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                self.columns.push((name.clone(), BTreeMap::new()));
                self.columns.len() - 1
            });
            *self.columns[at].1.entry(type_name(value)).or_default() += 1;
        }
    }

    fn count_turns(&mut self, value: &Json) {
        let Json::Array(list) = value else { return };
        let roles: Vec<&str> = list.iter().filter_map(|message| message.get("role")?.as_str()).collect();
        if !roles.is_empty() {
            self.turns.push(roles.len());
            roles.iter().for_each(|role| *self.roles.entry(role.to_string()).or_default() += 1);
        }
    }

    /// The report. `unit` is what whole rows were measured in; `max_length`: where they would be cut.
    pub fn report(&self, unit: &str, max_length: Option<usize>) -> String {
        let mut text = String::new();
        let format = self.format.as_deref().unwrap_or("none that a trainer takes; lapidary data convert may make one");
        line(&mut text, format!("{} rows\nformat: {format}", self.rows));
        self.others.show("rows are of another format", &mut text);
        line(&mut text, "\ncolumns".into());
        let width = self.columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, types) in &self.columns {
            let mut types: Vec<String> = types.iter().map(|(name, n)| format!("{name} {n}")).collect();
            let there: usize = self.columns.iter().filter(|(n, _)| n == name).flat_map(|(_, t)| t.values()).sum();
            types.extend((there < self.rows).then(|| format!("missing {}", self.rows - there)));
            line(&mut text, format!("  {name:<width$}  {}", types.join(", ")));
        }
        self.lengths(unit, max_length, &mut text);
        if !self.turns.is_empty() {
            let roles: Vec<String> = self.roles.iter().map(|(role, n)| format!("{role} {n}")).collect();
            line(&mut text, format!("roles: {}", roles.join(", ")));
        }
        line(&mut text, String::new());
        self.duplicates.show("rows are the same as an earlier one", &mut text);
        self.empty_answers.show("answers are empty", &mut text);
        if !self.ahead.is_empty() {
            let n = self.ahead.len() as f64;
            let mean = self.ahead.iter().sum::<i64>() as f64 / n;
            let longer = 100.0 * self.ahead.iter().filter(|d| **d > 0).count() as f64 / n;
            line(
                &mut text,
                format!(
                    "the chosen answer is the longer one in {longer:.1} % of pairs, and has {mean:+.1} characters in the mean"
                ),
            );
        }
        text.trim_end().to_string() + "\n"
    }

    fn lengths(&self, unit: &str, max_length: Option<usize>, text: &mut String) {
        line(text, format!("\n{:<24}{:>9}{:>9}{:>9}{:>9}", "lengths", "min", "median", "p95", "max"));
        let row = |name: String, values: &[usize]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            let [low, median, high, top] = [0.0, 0.5, 0.95, 1.0].map(|share| quantile(&values, share));
            format!("  {name:<22}{low:>9}{median:>9}{high:>9}{top:>9}")
        };
        for (name, values) in &self.parts {
            line(text, row(format!("{name}, characters"), values));
        }
        let whole: Vec<usize> = self.whole.iter().map(|(n, _)| *n).collect();
        line(text, row(format!("whole row, {unit}"), &whole));
        if !self.turns.is_empty() {
            line(text, row("messages".into(), &self.turns));
        }
        if let Some((n, at)) = self.whole.iter().max_by_key(|(n, at)| (*n, std::cmp::Reverse(*at))) {
            line(text, format!("the longest row has {n} {unit}: line {at}"));
        }
        if let Some(max) = max_length {
            let n = whole.iter().filter(|n| **n > max).count();
            let share = 100.0 * n as f64 / self.rows.max(1) as f64;
            line(text, format!("{n} rows ({share:.1} %) are longer than max_length {max}"));
        }
        line(text, format!("\n{unit} of a row"));
        histogram(&whole, text);
        line(text, String::new());
    }
}

/// Where rows come from that were not TRL's.
fn origin(row: &Row) -> &'static str {
    let has = |name: &str| row.fields.contains_key(name);
    if has("conversations") && !has("messages") {
        ", as ShareGPT has them"
    } else if has("instruction") && !has("prompt") && !has("messages") {
        ", as Alpaca has them"
    } else {
        ""
    }
}

fn part<'a>(parts: &'a mut Vec<(&'static str, Vec<usize>)>, name: &'static str) -> &'a mut Vec<usize> {
    let at = parts.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
        parts.push((name, Vec::new()));
        parts.len() - 1
    });
    &mut parts[at].1
}

fn calls_functions(value: &Json) -> bool {
    value.as_array().is_some_and(|list| list.iter().any(|m| m.get("tool_calls").is_some_and(|calls| !calls.is_null())))
}

/// The smallest value that at least this share of them does not exceed; 0 of none.
fn quantile(sorted: &[usize], share: f64) -> usize {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// A bar for every power of two: lengths below 2ⁿ⁺¹ from 2ⁿ on.
fn histogram(values: &[usize], text: &mut String) {
    let bin = |n: usize| n.checked_ilog2().map_or(0, |log| log as usize + 1);
    let (Some(low), Some(high)) = (values.iter().map(|n| bin(*n)).min(), values.iter().map(|n| bin(*n)).max()) else {
        return;
    };
    let count = |b: usize| values.iter().filter(|n| bin(**n) == b).count();
    let most = (low..=high).map(count).max().unwrap_or(1).max(1);
    for b in low..=high {
        let (from, to) = if b == 0 { (0, 0) } else { (1usize << (b - 1), (1usize << b) - 1) };
        let n = count(b);
        // What is there is seen, however little it is.
        let bar = "#".repeat((n * BAR).div_ceil(most));
        line(text, format!("{:>16} {n:>9} {bar}", format!("{from}–{to}")).trim_end().to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn survey(rows: &[Json]) -> String {
        let mut survey = Survey::default();
        for (i, row) in rows.iter().enumerate() {
            let Json::Object(fields) = row.clone() else { unreachable!() };
            let row = Row { path: Arc::new("d.jsonl".into()), line: i + 1, fields };
            survey.add(&row, &row, "text", None);
        }
        survey.report("characters", Some(12))
    }

    #[test]
    fn planted_faults_are_told() {
        let pair = |chosen: &str, rejected: &str| json!({"prompt": "q", "chosen": chosen, "rejected": rejected});
        let told = survey(&[
            pair("a long answer", "no"),
            pair("", "b"),
            pair("a long answer", "no"),
            json!({"text": "t", "id": 1}),
        ]);
        for said in [
            "4 rows\nformat: preference (text)",
            "1 rows are of another format, the first in line 4",
            "  chosen    text 3, missing 1",
            "  id        number 1, missing 3",
            "chosen, characters",
            "1 rows are the same as an earlier one, the first in line 3",
            "1 answers are empty, the first in line 2",
            "the chosen answer is the longer one in 66.7 % of pairs, and has +7.0 characters in the mean",
            "the longest row has 16 characters: line 1",
            "2 rows (50.0 %) are longer than max_length 12",
        ] {
            assert!(told.contains(said), "{said}\n{told}");
        }
    }

    #[test]
    fn turns_and_roles() {
        let said = |roles: &[&str]| {
            let turns: Vec<Json> = roles.iter().map(|role| json!({"role": role, "content": "é".repeat(3)})).collect();
            json!({"messages": turns})
        };
        let told = survey(&[said(&["system", "user", "assistant"]), said(&["user", "assistant"])]);
        assert!(told.contains("format: conversations (messages)"), "{told}");
        assert!(told.contains("roles: assistant 2, system 1, user 2"), "{told}");
        let table = |name: &str| -> Vec<String> {
            let row = told.lines().rfind(|line| line.trim_start().starts_with(name)).expect("a row");
            row.split_whitespace().rev().take(4).map(String::from).collect()
        };
        assert_eq!(
            (table("messages "), table("messages,")),
            (
                vec!["3".into(), "3".into(), "2".into(), "2".into()],
                vec!["11".into(), "11".into(), "7".into(), "7".into()]
            )
        );
    }

    #[test]
    fn quantiles_and_histograms() {
        let values: Vec<usize> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.95, 1.0].map(|share| quantile(&values, share)), [1, 50, 95, 100]);
        assert_eq!((quantile(&[], 0.5), quantile(&[7], 0.95)), (0, 7));
        let mut text = String::new();
        histogram(&[0, 1, 4, 5, 6, 7], &mut text);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let bar = "#".repeat(BAR);
        assert_eq!(
            lines,
            [vec!["0–0", "1", "##########"], vec!["1–1", "1", "##########"], vec!["2–3", "0"], vec!["4–7", "4", &bar]]
        );
    }
}
