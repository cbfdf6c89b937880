//! Losses of single answers, each good or bad: KTO, APO unpaired, BCO.
//!
//! `ratio` r = log π(y|x) − log π_ref(y|x): [n] → [n]. Each takes the anchor that it measures from: KTO's divergence z,
//! BCO's shift δ; it has no gradient.
use crate::named::named;
use engine::Result;
use engine::ops::{add_scalar, log_sigmoid, scale, sigmoid};
use engine::tensor::Tensor;

/// Of answers of one kind: (ratios, β, anchor) → [n].
pub type AnswerLoss = fn(&Tensor, f32, f32) -> Result<Tensor>;

/// The losses of good and of bad answers.
#[derive(Clone, Copy)]
pub struct Unpaired {
    /// Of answers labelled good.
    pub good: AnswerLoss,
    /// Of answers labelled bad.
    pub bad: AnswerLoss,
}

named! {
    /// The losses of single answers, as `--loss_type` names them.
    pub enum KtoLoss: Unpaired {
        /// The value of an answer saturates on either side of the divergence z (KTO).
        Kto = "kto" => Unpaired { good: kto_good, bad: kto_bad },
        /// The same measured from 0: good answers up, bad ones down (APO-zero).
        ApoZeroUnpaired = "apo_zero_unpaired" => Unpaired { good: apo_zero_good, bad: apo_zero_bad },
    }
}

/// 1 − σ(β (r − z)) = σ(β (z − r)). K. Ethayarajh et al., "KTO: model alignment as prospect theoretic optimization",
/// ICML 2024, equation 7.
pub fn kto_good(ratio: &Tensor, beta: f32, z: f32) -> Result<Tensor> {
    sigmoid(&scale(&add_scalar(ratio, -z)?, -beta)?)
}

/// 1 − σ(β (z − r)) = σ(β (r − z))
pub fn kto_bad(ratio: &Tensor, beta: f32, z: f32) -> Result<Tensor> {
    sigmoid(&scale(&add_scalar(ratio, -z)?, beta)?)
}

/// 1 − σ(β r): APO's equation 7 for single answers (see [`super::dpo::apo_zero`]).
pub fn apo_zero_good(ratio: &Tensor, beta: f32, _: f32) -> Result<Tensor> {
    kto_good(ratio, beta, 0.0)
}

/// σ(β r)
pub fn apo_zero_bad(ratio: &Tensor, beta: f32, _: f32) -> Result<Tensor> {
    kto_bad(ratio, beta, 0.0)
}

/// −log σ(β r − δ). S. Jung et al., "Binary classifier optimization for large language model alignment", ACL 2025,
/// equation 7; δ is the running mean of all rewards β r.
pub fn bco_good(ratio: &Tensor, beta: f32, delta: f32) -> Result<Tensor> {
    scale(&log_sigmoid(&add_scalar(&scale(ratio, beta)?, -delta)?)?, -1.0)
}

/// −log σ(−(β r − δ))
pub fn bco_bad(ratio: &Tensor, beta: f32, delta: f32) -> Result<Tensor> {
    scale(&log_sigmoid(&add_scalar(&scale(ratio, -beta)?, delta)?)?, -1.0)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;
    use approx::assert_relative_eq;

    /// r = 3, β = ½, anchor 1.
    #[test]
    fn losses_by_hand() {
        let s = |x: f32| 1.0 / (1.0 + (-x).exp());
        let bell = |x: f32| s(x) * s(-x);
        for (loss, value, slope) in [
            (kto_good as AnswerLoss, s(-1.0), -0.5 * bell(1.0)),
            (kto_bad, s(1.0), 0.5 * bell(1.0)),
            (apo_zero_good, s(-1.5), -0.5 * bell(1.5)),
            (apo_zero_bad, s(1.5), 0.5 * bell(1.5)),
            (bco_good, -s(0.5).ln(), -0.5 * s(-0.5)),
            (bco_bad, -s(-0.5).ln(), 0.5 * s(0.5)),
        ] {
            let (y, dy) = value_and_gradient(&[3.0], |r| loss(r, 0.5, 1.0));
            assert_relative_eq!(y, value, max_relative = 1e-6);
            assert_relative_eq!(dy[0], slope, max_relative = 1e-6);
        }
    }
}
