//! Direct preference optimisation and its kin: losses of pairs from summed log-probabilities.
//!
//! Each function gives one value a pair, [P]; the trainer takes their mean. With r_w = log π(y_w|x) − log π_ref(y_w|x)
//! and r_l likewise, s = the scores that the f-divergence makes of them (s = r for plain DPO), Δ = s_w − s_l.
use crate::named::named;
use engine::Result;
use engine::backend::RowIndex;
use engine::ops::{add, add_scalar, div, exp, gather_rows, log_sigmoid, mul, relu, scale, sigmoid, square, sub};
use engine::tensor::Tensor;
use std::sync::Arc;

/// A value for the chosen (w) and one for the rejected (l) answer of each pair: [P] each.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Of the preferred answers: [P].
    pub chosen: Tensor,
    /// Of the others: [P].
    pub rejected: Tensor,
}

impl Sides {
    /// The same function of both.
    pub fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Sides> {
        Ok(Sides { chosen: f(&self.chosen)?, rejected: f(&self.rejected)? })
    }
    /// chosen − rejected: [P]
    pub fn difference(&self) -> Result<Tensor> {
        sub(&self.chosen, &self.rejected)
    }
}

/// What the losses are made of.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// log π(y|x)
    pub logp: Sides,
    /// log π_ref(y|x)
    pub logp_ref: Sides,
    /// r = log π − log π_ref
    pub ratio: Sides,
    /// s = f′(exp r)
    pub score: Sides,
    /// |y|, tokens of the answer (no gradient).
    pub length: Sides,
    /// Σₜ log π(y_w,t) over the answer's predicted tokens, without LD-DPO's weights.
    pub logp_chosen: Tensor,
    /// Predicted tokens of chosen answers per pair, over the whole accumulated batch.
    pub mean_chosen_length: f32,
}

/// The numbers that the losses are tuned with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DpoSettings {
    /// β: how much a log-ratio to the reference counts.
    pub beta: f32,
    /// ε: the share of pairs whose order is taken to be wrong.
    pub label_smoothing: f32,
    /// τ of DiscoPOP.
    pub discopop_tau: f32,
    /// λ of DPO-Positive.
    pub dpop_lambda: f32,
}

impl Default for DpoSettings {
    fn default() -> Self {
        DpoSettings { beta: 0.1, label_smoothing: 0.0, discopop_tau: 0.05, dpop_lambda: 50.0 }
    }
}

/// One value a pair.
pub type PairLoss = fn(&Pairs, DpoSettings) -> Result<Tensor>;

named! {
    /// The losses of a pair, as `--loss_type` names them.
    pub enum DpoLoss: PairLoss {
        /// −log σ(β Δ): DPO.
        Sigmoid = "sigmoid" => sigmoid_loss,
        /// max(0, 1 − β Δ): no gradient once a pair is 1/β apart (SLiC, RSO).
        Hinge = "hinge" => hinge,
        /// Squared distance of the scores' difference per token from 1/(2β): pairs are not driven apart for ever.
        Ipo = "ipo" => ipo,
        /// KL of the policy's preference from the label's, (1 − ε, ε); needs label smoothing above 0 (EXO).
        ExoPair = "exo_pair" => exo_pair,
        /// Each answer is classified against the reference by itself: the preferred one's likelihood does not sink (NCA).
        NcaPair = "nca_pair" => nca_pair,
        /// DPO without the bias that a share ε < ½ of pairs labelled the wrong way round brings (robust DPO).
        Robust = "robust" => robust,
        /// The preferred answer is taught as good and the other as bad, each by itself (BCO, without its shift).
        BcoPair = "bco_pair" => bco_pair,
        /// Squared distance of each log-ratio from ±1/(2β) (SPPO).
        SppoHard = "sppo_hard" => sppo_hard,
        /// Compares the sorted log-ratios of chosen to rejected with the reference's, over the batch (AOT, paired).
        Aot = "aot" | "aot_pair" => aot,
        /// Compares the sorted log-ratios of chosen answers with those of rejected ones, whatever pairs they are in (AOT, unpaired).
        AotUnpaired = "aot_unpaired" => aot_unpaired,
        /// Raises the preferred answer and lowers the other, against the reference (APO-zero).
        ApoZero = "apo_zero" => apo_zero,
        /// Lowers the preferred answer, and the other one more: for answers worse than the model's own (APO-down).
        ApoDown = "apo_down" => apo_down,
        /// A mixture of logistic and exponential loss, by τ, which was found by search (DiscoPOP).
        Discopop = "discopop" => discopop,
        /// DPO with a penalty λ on likelihood that the preferred answer loses against the reference (DPO-Positive).
        Dpop = "dpop" => dpop,
        /// Negative log-likelihood of the preferred answer, a mean over tokens: to be added to another loss (RPO).
        Sft = "sft" => sft,
        /// DPO with scores per token, so that length counts for nothing.
        SigmoidNorm = "sigmoid_norm" => sigmoid_norm,
    }
}

named! {
    /// Those of them that TRL's online trainer takes.
    pub enum OnlineDpoLoss: PairLoss {
        /// −log σ(β Δ): DPO.
        Sigmoid = "sigmoid" => sigmoid_loss,
        /// (Δ − 1/(2β))², of sums over tokens.
        Ipo = "ipo" => ipo_of_sums,
    }
}

/// β Δ
fn logits(pairs: &Pairs, beta: f32) -> Result<Tensor> {
    scale(&pairs.score.difference()?, beta)
}

/// −log σ(x)
fn softplus_of_minus(x: &Tensor) -> Result<Tensor> {
    scale(&log_sigmoid(x)?, -1.0)
}

/// −(1 − ε) log σ(x) − ε log σ(−x)
pub fn smoothed(x: &Tensor, epsilon: f32) -> Result<Tensor> {
    let kept = scale(&softplus_of_minus(x)?, 1.0 - epsilon)?;
    if epsilon == 0.0 {
        return Ok(kept);
    }
    add(&kept, &scale(&softplus_of_minus(&scale(x, -1.0)?)?, epsilon)?)
}

/// −log σ(β Δ). R. Rafailov et al., "Direct preference optimization", NeurIPS 2023, equation 7.
pub fn sigmoid_loss(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    softplus_of_minus(&logits(pairs, s.beta)?)
}

/// max(0, 1 − β Δ). Y. Zhao et al., "SLiC-HF", 2023, equation 1; T. Liu et al., "Statistical rejection sampling
/// improves preference optimization" (RSO), ICLR 2024, equation 6.
pub fn hinge(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    relu(&add_scalar(&scale(&logits(pairs, s.beta)?, -1.0)?, 1.0)?)
}

/// s / |y| of both sides.
fn score_per_token(pairs: &Pairs) -> Result<Sides> {
    let chosen = div(&pairs.score.chosen, &pairs.length.chosen)?;
    Ok(Sides { chosen, rejected: div(&pairs.score.rejected, &pairs.length.rejected)? })
}

/// (s_w/|y_w| − s_l/|y_l| − 1/(2β))². M. G. Azar et al., "A general theoretical paradigm to understand learning from
/// human preferences" (IPO), AISTATS 2024, equation 17, with the mean over tokens that its authors used.
pub fn ipo(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    square(&add_scalar(&score_per_token(pairs)?.difference()?, -1.0 / (2.0 * s.beta))?)
}

/// (Δ − 1/(2β))²: the same of sums over tokens, as equation 17 has it and TRL's online trainer takes it.
pub fn ipo_of_sums(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    square(&add_scalar(&pairs.score.difference()?, -1.0 / (2.0 * s.beta))?)
}

/// KL(p ‖ q), p = (σ(βΔ), σ(−βΔ)), q = (1 − ε, ε). H. Ji et al., "Towards efficient exact optimization of language
/// model alignment" (EXO), ICML 2024, equation 16.
pub fn exo_pair(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let x = logits(pairs, s.beta)?;
    let minus = scale(&x, -1.0)?;
    let term = |x: &Tensor, q: f32| mul(&sigmoid(x)?, &add_scalar(&log_sigmoid(x)?, -q.ln())?);
    add(&term(&x, 1.0 - s.label_smoothing)?, &term(&minus, s.label_smoothing)?)
}

/// −log σ(β r_w) − ½ log σ(−β r_w) − ½ log σ(−β r_l). H. Chen et al., "Noise contrastive alignment of language models
/// with explicit rewards" (NCA), NeurIPS 2024, equation 11 for pairs.
pub fn nca_pair(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let (w, l) = (scale(&pairs.ratio.chosen, s.beta)?, scale(&pairs.ratio.rejected, s.beta)?);
    let away = add(&softplus_of_minus(&scale(&w, -1.0)?)?, &softplus_of_minus(&scale(&l, -1.0)?)?)?;
    add(&softplus_of_minus(&w)?, &scale(&away, 0.5)?)
}

/// (−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)) / (1 − 2ε). S. R. Chowdhury et al., "Provably robust DPO", ICML 2024,
/// equation 12.
pub fn robust(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let (x, e) = (logits(pairs, s.beta)?, s.label_smoothing);
    let clean = scale(&softplus_of_minus(&x)?, 1.0 - e)?;
    let flipped = scale(&softplus_of_minus(&scale(&x, -1.0)?)?, e)?;
    scale(&sub(&clean, &flipped)?, 1.0 / (1.0 - 2.0 * e))
}

/// −log σ(β r_w) − log σ(−β r_l). S. Jung et al., "Binary classifier optimization for large language model alignment"
/// (BCO), ACL 2025, equation 7 without the shift.
pub fn bco_pair(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let (w, l) = (scale(&pairs.ratio.chosen, s.beta)?, scale(&pairs.ratio.rejected, -s.beta)?);
    add(&softplus_of_minus(&w)?, &softplus_of_minus(&l)?)
}

/// (r_w − 1/(2β))² + (r_l + 1/(2β))². Y. Wu et al., "Self-play preference optimization" (SPPO), ICLR 2025, equation
/// 4.7 with the probabilities 1 and 0.
pub fn sppo_hard(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let half = 0.5 / s.beta;
    let (w, l) = (add_scalar(&pairs.ratio.chosen, -half)?, add_scalar(&pairs.ratio.rejected, half)?);
    add(&square(&w)?, &square(&l)?)
}

/// x in ascending order, with its gradient: [P].
fn sorted(x: &Tensor) -> Result<Tensor> {
    let values = x.to_vec()?;
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    let index = Arc::new(RowIndex::new(&**x.device(), &order)?);
    gather_rows(&x.reshape(&[values.len(), 1])?, &index)?.reshape(&[values.len()])
}

/// Quantile by quantile of the batch: −log σ(β (sorted(log π_w − log π_l) − sorted(log π_ref,w − log π_ref,l))).
/// I. Melnyk et al., "Distributional preference alignment of LLMs via optimal transport" (AOT), NeurIPS 2024, paired.
pub fn aot(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let delta = sub(&sorted(&pairs.logp.difference()?)?, &sorted(&pairs.logp_ref.difference()?)?)?;
    smoothed(&scale(&delta, s.beta)?, s.label_smoothing)
}

/// −log σ(β (sorted(r_w) − sorted(r_l))): the same authors, unpaired.
pub fn aot_unpaired(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let delta = sub(&sorted(&pairs.ratio.chosen)?, &sorted(&pairs.ratio.rejected)?)?;
    smoothed(&scale(&delta, s.beta)?, s.label_smoothing)
}

/// 1 − σ(β r_w) + σ(β r_l): for answers better than the model's own. K. D'Oosterlinck et al., "Anchored preference
/// optimization" (APO), TACL 2025, equation 7.
pub fn apo_zero(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let sides = pairs.ratio.map(|r| sigmoid(&scale(r, s.beta)?))?;
    add_scalar(&sub(&sides.rejected, &sides.chosen)?, 1.0)
}

/// σ(β r_w) + 1 − σ(β (r_w − r_l)): for answers worse than the model's own. The same, equation 8.
pub fn apo_down(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let apart = sigmoid(&scale(&pairs.ratio.difference()?, s.beta)?)?;
    add_scalar(&sub(&sigmoid(&scale(&pairs.ratio.chosen, s.beta)?)?, &apart)?, 1.0)
}

/// With x = βΔ and the mixture m = σ(x/τ): (1 − m) · −log σ(x) + m · e⁻ˣ. C. Lu et al., "Discovering preference
/// optimization algorithms with and for large language models" (DiscoPOP), NeurIPS 2024, equation 5.
pub fn discopop(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let x = logits(pairs, s.beta)?;
    let m = sigmoid(&scale(&x, 1.0 / s.discopop_tau)?)?;
    let (logistic, exponential) = (softplus_of_minus(&x)?, exp(&scale(&x, -1.0)?)?);
    add(&logistic, &mul(&m, &sub(&exponential, &logistic)?)?)
}

/// −log σ(β (Δ − λ max(0, −r_w))): likelihood that the preferred answer has lost against the reference is taken back. A. Pal et
/// al., "Smaug: fixing failure modes of preference optimisation with DPO-Positive" (DPOP), 2024, equation 3.
pub fn dpop(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    let lost = relu(&scale(&pairs.ratio.chosen, -1.0)?)?;
    softplus_of_minus(&scale(&sub(&pairs.score.difference()?, &scale(&lost, s.dpop_lambda)?)?, s.beta)?)
}

/// −Σₜ log π(y_w,t) / n̄ with n̄ the chosen tokens per pair: its mean over pairs is the mean over tokens (the RPO term).
pub fn sft(pairs: &Pairs, _: DpoSettings) -> Result<Tensor> {
    scale(&pairs.logp_chosen, -1.0 / pairs.mean_chosen_length)
}

/// −log σ(β (s_w/|y_w| − s_l/|y_l|)): DPO with scores per token, as Tülu 3 trains it (N. Lambert et al., 2024).
pub fn sigmoid_norm(pairs: &Pairs, s: DpoSettings) -> Result<Tensor> {
    softplus_of_minus(&scale(&score_per_token(pairs)?.difference()?, s.beta)?)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;
    use approx::assert_relative_eq;

    const S: DpoSettings = DpoSettings { beta: 0.5, label_smoothing: 0.1, discopop_tau: 0.05, dpop_lambda: 3.0 };

    fn pairs(logp: &Tensor, logp_ref: &[f32], n: usize) -> Result<Pairs> {
        let part = |x: &Tensor, from: usize| -> Result<Tensor> {
            let rows: Vec<u32> = (from as u32..(from + n) as u32).collect();
            gather_rows(&x.reshape(&[2 * n, 1])?, &Arc::new(RowIndex::new(&**x.device(), &rows)?))?.reshape(&[n])
        };
        let sides = |x: &Tensor| -> Result<Sides> { Ok(Sides { chosen: part(x, 0)?, rejected: part(x, n)? }) };
        let logp_ref = sides(&Tensor::from_f32(logp.device(), logp_ref.to_vec(), &[2 * n])?)?;
        let logp = sides(logp)?;
        let ratio =
            Sides { chosen: sub(&logp.chosen, &logp_ref.chosen)?, rejected: sub(&logp.rejected, &logp_ref.rejected)? };
        let lengths = Tensor::from_f32(logp.chosen.device(), [vec![2.0; n], vec![4.0; n]].concat(), &[2 * n])?;
        let (length, logp_chosen) = (sides(&lengths)?, logp.chosen.clone());
        Ok(Pairs { score: ratio.clone(), logp, logp_ref, ratio, length, logp_chosen, mean_chosen_length: 2.0 })
    }

    /// One pair: log π = (−3, −6), log π_ref = (−5, −4): r_w = 2, r_l = −2, Δ = 4, β Δ = 2.
    fn one(loss: PairLoss) -> (f32, Vec<f32>) {
        value_and_gradient(&[-3.0, -6.0], |logp| loss(&pairs(logp, &[-5.0, -4.0], 1)?, S))
    }

    fn sigma(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn losses_by_hand() {
        let log = |x: f32| sigma(x).ln();
        let (m, e2) = (sigma(2.0 / 0.05), (-2f32).exp());
        for (name, loss, value, d_chosen) in [
            ("sigmoid", sigmoid_loss as PairLoss, -log(2.0), -0.5 * sigma(-2.0)),
            ("hinge", hinge, 0.0, 0.0),
            // (2/2 + 2/4 − 1)² = ¼; slope 2 · ½ · ½
            ("ipo", ipo, 0.25, 0.5),
            // (4 − 1)²; slope 2 · 3
            ("ipo_of_sums", ipo_of_sums, 9.0, 6.0),
            (
                "exo_pair",
                exo_pair,
                sigma(2.0) * (log(2.0) - 0.9f32.ln()) + sigma(-2.0) * (log(-2.0) - 0.1f32.ln()),
                // d/dx KL = σ(x) σ(−x) (x − logit(1 − ε))
                0.5 * sigma(2.0) * sigma(-2.0) * (2.0 - 9f32.ln()),
            ),
            // β r_w = 1, β r_l = −1
            (
                "nca_pair",
                nca_pair,
                -log(1.0) - 0.5 * log(-1.0) - 0.5 * log(1.0),
                -0.5 * sigma(-1.0) + 0.25 * sigma(1.0),
            ),
            (
                "robust",
                robust,
                (-0.9 * log(2.0) + 0.1 * log(-2.0)) / 0.8,
                -0.5 * (0.9 * sigma(-2.0) + 0.1 * sigma(2.0)) / 0.8,
            ),
            ("bco_pair", bco_pair, -2.0 * log(1.0), -0.5 * sigma(-1.0)),
            // (2 − 1)² + (−2 + 1)²
            ("sppo_hard", sppo_hard, 2.0, 2.0),
            ("aot", aot, -0.9 * log(2.0) - 0.1 * log(-2.0), -0.5 * (0.9 * sigma(-2.0) - 0.1 * sigma(2.0))),
            (
                "aot_unpaired",
                aot_unpaired,
                -0.9 * log(2.0) - 0.1 * log(-2.0),
                -0.5 * (0.9 * sigma(-2.0) - 0.1 * sigma(2.0)),
            ),
            ("apo_zero", apo_zero, 2.0 * sigma(-1.0), -0.5 * sigma(1.0) * sigma(-1.0)),
            (
                "apo_down",
                apo_down,
                sigma(1.0) + sigma(-2.0),
                0.5 * (sigma(1.0) * sigma(-1.0) - sigma(2.0) * sigma(-2.0)),
            ),
            ("discopop", discopop, -log(2.0) * (1.0 - m) + e2 * m, -0.5 * e2),
            // r_w = 2: nothing was lost
            ("dpop", dpop, -log(2.0), -0.5 * sigma(-2.0)),
            ("sft", sft, 1.5, -0.5),
            // ½ (1 + ½) = ¾
            ("sigmoid_norm", sigmoid_norm, -log(0.75), -0.25 * sigma(-0.75)),
        ] {
            let (y, gradient) = one(loss);
            assert_relative_eq!(y, value, max_relative = 2e-6, epsilon = 1e-7);
            assert!((gradient[0] - d_chosen).abs() < 2e-6, "{name}: {} against {d_chosen}", gradient[0]);
        }
    }

    /// log π = (−6, −9), log π_ref = (−5, −4): r_w = −1, r_l = −5, Δ = 4; β (Δ − λ · 1) = ½; a step of r_w counts 1 + λ = 4 times.
    #[test]
    fn dpop_takes_lost_likelihood_back() {
        let (y, gradient) = value_and_gradient(&[-6.0, -9.0], |logp| dpop(&pairs(logp, &[-5.0, -4.0], 1)?, S));
        assert_relative_eq!(y, -sigma(0.5).ln(), max_relative = 1e-6);
        assert_relative_eq!(gradient[..], [-2.0 * sigma(-0.5), 0.5 * sigma(-0.5)][..], max_relative = 1e-6);
    }

    #[test]
    fn a_tie_costs_ln_2() {
        let (y, gradient) = value_and_gradient(&[-3.0, -6.0], |logp| sigmoid_loss(&pairs(logp, &[-3.0, -6.0], 1)?, S));
        assert_relative_eq!(y, 2f32.ln(), max_relative = 1e-6);
        assert_relative_eq!(gradient[..], [-0.25f32, 0.25][..], max_relative = 1e-6);
    }

    /// Two pairs whose order differs: π gives 3 and 1, the reference 0 and 2; sorted they are (1, 3) and (0, 2).
    #[test]
    fn aot_compares_quantiles() {
        let plain = DpoSettings { label_smoothing: 0.0, ..S };
        let (y, gradient) = value_and_gradient(&[-1.0, -3.0, -4.0, -4.0], |logp| {
            let each = aot(&pairs(logp, &[-4.0, -2.0, -4.0, -4.0], 2)?, plain)?;
            engine::ops::sum(&each)
        });
        assert_relative_eq!(y, -2.0 * sigma(0.5).ln(), max_relative = 1e-6);
        let slope = 0.5 * sigma(-0.5);
        assert_relative_eq!(gradient[..], [-slope, -slope, slope, slope][..], max_relative = 1e-6);
    }
}
