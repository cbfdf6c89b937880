//! AdamW (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2).
use super::map::{Map, update};
use super::{Cpu, check};
use crate::backend::{AdamWStep, Optimise, Trained};
use crate::error::{Error, Result};
use crate::portable::power;
use pulp::Simd;

/// The step's factors, computed in f64 and rounded once.
#[derive(Clone, Copy)]
struct AdamWMap {
    grad_scale: f32,
    /// 1 − η λ
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    /// 1 / √(1 − β₂ᵗ)
    scale_v: f32,
    epsilon: f32,
    /// −η / (1 − β₁ᵗ)
    step_size: f32,
}

impl Map<4, 3> for AdamWMap {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [p, m, v, grad]: [S::f32s; 4]) -> [S::f32s; 3] {
        let splat = |x| simd.splat_f32s(x);
        let g = simd.mul_f32s(splat(self.grad_scale), grad);
        let m = simd.mul_add_f32s(splat(self.beta1), m, simd.mul_f32s(splat(self.one_minus_beta1), g));
        let g2 = simd.mul_f32s(g, g);
        let v = simd.mul_add_f32s(splat(self.beta2), v, simd.mul_f32s(splat(self.one_minus_beta2), g2));
        let denominator = simd.mul_add_f32s(simd.sqrt_f32s(v), splat(self.scale_v), splat(self.epsilon));
        let update = simd.div_f32s(m, denominator);
        let p = simd.mul_add_f32s(splat(self.step_size), update, simd.mul_f32s(splat(self.decay), p));
        [p, m, v]
    }
}

impl Optimise for Cpu {
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        tensors.iter_mut().try_for_each(|tensor| one(self, tensor, step))
    }
}

/// One step t on a tensor, in PyTorch's order of operations:
///
/// ```text
/// g = grad_scale·grad        p ← p − η λ p
/// m ← β₁ m + (1 − β₁) g      v ← β₂ v + (1 − β₂) g²
/// p ← p − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
/// ```
fn one(cpu: &Cpu, tensor: &mut Trained<'_>, step: AdamWStep) -> Result<()> {
    if step.step == 0 {
        return Err(Error::Input("adamw: steps are counted from 1, 0 given".into()));
    }
    let Trained { p, m, v, grad, n, weight_decay } = tensor;
    let (n, weight_decay) = (*n, *weight_decay);
    let AdamWStep { learning_rate, beta1, beta2, epsilon, .. } = step;
    let correction1 = 1.0 - power(beta1, step.step as f64);
    let correction2 = 1.0 - power(beta2, step.step as f64);
    let f = AdamWMap {
        grad_scale: step.grad_scale,
        decay: (1.0 - learning_rate * weight_decay) as f32,
        beta1: beta1 as f32,
        one_minus_beta1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        one_minus_beta2: (1.0 - beta2) as f32,
        scale_v: (1.0 / correction2.sqrt()) as f32,
        epsilon: epsilon as f32,
        step_size: (-learning_rate / correction1) as f32,
    };
    let grad = check::f32s("adamw", "grad", grad, n)?;
    check::f32s("adamw", "m", m, n)?;
    check::f32s("adamw", "v", v, n)?;
    let p = check::f32s_mut("adamw", "p", p, n)?;
    let (m, v) = (check::f32s_mut("adamw", "m", m, n)?, check::f32s_mut("adamw", "v", v, n)?);
    update(&cpu.threads, cpu.level, [p, m, v], [grad], f);
    Ok(())
}
