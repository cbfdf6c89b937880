//! DoRA: the direction of a layer's weight is adapted as in LoRA, and the length of each of its rows is trained by itself.
//!
//! ```text
//! W' = m / ‖V‖ ∘ V,    V = W + s B A        m [out], ‖V‖ the Euclidean norm of each row, a constant to the gradient
//! y  = m / ‖V‖ ∘ (x Wᵀ + s (x Aᵀ) Bᵀ) + b
//! ```
//! S.-Y. Liu et al., "DoRA: weight-decomposed low-rank adaptation", ICML 2024, equation 5 and section 4.3. m starts as ‖W‖. Beside an
//! embedding, which PEFT takes as the transpose, V = E + s A Bᵀ [V, D], the lengths are those of columns and y = m / ‖V‖ ∘ V[token].
use super::linear::{DropoutKey, Linear, Lora};
use super::parameter::Parameter;
use crate::backend::{Layout, Product, Unary};
use crate::config::Role;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops;
use crate::tensor::Tensor;

/// Whether the layer is an embedding, whose A is looked up and whose m has one length for each column.
fn is_embedding(lora: &Lora) -> bool {
    lora.a.slot.role == Role::EmbeddingA
}

/// V = W + s B A [out, in], of an embedding W + s A Bᵀ [V, D]: float32, without a gradient.
fn adapted(weight: &Tensor, lora: &Lora) -> Result<Tensor> {
    let (m, n) = weight.matrix();
    let (layout, left, right) =
        if is_embedding(lora) { (Layout::NT, &lora.a, &lora.b) } else { (Layout::NN, &lora.b, &lora.a) };
    let product = Product { layout, m, n, k: left.matrix().1, alpha: lora.scale };
    let whole = weight.detach().cast(DType::F32)?.into_buffer();
    let v = weight.device().matmul(product, left.buffer(), right.buffer(), Some(whole))?;
    Ok(Tensor::from_buffer(weight.device(), v, &[m, n]))
}

/// ‖V‖ of each row: [out]; of an embedding that of each column: [D].
pub(crate) fn norms(weight: &Tensor, lora: &Lora) -> Result<Tensor> {
    let v = adapted(weight, lora)?;
    if is_embedding(lora) {
        return ops::unary(Unary::Sqrt, &ops::sum_rows(&ops::square(&v)?)?);
    }
    ops::row_norms(&v)
}

/// m / ‖V‖: [out], of an embedding [D].
pub(crate) fn factor(weight: &Tensor, lora: &Lora, magnitude: &Tensor) -> Result<Tensor> {
    if let Some(known) = &lora.factor {
        return Ok(known.clone());
    }
    let norms = norms(weight, lora)?;
    match lora.a.slot.layer {
        Some(_) => ops::div(magnitude, &norms),
        // The row of a token that never occurs may be zero, and 0 / 0 would be in every probability.
        None => ops::div(magnitude, &ops::clamp(&norms, f32::MIN_POSITIVE, f32::MAX)?),
    }
}

/// [`factor`] of a layer's adapter; None where that has no magnitudes.
pub(crate) fn factor_of(weight: &Tensor, lora: &Lora) -> Result<Option<Tensor>> {
    lora.magnitude.as_ref().map(|magnitude| factor(weight, lora, magnitude)).transpose()
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
    let c = factor(weight, lora, magnitude)?;
    let c = match is_embedding(lora) {
        true => c,
        false => {
            let ones = Tensor::from_f32(v.device(), vec![1.0; n], &[n, 1])?;
            ops::linear(&c.reshape(&[m, 1])?, &ones, None)?
        }
    };
    weight.tensor = ops::mul(&v, &c)?.cast(weight.dtype())?;
    Ok(())
}
