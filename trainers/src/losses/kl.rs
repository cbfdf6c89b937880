//! Estimates of KL(π ‖ π_ref) from tokens drawn from π, and the controller that keeps a KL near a target.
//!
//! With log r = log π_ref(x) − log π(x), x ~ π (J. Schulman, "Approximating KL divergence", 2020):
//! ```text
//! k1 = −log r          unbiased; of either sign
//! k2 = ½ (log r)²      biased, of low variance
//! k3 = r − 1 − log r   unbiased, never negative
//! ```
//! Each comes as numbers (for a penalty in the reward) and, where a loss needs it, as a tensor with a gradient.
use engine::Result;
use engine::ops::{add_scalar, exp, sub};
use engine::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// k1 of one token.
pub fn k1(logp: f64, logp_ref: f64) -> f64 {
    logp - logp_ref
}

/// k2 of one token.
pub fn k2(logp: f64, logp_ref: f64) -> f64 {
    0.5 * (logp_ref - logp).powi(2)
}

/// k3 of one token.
pub fn k3(logp: f64, logp_ref: f64) -> f64 {
    let log_r = logp_ref - logp;
    log_r.exp() - 1.0 - log_r
}

/// k3 of each token, differentiable in `logp`: [N], [N] → [N].
pub fn k3_tensor(logp: &Tensor, logp_ref: &Tensor) -> Result<Tensor> {
    let log_r = sub(logp_ref, logp)?;
    add_scalar(&sub(&exp(&log_r)?, &log_r)?, -1.0)
}

/// A KL coefficient that follows the KL it causes. D. M. Ziegler et al., "Fine-tuning language models from human
/// preferences", 2019, §2.2:
/// ```text
/// e = clip(KL / target − 1, −0.2, 0.2),    β ← β (1 + e · n / horizon)     after n completions
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveKl {
    /// What the KL is multiplied by.
    pub coefficient: f64,
    /// The KL that is aimed at.
    pub target: f64,
    /// Completions over which the coefficient may change by a fifth or so.
    pub horizon: f64,
}

impl AdaptiveKl {
    /// Takes in the mean KL of `n` completions.
    pub fn update(&mut self, kl: f64, n: usize) {
        let error = (kl / self.target - 1.0).clamp(-0.2, 0.2);
        self.coefficient *= 1.0 + error * n as f64 / self.horizon;
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::tests::{gradient, vector};
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn estimators_by_hand() {
        // π(x) = ½, π_ref(x) = ¼: log r = −ln 2, r = ½.
        let (p, q) = (0.5f64.ln(), 0.25f64.ln());
        let ln2 = 2f64.ln();
        assert_relative_eq!(k1(p, q), ln2, max_relative = 1e-12);
        assert_relative_eq!(k2(p, q), 0.5 * ln2 * ln2, max_relative = 1e-12);
        assert_relative_eq!(k3(p, q), ln2 - 0.5, max_relative = 1e-12);
        assert_eq!((k1(p, p), k2(p, p), k3(p, p)), (0.0, 0.0, 0.0));
    }

    /// E k1 = E k3 = KL, summed over a whole distribution.
    #[test]
    fn k1_and_k3_are_unbiased() {
        let (p, q) = ([0.5f64, 0.3, 0.2], [0.2f64, 0.5, 0.3]);
        let expect = |k: fn(f64, f64) -> f64| -> f64 { p.iter().zip(q).map(|(p, q)| p * k(p.ln(), q.ln())).sum() };
        let kl: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        assert_relative_eq!(expect(k1), kl, max_relative = 1e-12);
        assert_relative_eq!(expect(k3), kl, max_relative = 1e-12);
    }

    #[test]
    fn the_tensor_is_the_number_and_its_gradient_is_one_minus_r() {
        let (logp, logp_ref) = ([-0.5f32, -2.0, -1.0], [-1.0f32, -1.5, -1.0]);
        let (values, slopes) = gradient(&logp, |x| k3_tensor(x, &vector(&logp_ref)));
        for i in 0..3 {
            let (p, q) = (f64::from(logp[i]), f64::from(logp_ref[i]));
            assert_relative_eq!(f64::from(values[i]), k3(p, q), epsilon = 1e-6);
            assert_relative_eq!(f64::from(slopes[i]), 1.0 - (q - p).exp(), epsilon = 1e-6);
        }
    }

    #[test]
    fn the_controller_by_hand() {
        let mut beta = AdaptiveKl { coefficient: 0.2, target: 6.0, horizon: 10_000.0 };
        // Twice the target: the error is clipped at 0.2; 0.2 · (1 + 0.2 · 500 / 10 000).
        beta.update(12.0, 500);
        assert_relative_eq!(beta.coefficient, 0.2 * 1.01, max_relative = 1e-12);
        // A tenth below: 5.4/6 − 1 = −0.1.
        beta.update(5.4, 1000);
        assert_relative_eq!(beta.coefficient, 0.2 * 1.01 * 0.99, max_relative = 1e-12);
    }
}
