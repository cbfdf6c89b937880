//! Evaluation: lm-evaluation-harness's task files as they are, its metrics, and log-likelihoods that do not move by a bit with
//! batch size or neighbours.
//!
//! Modules in reading order; each uses only those before it. A task file says what is asked ([`task_file`]); a row becomes a
//! prompt with its examples ([`prompting`]), a prompt one or several requests ([`requests`]); what the model answers goes through
//! filters ([`answer_filters`]) to metrics ([`scores`]).
pub mod python_values;
pub mod task_file;
pub mod prompting;
pub mod requests;
pub mod answer_filters;
pub mod scores;

use crate::error::Result;
use prompting::Prompts;
use requests::{Model, Request, Response};
use scores::{Aggregated, PerRow};
use serde_json::{Map, Value, json};
use task_file::EvalTask;

/// What a task has come to.
#[derive(Clone, Debug, Default)]
pub struct Evaluated {
    /// A line a metric and filter, in the order of the task file.
    pub metrics: Vec<Aggregated>,
    /// What was asked and answered, a JSON object a row and filter, with lm-eval's names.
    pub samples: Vec<Value>,
}

/// Asks the model every row of a task (the first `limit`, if given).
pub fn evaluate(task: &EvalTask, model: &Model, limit: Option<usize>) -> Result<Evaluated> {
    let rows = &task.rows[..limit.unwrap_or(usize::MAX).min(task.rows.len())];
    let mut prompts = Prompts::new(task)?;
    let asked: Vec<Vec<Request>> = rows.iter().map(|row| prompts.requests(row)).collect::<Result<_>>()?;
    let flat: Vec<&Request> = asked.iter().flatten().collect();
    let mut answers = model.answer(&flat, task)?.into_iter();
    let answered: Vec<Vec<Response>> =
        asked.iter().map(|requests| answers.by_ref().take(requests.len()).collect()).collect();
    let mut found = Evaluated::default();
    for filter in &task.filters {
        let mut table: Vec<PerRow> = Vec::new();
        for (i, (row, answers)) in rows.iter().zip(&answered).enumerate() {
            let filtered: Vec<Value> = answers.iter().map(|answer| filter.apply(answer)).collect::<Result<_>>()?;
            let values = scores::of_row(task, &prompts, row, answers, &filtered)?;
            found.samples.push(sample(i, row, &asked[i], answers, &filtered, filter.name(), &values));
            table.push(values);
        }
        found.metrics.extend(scores::aggregate(task, filter.name(), &table));
    }
    Ok(found)
}

/// A line of `samples_TASK.jsonl`.
fn sample(
    i: usize,
    row: &Map<String, Value>,
    asked: &[Request],
    answers: &[Response],
    filtered: &[Value],
    filter: &str,
    values: &PerRow,
) -> Value {
    let mut line = json!({
        "doc_id": i,
        "doc": row,
        "arguments": asked.iter().map(Request::to_json).collect::<Vec<_>>(),
        "resps": answers.iter().map(Response::to_json).collect::<Vec<_>>(),
        "filtered_resps": filtered,
        "filter": filter,
    });
    if let Some(line) = line.as_object_mut() {
        line.extend(values.iter().map(|(name, value)| (name.clone(), value.to_json())));
    }
    line
}
