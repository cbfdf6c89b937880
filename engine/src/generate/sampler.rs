//! What a caller asks of generation. The drawing itself is a kernel, [`Sample::sample`](crate::backend::Sample::sample).
use crate::backend::Choice;
use crate::error::{Error, Result};

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// A completion ends here at the latest.
    pub max_new_tokens: usize,
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the k most likely tokens; 0 is off.
    pub top_k: usize,
    /// Only the smallest set of most likely tokens that has at least this probability; 1 is off.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off. N. S. Keskar et al., "CTRL", 2019, §4.1.
    pub repetition_penalty: f32,
    /// Of the random numbers: the same seed draws the same tokens.
    pub seed: u64,
    /// Completion i draws from stream `first_stream + i` of the seed: a run that generates often never repeats itself.
    pub first_stream: u64,
    /// Rows of the KV cache; None for as many as all need, within a gigabyte. Results do not depend on it.
    pub cache_rows: Option<usize>,
    /// Tokens that end a completion (they are part of it).
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            max_new_tokens: 256,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
            first_stream: 0,
            cache_rows: None,
            stop_tokens: vec![],
        }
    }
}

impl Sampling {
    /// The temperature that logits are divided by: 1 where the likeliest token is taken.
    pub(super) fn scale(&self) -> f32 {
        if self.temperature > 0.0 { self.temperature } else { 1.0 }
    }
    /// What is asked of every token.
    pub(super) fn choice(&self) -> Choice {
        Choice {
            greedy: self.temperature == 0.0,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        }
    }
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |name: &str, value: f32, range: &str| Err(Error::Input(format!("{name} {value} is not {range}")));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "0 or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "in (0, 1]");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", self.min_p, "in [0, 1]");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return bad("repetition_penalty", self.repetition_penalty, "a positive number");
        }
        Ok(())
    }
}

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// log π(token), at the temperature that it was drawn with.
    pub logp: f32,
}
