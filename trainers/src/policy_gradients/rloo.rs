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
use crate::losses::policy::sequence_clipped;
use crate::options::RlooOptions;
use crate::policy_gradients::measure::{Metrics, Part, clip_range, per_token};
use crate::policy_gradients::penalty::{mean_kl, penalised};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Reward, Session};
use crate::statistics::mean_f32;
use engine::ops;
use engine::tensor::Tensor;

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &RlooOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let (rollout, beta) = (&options.rollout, options.ratio.beta);
    let mut session =
        Session::open(options, Turns::of(options, options.ratio.num_iterations), beta > 0.0, false, rewards)?;
    while let Some(step) = session.next_step() {
        for i in step.micro_batches() {
            if let Some(generation) = session.due(&step, i) {
                let collected = session.collect(&step, generation)?;
                let mut experience = session.experience_of(&collected, true, rollout.temperature)?;
                let rewards = bounded(&collected.scores.total, options);
                let rewards = penalised(&rewards, &experience.samples, beta);
                let mut advantages = leave_one_out(&rewards, rollout.num_generations);
                session.record(&collected, Some(advantages.share_without_spread()))?;
                if options.loss.normalize_advantages {
                    advantages.values = normalised(&advantages.values, &rewards);
                }
                experience.set_advantages(&advantages.values);
                session.add("kl", if beta > 0.0 { mean_kl(&experience) } else { f64::NAN });
                session.learn_from(experience);
            }
            session.learn(&step, i, |part| loss_of(options, part))?;
        }
        session.step(|_| Ok(()))?;
    }
    session.finish()
}

/// Runs `lapidary rloo`.
pub fn train(options: &RlooOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// The clipped ratio of each completion times its advantage, as a mean over the completions of the step; and metrics.
fn loss_of(options: &RlooOptions, part: &Part) -> Result<(Tensor, Metrics)> {
    let Part { scored, samples, sequences, whole } = part;
    let constants = clip_range(&options.ratio);
    let logp_old = per_token(samples, |s, t| s.logp_old[t])?;
    let advantages: Vec<f32> = samples.iter().map(|s| s.advantage(0)).collect();
    let of_sequence = Tensor::from_f32(&loss_device(), advantages.clone(), &[samples.len()])?;
    let (loss, rho) = sequence_clipped(&scored.logp, &logp_old, &of_sequence, sequences, &constants)?;
    let clipped = clipped_units(&rho.to_vec()?, &advantages, constants.epsilon, constants.epsilon_high);
    let mut metrics = vec![("entropy", mean_f32(&scored.entropy()?))];
    metrics.extend(sequence_shares(&clipped).metrics());
    Ok((ops::scale(&loss, 1.0 / whole.n_micro_batches as f32)?, metrics))
}

/// Each reward brought within reward_clip_range.
fn bounded(rewards: &[f64], options: &RlooOptions) -> Vec<f64> {
    let clip = |r: &f64| match options.loss.reward_clip_range.0[..] {
        [low, high] if !r.is_nan() => r.clamp(low, high),
        _ => *r,
    };
    rewards.iter().map(clip).collect()
}
