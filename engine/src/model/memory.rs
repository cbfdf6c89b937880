//! What a training step will need, told before it starts: bytes by purpose, from the configuration alone.
use crate::config::family::{NormPlace, QkNorm};
use crate::config::{Head, ModelConfig, Role};
use crate::files::adapter_targets::Target;
use crate::ops::kept_and_chunk;

/// A training step as memory sees it.
#[derive(Clone, Copy, Debug)]
pub struct StepShape<'a> {
    /// Bytes of all matrices as they are held where they are not trained (trained ones are float32).
    pub matrix_bytes: u64,
    /// What the adapter changes; None trains all weights.
    pub adapter: Option<&'a [Target]>,
    /// Tokens of the largest micro-batch.
    pub n_tokens: usize,
    /// Predictions of the largest micro-batch.
    pub n_items: usize,
    /// Whether only the blocks' inputs are kept.
    pub checkpointing: bool,
    /// Moments that the optimiser keeps of each parameter: 2 for AdamW, 0 for SGD.
    pub moments: usize,
    /// Whether gradients of several micro-batches are added up.
    pub accumulates: bool,
}

impl StepShape<'_> {
    /// Number of weights that training changes, of `all` that the model has.
    pub(super) fn trained(&self, all: u64) -> u64 {
        self.adapter.map_or(all, |targets| targets.iter().map(Target::n_weights).sum())
    }
}

/// Bytes of a training step by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepMemory {
    /// Those of the model and of the adapter.
    pub weights: u64,
    /// All gradients, and the embedding's as it comes from the first layer.
    pub gradients: u64,
    /// Those of the step's earlier micro-batches, to which a micro-batch's are added at its end.
    pub collected: u64,
    /// Its moments.
    pub optimizer: u64,
    /// What blocks keep for the backward, and what the block at hand works with.
    pub activations: u64,
    /// Logits that wait for the backward, and the gradient to the output layer.
    pub head: u64,
}

impl StepMemory {
    /// What stays from step to step.
    pub fn resident(&self) -> u64 {
        self.weights + self.optimizer
    }
    /// What a micro-batch has besides: either where the backward begins, with all activations, or where it ends, with all
    /// gradients.
    pub fn passing(&self) -> u64 {
        (self.activations + self.head).max(self.gradients)
    }
    /// The peak.
    pub fn total(&self) -> u64 {
        self.resident() + self.collected + self.passing()
    }
}

/// Floats that the backward keeps per token, all blocks together: what linear layers give (the inputs of attention, of
/// SwiGLU and of the norm after each), attention's output, and what norms of heads read.
/// What norms and SwiGLU give is computed again. A norm behind a layer keeps what the layer gives beside the stream, which the sum
/// has no memory of that layer to go to.
fn floats_per_token(c: &ModelConfig) -> u64 {
    let outputs: usize = c.modules().iter().filter(|m| m.role == Role::Projection).map(|m| m.n_out).sum();
    let (q, kv) = (c.n_heads * c.head_size, c.n_kv_heads * c.head_size);
    let norms = if c.qk_norm != QkNorm::None { q + kv } else { 0 };
    let behind = if c.family.norms == NormPlace::After { 2 * c.hidden_size } else { 0 };
    (outputs + c.n_layers * (q + c.n_heads + norms + behind)) as u64
}

/// Floats per token that a block works with while nothing is kept: the stream, its norm, and SwiGLU with its two inputs and
/// what becomes of it, or queries, keys and values with attention's output.
fn working_floats(c: &ModelConfig) -> u64 {
    let (q, kv) = (c.n_heads * c.head_size, c.n_kv_heads * c.head_size);
    (3 * c.hidden_size + (3 * c.intermediate_size).max(3 * q + 2 * kv)) as u64
}

/// Bytes of a pass over `n_tokens` tokens that keeps nothing for a backward, with logits of `n_items` predictions.
pub fn pass_memory(config: &ModelConfig, n_tokens: usize, n_items: usize) -> u64 {
    let (t, d) = (n_tokens as u64, config.hidden_size as u64);
    let (_, chunk) = kept_and_chunk(n_items, config.vocab_size);
    (4 * t * working_floats(config)).max(4 * t * d + chunk)
}

/// What DoRA keeps and makes besides, of all its layers together.
#[derive(Default)]
struct OfDora {
    /// Floats per token: what each layer gives before it is multiplied with m / ‖V‖.
    per_token: u64,
    /// Bytes of the largest V = W + s B A, which is there while its rows are measured; of an embedding with its squares.
    weights: u64,
    /// Logits before the factor, with it, and their product with the gradient: 3 where the output layer has one.
    logits: u64,
}

impl OfDora {
    fn new(targets: &[Target]) -> Self {
        let mut all = OfDora::default();
        for target in targets.iter().filter(|target| target.dora) {
            let module = &target.module;
            let copies = if module.role == Role::Embedding { 2 } else { 1 };
            all.weights = all.weights.max(4 * copies * (module.n_out * module.n_in) as u64);
            match module.role {
                Role::Output => all.logits = 3,
                _ => all.per_token += target.n_magnitudes() as u64,
            }
        }
        all
    }
}

/// What a training step of `config` holds. `tests/memory.rs` compares it with what runs take.
pub fn step_memory(config: &ModelConfig, step: StepShape<'_>) -> StepMemory {
    let (all, matrices) = config.count_parameters();
    let (layers, t) = (config.n_layers as u64, step.n_tokens as u64);
    let trained = step.trained(all);
    let weights = match step.adapter {
        None => 4 * all,
        Some(_) => step.matrix_bytes + 4 * (all - matrices) + 4 * trained,
    };
    let targets = step.adapter.unwrap_or_default();
    let dora = OfDora::new(targets);
    let low: u64 = targets.iter().map(|target| target.r as u64).sum();
    let blocks = 4 * t * (floats_per_token(config) + dora.per_token + low);
    let inputs = 4 * t * config.hidden_size as u64;
    let kept = if step.checkpointing { layers * inputs + blocks.div_ceil(layers) } else { blocks };
    let gradients = 4 * trained;
    let has_head = config.head == Head::LanguageModel;
    let logits = if has_head { kept_and_chunk(step.n_items, config.vocab_size).0 } else { 0 };
    // The embedding's gradient comes as a whole, beside the head's where they are one matrix.
    let embedding = if step.adapter.is_none() { 4 * (config.vocab_size * config.hidden_size) as u64 } else { 0 };
    StepMemory {
        weights,
        gradients: gradients + embedding,
        collected: if step.accumulates { gradients } else { 0 },
        optimizer: 4 * step.moments as u64 * trained,
        activations: kept + 4 * t * working_floats(config) + inputs + dora.weights,
        head: logits * (1 + dora.logits) + if has_head { embedding } else { 0 },
    }
}
