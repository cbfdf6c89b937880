//! SwiGLU (N. Shazeer, "GLU variants improve transformer", 2020, equation 6), after its two products.
use super::check::values;
use crate::buffer::Buffer;
use crate::error::Result;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// y = silu(gate) ∘ up, silu(x) = x σ(x)
pub fn swiglu(gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
    let (gate, up) = (values("swiglu", "gate", gate, n)?, values("swiglu", "up", up, n)?);
    let f = |g: f64, u: f64| g * sigmoid(g) * u;
    Ok(Buffer::from_f32(gate.iter().zip(up).map(|(&g, &u)| f(g.into(), u.into()) as f32).collect()))
}

/// The forward was y = g σ(g) ∘ u, so dg = dy ∘ u ∘ σ(g) (1 + g (1 − σ(g))) and du = dy ∘ g σ(g). Returns (dg, du).
pub fn swiglu_backward(dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
    let op = "swiglu_backward";
    let (dy, gate, up) = (values(op, "dy", dy, n)?, values(op, "gate", gate, n)?, values(op, "up", up, n)?);
    let (mut dgate, mut dup) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for i in 0..n {
        let (dy, g, u) = (f64::from(dy[i]), f64::from(gate[i]), f64::from(up[i]));
        dgate.push((dy * u * sigmoid(g) * (1.0 + g * sigmoid(-g))) as f32);
        dup.push((dy * g * sigmoid(g)) as f32);
    }
    Ok((Buffer::from_f32(dgate), Buffer::from_f32(dup)))
}
