//! SwiGLU (N. Shazeer, "GLU variants improve transformer", 2020, equation 5): y = silu(gate) ∘ up.
use super::elementwise::{Map, apply};
use super::{Cpu, check, math};
use crate::buffer::Buffer;
use crate::error::Result;
use pulp::Simd;

#[derive(Clone, Copy)]
struct Swiglu;

impl Map<2, 1> for Swiglu {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [gate, up]: [S::f32s; 2]) -> [S::f32s; 1] {
        let silu = simd.mul_f32s(gate, math::sigmoid(simd, gate));
        [simd.mul_f32s(silu, up)]
    }
}

/// y = gate σ(gate) ∘ up
pub(crate) fn swiglu(cpu: &Cpu, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
    let inputs = [check::f32s("swiglu", "gate", gate, n)?, check::f32s("swiglu", "up", up, n)?];
    let [y] = apply(&cpu.threads, cpu.level, n, inputs, Swiglu)?;
    Ok(Buffer::from_f32(y))
}

#[derive(Clone, Copy)]
struct SwigluBackward;

impl Map<3, 2> for SwigluBackward {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [dy, gate, up]: [S::f32s; 3]) -> [S::f32s; 2] {
        let one = simd.splat_f32s(1.0);
        let s = math::sigmoid(simd, gate);
        let silu = simd.mul_f32s(gate, s);
        // silu' = σ + silu (1 − σ)
        let slope = simd.mul_add_f32s(silu, simd.sub_f32s(one, s), s);
        [simd.mul_f32s(simd.mul_f32s(dy, up), slope), simd.mul_f32s(dy, silu)]
    }
}

/// The forward was y = silu(gate) ∘ up, so dgate = dy ∘ up ∘ silu'(gate), dup = dy ∘ silu(gate).
pub(crate) fn swiglu_backward(
    cpu: &Cpu,
    dy: &Buffer,
    gate: &Buffer,
    up: &Buffer,
    n: usize,
) -> Result<(Buffer, Buffer)> {
    let op = "swiglu_backward";
    let inputs = [check::f32s(op, "dy", dy, n)?, check::f32s(op, "gate", gate, n)?, check::f32s(op, "up", up, n)?];
    let [dgate, dup] = apply(&cpu.threads, cpu.level, n, inputs, SwigluBackward)?;
    Ok((Buffer::from_f32(dgate), Buffer::from_f32(dup)))
}
