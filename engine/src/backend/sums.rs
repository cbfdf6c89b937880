//! Sums over rows and over whole tensors.
use crate::buffer::Buffer;
use crate::error::Result;

/// Sums in an order that is fixed.
pub trait Sums {
    /// Σ over rows: x [m, n] → [n]. Rows in ascending order.
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer>;
    /// Σ x² of each buffer, as f64: few dispatches and one read-back for all. `xs` pairs a buffer with its length.
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>>;
}
