//! Generation: prompts are computed once, their samples share the prompt's rows of the KV cache, finished sequences
//! leave the batch. Sampled tokens stay token ids.
pub mod sampler;

use crate::error::{Error, Result};
use crate::forest::{AttentionPlan, Forest};
use crate::model::cache::KvCache;
use crate::model::decoder::Decoder;
use crate::random::Stream;
pub use sampler::Sampling;

/// A sampled continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Index of the prompt it continues.
    pub prompt: usize,
    /// Sampled tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// log-probability of each token under the distribution it was drawn from (after temperature, before top-k and top-p).
    pub logps: Vec<f32>,
    /// Whether a stop token ended it (rather than the length).
    pub stopped: bool,
}

/// A sequence being continued.
struct Active {
    completion: usize,
    /// Cache rows of every token so far, by position.
    path: Vec<u32>,
    /// First of the rows reserved for new tokens.
    next_row: u32,
    /// The token to feed next.
    last: u32,
    stream: Stream,
}

/// `n_samples` completions of each prompt, in order of prompt. `on_token(completion, token)` hears every token as it comes
/// and ends generation by returning false. A completion depends on its prompt, the seed and its own index, not on its neighbours.
pub fn generate(
    model: &Decoder,
    prompts: &[Vec<u32>],
    n_samples: usize,
    sampling: &Sampling,
    mut on_token: impl FnMut(usize, u32) -> bool,
) -> Result<Vec<Completion>> {
    sampling.check()?;
    check_lengths(model, prompts, sampling)?;
    let mut completions: Vec<Completion> = (0..prompts.len() * n_samples)
        .map(|i| Completion { prompt: i / n_samples.max(1), tokens: vec![], logps: vec![], stopped: false })
        .collect();
    if completions.is_empty() || sampling.max_new_tokens == 0 {
        return Ok(completions);
    }
    let n_prompt: usize = prompts.iter().map(Vec::len).sum();
    let mut cache = KvCache::new(&model.device, &model.config, n_prompt + completions.len() * sampling.max_new_tokens)?;
    let mut logits = prefill(model, prompts, &mut cache)?;
    let v = model.config.vocab_size;
    let mut active = Vec::new();
    let mut prompt_start = 0;
    for (p, prompt) in prompts.iter().enumerate() {
        for s in 0..n_samples {
            let completion = p * n_samples + s;
            let path = (prompt_start..prompt_start + prompt.len()).map(|r| r as u32).collect();
            let next_row = (n_prompt + completion * sampling.max_new_tokens) as u32;
            active.push(Active {
                completion,
                path,
                next_row,
                last: 0,
                stream: Stream::new(sampling.seed, completion as u64),
            });
        }
        prompt_start += prompt.len();
    }
    // The first token of all samples of a prompt is drawn from the same logits row, later ones each from their own.
    let mut logits_row: Vec<usize> = active.iter().map(|a| a.completion / n_samples).collect();
    loop {
        let mut heard = true;
        let mut rows = logits_row.iter();
        active.retain_mut(|a| {
            let Some(&row) = rows.next() else { return false };
            let (done, prompt) = (&mut completions[a.completion], &prompts[a.completion / n_samples]);
            let (token, logp) =
                sampler::sample(&mut logits[row * v..][..v].to_vec(), prompt, &done.tokens, sampling, a.stream);
            done.tokens.push(token);
            done.logps.push(logp);
            done.stopped = sampling.stop_tokens.contains(&token);
            a.last = token;
            heard &= on_token(a.completion, token);
            !done.stopped && done.tokens.len() < sampling.max_new_tokens
        });
        if active.is_empty() || !heard {
            return Ok(completions);
        }
        logits = step(model, &mut active, &mut cache)?;
        logits_row = (0..active.len()).collect();
    }
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

/// Computes all prompts at once into the cache's first rows; returns the logits after each: [prompts, V].
fn prefill(model: &Decoder, prompts: &[Vec<u32>], cache: &mut KvCache) -> Result<Vec<f32>> {
    let forest = Forest::from_sequences(prompts)?;
    let mut plan = forest.attention_plan();
    plan.n_keys = cache.n_rows;
    (plan.positions, plan.ends) = (vec![], vec![]);
    let rows: Vec<u32> = (0..forest.n_tokens() as u32).collect();
    let hidden = model.hidden_cached(&forest.tokens, &forest.positions(), &rows, plan, cache)?;
    let last: Vec<u32> = forest.segments.iter().map(|s| (s.start + s.len - 1) as u32).collect();
    model.logits(&hidden, &last)?.to_vec()
}

/// Feeds each active sequence its last token; returns the logits after it: [active, V].
fn step(model: &Decoder, active: &mut [Active], cache: &mut KvCache) -> Result<Vec<f32>> {
    let mut plan = AttentionPlan { n_keys: cache.n_rows, ..Default::default() };
    let (mut tokens, mut positions, mut rows) = (vec![], vec![], vec![]);
    for a in active.iter_mut() {
        tokens.push(a.last);
        positions.push(a.path.len() as u32);
        rows.push(a.next_row);
        a.path.push(a.next_row);
        a.next_row += 1;
        plan.push_queries(1, a.path.len() - 1, &a.path);
    }
    let hidden = model.hidden_cached(&tokens, &positions, &rows, plan, cache)?;
    model.logits(&hidden, &(0..active.len() as u32).collect::<Vec<_>>())?.to_vec()
}
