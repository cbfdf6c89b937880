//! What is judged, and what judges: a prompt, a completion, and the trait of every reward.
use crate::data::marked::Marked;
use crate::data::{Example, Row};
use crate::error::Result;
use serde_json::Value;

/// A prompt, ready to be continued.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its tokens, as the model is given them.
    pub ids: Vec<u32>,
    /// Its row, with the columns that rewards look at.
    pub row: Row,
}

impl Prompt {
    /// The prompt as it stands in its row.
    pub fn value(&self) -> &Value {
        self.row.fields.get("prompt").unwrap_or(&Value::Null)
    }
}

impl Marked for Prompt {
    /// No token of a prompt is trained on: completions are drawn behind it.
    fn marked(&self, row: usize) -> Vec<(String, Example)> {
        vec![(format!("prompt {row}"), Example { trained: vec![false; self.ids.len()], ids: self.ids.clone() })]
    }
}

/// A completion to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What was asked, with its row's columns.
    pub prompt: &'a Prompt,
    /// Without special tokens.
    pub text: &'a str,
    /// Its tokens, special ones and the stop token included.
    pub ids: &'a [u32],
}

/// Judges completions, a batch at a time: a number each, or None where it has no opinion.
pub trait Reward: Send {
    /// The name in metrics and samples.
    fn name(&self) -> &str;
    /// What is wrong with the data for this reward, before anything is drawn: a missing column.
    fn check(&self, _prompts: &[Prompt]) -> Result<()> {
        Ok(())
    }
    /// A finite number for each completion, in order; None where it has no opinion. An error ends the run.
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>>;
}

/// A closure as a reward.
pub struct FunctionReward<F> {
    /// The name in metrics and samples.
    pub name: String,
    /// What [`Reward::score`] calls.
    pub function: F,
}

impl<F: FnMut(&[Judged]) -> Result<Vec<Option<f64>>> + Send> Reward for FunctionReward<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        (self.function)(completions)
    }
}

/// A prompt whose row has these columns.
#[cfg(test)]
pub fn test_prompt(columns: &[(&str, Value)]) -> Prompt {
    let fields: serde_json::Map<String, Value> = columns.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    Prompt { ids: vec![1], row: Row { path: std::sync::Arc::new("d.jsonl".into()), line: 1, fields } }
}
