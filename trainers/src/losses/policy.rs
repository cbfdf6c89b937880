//! Policy-gradient losses: one small function a variant, each from log-probabilities and advantages to a loss a token.
//!
//! Vectors are flat over the N tokens of all completions of a micro-batch; [`Sequences`] says which completion a token
//! belongs to. A loss is a sum Σᵢ wᵢ ℓᵢ: the ℓᵢ are here, the weights wᵢ (how tokens are averaged) in `weights.rs`.
//! Letters: ρ importance ratio, A advantage, ε clip range.
use engine::backend::RowIndex;
use engine::ops::{add_scalar, clamp, div, exp, gather_rows, minimum, mul, scale, sigmoid, sub, sum, sum_by_group};
use engine::reference::Reference;
use engine::tensor::Tensor;
use engine::{Error, Result};
use std::sync::Arc;

/// Which tokens belong to which of S completions. A completion may have none (it was masked).
#[derive(Clone, Debug)]
pub struct Sequences {
    /// The completion of each token: [N].
    pub of_token: Arc<RowIndex>,
    /// Tokens of each completion: [S].
    pub lengths: Vec<usize>,
}

impl Sequences {
    /// From the completion of each token, [N]; an error if one is not below S = `n_sequences`.
    pub fn new(of_token: &[u32], n_sequences: usize) -> Result<Self> {
        let mut lengths = vec![0; n_sequences];
        for &s in of_token {
            let length = lengths.get_mut(s as usize);
            *length.ok_or_else(|| Error::shape("sequences", format!("{s} of {n_sequences}")))? += 1;
        }
        Ok(Sequences { of_token: Arc::new(RowIndex::new(&Reference, of_token)?), lengths })
    }
    /// N
    pub fn n_tokens(&self) -> usize {
        self.of_token.len()
    }
    /// A value a completion as a value a token: [S] → [N].
    pub fn repeat(&self, values: &Tensor) -> Result<Tensor> {
        let n = values.len();
        gather_rows(&values.reshape(&[n, 1])?, &self.of_token)?.reshape(&[self.n_tokens()])
    }
    /// Σ over the tokens of each completion: [N] → [S].
    pub fn sum(&self, x: &Tensor) -> Result<Tensor> {
        sum_by_group(x, &self.of_token, self.lengths.len())?.reshape(&[self.lengths.len()])
    }
}

/// The importance weight of each token, from log π − log π_old: [N] → [N].
pub type Ratio = fn(&Tensor, &Sequences) -> Result<Tensor>;

/// ρₜ = πₜ / π_old,ₜ.
pub fn token_ratio(log_ratio: &Tensor, _: &Sequences) -> Result<Tensor> {
    exp(log_ratio)
}

/// ρ = exp(mean over the completion of log πₜ − log π_old,ₜ), the same for all its tokens. C. Zheng et al., "Group
/// sequence policy optimization", 2025, equation 7.
pub fn sequence_ratio(log_ratio: &Tensor, sequences: &Sequences) -> Result<Tensor> {
    let lengths = sequences.lengths.iter().map(|&n| n.max(1) as f32).collect();
    let lengths = Tensor::from_f32(log_ratio.device(), lengths, &[sequences.lengths.len()])?;
    sequences.repeat(&exp(&div(&sequences.sum(log_ratio)?, &lengths)?)?)
}

/// What a policy loss is computed from; all [N].
pub struct Terms<'a> {
    /// log π of each token, differentiable.
    pub logp: &'a Tensor,
    /// log π − log π_old.
    pub log_ratio: &'a Tensor,
    /// ρ.
    pub ratio: &'a Tensor,
    /// A, a constant.
    pub advantages: &'a Tensor,
    /// Which token belongs to which completion.
    pub sequences: &'a Sequences,
}

/// The constants of the losses, with TRL's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// How far below 1 a ratio counts.
    pub epsilon: f32,
    /// How far above 1 a ratio counts; for CISPO the largest ratio itself.
    pub epsilon_high: f32,
    /// Largest ratio where the advantage is negative; None for no bound.
    pub delta: Option<f32>,
    /// SAPO's temperatures for positive and for negative advantages.
    pub sapo: [f32; 2],
    /// VESPO's k and λ for advantages ≥ 0, and below.
    pub vespo: [(f32, f32); 2],
}

impl Default for Constants {
    fn default() -> Self {
        let vespo = [(2.0, 3.0), (3.0, 2.0)];
        Constants { epsilon: 0.2, epsilon_high: 0.2, delta: None, sapo: [1.0, 1.05], vespo }
    }
}

/// The loss of each token: [N].
pub type TokenLoss = fn(&Terms, &Constants) -> Result<Tensor>;

/// ℓ = −A · log π: its gradient is REINFORCE's. R. J. Williams, 1992, equation 11.
pub fn reinforce(terms: &Terms, _: &Constants) -> Result<Tensor> {
    scale(&mul(terms.logp, terms.advantages)?, -1.0)
}

/// ℓ = −min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A), with the first ρ at most δ where δ is given.
/// J. Schulman et al., "Proximal policy optimization algorithms", 2017, equation 7; ε_high: Q. Yu et al., "DAPO", 2025,
/// equation 10; δ: Prime Intellect, "INTELLECT-2", 2025, §3.4.
pub fn clipped(terms: &Terms, c: &Constants) -> Result<Tensor> {
    let inside = clamp(terms.ratio, 1.0 - c.epsilon, 1.0 + c.epsilon_high)?;
    let ratio = bounded(terms.ratio, c)?;
    scale(&minimum(&mul(&ratio, terms.advantages)?, &mul(&inside, terms.advantages)?)?, -1.0)
}

/// min(ρ, δ).
pub fn bounded(ratio: &Tensor, c: &Constants) -> Result<Tensor> {
    match c.delta {
        Some(delta) => clamp(ratio, f32::NEG_INFINITY, delta),
        None => Ok(ratio.clone()),
    }
}

/// ℓ = −sg[min(ρ, ε_high)] A log π: every token keeps its gradient. MiniMax, "MiniMax-M1", 2025, equation 4.
pub fn cispo(terms: &Terms, c: &Constants) -> Result<Tensor> {
    let weight = clamp(&terms.ratio.detach(), f32::NEG_INFINITY, c.epsilon_high)?;
    scale(&mul(&mul(terms.logp, &weight)?, terms.advantages)?, -1.0)
}

/// ℓ = −σ(τ (ρ − 1)) · 4/τ · A with τ by the sign of A: a soft gate in place of the clip. C. Gao et al., "Soft adaptive
/// policy optimization", 2025, equation 6.
pub fn sapo(terms: &Terms, c: &Constants) -> Result<Tensor> {
    let tau = per_token(terms, |a| if a > 0.0 { c.sapo[0] } else { c.sapo[1] })?;
    let gate = sigmoid(&mul(&add_scalar(terms.ratio, -1.0)?, &tau)?)?;
    scale(&mul(&div(&gate, &tau)?, terms.advantages)?, -4.0)
}

/// ℓ = −sg[φ(w)] A log π with [`vespo_weights`]. "VESPO", 2026; TRL's `get_gamma_weights`.
pub fn vespo(terms: &Terms, c: &Constants) -> Result<Tensor> {
    let phi = terms.sequences.repeat(&vespo_weights(terms, c)?)?;
    scale(&mul(&mul(terms.logp, &phi)?, terms.advantages)?, -1.0)
}

/// φ(w) = e^λ wᵏ e^(−λ w) of each completion, 1 at w = 1, with w = exp Σₜ log ρₜ (bounded to 10⁻⁸ … e²⁰) and k, λ by the
/// sign of its advantage: [S], a constant.
pub fn vespo_weights(terms: &Terms, c: &Constants) -> Result<Tensor> {
    let log_ratio = terms.sequences.sum(&clamp(&terms.log_ratio.detach(), -20.0, 20.0)?)?.to_vec()?;
    let advantages = terms.advantages.to_vec()?;
    let mut of_sequence = vec![0.0; log_ratio.len()];
    terms.sequences.of_token.rows.iter().zip(&advantages).for_each(|(s, a)| of_sequence[*s as usize] = *a);
    let phi = log_ratio.iter().zip(&of_sequence).map(|(log_ratio, advantage)| {
        let (k, lambda) = if *advantage >= 0.0 { c.vespo[0] } else { c.vespo[1] };
        let log_w = log_ratio.clamp(1e-8f32.ln(), 20.0);
        let lambda = lambda.max(1e-4);
        let phi = (lambda + k * log_w - lambda * log_w.exp()).exp();
        if phi.is_finite() { phi } else { 0.0 }
    });
    Tensor::from_f32(terms.logp.device(), phi.collect(), &[log_ratio.len()])
}

fn per_token(terms: &Terms, f: impl Fn(f32) -> f32) -> Result<Tensor> {
    let values: Vec<f32> = terms.advantages.to_vec()?.into_iter().map(f).collect();
    let n = values.len();
    Tensor::from_f32(terms.logp.device(), values, &[n])
}

/// RLOO's loss, the mean over completions of −min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A) with
/// ρ = exp(Σₜ log πₜ − Σₜ log π_old,ₜ): the whole completion is one action. A. Ahmadian et al., "Back to basics", 2024,
/// §3.2. Returns the loss [1] and ρ [S]. `logp`, `logp_old` [N]; `advantages` [S].
pub fn sequence_clipped(
    logp: &Tensor,
    logp_old: &Tensor,
    advantages: &Tensor,
    sequences: &Sequences,
    c: &Constants,
) -> Result<(Tensor, Tensor)> {
    let ratio = exp(&sub(&sequences.sum(logp)?, &sequences.sum(logp_old)?)?)?;
    let inside = clamp(&ratio, 1.0 - c.epsilon, 1.0 + c.epsilon_high)?;
    let gain = minimum(&mul(&ratio, advantages)?, &mul(&inside, advantages)?)?;
    Ok((scale(&sum(&gain)?, -1.0 / sequences.lengths.len().max(1) as f32)?, ratio))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use engine::tape::Tape;

    pub fn vector(x: &[f32]) -> Tensor {
        let device: engine::backend::Device = Arc::new(Reference);
        Tensor::from_f32(&device, x.to_vec(), &[x.len()]).unwrap()
    }

    /// Values of f at x, and the gradient of their sum.
    pub fn gradient(x: &[f32], f: impl Fn(&Tensor) -> Result<Tensor>) -> (Vec<f32>, Vec<f32>) {
        let tape = Tape::new();
        let leaf = tape.watch(&vector(x));
        let y = f(&leaf).unwrap();
        let ones = vector(&vec![1.0; y.len()]).reshape(y.shape()).unwrap();
        let slopes = tape.backward([(&y, ones)]).unwrap().take(&leaf);
        (y.to_vec().unwrap(), slopes.map_or(vec![0.0; x.len()], |g| g.to_vec().unwrap()))
    }

    /// Two completions of two tokens and one: ratios ½, 2, 3/2 by logp_old = 0.
    const LOGP: [f32; 3] = [-std::f32::consts::LN_2, std::f32::consts::LN_2, 0.405_465_1];

    fn token_losses(loss: TokenLoss, ratio: Ratio, advantages: &[f32], c: Constants) -> (Vec<f32>, Vec<f32>) {
        let sequences = Sequences::new(&[0, 0, 1], 2).unwrap();
        gradient(&LOGP, |logp| {
            let log_ratio = sub(logp, &vector(&[0.0; 3]))?;
            let ratio = ratio(&log_ratio, &sequences)?;
            let advantages = &vector(advantages);
            loss(&Terms { logp, log_ratio: &log_ratio, ratio: &ratio, advantages, sequences: &sequences }, &c)
        })
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_relative_eq!(found, expected, max_relative = 2e-6, epsilon = 1e-6);
    }

    #[test]
    fn clip_by_hand() {
        // A = 1: ρ counts up to 1.2: −½ (below, but it would gain: no clip), −1.2, −1.2; the gradient −ρ where not clipped.
        let (values, slopes) = token_losses(clipped, token_ratio, &[1.0; 3], Constants::default());
        close(&values, &[-0.5, -1.2, -1.2]);
        close(&slopes, &[-0.5, 0.0, 0.0]);
        // A = −1: min takes the larger ρ or 0.8.
        let (values, slopes) = token_losses(clipped, token_ratio, &[-1.0; 3], Constants::default());
        close(&values, &[0.8, 2.0, 1.5]);
        close(&slopes, &[0.0, 2.0, 1.5]);
    }

    #[test]
    fn clip_higher_and_delta_by_hand() {
        let c = Constants { epsilon_high: 0.6, delta: Some(1.8), ..Constants::default() };
        let (values, slopes) = token_losses(clipped, token_ratio, &[1.0, 1.0, 1.0], c);
        close(&values, &[-0.5, -1.6, -1.5]);
        close(&slopes, &[-0.5, 0.0, -1.5]);
        let (values, slopes) = token_losses(clipped, token_ratio, &[-1.0; 3], c);
        close(&values, &[0.8, 1.8, 1.5]);
        close(&slopes, &[0.0, 0.0, 1.5]);
    }

    #[test]
    fn sequence_ratio_by_hand() {
        // √(½ · 2) = 1 for the first completion: −1, −1; the gradient of both together is −ρ/2 each, twice.
        let (values, slopes) = token_losses(clipped, sequence_ratio, &[1.0; 3], Constants::default());
        close(&values, &[-1.0, -1.0, -1.2]);
        close(&slopes, &[-1.0, -1.0, 0.0]);
    }

    #[test]
    fn cispo_by_hand() {
        // −min(ρ, 1.7) · logp with the weight held: A = 1.
        let c = Constants { epsilon_high: 1.7, ..Constants::default() };
        let (values, slopes) = token_losses(cispo, token_ratio, &[1.0; 3], c);
        close(&values, &[-0.5 * LOGP[0], -1.7 * LOGP[1], -1.5 * LOGP[2]]);
        close(&slopes, &[-0.5, -1.7, -1.5]);
    }

    #[test]
    fn sapo_by_hand() {
        // −4/τ σ(τ(ρ − 1)) A; the derivative by log π is −4 σ(1 − σ) ρ A, which is −A at ρ = 1.
        let (values, slopes) = token_losses(sapo, token_ratio, &[1.0, -2.0, 0.0], Constants::default());
        let s = |x: f32| 1.0 / (1.0 + (-x).exp());
        let (s0, s1) = (s(-0.5), s(1.05));
        close(&values, &[-4.0 * s0, 8.0 / 1.05 * s1, 0.0]);
        close(&slopes, &[-4.0 * s0 * (1.0 - s0) * 0.5, 8.0 * s1 * (1.0 - s1) * 2.0, 0.0]);
    }

    #[test]
    fn vespo_by_hand() {
        // First completion: w = ½ · 2 = 1, so φ = 1. Second: w = 1.5, A < 0: k = 3, λ = 2: e² · 1.5³ · e⁻³.
        let (values, slopes) = token_losses(vespo, token_ratio, &[1.0, 1.0, -1.0], Constants::default());
        let phi = 1.5f32.powi(3) * (-1.0f32).exp();
        close(&slopes, &[-1.0, -1.0, phi]);
        close(&values, &[-LOGP[0], -LOGP[1], phi * LOGP[2]]);
    }

    #[test]
    fn at_ratio_one_every_loss_has_the_gradient_of_reinforce() {
        let sequences = Sequences::new(&[0, 0, 1], 2).unwrap();
        let slopes = |loss: TokenLoss, ratio: Ratio| {
            let advantages = &vector(&[0.5, 0.5, -2.0]);
            let c = Constants { epsilon_high: 5.0, sapo: [1.0, 1.0], ..Constants::default() };
            gradient(&LOGP, |logp| {
                let log_ratio = sub(logp, &logp.detach())?;
                let ratio = ratio(&log_ratio, &sequences)?;
                loss(&Terms { logp, log_ratio: &log_ratio, ratio: &ratio, advantages, sequences: &sequences }, &c)
            })
            .1
        };
        let expected = slopes(reinforce, token_ratio);
        assert_eq!(expected, [-0.5, -0.5, 2.0]);
        for loss in [clipped, cispo, sapo, vespo] {
            close(&slopes(loss, token_ratio), &expected);
        }
        // One ratio a completion: each of its n tokens carries 1/n of every token's advantage, the same sum.
        close(&slopes(clipped, sequence_ratio), &expected);
    }

    #[test]
    fn sequence_clip_by_hand() {
        // ρ = exp(Σ): ½ · 2 = 1 and 1.5. A = (1, 2): mean of −1 and −2.4.
        let sequences = Sequences::new(&[0, 0, 1], 2).unwrap();
        let (values, slopes) = gradient(&LOGP, |logp| {
            let zeros = vector(&[0.0; 3]);
            let advantages = vector(&[1.0, 2.0]);
            Ok(sequence_clipped(logp, &zeros, &advantages, &sequences, &Constants::default())?.0)
        });
        close(&values, &[-1.7]);
        close(&slopes, &[-0.5, -0.5, 0.0]);
    }

    #[test]
    fn masked_completions_have_no_tokens() {
        let sequences = Sequences::new(&[1, 1], 3).unwrap();
        assert_eq!(sequences.lengths, [0, 2, 0]);
        let (ratio, _) = gradient(&[0.5, -0.5], |x| sequence_ratio(x, &sequences));
        close(&ratio, &[1.0, 1.0]);
        assert!(Sequences::new(&[3], 3).is_err());
    }
}
