//! Generation: prompts are computed once, their samples share the prompt's rows of the KV cache. Sampled tokens stay
//! token ids.
//!
//! Batching is continuous: a finished sequence leaves and frees its rows, and waiting prompts enter where there is room.
//! What is drawn depends on the prompt, the seed and the completion's own stream of random numbers: neither on its
//! neighbours nor on when it entered.
mod rows;
mod batch;
mod generation_memory;
pub mod sampler;

use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use batch::Batch;
pub use generation_memory::{GenerationShape, generation_memory};
pub use sampler::{Drawn, Sampling};

/// A sampled continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Index of the prompt it continues.
    pub prompt: usize,
    /// Sampled tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token at the sampling's temperature over the whole vocabulary (1 where that is 0), before
    /// top-k, top-p, min-p and the repetition penalty. On the CPU scoring the tokens again gives the same bits.
    pub logps: Vec<f32>,
    /// Whether a stop token or the listener ended it (rather than the length).
    pub stopped: bool,
}

/// What becomes of a completion after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More tokens are wanted.
    Continue,
    /// This completion ends here (a stop string was found).
    Stop,
    /// All generation ends here.
    Abort,
}

/// [`generate_with`] for listeners that only watch: `on_token` ends all generation by returning false.
pub fn generate(
    model: &Decoder,
    prompts: &[Vec<u32>],
    n_samples: usize,
    sampling: &Sampling,
    mut on_token: impl FnMut(usize, u32) -> bool,
) -> Result<Vec<Completion>> {
    generate_with(model, prompts, n_samples, sampling, |completion, tokens| {
        let last = tokens.last().copied().unwrap_or_default();
        if on_token(completion, last) { Next::Continue } else { Next::Abort }
    })
}

/// `n_samples` completions of each prompt, in order of prompt. `on_token(completion, its tokens so far)` hears every token
/// as it comes and decides what follows.
pub fn generate_with(
    model: &Decoder,
    prompts: &[Vec<u32>],
    n_samples: usize,
    sampling: &Sampling,
    mut on_token: impl FnMut(usize, &[u32]) -> Next,
) -> Result<Vec<Completion>> {
    sampling.check()?;
    check_lengths(model, prompts, sampling)?;
    let mut completions: Vec<Completion> = (0..prompts.len() * n_samples)
        .map(|i| Completion { prompt: i / n_samples.max(1), tokens: vec![], logps: vec![], stopped: false })
        .collect();
    if completions.is_empty() || sampling.max_new_tokens == 0 {
        return Ok(completions);
    }
    let model = &model.for_generation()?;
    let mut batch = Batch::new(model, prompts, n_samples, sampling)?;
    while !batch.is_done() {
        let mut drawn = Vec::new();
        let old = batch.n_active();
        if old > 0 {
            let logits = batch.step()?;
            drawn = batch.draw(0, &logits, &completions)?;
        }
        if let Some(logits) = batch.admit()? {
            drawn.extend(batch.draw(old, &logits, &completions)?);
        }
        let mut finished = vec![false; completions.len()];
        for (index, Drawn { token, logp }) in drawn {
            let done = &mut completions[index];
            done.tokens.push(token);
            done.logps.push(logp);
            let next = on_token(index, &done.tokens);
            done.stopped = next == Next::Stop || sampling.stop_tokens.contains(&token);
            finished[index] = done.stopped || done.tokens.len() == sampling.max_new_tokens;
            if next == Next::Abort {
                return Ok(completions);
            }
        }
        batch.leave(|index| finished[index]);
    }
    Ok(completions)
}

fn check_lengths(model: &Decoder, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<()> {
    let context = model.config.max_position_embeddings;
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(Error::Input(format!("prompt {i} has no tokens")));
        }
        if prompt.len() + sampling.max_new_tokens > context {
            return Err(Error::Input(format!(
                "prompt {i} has {} tokens; with {} new ones it does not fit the model's context of {context}",
                prompt.len(),
                sampling.max_new_tokens
            )));
        }
    }
    Ok(())
}
