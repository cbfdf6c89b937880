//! Advantages of single tokens: what is still to come, and how much of it the critic foresaw.
use crate::statistics::{mean, std};

/// Rₜ = rₜ + γ Rₜ₊₁: the discounted rewards from each token of one completion on.
pub fn reward_to_go(rewards: &[f64], gamma: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut all: Vec<f64> = rewards
        .iter()
        .rev()
        .map(|r| {
            sum = r + gamma * sum;
            sum
        })
        .collect();
    all.reverse();
    all
}

/// Generalised advantage estimation over one completion, which ends in a state of value 0:
/// ```text
/// δₜ = rₜ + γ Vₜ₊₁ − Vₜ,    Aₜ = δₜ + γ λ Aₜ₊₁
/// ```
/// J. Schulman et al., "High-dimensional continuous control using generalized advantage estimation", ICLR 2016,
/// equations 11 and 16. Returns (A, A + V): advantages, and the returns that the critic learns.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lam: f64) -> (Vec<f64>, Vec<f64>) {
    let next = |t: usize| values.get(t + 1).copied().unwrap_or(0.0);
    let deltas: Vec<f64> = (0..rewards.len()).map(|t| rewards[t] + gamma * next(t) - values[t]).collect();
    let advantages = reward_to_go(&deltas, gamma * lam);
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// (x − mean) / √(variance + 10⁻⁸), with `keep_mean` the mean added again. The variance is divided by n − 1. The
/// whitening of PPO's rewards and advantages (TRL's `masked_whiten`; N. Stiennon et al., "Learning to summarize with
/// human feedback", 2020, and its published code). Fewer than two values stay as they are.
pub fn whiten(x: &[f64], keep_mean: bool) -> Vec<f64> {
    if x.len() < 2 {
        return x.to_vec();
    }
    let (mean, std) = (mean(x), std(x));
    let scale = 1.0 / (std * std + 1e-8).sqrt();
    x.iter().map(|v| (v - mean) * scale + if keep_mean { mean } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn reward_to_go_by_hand() {
        // 8; 2 + ½·8 = 6; 1 + ½·6 = 4.
        assert_eq!(reward_to_go(&[1.0, 2.0, 8.0], 0.5), [4.0, 6.0, 8.0]);
    }

    #[test]
    fn gae_by_hand() {
        // δ = (0 + ½·2 − 1, 1 + ½·4 − 2, 5 − 4) = (0, 1, 1); γλ = ¼: A₂ = 1, A₁ = 1 + ¼, A₀ = 0 + ¼·5/4.
        let (advantages, returns) = gae(&[0.0, 1.0, 5.0], &[1.0, 2.0, 4.0], 0.5, 0.5);
        assert_eq!(advantages, [0.3125, 1.25, 1.0]);
        assert_eq!(returns, [1.3125, 3.25, 5.0]);
    }

    /// The sum of equation 16 written out: Aₜ = Σₗ (γλ)ˡ δₜ₊ₗ.
    #[test]
    fn gae_is_the_sum_written_out() {
        let (r, v) = ([0.3, -1.0, 0.5, 2.0], [0.1, 0.7, -0.4, 1.5]);
        let (gamma, lam): (f64, f64) = (0.9, 0.8);
        let delta = |t: usize| r[t] + gamma * v.get(t + 1).unwrap_or(&0.0) - v[t];
        let (advantages, _) = gae(&r, &v, gamma, lam);
        for t in 0..4 {
            let sum: f64 = (t..4).map(|s| (gamma * lam).powi((s - t) as i32) * delta(s)).sum();
            assert_relative_eq!(advantages[t], sum, max_relative = 1e-12);
        }
    }

    #[test]
    fn the_ends_of_lambda() {
        let (r, v) = ([0.0, 0.0, 1.0], [0.2, 0.5, 0.9]);
        // λ = 1: what came minus what was foreseen. λ = 0: one step ahead.
        let (one, returns) = gae(&r, &v, 1.0, 1.0);
        assert_relative_eq!(one[..], [0.8, 0.5, 1.0 - 0.9][..], max_relative = 1e-12);
        assert_relative_eq!(returns[..], [1.0; 3][..], max_relative = 1e-12);
        let (zero, _) = gae(&r, &v, 1.0, 0.0);
        assert_relative_eq!(zero[..], [0.5 - 0.2, 0.9 - 0.5, 1.0 - 0.9][..], max_relative = 1e-12);
    }

    #[test]
    fn whitening_by_hand() {
        // 1, 3: mean 2, variance 2.
        let half = 1.0 / (2.0f64 + 1e-8).sqrt();
        assert_relative_eq!(whiten(&[1.0, 3.0], false)[..], [-half, half][..]);
        assert_relative_eq!(whiten(&[1.0, 3.0], true)[..], [2.0 - half, 2.0 + half][..]);
        assert_eq!(whiten(&[4.0], false), [4.0]);
    }
}
