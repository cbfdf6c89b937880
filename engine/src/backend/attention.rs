//! Attention over a forest.
use crate::buffer::Buffer;
use crate::error::Result;
use crate::forest::AttentionPlan;

/// Sizes of an attention call: q, o [T, H, E]; k, v [S, K, E]; query head h reads key head h / (H / K).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// H, query heads: a multiple of K.
    pub n_heads: usize,
    /// K, key and value heads; fewer than H in grouped-query attention.
    pub n_kv_heads: usize,
    /// E, numbers of a head in q, k and v.
    pub head_size: usize,
    /// Factor on q·k, usually 1/√E.
    pub scale: f32,
    /// Keys at positions > own − window are seen; usize::MAX sees all.
    pub window: usize,
}

/// Kernels of attention, slowest first, each one idea further than the one before. CPU and GPU have all three; shaders/README.md
/// and the head of `cpu/attention.rs` tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionRung {
    /// The equation as it stands: a (query, head) pair, or a number of its output, at a time.
    Plain,
    /// Keys in blocks that are read once for many scores, with a running softmax.
    Tiled,
    /// Several pairs share what is read of a key. The default.
    #[default]
    Shared,
}

/// What attention reads, forward and backward.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a> {
    /// Sizes, scale and window.
    pub shape: AttentionShape,
    /// Which keys a query sees.
    pub plan: &'a AttentionPlan,
    /// [T, H, E]
    pub q: &'a Buffer,
    /// [S, K, E]
    pub k: &'a Buffer,
    /// [S, K, E]
    pub v: &'a Buffer,
}

/// Softmax attention.
pub trait SoftmaxAttention {
    /// (o [T, H, E], log-sum-exp of the scaled scores [T, H])
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)>;
    /// (dq, dk, dv) from what the forward gave and ∂loss/∂o; queries and keys are the rows of one forest (`plan.positions` and
    /// `plan.ends` are filled).
    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)>;
}
