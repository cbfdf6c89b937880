//! `lapidary judge`: the answers of a file compared (or graded) by a constitution; verdicts are rows to train on.
use crate::data::{Calls, Row, load};
use crate::device;
use crate::error::{Error, Result};
use crate::judges::constitutional::{Case, Judge, Verdict, readable};
use crate::options::{JudgeOptions, VerdictOptions};
use crate::plural::counted;
use crate::run::durable::write_file;
use crate::text::exact_json;
use serde_json::{Map, Value, json};
use std::io::Write;

/// What is asked about a row: two of its answers, or its one answer.
struct ToJudge<'a> {
    row: &'a Row,
    answers: Vec<&'a Value>,
}

/// The questions of a row: each two of its completions, chosen and rejected, or its completion alone.
fn questions(row: &Row) -> Result<Vec<ToJudge<'_>>> {
    let field = |name: &str| row.fields.get(name).filter(|value| !value.is_null());
    let wrong = |detail: String| Err(row.error(detail));
    if field("prompt").is_none() {
        return wrong(format!(
            "the field \"prompt\" is missing (the row has {:?})",
            row.fields.keys().collect::<Vec<_>>()
        ));
    }
    if let Some((chosen, rejected)) = field("chosen").zip(field("rejected")) {
        return Ok(vec![ToJudge { row, answers: vec![chosen, rejected] }]);
    }
    match (field("completions"), field("completion")) {
        (Some(Value::Array(all)), _) if all.len() > 1 => {
            let pairs = (0..all.len()).flat_map(|i| (i + 1..all.len()).map(move |j| (i, j)));
            Ok(pairs.map(|(i, j)| ToJudge { row, answers: vec![&all[i], &all[j]] }).collect())
        }
        (Some(_), _) => wrong("\"completions\" must be a list of at least two answers to compare".into()),
        (None, Some(one)) => Ok(vec![ToJudge { row, answers: vec![one] }]),
        (None, None) => wrong(format!(
            "has the fields {:?}; a row needs prompt and completions (two or more), chosen and rejected, or completion",
            row.fields.keys().collect::<Vec<_>>()
        )),
    }
}

/// What became of the questions.
#[derive(Default)]
struct Tally {
    compared: usize,
    ties: usize,
    graded: usize,
    too_long: usize,
    equal: usize,
    /// Comparisons of chosen with rejected, and those that chose the same.
    labelled: usize,
    agreed: usize,
    bias: f64,
}

/// Judges every row, then writes the verdicts.
pub fn run(options: &JudgeOptions) -> Result<()> {
    let asked = &options.verdict;
    for path in [&asked.output_file, &asked.ties_file].into_iter().flatten() {
        if path.exists() && !asked.overwrite_output_file {
            return Err(Error::file(path, "is there already; --overwrite_output_file writes over it"));
        }
    }
    let loaded = load(options.split.of(&asked.dataset_name), Calls::AsCalls)?;
    loaded.notes.iter().for_each(|note| tell!("note: {note}"));
    let rows = loaded.rows;
    let mut all = Vec::new();
    for row in &rows {
        all.extend(questions(row)?);
    }
    let device = device::open(options.device.device, options.device.threads)?;
    let (path, adapter) = (&options.model.model_name_or_path, asked.adapter_name_or_path.as_deref());
    let with = (&device, options.model.dtype);
    let (template, rule) = (asked.judge_template.as_deref(), asked.judge_verdict);
    let judge = Judge::open(path, adapter, &asked.constitution, template, rule, with)?;
    let case = |q: &ToJudge| Case {
        prompt: readable(&q.row.fields["prompt"]),
        completions: q.answers.iter().map(|a| readable(a)).collect(),
    };
    let verdicts = judge.judge(&all.iter().map(case).collect::<Vec<_>>(), asked.per_device_eval_batch_size)?;
    let (mut verdict_rows, mut tie_rows, mut tally) = (String::new(), String::new(), Tally::default());
    for (question, verdict) in all.iter().zip(&verdicts) {
        let Some(verdict) = verdict else {
            tally.too_long += 1;
            continue;
        };
        let row = verdict_row(question, verdict, &judge, &mut tally);
        let to = if question.answers.len() == 2 && verdict.rank(rule) < 0 { &mut tie_rows } else { &mut verdict_rows };
        *to += &(exact_json::to_text(&Value::Object(row)) + "\n");
    }
    if let Some(path) = &asked.ties_file {
        write_file(path, tie_rows.as_bytes())?;
    }
    if verdict_rows.is_empty() {
        return Err(nothing_left(asked, &tally));
    }
    match &asked.output_file {
        Some(path) => write_file(path, verdict_rows.as_bytes())?,
        None => std::io::stdout().write_all(verdict_rows.as_bytes()).map_err(Error::output)?,
    }
    tell!("{}", tally.said());
    Ok(())
}

fn nothing_left(asked: &VerdictOptions, tally: &Tally) -> Error {
    let mut why = format!("{}: no verdict is left", asked.dataset_name);
    if tally.ties > 0 {
        why += &format!(
            ": all {} comparisons change with the order of the answers ({} of the same answer twice; liking for the first \
             place {:+.3} nats); a stronger judge or clearer principles are needed, or judge_verdict average, which takes the \
             mean of both orders",
            tally.ties,
            tally.equal,
            tally.bias / tally.compared as f64
        );
    }
    if tally.too_long > 0 {
        why += &format!(": {} longer than the judge's context", counted(tally.too_long, "question"));
    }
    Error::input(why)
}

/// An answer as training reads it beside its prompt: messages beside messages.
fn answer_beside(prompt: &Value, answer: &Value) -> Value {
    match (prompt, answer) {
        (Value::Array(_), Value::String(text)) => json!([{"role": "assistant", "content": text}]),
        _ => answer.clone(),
    }
}

/// The row of a verdict: prompt, chosen, rejected (of a tie the answers as `completions`; of one answer `completion`),
/// and what the judge thought.
fn verdict_row(question: &ToJudge, verdict: &Verdict, judge: &Judge, tally: &mut Tally) -> Map<String, Value> {
    let prompt = &question.row.fields["prompt"];
    let mut row = Map::from_iter([("prompt".to_string(), prompt.clone())]);
    row.extend(question.row.fields.get("tools").map(|tools| ("tools".to_string(), tools.clone())));
    let answers: Vec<Value> = question.answers.iter().map(|a| answer_beside(prompt, a)).collect();
    match (answers.len(), verdict.rank(judge.rule)) {
        (1, _) => {
            tally.graded += 1;
            row.insert("completion".into(), answers[0].clone());
            row.insert("label".into(), json!(verdict.log_odds() > 0.0));
        }
        (_, rank) => {
            tally.compared += 1;
            tally.bias += verdict.bias();
            tally.labelled += usize::from(question.row.fields.contains_key("chosen"));
            if rank < 0 {
                tally.ties += 1;
                tally.equal += usize::from(answers[0] == answers[1]);
                row.insert("completions".into(), json!(answers));
            } else {
                let first = rank == 0;
                tally.agreed += usize::from(first && question.row.fields.contains_key("chosen"));
                row.insert("chosen".into(), answers[usize::from(!first)].clone());
                row.insert("rejected".into(), answers[usize::from(first)].clone());
            }
        }
    }
    // As seen by the chosen answer: positive where the judge is for it.
    let sign = if answers.len() == 2 && verdict.rank(judge.rule) == 1 { -1.0 } else { 1.0 };
    row.insert(
        "judge".into(),
        json!({
            "model": judge.path, "constitution_sha256": judge.constitution_hash,
            "log_odds": sign * verdict.log_odds(), "log_odds_given": sign * verdict.given,
            "log_odds_swapped": sign * verdict.swapped,
        }),
    );
    row
}

impl Tally {
    /// What became of them, in one line.
    fn said(&self) -> String {
        let mut parts = Vec::new();
        if self.compared > 0 {
            let mean = self.bias / self.compared as f64;
            parts.push(format!(
                "{} compared: {}, {} ({} of the same answer twice); liking for the first place {mean:+.3} nats",
                counted(self.compared, "pair"),
                counted(self.compared - self.ties, "verdict"),
                counted(self.ties, "tie"),
                self.equal
            ));
        }
        if self.labelled > 0 {
            parts.push(format!("{} of {} chose what the data chose", self.agreed, self.labelled));
        }
        if self.graded > 0 {
            parts.push(format!("{} graded", counted(self.graded, "answer")));
        }
        if self.too_long > 0 {
            parts.push(format!("{} left out: longer than the judge's context", counted(self.too_long, "question")));
        }
        parts.join("; ")
    }
}
