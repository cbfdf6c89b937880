//! RLOO: REINFORCE with a leave-one-out baseline. A. Ahmadian et al., "Back to basics: revisiting REINFORCE-style
//! optimization for learning from human feedback in LLMs", 2024; TRL's form of it.
//!
//! What differs from REINFORCE (`reinforce.rs`):
//! - Several completions are drawn of each prompt, and each is compared with the mean reward of the others.
//! - The KL from the reference (k1, summed over the completion) is part of the reward.
//! - The gradient is that of a clipped ratio of the whole completion, so that it may be learnt from more than once.
use crate::advantages::{leave_one_out, normalised};
use crate::error::Result;
use crate::job::Summary;
use crate::job::learner::loss_device;
use crate::losses::clipping::{clipped_units, sequence_shares};
use crate::losses::policy::{Constants, sequence_clipped};
use crate::options::RlooOptions;
use crate::policy_gradients::Session;
use crate::policy_gradients::measure::{mean, per_token, score, sequences};
use crate::policy_gradients::penalty::{mean_kl, penalised};
use crate::policy_gradients::session::Turns;
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;

/// Runs `lapidary rloo`.
pub fn train(options: &RlooOptions) -> Result<Summary> {
    let (training, rollout, ratio) = (&options.training, &options.rollout, &options.ratio);
    let cuts = rollout.batches_per_generation(training);
    let turns = Turns { per_generation: cuts * ratio.num_iterations, per_step: training.gradient_accumulation_steps };
    let constants = Constants {
        epsilon: ratio.epsilon as f32,
        epsilon_high: ratio.epsilon_high.unwrap_or(ratio.epsilon) as f32,
        ..Constants::default()
    };
    let mut session = Session::open(options, turns, ratio.beta > 0.0, 0)?;
    while let Some(step) = session.next_step() {
        let n_micro = step.batches.clone().count();
        let (mut loss_sum, mut n_tokens) = (0.0, 0);
        for (i, batch) in step.batches.clone().enumerate() {
            let (generation, turn) = session.turn(batch);
            if turn == 0 {
                let collected = session.collect(&step, generation)?;
                let mut experience = session.experience_of(&collected, true, rollout.temperature)?;
                let rewards = bounded(&collected.scores.total, options);
                let rewards = penalised(&rewards, &experience.samples, ratio.beta);
                let mut advantages = leave_one_out(&rewards, rollout.num_generations);
                session.record(&collected, Some(advantages.share_without_spread()))?;
                if options.loss.normalize_advantages {
                    advantages.values = normalised(&advantages.values, &rewards);
                }
                for (sample, advantage) in experience.samples.iter_mut().zip(&advantages.values) {
                    sample.advantages = vec![*advantage as f32];
                }
                if ratio.beta > 0.0 {
                    session.add("kl", mean_kl(&experience));
                }
                session.experience = experience;
                n_tokens += session.n_tokens();
            }
            let samples = session.slice(turn % cuts, training.per_device_train_batch_size).to_vec();
            let batch = session.experience.batch(&samples)?;
            if batch.n_items() == 0 {
                session.job.learner.accumulate_nothing()?;
                continue;
            }
            let tape = Tape::new();
            let watched = session.job.learner.model.watch(&tape);
            let scored = score(&watched, &batch, rollout.temperature, session.job.pass(&step, i))?;
            let logp_old = per_token(&samples, |s, t| s.logp_old[t])?;
            let advantages: Vec<f32> = samples.iter().map(|s| s.advantage(0)).collect();
            let of_sequence = Tensor::from_f32(&loss_device(), advantages.clone(), &[samples.len()])?;
            let sequences = sequences(&batch, &samples)?;
            let (loss, rho) = sequence_clipped(&scored.logp, &logp_old, &of_sequence, &sequences, &constants)?;
            let loss = ops::scale(&loss, 1.0 / n_micro as f32)?;
            session.job.learner.accumulate(&tape, watched, &loss)?;
            loss_sum += f64::from(loss.item()?);
            session.add("entropy", mean(&scored.entropy));
            let clipped = clipped_units(&rho.to_vec()?, &advantages, constants.epsilon, constants.epsilon_high);
            let shares = sequence_shares(&clipped);
            session.add("clip_ratio/low_mean", shares.low_mean);
            session.add("clip_ratio/high_mean", shares.high_mean);
            session.add("clip_ratio/region_mean", shares.region_mean);
            session.add("clip_ratio/low_min", shares.low_min);
            session.add("clip_ratio/high_max", shares.high_max);
        }
        let due = session.job.step(loss_sum, n_tokens)?;
        let due = session.after_step(due)?;
        if due.save {
            session.save(|_| Ok(()))?;
        }
    }
    session.finish()
}

/// Each reward brought within reward_clip_range.
fn bounded(rewards: &[f64], options: &RlooOptions) -> Vec<f64> {
    let clip = |r: &f64| match options.loss.reward_clip_range.0[..] {
        [low, high] if !r.is_nan() => r.clamp(low, high),
        _ => *r,
    };
    rewards.iter().map(clip).collect()
}
