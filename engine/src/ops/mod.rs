//! The differentiable operations, one file each: equation, shapes, forward, and right below it the backward.
//!
//! Each op checks shapes, calls the backend's kernel of the same name, and records how gradients flow back.
mod add_rms_norm;
mod attention;
mod checkpoint;
mod dropout;
mod elementwise;
mod linear;
mod lm_head;
mod rms_norm;
mod rope;
mod row_norms;
mod rows;
mod sum;
mod swiglu;
mod transfer;

pub use add_rms_norm::add_rms_norm;
pub use attention::attention;
pub use checkpoint::checkpoint;
pub use dropout::dropout;
pub use elementwise::*;
pub use linear::{linear, linear_onto, matmul};
pub use lm_head::{HeadTerm, HeadTerms, LOGITS_KEPT, Scored, adapted_lm_head, head_logits, kept_and_chunk, lm_head};
pub use rms_norm::rms_norm;
pub use rope::{RopeTable, rope};
pub use row_norms::row_norms;
pub use rows::{gather_rows, sum_by_group};
pub use sum::{sum, sum_rows};
pub use swiglu::swiglu;
pub use transfer::to_device;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An error that names the op and both shapes, unless `fits`.
pub(crate) fn check(op: &'static str, fits: bool, a: &Tensor, b: &Tensor) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::shape(op, format!("{:?} and {:?} do not fit", a.shape(), b.shape()))) }
}

/// A kernel's result as a tensor beside `like`.
pub(crate) fn beside(like: &Tensor, buffer: crate::buffer::Buffer, shape: &[usize]) -> Tensor {
    Tensor::from_buffer(like.device(), buffer, shape)
}

/// The shape and the place on the tape without the values: for an op that takes its input's memory.
pub(crate) fn hollow(x: &Tensor) -> Tensor {
    beside(x, crate::buffer::Buffer::from_f32(vec![]), x.shape()).with_var(x.var.clone())
}
