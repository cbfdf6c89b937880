//! RMSNorm. B. Zhang and R. Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4.
//!
//! ```text
//! y[i, j] = x[i, j] · r[i] · w[j],   r[i] = 1 / √(mean_j x[i, j]² + ε)
//! ```
use super::{beside, check};
use crate::backend::RmsNormBackward;
use crate::error::Result;
use crate::tape::record1_onto;
use crate::tensor::Tensor;

/// x [.., d], w [d] → y like x. Rows are all but the last dimension, so heads [T, H, E] are normalised one by one.
pub fn rms_norm(x: &Tensor, w: &Tensor, epsilon: f32) -> Result<Tensor> {
    let (d, m) = (w.len(), x.len() / w.len().max(1));
    check("rms_norm", d > 0 && x.len() == m * d, x, w)?;
    let (y, rstd) = x.device().rms_norm(x.buffer(), w.buffer(), m, d, epsilon)?;
    let (sx, sw, need_dw) = (x.detach(), w.detach(), w.needs_grad());
    let (again_x, again_w) = (x.detach(), w.detach());
    // y = x · r · w  ⟹  dx = r · (dy ∘ w − x · r² · mean(dy ∘ w ∘ x)),  dw = Σ_rows dy ∘ x · r
    let y = record1_onto("rms_norm", &[x, w], beside(x, y, x.shape()), move |dy, arrived| {
        let onto = arrived.take(0).map(Tensor::into_buffer);
        let [y, x, w] = [&dy, &sx, &sw].map(Tensor::buffer);
        let (dx, dw) =
            dy.device().rms_norm_backward(RmsNormBackward { dy: y, x, w, rstd: &rstd, m, d, need_dw }, onto)?;
        Ok(vec![Some(beside(&dy, dx, sx.shape())), dw.map(|b| beside(&dy, b, sw.shape()))])
    })?;
    Ok(y.with_recipe(move || {
        let x = &again_x;
        let (y, _) = x.device().rms_norm(x.buffer(), again_w.buffer(), m, d, epsilon)?;
        Ok(beside(x, y, x.shape()))
    }))
}
