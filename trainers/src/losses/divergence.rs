//! Scores of answers from their log-ratios: the f-divergences between policy and reference.
//!
//! C. Wang et al., "Beyond reverse KL: generalizing direct preference optimization with diverse divergence constraints"
//! (f-DPO), ICLR 2024, table 1: the score is f′(t) with t = π(y|x)/π_ref(y|x), up to a constant that cancels in a pair.
use crate::named::named;
use engine::Result;
use engine::ops::{add_scalar, clamp, exp, log_sigmoid, scale};
use engine::tensor::Tensor;

/// From r = log t to f′(t), element by element; the number is α, for the α-divergence.
pub type Score = fn(&Tensor, f32) -> Result<Tensor>;

named! {
    /// The divergence that ties the policy to the reference, as `--f_divergence_type` names it.
    pub enum FDivergence: Score {
        /// Scores are log-ratios: plain DPO.
        ReverseKl = "reverse_kl" => reverse_kl,
        /// Scores are 1 − 1/t: below 1, falling without bound where the policy says an answer less often.
        ForwardKl = "forward_kl" => forward_kl,
        /// Scores are log(2t / (1 + t)), below log 2.
        JsDivergence = "js_divergence" => js_divergence,
        /// Scores are (t^(α−1) − 1) / (α − 1): between the two KLs, reverse at α = 1 and forward at α = 0.
        AlphaDivergence = "alpha_divergence" => alpha_divergence,
    }
}

/// f′(t) = log t (+ 1): the log-ratio itself, plain DPO.
pub fn reverse_kl(r: &Tensor, _: f32) -> Result<Tensor> {
    Ok(r.clone())
}

/// f′(t) = 1 − 1/t
pub fn forward_kl(r: &Tensor, _: f32) -> Result<Tensor> {
    add_scalar(&scale(&exp(&scale(r, -1.0)?)?, -1.0)?, 1.0)
}

/// f′(t) = log(2t / (1 + t)) = log 2 + log σ(log t)
pub fn js_divergence(r: &Tensor, _: f32) -> Result<Tensor> {
    add_scalar(&log_sigmoid(r)?, std::f32::consts::LN_2)
}

/// f′(t) = (t^(α−1) − 1) / (α − 1), the exponent held below 80; near α = 1 it is log t.
pub fn alpha_divergence(r: &Tensor, alpha: f32) -> Result<Tensor> {
    let a = alpha - 1.0;
    if a.abs() < 1e-6 {
        return reverse_kl(r, alpha);
    }
    scale(&add_scalar(&exp(&clamp(&scale(r, a)?, f32::MIN, 80.0)?)?, -1.0)?, 1.0 / a)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;
    use approx::assert_relative_eq;

    /// r = ln 2, t = 2.
    #[test]
    fn scores_by_hand() {
        let ln2 = 2f32.ln();
        for (score, alpha, value, slope) in [
            (reverse_kl as Score, 0.0, ln2, 1.0),
            // 1 − 1/2; slope 1/t
            (forward_kl, 0.0, 0.5, 0.5),
            // log(4/3); slope 1 − σ(ln 2) = 1/3
            (js_divergence, 0.0, (4f32 / 3.0).ln(), 1.0 / 3.0),
            // α = ½: (2^−½ − 1) / −½ = 2 − √2; slope t^(α−1) = 1/√2
            (alpha_divergence, 0.5, 2.0 - 2f32.sqrt(), 0.5f32.sqrt()),
            // α = 2: t − 1; slope t
            (alpha_divergence, 2.0, 1.0, 2.0),
            (alpha_divergence, 1.0, ln2, 1.0),
        ] {
            let (y, dy) = value_and_gradient(&[ln2], |r| score(r, alpha));
            assert_relative_eq!(y, value, max_relative = 1e-6);
            assert_relative_eq!(dy[0], slope, max_relative = 1e-6);
        }
    }
}
