//! Every kernel there is, as one trait. `reference` defines what is correct, `cpu` and `gpu` are fast.
//!
//! Rules for every implementation: a number depends only on the values it is computed from, never on how the work was
//! split (threads and workgroups own disjoint outputs; reductions run in a fixed order over fixed-size blocks); f32
//! accumulation or better; shapes were checked by the op that calls. Shapes are row-major and written [rows, columns].
//! Letters: T tokens, D width, H heads, K key/value heads, E head size, F hidden width of the MLP, V vocabulary,
//! R rank; m, n, k in products.
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;
use crate::likelihood;
use crate::random::Stream;
use std::sync::Arc;

/// A device that runs kernels.
pub type Device = Arc<dyn Backend>;

/// How the operands of a product lie in memory. C is [m, n].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A [m, k], B [k, n]: gradient to the input, dX = dY W.
    NN,
    /// A [m, k], B [n, k]: the forward of a linear layer, Y = X Wᵀ.
    NT,
    /// A [k, m], B [k, n]: gradient to the weight, dW = dYᵀ X.
    TN,
}

/// C ← α·op(A)·op(B) (+ C).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    pub layout: Layout,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub alpha: f32,
}

/// y = f(x), element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// a·x + b
    Affine(f32, f32),
    Exp,
    Ln,
    Sqrt,
    Square,
    Abs,
    Relu,
    Tanh,
    /// σ(x) = 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// log σ(x) = −log(1 + e⁻ˣ), without overflow
    LogSigmoid,
    /// x · σ(x)
    Silu,
    /// min(max(x, lo), hi); gradient 1 inside [lo, hi], 0 outside
    Clamp(f32, f32),
}

/// y = f(a, b), element by element; b repeats: y[i] = f(a[i], b[i mod |b|]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
}

/// Sizes of an attention call: q, o [T, H, E]; k, v [S, K, E]; query head h reads key head h / (H / K).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_size: usize,
    /// Factor on q·k, usually 1/√E.
    pub scale: f32,
    /// Keys at positions > own − window are seen; usize::MAX sees all.
    pub window: usize,
}

/// One AdamW step (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2), PyTorch's order:
/// g = grad_scale·grad; p −= lr·wd·p; m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²;
/// p −= lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// t, counted from 1.
    pub step: u64,
    /// Factor on the gradient: the clip coefficient.
    pub grad_scale: f32,
}

/// A tensor that an optimiser changes: θ, its moments and its gradient, n elements each.
#[derive(Debug)]
pub struct Trained<'a> {
    pub p: &'a mut Buffer,
    pub m: &'a mut Buffer,
    pub v: &'a mut Buffer,
    pub grad: &'a Buffer,
    pub n: usize,
    /// wd, λ in the paper.
    pub weight_decay: f64,
}

/// Which rows to take, or to add to. Made once per batch, so that the backward owns its output rows without atomics.
#[derive(Clone, Debug)]
pub struct RowIndex {
    /// rows[i] is the row of the table that output row i reads: [N].
    pub rows: Vec<u32>,
    /// The distinct rows in ascending order: [U].
    pub distinct: Vec<u32>,
    /// Entry u owns `sources[offsets[u] .. offsets[u + 1]]`: [U + 1].
    pub offsets: Vec<u32>,
    /// Positions i in `rows`, grouped by distinct row, ascending inside a group: [N].
    pub sources: Vec<u32>,
    /// The four lists on the device (host buffers on a CPU): rows, distinct, offsets, sources.
    pub device: [Buffer; 4],
}

impl RowIndex {
    pub fn new(device: &dyn Backend, rows: &[u32]) -> Result<Self> {
        let mut sources: Vec<u32> = (0..rows.len() as u32).collect();
        sources.sort_by_key(|&i| (rows[i as usize], i));
        let (mut distinct, mut offsets) = (Vec::new(), vec![0u32]);
        for (n, &i) in sources.iter().enumerate() {
            let row = rows[i as usize];
            if distinct.last() != Some(&row) {
                if n > 0 {
                    offsets.push(n as u32);
                }
                distinct.push(row);
            }
        }
        offsets.push(sources.len() as u32);
        if rows.is_empty() {
            offsets.truncate(1);
        }
        let up = |v: &[u32]| device.upload(Host::U32(v.to_vec()));
        let device = [up(rows)?, up(&distinct)?, up(&offsets)?, up(&sources)?];
        Ok(RowIndex { rows: rows.to_vec(), distinct, offsets, sources, device })
    }
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Per row of logits, what losses and metrics read: each [N].
#[derive(Debug)]
pub struct LogProbs {
    /// log softmax(logits)[target]
    pub logp: Buffer,
    /// −Σ p log p, in nats
    pub entropy: Buffer,
    /// log Σ exp(logits), saved for the backward
    pub log_sum_exp: Buffer,
    /// index of the largest logit (the lowest index among equals), u32
    pub argmax: Buffer,
}

/// How `sample` chooses the next token. The order is transformers': repetition penalty, (temperature,) top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The likeliest token; nothing is drawn.
    pub greedy: bool,
    /// Only the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Of these only the fewest likeliest that have at least this share of their probability; 1 is off.
    pub top_p: f32,
    /// Of these only those at least this many times as likely as the likeliest; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off.
    pub repetition_penalty: f32,
}

impl Choice {
    /// Whether every token may be drawn, of a vocabulary of `v`.
    pub fn keeps_all(&self, v: usize) -> bool {
        (self.top_k == 0 || self.top_k >= v) && self.top_p >= 1.0 && self.min_p == 0.0
    }

    /// An error if this is no choice among `v` tokens.
    pub fn check(&self, v: usize) -> Result<()> {
        likelihood::check_vocabulary(v)?;
        let penalty = self.repetition_penalty;
        let fits = self.top_p > 0.0 && self.top_p <= 1.0 && (0.0..=1.0).contains(&self.min_p);
        if fits && penalty > 0.0 && penalty.is_finite() {
            Ok(())
        } else {
            Err(Error::shape("sample", format!("{self:?}")))
        }
    }
}

/// What `sample` needs to know of a row.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Number `index` of this stream is drawn with.
    pub stream: Stream,
    pub index: u64,
    /// The tokens that the repetition penalty is for, each once; those beyond the vocabulary are passed over.
    pub seen: &'a [u32],
}

pub trait Backend: Send + Sync + std::fmt::Debug {
    /// For people and manifests: "cpu (2 threads, avx512)", "gpu: llvmpipe (Vulkan)".
    fn name(&self) -> String;
    /// Whether buffers are host memory (reference, CPU).
    fn is_host(&self) -> bool;
    /// Whether buffers, wherever they are, take memory of the host: CPUs, integrated GPUs, software adapters.
    fn shares_host_memory(&self) -> bool {
        self.is_host()
    }
    /// Bytes of the device's own memory, used or not; None where it has none or does not say.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    // ---- memory ----
    fn upload(&self, values: Host) -> Result<Buffer>;
    fn download(&self, x: &Buffer) -> Result<Host>;
    /// n zeros, f32.
    fn zeros(&self, n: usize) -> Result<Buffer>;
    /// Several f32 buffers at once: a GPU waits once for all of them.
    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>>;
    /// Several buffers of any type at once, likewise.
    fn download_all(&self, xs: &[&Buffer]) -> Result<Vec<Host>> {
        xs.iter().map(|x| self.download(x)).collect()
    }
    /// f32, f16, bf16 → f32, f16, bf16 (round to nearest even); quantised → f32.
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer>;
    /// The weight w [n, k] as this device likes to read it in `matmul`, layout NT, many times over: for generation. The
    /// products have the same bits; nothing else reads what comes back.
    fn pack_weight(&self, w: &Buffer, _n: usize, _k: usize) -> Result<Buffer> {
        Ok(w.clone())
    }
    /// All recorded work is done when this returns.
    fn synchronize(&self) -> Result<()>;

    // ---- elementwise ---- (n elements of x, dy; all f32)
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer>;
    /// dx = dy · f'(x); y = f(x) is at hand.
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer>;
    /// a has n elements, b has n_b, and n is a multiple of n_b.
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer>;
    /// y ← y + α·x, in place: gradient accumulation.
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()>;
    /// y[i] = x[i] / (1 − p) where uniform(stream, i) ≥ p, else 0. Its own backward, applied to dy.
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer>;

    // ---- reductions ----
    /// Σ over rows: x [m, n] → [n]. Rows in ascending order.
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer>;
    /// Σ x² of each buffer, as f64: few dispatches and one read-back for all. `xs` pairs a buffer with its length.
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>>;

    // ---- products ----
    /// Returns α·op(A)·op(B), added to `c` if given (in place when `c` has no other owner). A is f32; B is f32, f16,
    /// bf16 or quantised in layouts NN and NT (a weight; its rows are contiguous in memory), f32 in TN.
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer>;

    // ---- rows ----
    /// Rows of a table (any dtype) [rows, d] as f32: [N, d].
    fn gather_rows(&self, table: &Buffer, index: &RowIndex, d: usize) -> Result<Buffer>;
    /// dtable [n_rows, d]: row r is Σ over i with rows[i] = r of dy[i], in ascending i; zero elsewhere.
    fn scatter_add_rows(&self, dy: &Buffer, index: &RowIndex, n_rows: usize, d: usize) -> Result<Buffer>;
    /// cache[rows[i]] ← x[i], in place, without copying the cache: the KV cache. The rows are distinct.
    fn write_rows(&self, cache: &mut Buffer, x: &Buffer, index: &RowIndex, d: usize) -> Result<()>;

    // ---- the transformer's own ----
    /// y = x / √(mean(x²) + ε) ∘ w over rows of d. Returns (y [m, d], 1/√(…) [m]).
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)>;
    /// s = x + f, in f's memory when it has no other owner, and its norm. Returns (s [m, d], y [m, d], 1/√(…) [m]).
    fn add_rms_norm(
        &self,
        x: &Buffer,
        f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)>;
    /// (dx [m, d], dw [d]); dx added to `onto` if given (in place when it has no other owner), dw only if asked for.
    #[allow(clippy::too_many_arguments)]
    fn rms_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        w: &Buffer,
        rstd: &Buffer,
        onto: Option<Buffer>,
        m: usize,
        d: usize,
        need_dw: bool,
    ) -> Result<(Buffer, Option<Buffer>)>;
    /// Rotates pairs (i, i + r/2) of the first r = rotary entries of each head: x [t, heads, e]. `cos_sin` is
    /// [positions, rotary] (cosines of the r/2 angles, then sines); `positions` u32 [t]. `inverse` turns back: the backward.
    #[allow(clippy::too_many_arguments)]
    fn rope(
        &self,
        x: &Buffer,
        cos_sin: &Buffer,
        positions: &Buffer,
        t: usize,
        heads: usize,
        e: usize,
        rotary: usize,
        inverse: bool,
    ) -> Result<Buffer>;
    /// silu(gate) ∘ up, n elements.
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer>;
    /// (dgate, dup)
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)>;
    /// (o [T, H, E], log-sum-exp of the scaled scores [T, H])
    fn attention(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> Result<(Buffer, Buffer)>;
    /// (dq, dk, dv); queries and keys are the rows of one forest (`plan.positions` and `plan.ends` are filled).
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        shape: AttentionShape,
        plan: &AttentionPlan,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)>;

    // ---- the LM head, chunk by chunk ----
    /// What a chunk of logits [m, v] (already divided by the temperature) says about its targets (u32 [m]).
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs>;
    /// dlogits = dlogp · (onehot(target) − softmax(logits)), times `scale`; may reuse the logits' memory.
    #[allow(clippy::too_many_arguments)]
    fn log_probs_backward(
        &self,
        logits: Buffer,
        targets: &Buffer,
        log_sum_exp: &Buffer,
        dlogp: &Buffer,
        m: usize,
        v: usize,
        scale: f32,
    ) -> Result<Buffer>;

    /// The next token of each row of logits [m, v] that were divided by the temperature, m = |draws|: u32 [m].
    ///
    /// Logits z of `seen` tokens become z / penalty where they are positive, else z · penalty. Greedy takes the lowest i
    /// with the largest z[i]. Else, with whole numbers w[i] = ⌊2⁴⁴ e^(z[i] − max z)⌋ (see [`likelihood`]), tokens are kept:
    ///
    /// ```text
    /// top-k    the k largest z                                               of equal z the lowest i first,
    /// top-p    of these the fewest largest with Σ w ≥ p Σ (all of these) w   here too
    /// min-p    of these all with e^(z[i] − max z) ≥ min_p, in f32
    /// ```
    ///
    /// and the first kept i, in order of the vocabulary, is taken at which Σ w over the kept up to i is more than u times Σ w
    /// over all that are kept; u = (bits + ½) / 2³². NaN counts as −∞, and a row that has nothing else gives 0. The CPU adds
    /// the weights in f64 before they are cut to whole numbers where all tokens are kept: it takes the same token
    /// wherever u is more than v · 2⁻⁴³ from a boundary between two. At most [`likelihood::LARGEST_VOCABULARY`] tokens.
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer>;

    // ---- optimisers ----
    /// One step on all tensors, in place on p, m and v of each: a GPU takes several in a dispatch.
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()>;
}
