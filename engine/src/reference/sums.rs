//! Sums: over the rows of a matrix, and of the squares of whole buffers.
use super::Reference;
use super::check::{size, values};
use crate::backend::Sums;
use crate::buffer::Buffer;
use crate::error::Result;

impl Sums for Reference {
    /// y[j] = Σᵢ x[i, j]: x [m, n] → y [n]
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = values("sum_rows", "x", x, size("sum_rows", &[m, n])?)?;
        let sum = |j: usize| (0..m).map(|i| f64::from(x[i * n + j])).sum::<f64>() as f32;
        Ok(Buffer::from_f32((0..n).map(sum).collect()))
    }

    /// Σ x² of each buffer: the squared norm of the gradients before clipping.
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        let sum = |&(x, n): &(&Buffer, usize)| {
            Ok(values("sum_squares", "x", x, n)?.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        };
        xs.iter().map(sum).collect()
    }
}
