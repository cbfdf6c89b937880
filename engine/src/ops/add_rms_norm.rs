//! A sum and its RMSNorm as one op: the residual stream takes what a layer gives, and the next layer reads the norm.
//!
//! ```text
//! s[i, j] = x[i, j] + f[i, j],   y[i, j] = s[i, j] · r[i] · w[j],   r[i] = 1 / √(mean_j s[i, j]² + ε)
//! ```
use super::{beside, check, hollow};
use crate::backend::RmsNormBackward;
use crate::error::{Error, Result};
use crate::tape::record;
use crate::tensor::Tensor;

/// x, f [.., d], w [d] → (s, y) like x. s takes f's memory when nobody else holds it.
pub fn add_rms_norm(x: &Tensor, f: Tensor, w: &Tensor, epsilon: f32) -> Result<(Tensor, Tensor)> {
    let (d, m) = (w.len(), x.len() / w.len().max(1));
    check("add_rms_norm", x.len() == f.len(), x, &f)?;
    check("add_rms_norm", d > 0 && x.len() == m * d, x, w)?;
    let on_tape = hollow(&f);
    let (s, y, rstd) = x.device().add_rms_norm(x.buffer(), f.into_buffer(), w.buffer(), m, d, epsilon)?;
    let (s, y) = (beside(x, s, x.shape()), beside(x, y, x.shape()));
    let (ss, sw, need_dw) = (s.clone(), w.detach(), w.needs_grad());
    let (again_s, again_w) = (s.clone(), w.detach());
    // s = x + f, y = s · r · w  ⟹  dx = df = ds + r · (dy ∘ w − s · r² · mean(dy ∘ w ∘ s)),  dw = Σ_rows dy ∘ s · r
    let [s, y] = record("add_rms_norm", &[x, &on_tape, w], [s, y], move |mut gradients| {
        let (dy, ds) = (gradients.pop().flatten(), gradients.pop().flatten());
        let (dx, dw) = match (dy, ds) {
            (Some(dy), ds) => {
                let onto = ds.map(Tensor::into_buffer);
                let [y, s, w] = [&dy, &ss, &sw].map(Tensor::buffer);
                let (dx, dw) = dy
                    .device()
                    .rms_norm_backward(RmsNormBackward { dy: y, x: s, w, rstd: &rstd, m, d, need_dw }, onto)?;
                (beside(&dy, dx, ss.shape()), dw.map(|b| beside(&dy, b, sw.shape())))
            }
            (None, Some(ds)) => (ds, if need_dw { Some(Tensor::zeros(sw.device(), sw.shape())?) } else { None }),
            (None, None) => return Err(Error::NoGradient { op: "add_rms_norm", detail: "no gradient arrived".into() }),
        };
        Ok(vec![Some(dx.clone()), Some(dx), dw])
    })?;
    let y = y.with_recipe(move || {
        let s = &again_s;
        let (y, _) = s.device().rms_norm(s.buffer(), again_w.buffer(), m, d, epsilon)?;
        Ok(beside(s, y, s.shape()))
    });
    Ok((s, y))
}
