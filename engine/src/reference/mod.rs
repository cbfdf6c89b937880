//! The reference backend: plain loops, f64 accumulation, no threads. It is the definition of correct.
//!
//! One file a group of ops; the equation stands above the code, the backward below its forward. Values are
//! widened to f64, computed there, and rounded to f32 once, when they are stored. Speed is no aim.
mod adamw;
mod attention;
pub mod check;
mod elementwise;
#[cfg(test)]
mod gradients;
mod log_probs;
mod matmul;
mod memory;
mod norms;
mod rope;
mod rows;
mod sample;
mod sums;

use crate::backend::Backend;

/// The backend that the others are compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> String {
        "reference".into()
    }
    fn is_host(&self) -> bool {
        true
    }
}
