//! What generation will need, told before it starts: the KV cache, the prompts that enter together, their logits.
use super::sampler::Sampling;
use crate::config::ModelConfig;
use crate::model::memory::pass_memory;

/// Memory that a cache may take unless one prompt alone needs more: 1 GiB.
const CACHE_BYTES: usize = 1 << 30;

/// Bytes that the cache has for each token.
fn row_bytes(c: &ModelConfig) -> usize {
    8 * c.n_layers * c.n_kv_heads * c.head_size
}

/// Rows of the cache for prompts of these lengths, `n_samples` completions each: what all need, within a gigabyte.
pub(super) fn cache_rows(config: &ModelConfig, lengths: &[usize], n_samples: usize, sampling: &Sampling) -> usize {
    let need = |length: &usize| length + n_samples * sampling.max_new_tokens;
    let all: usize = lengths.iter().map(need).sum();
    let largest = lengths.iter().map(need).max().unwrap_or(0);
    let room = sampling.cache_rows.unwrap_or(CACHE_BYTES / row_bytes(config).max(1));
    all.min(room.max(largest))
}

/// Generation as memory sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationShape {
    /// Rows of the KV cache.
    pub cache_rows: usize,
    /// Prompts that enter together, and their tokens.
    pub n_prompts: usize,
    /// All of those prompts'.
    pub n_prompt_tokens: usize,
    /// Sequences that are continued at once.
    pub n_active: usize,
}

impl GenerationShape {
    /// Of prompts of these lengths, `n_samples` completions each: as many enter as the cache has room for.
    pub fn of(config: &ModelConfig, lengths: &[usize], n_samples: usize, sampling: &Sampling) -> Self {
        let mut shape = GenerationShape {
            cache_rows: cache_rows(config, lengths, n_samples, sampling),
            ..GenerationShape::default()
        };
        let mut left = shape.cache_rows;
        for length in lengths {
            let need = length + n_samples * sampling.max_new_tokens;
            if need > left {
                break;
            }
            left -= need;
            shape.n_prompts += 1;
            shape.n_prompt_tokens += length;
            shape.n_active += n_samples;
        }
        shape
    }
}

/// Bytes that generation has beside the weights: the cache, and either the prompts on their way through a block or the logits
/// of what follows them (a row each prompt, and one each sequence where samples share a prompt).
pub fn generation_memory(config: &ModelConfig, shape: GenerationShape) -> u64 {
    let GenerationShape { cache_rows, n_prompts, n_prompt_tokens, n_active } = shape;
    let hidden = 4 * (n_prompt_tokens * config.hidden_size) as u64;
    let rows = n_active + if n_active > n_prompts { n_prompts } else { 0 };
    let logits = 4 * (rows * config.vocab_size) as u64;
    (cache_rows * row_bytes(config)) as u64 + pass_memory(config, n_prompt_tokens, 0).max(hidden + logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::ModelFiles;
    use std::path::Path;

    #[test]
    fn prompts_enter_while_there_is_room() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/llama");
        let config = ModelFiles::open(dir).unwrap().config;
        let sampling = Sampling { max_new_tokens: 10, ..Sampling::default() };
        let all = GenerationShape::of(&config, &[5, 7], 2, &sampling);
        assert_eq!(all, GenerationShape { cache_rows: 52, n_prompts: 2, n_prompt_tokens: 12, n_active: 4 });
        let tight = Sampling { cache_rows: Some(30), ..sampling };
        let one = GenerationShape::of(&config, &[5, 7], 2, &tight);
        assert_eq!(one, GenerationShape { cache_rows: 30, n_prompts: 1, n_prompt_tokens: 5, n_active: 2 });
        // The cache, and a row of logits for the prompt and for each of its two samples.
        let cache = 30 * row_bytes(&config) as u64;
        let (hidden, logits) = (4 * 5 * config.hidden_size as u64, 4 * 3 * config.vocab_size as u64);
        assert_eq!(generation_memory(&config, one), cache + pass_memory(&config, 5, 0).max(hidden + logits));
    }
}
