//! SwiGLU. N. Shazeer, "GLU variants improve transformer", 2020, equation 6 (without the projections).
//!
//! ```text
//! y = silu(gate) ∘ up,   silu(g) = g · σ(g)
//! ```
use super::{beside, check};
use crate::error::Result;
use crate::tape::record1;
use crate::tensor::Tensor;

/// gate, up [T, F] → [T, F].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    check("swiglu", gate.shape() == up.shape(), gate, up)?;
    let n = gate.len();
    let y = beside(gate, gate.device().swiglu(gate.buffer(), up.buffer(), n)?, gate.shape());
    let (g, u) = (gate.detach(), up.detach());
    let (again_g, again_u) = (g.clone(), u.clone());
    // y = silu(g) · u  ⟹  du = dy · silu(g),  dg = dy · u · σ(g) · (1 + g · (1 − σ(g)))
    let y = record1("swiglu", &[gate, up], y, move |dy| {
        let (dg, du) = dy.device().swiglu_backward(dy.buffer(), g.buffer(), u.buffer(), n)?;
        Ok(vec![Some(beside(&dy, dg, g.shape())), Some(beside(&dy, du, u.shape()))])
    })?;
    Ok(y.with_recipe(move || {
        let (g, u) = (&again_g, &again_u);
        Ok(beside(g, g.device().swiglu(g.buffer(), u.buffer(), n)?, g.shape()))
    }))
}
