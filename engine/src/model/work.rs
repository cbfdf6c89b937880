//! What a training step has to compute and to move, told before it starts: from the configuration alone.
use super::memory::StepShape;
use crate::config::{ModelConfig, Role};
use crate::files::adapter_targets::Target;
use crate::ops::LOGITS_KEPT;

/// Floating-point operations of a training step, and the bytes that its kernels must move between memory and processor
/// (each operand of each kernel once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Of matrix products: linear layers, adapters, the LM head. A multiplication with its addition is two.
    pub product_flops: u64,
    /// Of attention.
    pub attention_flops: u64,
    /// Read and written.
    pub bytes: u64,
}

impl StepWork {
    /// All operations.
    pub fn flops(&self) -> u64 {
        self.product_flops + self.attention_flops
    }
    /// Seconds at these rates (operations and bytes a second): products and attention at one, everything else at the other.
    pub fn seconds(&self, flops_per_s: f64, bytes_per_s: f64) -> f64 {
        self.flops() as f64 / flops_per_s + self.bytes as f64 / bytes_per_s
    }
}

/// (in + out, in · out), summed over the linear layers of all blocks.
fn linears(c: &ModelConfig) -> (u64, u64) {
    let modules = c.modules();
    let of_blocks = modules.iter().filter(|m| m.role == Role::Projection).map(|m| (m.n_in as u64, m.n_out as u64));
    of_blocks.fold((0, 0), |(widths, sizes), (i, o)| (widths + i + o, sizes + i * o))
}

/// The work of a step on `n_sequences` sequences of equal length, `step.n_tokens` tokens together.
///
/// A product of m × n outputs over k costs 2 m n k. Each linear layer is computed once in the forward pass, again where
/// activations are not kept, once for the gradient to its input, and once for that to its weight where it is trained;
/// of attention a visible pair costs 4 E a head forward and 14 E backward.
pub fn step_work(config: &ModelConfig, step: StepShape<'_>, n_sequences: usize) -> StepWork {
    let c = config;
    let (t, items) = (step.n_tokens as u64, step.n_items as u64);
    let (v, d) = (c.vocab_size as u64, c.hidden_size as u64);
    let forwards = if step.checkpointing { 2 } else { 1 };
    let sizes = linears(c).1;
    let full = step.adapter.is_none();

    // Adapters: x Aᵀ and its product with Bᵀ, both gradients of each.
    let of_an_adapter = step.adapter.map_or(0, |_| step.trained(0));
    let of_weights = 2 * t * sizes * (forwards + 1 + u64::from(full));
    let of_adapters = 2 * t * of_an_adapter * (forwards + 2);
    // Logits that were not kept are computed again.
    let kept = (LOGITS_KEPT as u64 / (4 * v).max(1)).min(items);
    let head = 2 * v * d * (items + (items - kept) + items + if full { items } else { 0 });
    let product_flops = of_weights + of_adapters + head;

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
fn bytes(c: &ModelConfig, step: StepShape<'_>, forwards: u64) -> u64 {
    let (t, items) = (step.n_tokens as u64, step.n_items as u64);
    let (d, f, v) = (c.hidden_size as u64, c.intermediate_size as u64, c.vocab_size as u64);
    let (q, kv) = ((c.n_heads * c.head_size) as u64, (c.n_kv_heads * c.head_size) as u64);
    let full = step.adapter.is_none();
    let (layers, widths) = (c.n_layers as u64, linears(c).0);
    // What a product reads and writes a token, then norms with the sums they read, RoPE, attention and SwiGLU.
    let scaled = if c.scales.residual == 1.0 { 0 } else { 4 * d };
    let others = 8 * d + 2 * (q + kv) + 2 * (q + kv) + 3 * f + scaled;
    let forward = widths + layers * others;
    // Gradients to inputs and weights read what the forward did; norms and their weights, RoPE, attention, SwiGLU; five add
    // onto the gradient that they find; norms and SwiGLU are computed again.
    let norms = 6 * d + 4 * d * u64::from(full);
    let others = norms + 2 * (q + kv) + 9 * q + 9 * kv + 5 * f + 5 * d + 4 * d + 3 * f + scaled;
    let backward = widths * (1 + u64::from(full)) + layers * others;
    // An adapter reads x and adds onto y; in the backward it reads dy twice and x once, and adds onto dx.
    let adapter = |target: &Target| {
        let (r, i, o) = (target.r as u64, target.module.n_in as u64, target.module.n_out as u64);
        (i + 2 * o + 2 * r) * forwards + 2 * o + 3 * i + 4 * r
    };
    let adapters: u64 = step.adapter.unwrap_or_default().iter().map(adapter).sum();
    let (all, matrices) = c.count_parameters();
    // Those of the blocks: all but the embedding.
    let block_weights = (step.matrix_bytes as f64 * (1.0 - (v * d) as f64 / matrices.max(1) as f64)) as u64;
    let weights = if full { 4 * all * (forwards + 2) } else { block_weights * (forwards + 1) };
    // The parameter and its moments are read and written; the gradient is read for its norm and for the step.
    let optimizer = 4 * step.trained(all) * (4 + 2 * step.moments as u64);
    // The embedding's gradient: cleared, written, and added to the output layer's.
    let embedding = if full { 16 * v * d } else { 0 };
    let logits = 4 * v * items * (5 + u64::from(full));
    4 * t * (forward * forwards + backward + adapters) + weights + optimizer + logits + embedding
}
