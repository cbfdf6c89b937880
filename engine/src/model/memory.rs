//! What a training step will need, told before it starts: bytes by purpose, from the configuration alone.
use super::config::ModelConfig;
use crate::ops::LOGITS_KEPT;

/// A training step as memory sees it.
#[derive(Clone, Copy, Debug)]
pub struct StepShape {
    /// Bytes of all matrices as they are held where they are not trained (trained ones are float32).
    pub matrix_bytes: u64,
    /// Rank of the adapter and number of adapted layers per block; None trains all weights.
    pub adapter: Option<(usize, usize)>,
    /// Tokens of the largest micro-batch.
    pub n_tokens: usize,
    /// Predictions of the largest micro-batch.
    pub n_items: usize,
    pub checkpointing: bool,
    /// Moments that the optimiser keeps of each parameter: 2 for AdamW, 0 for SGD.
    pub moments: usize,
}

/// Bytes of a training step by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepMemory {
    pub weights: u64,
    /// All gradients, and the embedding's as it comes from the first layer.
    pub gradients: u64,
    pub optimizer: u64,
    /// What blocks keep for the backward, and the holes that an allocator leaves between.
    pub activations: u64,
    /// Logits that wait for the backward, and the gradient to the output layer.
    pub head: u64,
    /// The program itself and its tokenizer.
    pub program: u64,
}

impl StepMemory {
    /// The peak: either where the backward begins, with all activations, or where it ends, with all gradients.
    pub fn total(&self) -> u64 {
        self.weights + self.optimizer + self.program + (self.activations + self.head).max(self.gradients)
    }
}

/// Number of parameters: (all, those in matrices).
pub fn count_parameters(config: &ModelConfig) -> (u64, u64) {
    let sizes = config.expected_tensors();
    let count = |min_rank: usize| {
        sizes.iter().filter(|(_, s)| s.len() >= min_rank).map(|(_, s)| s.iter().product::<usize>() as u64).sum()
    };
    (count(1), count(2))
}

/// Floats that the backward of one block keeps per token: the inputs of norms, attention and SwiGLU, and attention's output.
/// What norms and SwiGLU give is computed again.
fn floats_per_token(c: &ModelConfig) -> u64 {
    let (d, f) = (c.hidden_size as u64, c.intermediate_size as u64);
    let (q, kv) = ((c.n_heads * c.head_size) as u64, (c.n_kv_heads * c.head_size) as u64);
    let norms = if c.qk_norm { q + kv } else { 0 };
    2 * d + 2 * q + 2 * kv + 2 * f + c.n_heads as u64 + norms
}

/// What a training step of `config` holds. `tests/smollm2.rs` compares it with what runs take.
pub fn step_memory(config: &ModelConfig, step: StepShape) -> StepMemory {
    let (all, matrices) = count_parameters(config);
    let (layers, t) = (config.n_layers as u64, step.n_tokens as u64);
    let trained = match step.adapter {
        None => all,
        Some((r, per_block)) => {
            let widths = (config.hidden_size + config.intermediate_size) as u64;
            layers * per_block as u64 * r as u64 * widths
        }
    };
    let weights = match step.adapter {
        None => 4 * all,
        Some(_) => step.matrix_bytes + 4 * (all - matrices) + 4 * trained,
    };
    let block = 4 * t * floats_per_token(config);
    let inputs = 4 * t * config.hidden_size as u64;
    let kept = if step.checkpointing { layers * inputs + 2 * block } else { layers * block };
    let gradients = 4 * trained;
    let v = config.vocab_size as u64;
    let logits = (4 * v * step.n_items as u64).min(LOGITS_KEPT as u64);
    // The embedding's gradient comes as a whole, beside the head's where they are one matrix.
    let embedding = if step.adapter.is_none() { 4 * v * config.hidden_size as u64 } else { 0 };
    StepMemory {
        weights,
        gradients: gradients + embedding,
        optimizer: 4 * step.moments as u64 * trained,
        activations: (kept + 2 * inputs) * 11 / 10,
        head: logits + embedding,
        program: 30_000_000,
    }
}
