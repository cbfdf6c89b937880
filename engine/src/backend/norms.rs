//! Normalisation of rows.
use crate::buffer::Buffer;
use crate::error::Result;

/// What the backward of RMSNorm reads.
#[derive(Clone, Copy, Debug)]
pub struct RmsNormBackward<'a> {
    /// ∂loss/∂y: [m, d].
    pub dy: &'a Buffer,
    /// What was normalised: [m, d].
    pub x: &'a Buffer,
    /// The weight: [d].
    pub w: &'a Buffer,
    /// 1/√(mean(x²) + ε), which the forward gave: [m].
    pub rstd: &'a Buffer,
    /// Rows.
    pub m: usize,
    /// Elements of a row.
    pub d: usize,
    /// Whether the weight wants a gradient.
    pub need_dw: bool,
}

/// Rows of x [m, d] brought to one size.
pub trait Norms {
    /// y = x / √(mean(x²) + ε) ∘ w over rows of d. Returns (y [m, d], 1/√(…) [m]).
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)>;
    /// (dx [m, d], dw [d]); dx added to `onto` if given (in place when it has no other owner), dw only if asked for.
    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)>;
    /// s = x + f, in f's memory when it has no other owner, and its norm. Returns (s [m, d], y [m, d], 1/√(…) [m]). The
    /// backward is that of the norm, onto the gradient of s.
    fn add_rms_norm(
        &self,
        x: &Buffer,
        f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)>;
    /// y[i] = √(Σⱼ x[i, j]²), the Euclidean norm of each row: x [m, n] → [m].
    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer>;
    /// dx [m, n] of `row_norms`, whose y [m] is at hand; 0 for rows of zeros.
    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer>;
}
