//! Losses of pairs without a reference: contrastive preference optimisation, SimPO, AlphaPO.
//!
//! With u the (transformed) log-probability of an answer, Δ = u_w − u_l. `delta` [P] → [P].
use super::dpo::smoothed;
use crate::named::named;
use engine::Result;
use engine::ops::{add_scalar, exp, relu, scale, square};
use engine::tensor::Tensor;

/// The numbers that the losses are tuned with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpoSettings {
    /// β: how much a log-probability counts.
    pub beta: f32,
    /// ε: the share of pairs whose order is taken to be wrong.
    pub label_smoothing: f32,
    /// γ: the margin that SimPO asks for.
    pub simpo_gamma: f32,
}

/// A loss of the difference of log-probabilities, chosen less rejected: [P] → [P].
pub type DeltaLoss = fn(&Tensor, CpoSettings) -> Result<Tensor>;

named! {
    /// The losses of a pair without a reference, as `--loss_type` names them; true: Δ is of means over tokens, not sums.
    pub enum CpoLoss: (DeltaLoss, bool) {
        /// −log σ(β Δ): contrastive preference optimisation, with label smoothing.
        Sigmoid = "sigmoid" => (sigmoid_loss, false),
        /// max(0, 1 − β Δ): no gradient once a pair is 1/β apart.
        Hinge = "hinge" => (hinge, false),
        /// (Δ − 1/(2β))²: pairs are drawn to a fixed distance, not driven apart for ever.
        Ipo = "ipo" => (ipo, true),
        /// −log σ(β Δ − γ): SimPO, which asks for a margin γ.
        Simpo = "simpo" => (simpo, true),
        /// SimPO on transformed probabilities, without the likelihood of the chosen answer.
        Alphapo = "alphapo" => (simpo, true),
    }
}

/// u = (1 − p^−α) / α with log p given; log p itself for α = 0. A. Gupta et al., "AlphaPO: reward shape matters for LLM
/// alignment", ICML 2025, equation 7.
pub fn alpha_reward(logp: &Tensor, alpha: f32) -> Result<Tensor> {
    if alpha == 0.0 {
        return Ok(logp.clone());
    }
    scale(&add_scalar(&scale(&exp(&scale(logp, -alpha)?)?, -1.0)?, 1.0)?, 1.0 / alpha)
}

/// −log σ(β Δ). H. Xu et al., "Contrastive preference optimization", ICML 2024, equation 3.
pub fn sigmoid_loss(delta: &Tensor, s: CpoSettings) -> Result<Tensor> {
    smoothed(&scale(delta, s.beta)?, s.label_smoothing)
}

/// max(0, 1 − β Δ)
pub fn hinge(delta: &Tensor, s: CpoSettings) -> Result<Tensor> {
    relu(&add_scalar(&scale(delta, -s.beta)?, 1.0)?)
}

/// (Δ − 1/(2β))², Δ of means over tokens: IPO's equation 17.
pub fn ipo(delta: &Tensor, s: CpoSettings) -> Result<Tensor> {
    square(&add_scalar(delta, -1.0 / (2.0 * s.beta))?)
}

/// −log σ(β Δ − γ), Δ of means over tokens. Y. Meng et al., "SimPO: simple preference optimization with a
/// reference-free reward", NeurIPS 2024, equation 6.
pub fn simpo(delta: &Tensor, s: CpoSettings) -> Result<Tensor> {
    smoothed(&add_scalar(&scale(delta, s.beta)?, -s.simpo_gamma)?, s.label_smoothing)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn losses_by_hand() {
        let s = CpoSettings { beta: 0.5, label_smoothing: 0.0, simpo_gamma: 1.0 };
        let sigma = |x: f32| 1.0 / (1.0 + (-x).exp());
        for (loss, value, slope) in [
            (sigmoid_loss as DeltaLoss, -sigma(0.5).ln(), -0.5 * sigma(-0.5)),
            (hinge, 0.5, -0.5),
            (ipo, 0.0, 0.0),
            (simpo, -sigma(-0.5).ln(), -0.5 * sigma(0.5)),
        ] {
            let (y, dy) = value_and_gradient(&[1.0], |x| loss(x, s));
            assert_relative_eq!(y, value, max_relative = 1e-6);
            assert_relative_eq!(dy[0], slope, max_relative = 1e-6);
        }
    }

    /// p = ½: α = 1 gives 1 − 2 = −1, slope p^−α = 2; α = −1 gives p − 1 = −½, slope ½.
    #[test]
    fn alpha_reward_by_hand() {
        for (alpha, value, slope) in [(1.0, -1.0, 2.0), (-1.0, -0.5, 0.5), (0.0, 0.5f32.ln(), 1.0)] {
            let (y, dy) = value_and_gradient(&[0.5f32.ln()], |x| alpha_reward(x, alpha));
            assert_relative_eq!(y, value, max_relative = 1e-6);
            assert_relative_eq!(dy[0], slope, max_relative = 1e-6);
        }
    }
}
