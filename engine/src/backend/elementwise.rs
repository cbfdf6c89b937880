//! Kernels that treat every element alike.
use crate::buffer::Buffer;
use crate::error::Result;
use crate::random::Stream;

/// y = f(x), element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// a·x + b
    Affine(f32, f32),
    /// eˣ
    Exp,
    /// ln x, natural; −∞ at 0, NaN below
    Ln,
    /// √x; NaN below 0
    Sqrt,
    /// x²
    Square,
    /// |x|; gradient 0 at 0
    Abs,
    /// max(x, 0); gradient 0 at 0, and NaN stays NaN
    Relu,
    /// tanh x
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
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// The smaller of both; NaN where either is
    Min,
    /// The larger of both; NaN where either is
    Max,
}

/// Element by element: n elements of x, y, dy; all f32.
pub trait Elementwise {
    /// y = f(x)
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer>;
    /// dx = dy · f'(x); y = f(x) is at hand.
    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer>;
    /// y = f(a, b): a has n elements, b has n_b, and n is a multiple of n_b.
    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer>;
    /// y ← y + α·x, in place: gradient accumulation.
    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()>;
    /// y[i] = x[i] / (1 − p) where uniform(stream, i) ≥ p, else 0. Its own backward, applied to dy.
    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer>;
    /// y = silu(gate) ∘ up
    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer>;
    /// (dgate, dup)
    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)>;
}
