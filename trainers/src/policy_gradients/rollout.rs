//! Completions of prompts: drawn by the engine, or taken from a file.
use super::judged::Prompt;
use crate::error::{Error, Result};
use crate::judges::speaker::generate_until;
use crate::options::RolloutOptions;
use crate::text::{StopStrings, Tokenizer};
use engine::generate::Sampling;
use engine::model::decoder::Decoder;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// One completion of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Its tokens, without the prompt's; the last is the stop token where one ended it.
    pub ids: Vec<u32>,
    /// What people and rewards read: without special tokens.
    pub text: String,
    /// Log-probability of each token when it was drawn; None of completions from a file.
    pub logps: Option<Vec<f32>>,
    /// Whether it came to an end (rather than to the greatest length).
    pub ended: bool,
    /// The reward that the file gives it.
    pub reward: Option<f64>,
}

/// Where completions come from.
#[derive(Debug)]
pub enum Rollouts {
    /// From the policy as it is, step by step.
    Drawn(Drawing),
    /// From a file: the same in every run, whatever the policy.
    Fixed(FixedCompletions),
}

/// How completions are drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Temperature, filters, greatest length, stop tokens and seed.
    pub sampling: Sampling,
    /// Texts that end a completion.
    pub stop_strings: StopStrings,
}

/// One row of a completions file.
#[derive(Clone, Debug, Deserialize)]
struct FixedRow {
    prompt: Value,
    completion_ids: Vec<Vec<u32>>,
    #[serde(default)]
    rewards: Vec<Option<f64>>,
}

/// Completions of each prompt, from a file.
#[derive(Debug)]
pub struct FixedCompletions {
    by_prompt: HashMap<String, FixedRow>,
    stop_tokens: Vec<u32>,
    shown: String,
}

impl FixedCompletions {
    /// Reads a JSON array of `{"prompt", "completion_ids": [[…], …], "rewards": […]}`.
    pub fn read(path: &Path, stop_tokens: Vec<u32>, vocab_size: usize) -> Result<Self> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, format!("completions_file: {e}")))?;
        let rows: Vec<FixedRow> = serde_json::from_str(&text).map_err(|e| {
            Error::Input(format!("{shown}: not a JSON array of prompts with completion_ids and rewards: {e}"))
        })?;
        for (i, row) in rows.iter().enumerate() {
            let n = i + 1;
            let wrong = |detail: String| Err(Error::Input(format!("{shown}: entry {n}: {detail}")));
            if !row.rewards.is_empty() && row.rewards.len() != row.completion_ids.len() {
                return wrong(format!("{} rewards for {} completions", row.rewards.len(), row.completion_ids.len()));
            }
            if row.completion_ids.iter().any(Vec::is_empty) {
                return wrong("a completion has no tokens".into());
            }
            if let Some(t) = row.completion_ids.iter().flatten().find(|t| **t as usize >= vocab_size) {
                return wrong(format!("token {t} is not in the model's vocabulary of {vocab_size}"));
            }
        }
        let by_prompt = rows.into_iter().map(|row| (row.prompt.to_string(), row)).collect();
        Ok(FixedCompletions { by_prompt, stop_tokens, shown })
    }

    /// Errors: a prompt that the file does not have, or has too few completions of, before anything is written.
    pub fn check(&self, prompts: &[Prompt], n: usize, needs_rewards: bool) -> Result<()> {
        for prompt in prompts {
            let Some(row) = self.by_prompt.get(&prompt.value().to_string()) else {
                return Err(prompt.row.error(format!("{} has no completions of this prompt", self.shown)));
            };
            if row.completion_ids.len() < n {
                let has = row.completion_ids.len();
                return Err(prompt
                    .row
                    .error(format!("{} has {has} completions of this prompt, num_generations is {n}", self.shown)));
            }
            if needs_rewards && row.rewards.is_empty() {
                return Err(prompt.row.error(format!(
                    "{} gives the completions of this prompt no rewards; give --reward_funcs",
                    self.shown
                )));
            }
        }
        Ok(())
    }

    fn of(&self, prompt: &Prompt, n: usize, tokenizer: &Tokenizer) -> Result<Vec<Completion>> {
        let row = self.by_prompt.get(&prompt.value().to_string());
        let row = row.ok_or_else(|| prompt.row.error(format!("{} has no completions of this prompt", self.shown)))?;
        let completion = |i: usize| {
            let ids = row.completion_ids[i].clone();
            Ok(Completion {
                text: tokenizer.decode_plain(&ids)?,
                logps: None,
                ended: ids.last().is_some_and(|t| self.stop_tokens.contains(t)),
                reward: row.rewards.get(i).copied().flatten(),
                ids,
            })
        };
        (0..n).map(completion).collect()
    }
}

impl Drawing {
    /// As the options say; completion i of the run draws from stream i of the seed.
    pub fn new(options: &RolloutOptions, stop_tokens: Vec<u32>, seed: u64) -> Self {
        let sampling = Sampling {
            max_new_tokens: options.longest_completion(),
            temperature: options.temperature as f32,
            top_k: options.top_k,
            top_p: options.top_p as f32,
            min_p: options.min_p.unwrap_or(0.0) as f32,
            repetition_penalty: options.repetition_penalty as f32,
            seed,
            stop_tokens,
            ..Sampling::default()
        };
        Drawing { sampling, stop_strings: StopStrings(options.stop_strings.0.clone()) }
    }

    /// `n` completions of each prompt, from streams `first_stream` on.
    pub fn draw(
        &self,
        model: &Decoder,
        prompts: &[&Prompt],
        n: usize,
        first_stream: u64,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Completion>> {
        let sampling = Sampling { first_stream, ..self.sampling.clone() };
        let ids: Vec<Vec<u32>> = prompts.iter().map(|p| p.ids.clone()).collect();
        let drawn = generate_until(model, &ids, n, &sampling, (&self.stop_strings, tokenizer))?;
        let completion = |c: engine::generate::Completion| {
            let text = tokenizer.decode_plain(&c.tokens)?;
            Ok(Completion { text, ids: c.tokens, logps: Some(c.logps), ended: c.stopped, reward: None })
        };
        drawn.into_iter().map(completion).collect()
    }
}

impl Rollouts {
    /// `n` completions of each prompt, in order of prompt.
    pub fn of(
        &self,
        model: &Decoder,
        prompts: &[&Prompt],
        n: usize,
        first_stream: u64,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Completion>> {
        match self {
            Rollouts::Drawn(drawing) => drawing.draw(model, prompts, n, first_stream, tokenizer),
            Rollouts::Fixed(file) => {
                let groups: Vec<Vec<Completion>> =
                    prompts.iter().map(|p| file.of(p, n, tokenizer)).collect::<Result<_>>()?;
                Ok(groups.concat())
            }
        }
    }
}
