//! AdamW (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2).
use super::Reference;
use super::check::{values, values_mut};
use crate::backend::{AdamWStep, Optimise, Trained};
use crate::error::{Error, Result};

impl Optimise for Reference {
    fn adamw(&self, tensors: &mut [Trained<'_>], step: AdamWStep) -> Result<()> {
        tensors.iter_mut().try_for_each(|tensor| one(tensor, step))
    }
}

/// One step t on a tensor, in PyTorch's order of operations:
///
/// ```text
/// g = grad_scale·grad        p ← p − η λ p
/// m ← β₁ m + (1 − β₁) g      v ← β₂ v + (1 − β₂) g²
/// p ← p − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
/// ```
fn one(tensor: &mut Trained<'_>, step: AdamWStep) -> Result<()> {
    if step.step == 0 {
        return Err(Error::Input("adamw: steps are counted from 1, 0 given".into()));
    }
    let Trained { p, m, v, grad, n, weight_decay } = tensor;
    let (n, weight_decay) = (*n, *weight_decay);
    let AdamWStep { learning_rate, beta1, beta2, epsilon, .. } = step;
    let grad = values("adamw", "grad", grad, n)?;
    let p = values_mut("adamw", "p", p, n)?;
    let m = values_mut("adamw", "m", m, n)?;
    let v = values_mut("adamw", "v", v, n)?;
    let correction1 = 1.0 - beta1.powf(step.step as f64);
    let correction2 = 1.0 - beta2.powf(step.step as f64);
    for i in 0..n {
        let g = f64::from(step.grad_scale) * f64::from(grad[i]);
        let decayed = f64::from(p[i]) * (1.0 - learning_rate * weight_decay);
        let first = beta1 * f64::from(m[i]) + (1.0 - beta1) * g;
        let second = beta2 * f64::from(v[i]) + (1.0 - beta2) * g * g;
        let update = first / (second.sqrt() / correction2.sqrt() + epsilon);
        p[i] = (decayed - learning_rate / correction1 * update) as f32;
        m[i] = first as f32;
        v[i] = second as f32;
    }
    Ok(())
}
