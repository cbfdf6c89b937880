//! The optimiser's step on all tensors.
use crate::buffer::Buffer;
use crate::error::Result;

/// One AdamW step (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2), PyTorch's order:
/// g = grad_scale·grad; p −= lr·wd·p; m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²;
/// p −= lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// lr, from 0.
    pub learning_rate: f64,
    /// β₁, decay of the first moment: from 0, below 1.
    pub beta1: f64,
    /// β₂, decay of the second moment: from 0, below 1.
    pub beta2: f64,
    /// ε, added to the root of the corrected second moment.
    pub epsilon: f64,
    /// t, counted from 1.
    pub step: u64,
    /// Factor on the gradient: the clip coefficient.
    pub grad_scale: f32,
}

/// A tensor that an optimiser changes: θ, its moments and its gradient, n elements each.
#[derive(Debug)]
pub struct Trained<'a> {
    /// θ, f32: changed in place.
    pub p: &'a mut Buffer,
    /// First moment, f32: changed in place; 0 before the first step.
    pub m: &'a mut Buffer,
    /// Second moment, f32: changed in place; 0 before the first step.
    pub v: &'a mut Buffer,
    /// ∂loss/∂θ before `grad_scale`, f32.
    pub grad: &'a Buffer,
    /// Elements of each of the four buffers.
    pub n: usize,
    /// wd, λ in the paper.
    pub weight_decay: f64,
}

/// Steps of an optimiser.
pub trait Optimise {
    /// One step on all tensors, in place on p, m and v of each: a GPU takes several in a dispatch.
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()>;
}
