//! The KL from the reference as a part of the reward: per completion (RLOO, REINFORCE) and per token (REINFORCE++, PPO).
use super::experience::{Experience, Sample};
use crate::losses::kl::k1;

/// An estimator of the KL of one token, from (log π, log π_ref).
pub type Estimator = fn(f64, f64) -> f64;

/// The estimate of each trained token of a completion.
pub fn kl_of(sample: &Sample, estimator: Estimator) -> Vec<f64> {
    let pairs = sample.logp_old.iter().zip(&sample.logp_ref).take(sample.n_trained());
    pairs.map(|(p, q)| estimator(f64::from(*p), f64::from(*q))).collect()
}

/// Mean k1 over all trained tokens.
pub fn mean_kl(experience: &Experience) -> f64 {
    let sum: f64 = experience.samples.iter().flat_map(|s| kl_of(s, k1)).sum();
    sum / experience.n_trained().max(1) as f64
}

/// r − β Σₜ k1ₜ of each completion; without a reference r.
pub fn penalised(rewards: &[f64], samples: &[Sample], beta: f64) -> Vec<f64> {
    let penalty = |s: &Sample| if beta > 0.0 { beta * kl_of(s, k1).iter().sum::<f64>() } else { 0.0 };
    rewards.iter().zip(samples).map(|(r, s)| r - penalty(s)).collect()
}

/// The reward of each trained token: −β klₜ, and on the last one the completion's own besides. D. M. Ziegler et al.,
/// "Fine-tuning language models from human preferences", 2019, equation 2. A completion without a reward has the KL's
/// part alone.
pub fn token_rewards(reward: f64, sample: &Sample, beta: f64, estimator: Estimator) -> Vec<f64> {
    let mut rewards: Vec<f64> = match sample.logp_ref.is_empty() {
        true => vec![0.0; sample.n_trained()],
        false => kl_of(sample, estimator).iter().map(|kl| -beta * kl).collect(),
    };
    if let Some(last) = rewards.last_mut().filter(|_| !reward.is_nan()) {
        *last += reward;
    }
    rewards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let logps = (vec![-1.0, -2.0], vec![-1.5, -1.0]);
        Sample { ids: vec![4, 5], logp_old: logps.0, logp_ref: logps.1, ..Sample::default() }
    }

    #[test]
    fn by_hand() {
        // k1: −1 + 1.5 = ½ and −2 + 1 = −1.
        assert_eq!(kl_of(&sample(), k1), [0.5, -1.0]);
        assert_eq!(penalised(&[3.0], &[sample()], 0.5), [3.25]);
        assert_eq!(token_rewards(3.0, &sample(), 0.5, k1), [-0.25, 3.5]);
        assert_eq!(token_rewards(f64::NAN, &sample(), 0.5, k1), [-0.25, 0.5]);
        let masked = Sample { masked: true, ..sample() };
        assert_eq!(penalised(&[3.0], std::slice::from_ref(&masked), 0.5), [3.0]);
        assert!(token_rewards(3.0, &masked, 0.5, k1).is_empty());
        let experience = Experience { prompts: vec![vec![1]], samples: vec![sample(), masked] };
        assert_eq!(mean_kl(&experience), -0.25);
    }
}
