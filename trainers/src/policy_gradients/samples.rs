//! `samples.jsonl`: every completion that a run learns from, with its rewards, as they come.
use super::judged::Prompt;
use super::rollout::Completion;
use crate::error::Result;
use crate::run::SamplesFile;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A line with the columns of a row behind it; a column that is called as one of the line's own fields is `row/<name>`.
fn with_columns(own: Value, row: &Map<String, Value>) -> Map<String, Value> {
    let Value::Object(mut line) = own else { return Map::new() };
    for (name, value) in row.iter().filter(|(name, _)| *name != "prompt") {
        let name = if line.contains_key(name) { format!("row/{name}") } else { name.clone() };
        line.insert(name, value.clone());
    }
    line
}

/// The open file.
#[derive(Debug)]
pub struct SamplesLog(SamplesFile);

impl SamplesLog {
    /// Starts anew, or with `resumed_step` goes on after what was drawn in the first so many steps.
    pub fn open(run: &Path, resumed_step: Option<u64>) -> Result<Self> {
        SamplesFile::open(run, resumed_step).map(SamplesLog)
    }

    /// A line a completion: the step it is for, what was asked and answered, each reward by name, their weighted sum; and
    /// the other columns of the prompt's row.
    pub fn write(
        &mut self,
        step: u64,
        drawn: &[(&Prompt, &Completion)],
        names: &[String],
        rewards: &[Vec<f64>],
        total: &[f64],
    ) -> Result<()> {
        let number = |x: f64| if x.is_nan() { Value::Null } else { Value::from(x) };
        let mut lines = Vec::new();
        for (i, (prompt, completion)) in drawn.iter().enumerate() {
            let each: Map<String, Value> =
                names.iter().zip(rewards).map(|(name, r)| (name.clone(), number(r[i]))).collect();
            let own = json!({
                "step": step, "prompt": prompt.value(), "completion": completion.text, "rewards": each,
                "reward": number(total[i]), "length": completion.ids.len(), "ended": completion.ended,
            });
            lines.push(Value::Object(with_columns(own, &prompt.row.fields)));
        }
        self.0.write(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_row_are_kept() {
        let row = json!({"prompt": "a", "answer": [1, 2], "step": 7});
        let line = with_columns(json!({"step": 1, "prompt": "a"}), row.as_object().unwrap());
        assert_eq!(Value::Object(line), json!({"step": 1, "prompt": "a", "answer": [1, 2], "row/step": 7}));
    }
}
