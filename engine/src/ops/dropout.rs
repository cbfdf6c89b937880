//! Dropout with counter-based random numbers. N. Srivastava et al., JMLR 15 (2014), scaled at training time.
use super::beside;
use crate::error::{Error, Result};
use crate::random::Stream;
use crate::tape::record1;
use crate::tensor::Tensor;

/// y[i] = x[i] / (1 − p) where uniform(stream, i) ≥ p, else 0. p = 0 is the identity.
pub fn dropout(x: &Tensor, p: f32, stream: Stream) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::Input(format!("dropout probability {p} is not in [0, 1)")));
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let n = x.len();
    let y = beside(x, x.device().dropout(x.buffer(), n, p, stream)?, x.shape());
    // y = mask ∘ x  ⟹  dx = mask ∘ dy, the mask computed again from its counter
    let on_tape = x.needs_grad().then(|| (x.saved(), x.shape().to_vec()));
    let y = record1("dropout", &[x], y, move |dy| {
        let dx = dy.device().dropout(dy.buffer(), n, p, stream)?;
        Ok(vec![Some(beside(&dy, dx, dy.shape()))])
    })?;
    let Some((again, shape)) = on_tape else { return Ok(y) };
    Ok(y.with_recipe(move || {
        let x = again.get()?;
        Ok(beside(&x, x.device().dropout(x.buffer(), n, p, stream)?, &shape))
    }))
}
