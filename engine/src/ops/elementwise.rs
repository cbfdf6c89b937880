//! Elementwise ops: y = f(x) and y = f(a, b), where b may repeat (a scalar, or a row under a matrix).
use super::{beside, check, sum_rows};
use crate::backend::{Binary, Unary};
use crate::error::Result;
use crate::tape::record1;
use crate::tensor::Tensor;

/// y = f(x), element by element; see [`Unary`] for each f.
pub fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    let n = x.len();
    let y = beside(x, x.device().unary(op, x.buffer(), n)?, x.shape());
    // The slope of a·x + b is a everywhere: neither x nor y is kept for it.
    let saved = (!matches!(op, Unary::Affine(..))).then(|| (x.detach(), y.clone()));
    let shape = x.shape().to_vec();
    // y = f(x)  ⟹  dx = dy · f'(x)
    record1("unary", &[x], y, move |dy| {
        let (x, y) = saved.as_ref().map_or((&dy, &dy), |(x, y)| (x, y));
        let dx = dy.device().unary_backward(op, x.buffer(), y.buffer(), dy.buffer(), n)?;
        Ok(vec![Some(beside(&dy, dx, &shape))])
    })
}

fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check("binary", !b.is_empty() && a.len().is_multiple_of(b.len()), a, b)?;
    Ok(beside(a, a.device().binary(op, a.buffer(), b.buffer(), a.len(), b.len())?, a.shape()))
}

/// ∂loss/∂b from the gradient of b repeated: the repetitions are summed. `shape` is that of b.
fn unrepeat(db: Tensor, shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    if db.len() == n {
        return db.reshape(shape);
    }
    sum_rows(&db.reshape(&[db.len() / n, n])?)?.reshape(shape)
}

/// a + b. da = dy, db = dy.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (to_b, shape) = (b.needs_grad(), b.shape().to_vec());
    record1("add", &[a, b], binary(Binary::Add, a, b)?, move |dy| {
        let db = if to_b { Some(unrepeat(dy.clone(), &shape)?) } else { None };
        Ok(vec![Some(dy), db])
    })
}

/// a − b. da = dy, db = −dy.
pub fn sub(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (to_b, shape) = (b.needs_grad(), b.shape().to_vec());
    record1("sub", &[a, b], binary(Binary::Sub, a, b)?, move |dy| {
        let db = if to_b { Some(unrepeat(scale(&dy, -1.0)?, &shape)?) } else { None };
        Ok(vec![Some(dy), db])
    })
}

/// a · b. da = dy · b, db = dy · a.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (to_a, to_b, sa, sb) = (a.needs_grad(), b.needs_grad(), a.detach(), b.detach());
    record1("mul", &[a, b], binary(Binary::Mul, a, b)?, move |dy| {
        let da = if to_a { Some(mul(&dy, &sb)?) } else { None };
        let db = if to_b { Some(unrepeat(mul(&dy, &sa)?, sb.shape())?) } else { None };
        Ok(vec![da, db])
    })
}

/// a / b. da = dy / b, db = −dy · y / b.
pub fn div(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (to_a, to_b, sb) = (a.needs_grad(), b.needs_grad(), b.detach());
    let y = binary(Binary::Div, a, b)?;
    let sy = y.clone();
    record1("div", &[a, b], y, move |dy| {
        let da = if to_a { Some(div(&dy, &sb)?) } else { None };
        let db = if to_b { Some(unrepeat(scale(&div(&mul(&dy, &sy)?, &sb)?, -1.0)?, sb.shape())?) } else { None };
        Ok(vec![da, db])
    })
}

/// The smaller of each two; where a = b half the gradient goes to each, as in PyTorch.
pub fn minimum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = binary(Binary::Min, a, b)?;
    choose("minimum", a, b, y)
}

/// max(a, b); where a = b half the gradient goes to each, as in PyTorch.
pub fn maximum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = binary(Binary::Max, a, b)?;
    choose("maximum", a, b, y)
}

/// The backward of min and max: share_a = [y = a] / ([y = a] + [y = b]), da = dy · share_a, db = dy · (1 − share_a).
fn choose(op: &'static str, a: &Tensor, b: &Tensor, y: Tensor) -> Result<Tensor> {
    let (sa, sb, sy, to_b) = (a.detach(), b.detach(), y.clone(), b.needs_grad());
    record1(op, &[a, b], y, move |dy| {
        let equal = |x: &Tensor| equals(&sy, x);
        let repeated = binary(Binary::Add, &scale(&sy, 0.0)?, &sb)?;
        let (from_a, from_b) = (equal(&sa)?, equal(&repeated)?);
        let share_a = div(&from_a, &add(&from_a, &from_b)?)?;
        let da = mul(&dy, &share_a)?;
        let db = if to_b { Some(unrepeat(sub(&dy, &da)?, sb.shape())?) } else { None };
        Ok(vec![Some(da), db])
    })
}

/// 1 where a = b, else 0; no gradient.
fn equals(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    // |a − b| is 0 or at least the smallest subnormal; 1 − min(|a − b| · 2¹²⁶ · 2¹²⁶, 1) is 1 or 0.
    let big = 2f32.powi(126);
    let d = unary(Unary::Abs, &sub(a, b)?)?;
    let d = scale(&unary(Unary::Clamp(0.0, 1.0), &scale(&d, big)?)?, big)?;
    unary(Unary::Affine(-1.0, 1.0), &unary(Unary::Clamp(0.0, 1.0), &d)?)
}

/// a·x
pub fn scale(x: &Tensor, a: f32) -> Result<Tensor> {
    unary(Unary::Affine(a, 0.0), x)
}
/// x + b
pub fn add_scalar(x: &Tensor, b: f32) -> Result<Tensor> {
    unary(Unary::Affine(1.0, b), x)
}
/// y = eˣ
pub fn exp(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Exp, x)
}
/// y = ln x
pub fn ln(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Ln, x)
}
/// y = x²
pub fn square(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Square, x)
}
/// y = max(x, 0); gradient 0 at 0
pub fn relu(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Relu, x)
}
/// y = σ(x) = 1 / (1 + e⁻ˣ)
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Sigmoid, x)
}
/// y = log σ(x) = −log(1 + e⁻ˣ), without overflow
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    unary(Unary::LogSigmoid, x)
}
/// y = min(max(x, lo), hi); gradient 1 inside [lo, hi], 0 outside
pub fn clamp(x: &Tensor, lo: f32, hi: f32) -> Result<Tensor> {
    unary(Unary::Clamp(lo, hi), x)
}
