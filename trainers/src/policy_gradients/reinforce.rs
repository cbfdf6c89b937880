//! REINFORCE: completions that were better than a baseline become likelier. R. J. Williams, "Simple statistical
//! gradient-following algorithms for connectionist reinforcement learning", 1992.
//!
//! What differs from SFT (`sft.rs`): the model writes the completions itself, and each counts by its advantage, reward
//! minus baseline, in place of 1:
//! ```text
//! loss = −(1/S) Σ over completions of A · Σₜ log πₜ
//! ```
//! `--plus_plus` is REINFORCE++ (J. Hu, 2025): the KL from the reference is part of each token's reward, the advantage of a
//! token is what is still to come, normalised over the batch, and the ratio to the policy that drew is clipped as in PPO.
use crate::advantages::{MovingAverage, batch_baseline, mean as mean_of, reward_to_go, std};
use crate::error::{Error, Result};
use crate::job::Summary;
use crate::losses::clipping::{clipped_units, token_shares};
use crate::losses::kl::k1;
use crate::losses::policy::{self, Constants, Terms, TokenLoss, token_ratio};
use crate::losses::weights::{self, Weights, Whole};
use crate::options::{Baseline, ReinforceOptions};
use crate::policy_gradients::measure::{mean, per_token, score, sequences};
use crate::policy_gradients::penalty::{mean_kl, penalised, token_rewards};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Sample, Session};
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::path::Path;

const BASELINE_FILE: &str = "baseline.json";

/// Runs `lapidary reinforce`.
pub fn train(options: &ReinforceOptions) -> Result<Summary> {
    let (training, rollout, ratio) = (&options.training, &options.rollout, &options.ratio);
    let cuts = rollout.batches_per_generation(training);
    let turns = Turns { per_generation: cuts * ratio.num_iterations, per_step: training.gradient_accumulation_steps };
    let (token_loss, weights): (TokenLoss, Weights) = match options.loss.plus_plus {
        false => (policy::reinforce, weights::mean_of_sums),
        true => (policy::clipped, weights::mean_of_step),
    };
    let constants = Constants {
        epsilon: ratio.epsilon as f32,
        epsilon_high: ratio.epsilon_high.unwrap_or(ratio.epsilon) as f32,
        ..Constants::default()
    };
    let mut session = Session::open(options, turns, ratio.beta > 0.0, 0)?;
    let mut baseline = match &session.job.resumed {
        Some(checkpoint) => load_baseline(&checkpoint.path)?,
        None => MovingAverage::default(),
    };
    while let Some(step) = session.next_step() {
        let n_micro = step.batches.clone().count();
        let (mut loss_sum, mut n_tokens) = (0.0, 0);
        for (i, batch) in step.batches.clone().enumerate() {
            let (generation, turn) = session.turn(batch);
            if turn == 0 {
                let collected = session.collect(&step, generation)?;
                let mut experience = session.experience_of(&collected, true, rollout.temperature)?;
                let compared = options.loss.plus_plus || options.loss.baseline == Baseline::Batch;
                session.record(&collected, compared.then(|| without_spread(&collected.scores.total)))?;
                match options.loss.plus_plus {
                    true => token_advantages(&mut experience.samples, &collected.scores.total, ratio.beta),
                    false => {
                        let rewards = penalised(&collected.scores.total, &experience.samples, ratio.beta);
                        let advantages = completion_advantages(&rewards, options, &mut baseline);
                        let pairs = experience.samples.iter_mut().zip(&advantages);
                        pairs.for_each(|(sample, advantage)| sample.advantages = vec![*advantage as f32]);
                        session.add("advantage_std", std(&advantages));
                    }
                }
                if ratio.beta > 0.0 {
                    session.add("kl", mean_kl(&experience));
                }
                if let Some(value) = baseline.value {
                    session.add("baseline", value);
                }
                session.experience = experience;
                n_tokens += session.n_tokens();
            }
            let n_trained = session.experience.n_trained() as f64;
            let whole = Whole {
                n_micro_batches: n_micro,
                n_tokens: n_trained.max(1.0) * n_micro as f64 / cuts as f64,
                max_completion_length: rollout.max_completion_length,
            };
            let samples = session.slice(turn % cuts, training.per_device_train_batch_size).to_vec();
            let batch = session.experience.batch(&samples)?;
            if batch.n_items() == 0 {
                session.job.learner.accumulate_nothing()?;
                continue;
            }
            let tape = Tape::new();
            let watched = session.job.learner.model.watch(&tape);
            let scored = score(&watched, &batch, rollout.temperature, session.job.pass(&step, i))?;
            let sequences = sequences(&batch, &samples)?;
            let log_ratio = ops::sub(&scored.logp, &per_token(&samples, |s, t| s.logp_old[t])?)?;
            let ratio = token_ratio(&log_ratio, &sequences)?;
            let advantages = per_token(&samples, Sample::advantage)?;
            let terms = Terms {
                logp: &scored.logp,
                log_ratio: &log_ratio,
                ratio: &ratio,
                advantages: &advantages,
                sequences: &sequences,
            };
            let losses = token_loss(&terms, &constants)?;
            let weights = weights(&sequences, &whole);
            let n = weights.len();
            let loss = ops::sum(&ops::mul(&losses, &Tensor::from_f32(losses.device(), weights, &[n])?)?)?;
            session.job.learner.accumulate(&tape, watched, &loss)?;
            loss_sum += f64::from(loss.item()?);
            session.add("entropy", mean(&scored.entropy));
            if options.loss.plus_plus {
                let (epsilon, high) = (constants.epsilon, constants.epsilon_high);
                let shares =
                    token_shares(&clipped_units(&ratio.to_vec()?, &advantages.to_vec()?, epsilon, high), &sequences);
                session.add("clip_ratio/low_mean", shares.low_mean);
                session.add("clip_ratio/high_mean", shares.high_mean);
                session.add("clip_ratio/region_mean", shares.region_mean);
            }
        }
        let due = session.job.step(loss_sum, n_tokens)?;
        let due = session.after_step(due)?;
        if due.save {
            session.save(|checkpoint| save_baseline(checkpoint, &baseline))?;
        }
    }
    session.finish()
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
    let (mean, std) = (mean_of(&all), std(&all));
    let normal = |g: &f64| if g.is_nan() { 0.0 } else { ((g - mean) / (std + 1e-8)) as f32 };
    samples.iter_mut().zip(&to_go).for_each(|(sample, g)| sample.advantages = g.iter().map(normal).collect());
}

/// 1 where all rewards of the batch are equal.
fn without_spread(rewards: &[f64]) -> f64 {
    f64::from(u8::from(rewards.len() > 1 && (std(rewards) <= 1e-8 || std(rewards).is_nan())))
}

fn save_baseline(checkpoint: &Path, baseline: &MovingAverage) -> Result<()> {
    let path = checkpoint.join(BASELINE_FILE);
    let text = serde_json::to_string(baseline).map_err(Error::internal)?;
    std::fs::write(&path, text).map_err(|e| Error::file(&path, e))
}

fn load_baseline(checkpoint: &Path) -> Result<MovingAverage> {
    let path = checkpoint.join(BASELINE_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("damaged: {e}")))
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

    #[test]
    fn the_baseline_is_saved_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let average = MovingAverage { value: Some(0.1 + 0.2) };
        save_baseline(dir.path(), &average).unwrap();
        assert_eq!(load_baseline(dir.path()).unwrap(), average);
    }
}
