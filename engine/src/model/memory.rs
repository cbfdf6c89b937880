//! What a training step will need, told before it starts: bytes by purpose, from the configuration alone.
use crate::config::family::{NormPlace, QkNorm};
use crate::config::{ModelConfig, Role};
use crate::files::adapter_targets::Target;
use crate::ops::LOGITS_KEPT;

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
    /// Its moments.
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

/// What a training step of `config` holds. `tests/smollm2.rs` compares it with what runs take.
pub fn step_memory(config: &ModelConfig, step: StepShape<'_>) -> StepMemory {
    let (all, matrices) = config.count_parameters();
    let (layers, t) = (config.n_layers as u64, step.n_tokens as u64);
    let trained = step.trained(all);
    let weights = match step.adapter {
        None => 4 * all,
        Some(_) => step.matrix_bytes + 4 * (all - matrices) + 4 * trained,
    };
    let dora = OfDora::new(step.adapter.unwrap_or_default());
    let blocks = 4 * t * (floats_per_token(config) + dora.per_token);
    let inputs = 4 * t * config.hidden_size as u64;
    let kept = if step.checkpointing { layers * inputs + 2 * blocks.div_ceil(layers) } else { blocks };
    let gradients = 4 * trained;
    let v = config.vocab_size as u64;
    let logits = (4 * v * step.n_items as u64).min(LOGITS_KEPT as u64);
    // The embedding's gradient comes as a whole, beside the head's where they are one matrix.
    let embedding = if step.adapter.is_none() { 4 * v * config.hidden_size as u64 } else { 0 };
    StepMemory {
        weights,
        gradients: gradients + embedding,
        optimizer: 4 * step.moments as u64 * trained,
        activations: (kept + 2 * inputs) * 11 / 10 + dora.weights,
        head: logits * (1 + dora.logits) + embedding,
        program: 30_000_000,
    }
}
