//! Matrix products: the linear layer, a second product added onto it (LoRA), and the plain product.
use super::{add, beside, check, hollow};
use crate::backend::{Layout, Product};
use crate::buffer::Buffer;
use crate::error::Result;
use crate::tape::record1_onto;
use crate::tensor::{Saved, Tensor};

/// α · op(A) · op(B) (+ c) without a gradient; the shapes are the caller's business.
fn product(
    layout: Layout,
    (m, n, k): (usize, usize, usize),
    alpha: f32,
    a: &Tensor,
    b: &Tensor,
    c: Option<Buffer>,
) -> Result<Tensor> {
    let buffer = a.device().matmul(Product { layout, m, n, k, alpha }, a.buffer(), b.buffer(), c)?;
    Ok(beside(a, buffer, &[m, n]))
}

/// What the backward of a product knows of its input: the values only where the weight wants a gradient.
struct LinearInput {
    shape: Vec<usize>,
    values: Option<Saved>,
}

impl LinearInput {
    fn new(x: &Tensor, to_w: bool) -> Self {
        LinearInput { shape: x.shape().to_vec(), values: to_w.then(|| x.saved()) }
    }
}

/// (dx, dw) of y = α · x wᵀ, where asked for: dx = α · dy w, dw = α · dyᵀ x. `onto` is what arrived at x and at w
/// before: the products are added onto it.
fn product_backward(
    dy: &Tensor,
    x: &LinearInput,
    w: &Tensor,
    alpha: f32,
    [to_x, to_w]: [bool; 2],
    [onto_x, onto_w]: [Option<Tensor>; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let ((m, n), k) = (dy.matrix(), w.matrix().1);
    let gradient = |layout, sizes, b: &Tensor, onto: Option<Tensor>, shape: &[usize]| {
        product(layout, sizes, alpha, dy, b, onto.map(Tensor::into_buffer))?.reshape(shape).map(Some)
    };
    let dx = if to_x { gradient(Layout::NN, (m, k, n), w, onto_x, &x.shape)? } else { None };
    let dw = match &x.values {
        Some(x) if to_w => gradient(Layout::TN, (n, k, m), &x.get()?, onto_w, w.shape())?,
        _ => None,
    };
    Ok((dx, dw))
}

/// y = x wᵀ + b: x [T, in], w [out, in] of any dtype, b [out] → y [T, out].
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((m, k), (n, k_w)) = (x.matrix(), w.matrix());
    check("linear", k == k_w, x, w)?;
    let y = product(Layout::NT, (m, n, k), 1.0, x, w, None)?;
    let (sw, to_x, to_w) = (w.detach(), x.needs_grad(), w.needs_grad());
    let sx = LinearInput::new(x, to_w);
    let y = record1_onto("linear", &[x, w], y, move |dy, arrived| {
        let onto = [arrived.take(0), arrived.take(1)];
        let (dx, dw) = product_backward(&dy, &sx, &sw, 1.0, [to_x, to_w], onto)?;
        Ok(vec![dx, dw])
    })?;
    match bias {
        None => Ok(y),
        Some(b) => add_bias(y, b),
    }
}

/// y + b with b [n] under each row of y [m, n]. db = Σ rows of dy.
fn add_bias(y: Tensor, b: &Tensor) -> Result<Tensor> {
    check("bias", y.matrix().1 == b.len(), &y, b)?;
    add(&y, b)
}

/// y + α · x wᵀ, into y's own memory when nobody else holds it: the second half of a LoRA layer,
/// y = x Wᵀ + (α/r) · (x Aᵀ) Bᵀ with x Aᵀ as `x` and B as `w`.
pub fn linear_onto(y: Tensor, x: &Tensor, w: &Tensor, alpha: f32) -> Result<Tensor> {
    let ((m, k), (n, k_w)) = (x.matrix(), w.matrix());
    check("linear_onto", k == k_w && y.matrix() == (m, n), x, w)?;
    let on_tape = hollow(&y);
    let sum = product(Layout::NT, (m, n, k), alpha, x, w, Some(y.into_buffer()))?;
    let (sw, to_y, to_x, to_w) = (w.detach(), on_tape.needs_grad(), x.needs_grad(), w.needs_grad());
    let sx = LinearInput::new(x, to_w);
    // y' = y + α · x wᵀ  ⟹  dy = dy', dx = α · dy' w, dw = α · dy'ᵀ x
    record1_onto("linear_onto", &[&on_tape, x, w], sum, move |dy, arrived| {
        let onto = [arrived.take(1), arrived.take(2)];
        let (dx, dw) = product_backward(&dy, &sx, &sw, alpha, [to_x, to_w], onto)?;
        Ok(vec![to_y.then_some(dy), dx, dw])
    })
}

/// C = A B: a [m, k], b [k, n] → [m, n].
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ((m, k), (k_b, n)) = (a.matrix(), b.matrix());
    check("matmul", k == k_b, a, b)?;
    let c = product(Layout::NN, (m, n, k), 1.0, a, b, None)?;
    let (sa, sb, to_a, to_b) = (a.detach(), b.detach(), a.needs_grad(), b.needs_grad());
    // C = A B  ⟹  dA = dC Bᵀ, dB = Aᵀ dC
    record1_onto("matmul", &[a, b], c, move |dc, arrived| {
        let mut gradient = |input: usize, layout, sizes, left: &Tensor, right: &Tensor, like: &Tensor| {
            let onto = arrived.take(input).map(Tensor::into_buffer);
            product(layout, sizes, 1.0, left, right, onto)?.reshape(like.shape()).map(Some)
        };
        let da = if to_a { gradient(0, Layout::NT, (m, k, n), &dc, &sb, &sa)? } else { None };
        let db = if to_b { gradient(1, Layout::TN, (k, n, m), &sa, &dc, &sb)? } else { None };
        Ok(vec![da, db])
    })
}
