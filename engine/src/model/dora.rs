//! DoRA: the direction of a layer's weight is adapted as in LoRA, and the length of each of its rows is trained by itself.
//!
//! ```text
//! W' = m / ‖V‖ ∘ V,    V = W + s B A        m [out], ‖V‖ the Euclidean norm of each row, a constant to the gradient
//! y  = m / ‖V‖ ∘ (x Wᵀ + s (x Aᵀ) Bᵀ) + b
//! ```
//! S.-Y. Liu et al., "DoRA: weight-decomposed low-rank adaptation", ICML 2024, equation 5 and section 4.3. m starts as ‖W‖.
use super::linear::{DropoutKey, Linear, Lora};
use super::parameter::Parameter;
use crate::backend::{Layout, Product};
use crate::dtype::DType;
use crate::error::Result;
use crate::ops;
use crate::tensor::Tensor;

/// V = W + s B A: [out, in], float32, without a gradient.
fn adapted(weight: &Parameter, lora: &Lora) -> Result<Tensor> {
    let (m, n) = weight.matrix();
    let product = Product { layout: Layout::NN, m, n, k: lora.a.matrix().0, alpha: lora.scale };
    let whole = weight.detach().cast(DType::F32)?.into_buffer();
    let v = weight.device().matmul(product, lora.b.buffer(), lora.a.buffer(), Some(whole))?;
    Ok(Tensor::from_buffer(weight.device(), v, &[m, n]))
}

/// ‖V‖ of each row: [out].
pub(crate) fn norms(weight: &Parameter, lora: &Lora) -> Result<Tensor> {
    ops::row_norms(&adapted(weight, lora)?)
}

/// m / ‖V‖: [out].
pub(crate) fn factor(weight: &Parameter, lora: &Lora, magnitude: &Tensor) -> Result<Tensor> {
    match &lora.factor {
        Some(known) => Ok(known.clone()),
        None => ops::div(magnitude, &norms(weight, lora)?),
    }
}

/// y of a layer with magnitudes m. Where inputs are dropped, W sees all of x in what the base gives, and the rest of x in
/// what the adapter changes of it, as in PEFT: y = x Wᵀ + b + m / ‖V‖ ∘ (x̂ Wᵀ + s (x̂ Aᵀ) Bᵀ) − x̂ Wᵀ, x̂ = dropout(x).
pub(crate) fn forward(
    layer: &Linear,
    lora: &Lora,
    magnitude: &Tensor,
    x: &Tensor,
    dropout: Option<DropoutKey>,
) -> Result<Tensor> {
    let c = factor(&layer.weight, lora, magnitude)?;
    let dropout = dropout.filter(|_| lora.dropout > 0.0);
    let dropped = lora.dropped(x, dropout)?;
    let plain = ops::linear(&dropped, &layer.weight, None)?;
    let low = ops::linear(&dropped, &lora.a, None)?;
    if dropout.is_none() {
        let y = ops::mul(&lora.onto(plain, &low)?, &c)?;
        return layer.bias.as_deref().map_or(Ok(y.clone()), |bias| ops::add(&y, bias));
    }
    let changed = ops::mul(&lora.onto(plain.clone(), &low)?, &c)?;
    ops::add(&ops::linear(x, &layer.weight, layer.bias.as_deref())?, &ops::sub(&changed, &plain)?)
}

/// W ← m / ‖V‖ ∘ V, in f32, then back to the weight's own dtype.
pub(crate) fn fold(weight: &mut Parameter, lora: &Lora, magnitude: &Tensor) -> Result<()> {
    let (v, (m, n)) = (adapted(weight, lora)?, weight.matrix());
    let c = factor(weight, lora, magnitude)?.reshape(&[m, 1])?;
    let ones = Tensor::from_f32(v.device(), vec![1.0; n], &[n, 1])?;
    let rows = ops::linear(&c, &ones, None)?;
    weight.tensor = ops::mul(&v, &rows)?.cast(weight.dtype())?;
    Ok(())
}
