//! REINFORCE: completions that were better than a baseline become likelier. R. J. Williams, "Simple statistical
//! gradient-following algorithms for connectionist reinforcement learning", 1992.
//!
//! What differs from SFT (`sft/mod.rs`): the model writes the completions itself, and each counts by its advantage, reward
//! minus baseline, in place of 1:
//! ```text
//! loss = −(1/S) Σ over completions of A · Σₜ log πₜ
//! ```
//! `--plus_plus` is REINFORCE++ (J. Hu, 2025): the KL from the reference is part of each token's reward, the advantage of a
//! token is what is still to come, normalised over the batch, and the ratio to the policy that drew is clipped as in PPO.
use crate::advantages::{MovingAverage, batch_baseline, reward_to_go};
use crate::error::Result;
use crate::job::Summary;
use crate::losses::clipping::{clipped_units, token_shares};
use crate::losses::kl::k1;
use crate::losses::policy::{self, Constants, Terms, TokenLoss, token_ratio};
use crate::losses::weights::{self, Weights};
use crate::options::{Baseline, ReinforceOptions};
use crate::policy_gradients::measure::{Metrics, Part, clip_range, per_token, weighted};
use crate::policy_gradients::penalty::{mean_kl, penalised, token_rewards};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Reward, Sample, Session};
use crate::run::side_files::{BASELINE, read_json, write_json};
use crate::statistics::{mean, mean_f32, std};
use engine::ops;
use engine::tensor::Tensor;

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &ReinforceOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let (plus_plus, beta) = (options.loss.plus_plus, options.ratio.beta);
    let mut session =
        Session::open(options, Turns::of(options, options.ratio.num_iterations), beta > 0.0, false, rewards)?;
    let mut baseline = match &session.job.resumed {
        Some(checkpoint) => read_json(&checkpoint.path, BASELINE)?,
        None => MovingAverage::default(),
    };
    while let Some(step) = session.next_step() {
        for i in step.micro_batches() {
            if let Some(generation) = session.due(&step, i) {
                let collected = session.collect(&step, generation)?;
                let mut experience = session.experience_of(&collected, true, options.rollout.temperature)?;
                let (samples, rewards) = (&mut experience.samples, &collected.scores.total);
                if plus_plus {
                    token_advantages(samples, rewards, beta);
                } else {
                    let advantages = completion_advantages(&penalised(rewards, samples, beta), options, &mut baseline);
                    session.add("advantage_std", std(&advantages));
                    experience.set_advantages(&advantages);
                }
                let compared = plus_plus || options.loss.baseline == Baseline::Batch;
                session.record(&collected, compared.then(|| without_spread(rewards)))?;
                session.add("kl", if beta > 0.0 { mean_kl(&experience) } else { f64::NAN });
                session.add("baseline", baseline.value.unwrap_or(f64::NAN));
                session.learn_from(experience);
            }
            let loss_of = if plus_plus { clipped_loss } else { plain_loss };
            session.learn(&step, i, |part| loss_of(options, part))?;
        }
        session.step(|checkpoint| write_json(checkpoint, BASELINE, &baseline))?;
    }
    session.finish()
}

/// Runs `lapidary reinforce`.
pub fn train(options: &ReinforceOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// Losses of tokens by `token_loss`, weighed by `weights`; with the ratio to the policy that drew and the advantages.
fn loss_by(
    token_loss: TokenLoss,
    weights: Weights,
    constants: &Constants,
    part: &Part,
) -> Result<(Tensor, Tensor, Tensor)> {
    let Part { scored, samples, sequences, whole } = part;
    let logp = &scored.logp;
    let log_ratio = ops::sub(logp, &per_token(samples, |s, t| s.logp_old[t])?)?;
    let ratio = token_ratio(&log_ratio, sequences)?;
    let advantages = per_token(samples, Sample::advantage)?;
    let terms = Terms { logp, log_ratio: &log_ratio, ratio: &ratio, advantages: &advantages, sequences };
    let loss = weighted(&token_loss(&terms, constants)?, weights(sequences, whole))?;
    Ok((loss, ratio, advantages))
}

/// −(1/S) Σ over completions of A · Σₜ log πₜ.
fn plain_loss(options: &ReinforceOptions, part: &Part) -> Result<(Tensor, Metrics)> {
    let constants = clip_range(&options.ratio);
    let (loss, ..) = loss_by(policy::reinforce, weights::mean_of_sums, &constants, part)?;
    Ok((loss, vec![("entropy", mean_f32(&part.scored.entropy()?))]))
}

/// REINFORCE++: the clipped ratio, as a mean over the tokens of the step.
fn clipped_loss(options: &ReinforceOptions, part: &Part) -> Result<(Tensor, Metrics)> {
    let constants = clip_range(&options.ratio);
    let (loss, ratio, advantages) = loss_by(policy::clipped, weights::mean_of_step, &constants, part)?;
    let (epsilon, high) = (constants.epsilon, constants.epsilon_high);
    let clipped = clipped_units(&ratio.to_vec()?, &advantages.to_vec()?, epsilon, high);
    let shares = token_shares(&clipped, &part.sequences);
    let metrics = vec![
        ("entropy", mean_f32(&part.scored.entropy()?)),
        ("clip_ratio/low_mean", shares.low_mean),
        ("clip_ratio/high_mean", shares.high_mean),
        ("clip_ratio/region_mean", shares.region_mean),
    ];
    Ok((loss, metrics))
}

/// Reward minus baseline.
fn completion_advantages(rewards: &[f64], options: &ReinforceOptions, average: &mut MovingAverage) -> Vec<f64> {
    match options.loss.baseline {
        Baseline::MovingAverage => average.advantages(rewards, options.loss.baseline_decay),
        Baseline::Batch => batch_baseline(rewards),
        Baseline::None => rewards.iter().map(|r| if r.is_nan() { 0.0 } else { *r }).collect(),
    }
}

/// Aₜ = (Gₜ − mean) / (std + 10⁻⁸) over all tokens of the batch, with Gₜ = Σₛ≥ₜ (−β k1ₛ) + r. J. Hu, "REINFORCE++", 2025,
/// equations 5 and 6. Completions without a reward take no part.
fn token_advantages(samples: &mut [Sample], rewards: &[f64], beta: f64) {
    let judged = |(sample, reward): (&Sample, &f64)| match reward.is_nan() {
        true => vec![f64::NAN; sample.n_trained()],
        false => reward_to_go(&token_rewards(*reward, sample, beta, k1), 1.0),
    };
    let to_go: Vec<Vec<f64>> = samples.iter().zip(rewards).map(judged).collect();
    let all = to_go.concat();
    let (mean, std) = (mean(&all), std(&all));
    let normal = |g: &f64| if g.is_nan() { 0.0 } else { ((g - mean) / (std + 1e-8)) as f32 };
    samples.iter_mut().zip(&to_go).for_each(|(sample, g)| sample.advantages = g.iter().map(normal).collect());
}

/// 1 where all rewards of the batch are equal.
fn without_spread(rewards: &[f64]) -> f64 {
    f64::from(u8::from(rewards.len() > 1 && (std(rewards) <= 1e-8 || std(rewards).is_nan())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn plus_plus_by_hand() {
        // Rewards 1 and 3, no KL: the tokens' returns are 1, 1, 3: mean 5/3, deviation √(4/3).
        let sample = |n: usize| Sample { ids: vec![1; n], ..Sample::default() };
        let mut samples = [sample(2), sample(1), sample(4)];
        token_advantages(&mut samples, &[1.0, 3.0, f64::NAN], 0.0);
        let d = (4.0f32 / 3.0).sqrt();
        assert_relative_eq!(samples[0].advantages[..], [-2.0 / 3.0 / d; 2][..], max_relative = 1e-6);
        assert_relative_eq!(samples[1].advantages[..], [4.0 / 3.0 / d][..], max_relative = 1e-6);
        assert_eq!(samples[2].advantages, [0.0; 4]);
    }
}
