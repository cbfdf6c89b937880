//! The Euclidean norm of each row: what DoRA divides a weight by (S.-Y. Liu et al., 2024, arXiv 2402.09353, section 4.3).
//!
//! ```text
//! y[i] = √(Σ_j x[i, j]²)
//! ```
use super::beside;
use crate::error::Result;
use crate::tape::record1;
use crate::tensor::Tensor;

/// x [m, n] → [m].
pub fn row_norms(x: &Tensor) -> Result<Tensor> {
    let (m, n) = x.matrix();
    let y = beside(x, x.device().row_norms(x.buffer(), m, n)?, &[m]);
    let (sx, sy) = (x.detach(), y.clone());
    // y = √(Σ x²)  ⟹  dx = dy · x / y, and 0 in a row of zeros
    record1("row_norms", &[x], y, move |dy| {
        let dx = dy.device().row_norms_backward(dy.buffer(), sx.buffer(), sy.buffer(), m, n)?;
        Ok(vec![Some(beside(&dy, dx, sx.shape()))])
    })
}
