//! Sums: over all elements, and over the rows of a matrix. The order of addition is the backend's and is fixed.
use super::beside;
use crate::error::Result;
use crate::tape::record1;
use crate::tensor::Tensor;

/// y[j] = Σᵢ x[i, j]: [m, n] → [n].
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let (m, n) = x.matrix();
    let y = beside(x, x.device().sum_rows(x.buffer(), m, n)?, &[n]);
    let shape = x.shape().to_vec();
    // y[j] = Σᵢ x[i, j]  ⟹  dx[i, j] = dy[j]
    record1("sum_rows", &[x], y, move |dy| Ok(vec![Some(repeat(&dy, &shape)?)]))
}

/// y = Σ x: any shape → [1].
pub fn sum(x: &Tensor) -> Result<Tensor> {
    sum_rows(&x.reshape(&[x.len(), 1])?)
}

/// `row` repeated until `shape` is full.
fn repeat(row: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let zeros = Tensor::zeros(row.device(), shape)?;
    let n = zeros.len();
    let buffer = row.device().binary(crate::backend::Binary::Add, zeros.buffer(), row.buffer(), n, row.len())?;
    Ok(beside(row, buffer, shape))
}
