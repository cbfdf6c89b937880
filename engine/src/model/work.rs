//! What a training step has to compute and to move, told before it starts: from the configuration alone.
use super::config::ModelConfig;
use super::memory::{StepShape, count_parameters};
use crate::ops::LOGITS_KEPT;

/// Floating-point operations of a training step, and the bytes that its kernels must move between memory and processor
/// (each operand of each kernel once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Of matrix products: linear layers, adapters, the LM head. A multiplication with its addition is two.
    pub product_flops: u64,
    pub attention_flops: u64,
    pub bytes: u64,
}

impl StepWork {
    pub fn flops(&self) -> u64 {
        self.product_flops + self.attention_flops
    }
    /// Seconds at these rates (operations and bytes a second): products and attention at one, everything else at the other.
    pub fn seconds(&self, flops_per_s: f64, bytes_per_s: f64) -> f64 {
        self.flops() as f64 / flops_per_s + self.bytes as f64 / bytes_per_s
    }
}

/// (in + out, in · out), summed over the linear layers of a block.
fn linears(c: &ModelConfig) -> (u64, u64) {
    let (d, f) = (c.hidden_size as u64, c.intermediate_size as u64);
    let (q, kv) = ((c.n_heads * c.head_size) as u64, (c.n_kv_heads * c.head_size) as u64);
    let layers = [(d, q), (d, kv), (d, kv), (q, d), (d, f), (d, f), (f, d)];
    (layers.iter().map(|(i, o)| i + o).sum(), layers.iter().map(|(i, o)| i * o).sum())
}

/// The work of a step on `n_sequences` sequences of equal length, `step.n_tokens` tokens together.
///
/// A product of m × n outputs over k costs 2 m n k. Each linear layer is computed once in the forward pass, again where
/// activations are not kept, once for the gradient to its input, and once for that to its weight where it is trained;
/// of attention a visible pair costs 4 E a head forward and 14 E backward.
pub fn step_work(config: &ModelConfig, step: StepShape, n_sequences: usize) -> StepWork {
    let c = config;
    let (t, items) = (step.n_tokens as u64, step.n_items as u64);
    let (layers, v, d) = (c.n_layers as u64, c.vocab_size as u64, c.hidden_size as u64);
    let forwards = if step.checkpointing { 2 } else { 1 };
    let (widths, sizes) = linears(c);
    let full = step.adapter.is_none();

    // Adapters: x Aᵀ and its product with Bᵀ, both gradients of each.
    let adapter_widths = step.adapter.map_or(0, |(r, per_block)| r as u64 * per_block as u64 * widths / 7);
    let of_weights = 2 * t * sizes * (forwards + 1 + u64::from(full));
    let of_adapters = 2 * t * adapter_widths * (forwards + 2);
    // Logits that were not kept are computed again.
    let kept = (LOGITS_KEPT as u64 / (4 * v).max(1)).min(items);
    let head = 2 * v * d * (items + (items - kept) + items + if full { items } else { 0 });
    let product_flops = layers * (of_weights + of_adapters) + head;

    let length = t / n_sequences.max(1) as u64;
    let pairs = |window: Option<usize>| -> u64 {
        let window = window.map_or(length, |w| (w as u64).min(length));
        n_sequences as u64 * (length * window - window * window.saturating_sub(1) / 2)
    };
    let visible: u64 = c.layer_windows.iter().map(|&w| pairs(w)).sum();
    let attention_flops = visible * (c.n_heads * c.head_size) as u64 * (4 * forwards + 14);

    StepWork { product_flops, attention_flops, bytes: bytes(c, step, forwards) }
}

/// Bytes of all kernels of a step: floats a token and block, weights once a product, logits, the optimiser's tensors.
fn bytes(c: &ModelConfig, step: StepShape, forwards: u64) -> u64 {
    let (t, items) = (step.n_tokens as u64, step.n_items as u64);
    let (d, f, v) = (c.hidden_size as u64, c.intermediate_size as u64, c.vocab_size as u64);
    let (q, kv) = ((c.n_heads * c.head_size) as u64, (c.n_kv_heads * c.head_size) as u64);
    let full = step.adapter.is_none();
    let (widths, _) = linears(c);
    // What a product reads and writes a token, then norms with the sums they read, RoPE, attention and SwiGLU.
    let others = 8 * d + 2 * (q + kv) + 2 * (q + kv) + 3 * f;
    let forward = widths + others;
    // Gradients to inputs and weights read what the forward did; norms and their weights, RoPE, attention, SwiGLU; five add
    // onto the gradient that they find; norms and SwiGLU are computed again.
    let norms = 6 * d + 4 * d * u64::from(full);
    let backward = widths * (1 + u64::from(full)) + norms + 2 * (q + kv) + 9 * q + 9 * kv + 5 * f + 5 * d;
    let backward = backward + 4 * d + 3 * f;
    // An adapter reads x, adds onto y, and in the backward reads dy and x twice and adds onto dx.
    let adapters = step.adapter.map_or(0, |(r, per_block)| {
        let forward = widths * 3 / 14 + 2 * r as u64;
        let backward = widths * 5 / 14 + 4 * r as u64;
        per_block as u64 * (forward * forwards + backward)
    });
    let (all, matrices) = count_parameters(c);
    // Those of the blocks: all but the embedding.
    let block_weights = (step.matrix_bytes as f64 * (1.0 - (v * d) as f64 / matrices.max(1) as f64)) as u64;
    let weights = if full { 4 * all * (forwards + 2) } else { block_weights * (forwards + 1) };
    let trained = match step.adapter {
        None => all,
        Some((r, per_block)) => c.n_layers as u64 * per_block as u64 * r as u64 * widths / 7,
    };
    // The parameter and its moments are read and written; the gradient is read for its norm and for the step.
    let optimizer = 4 * trained * (4 + 2 * step.moments as u64);
    // The embedding's gradient: cleared, written, and added to the output layer's.
    let embedding = if full { 16 * v * d } else { 0 };
    let logits = 4 * v * items * (5 + u64::from(full));
    4 * t * c.n_layers as u64 * (forward * forwards + backward + adapters) + weights + optimizer + logits + embedding
}
