//! PPO: proximal policy optimisation with a critic. J. Schulman et al., 2017; in language models D. M. Ziegler et al.,
//! "Fine-tuning language models from human preferences", 2019, and TRL's former trainer.
//!
//! What differs from GRPO (`grpo.rs`):
//! - A **critic** says at each token how much reward is still to come; the advantage of a token is by how much things went
//!   better than it said (generalised advantage estimation), so one completion of a prompt is enough.
//! - The KL from the reference is part of each token's reward.
//! - The completions of a batch are gone through several times, in mini-batches of an optimiser step each; policy and
//!   critic are clipped to stay near what they were when the completions were drawn.
use crate::advantages::{gae, whiten};
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::scoring::{Scored, score};
use crate::job::stepper::{Optimizer, Stepper};
use crate::job::{Step, Summary};
use crate::losses::clipping::clipped_units;
use crate::losses::kl::{AdaptiveKl, k1, k3};
use crate::losses::policy::{self, Constants, Terms, token_ratio};
use crate::losses::value::clipped_value_loss;
use crate::options::{CriticKind, KlEstimator, PpoOptions};
use crate::policy_gradients::critic::{Critic, explained_variance};
use crate::policy_gradients::measure::{per_token, sequences};
use crate::policy_gradients::penalty::{Estimator, kl_of, token_rewards};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Collected, Reward, Sample, Session};
use crate::run::side_files::{KL_COEFFICIENT, read_json, write_json};
use crate::statistics::{mean, mean_f32};
use engine::model::decoder::Decoder;
use engine::ops;
use engine::optim::AdamW;
use engine::random::Stream;
use engine::tape::Tape;
use engine::tensor::Tensor;

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &PpoOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let (training, loss) = (&options.training, &options.loss);
    let turns = Turns { per_generation: loss.num_ppo_epochs * loss.num_mini_batches, per_step: 1 };
    let critic = loss.critic == CriticKind::Model;
    let mut session = Session::open(options, turns, loss.kl_coef > 0.0, critic, rewards)?;
    let mut critic = open_critic(options, &session)?;
    let mut kl = AdaptiveKl {
        coefficient: loss.kl_coef,
        target: loss.kl_target.unwrap_or(f64::INFINITY),
        horizon: loss.kl_horizon,
    };
    if let Some(checkpoint) = &session.job.resumed {
        critic.restore(&checkpoint.path)?;
        kl.coefficient = read_json(&checkpoint.path, KL_COEFFICIENT)?;
    }
    while let Some(step) = session.next_step() {
        if let Some(generation) = session.due(&step, 0) {
            let collected = session.collect(&step, generation)?;
            estimate(&mut session, options, &collected, &critic, &mut kl)?;
        }
        let samples = mini_batch(&session, options, &step);
        learn(&mut session, options, &step, &samples, &mut critic)?;
        let rate = session.job.learning_rate();
        let share = loss.critic_learning_rate.map_or(1.0, |own| own / training.learning_rate.max(f64::MIN_POSITIVE));
        critic.step(rate * share)?;
        session.step(|checkpoint| {
            critic.save(checkpoint)?;
            write_json(checkpoint, KL_COEFFICIENT, &kl.coefficient)
        })?;
    }
    session.finish()
}

/// Runs `lapidary ppo`.
pub fn train(options: &PpoOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// The critic at its start: a head of zeros, on the policy's hidden states or on a copy of the model with all its weights
/// trained.
fn open_critic(options: &PpoOptions, session: &Session) -> Result<Critic> {
    let (training, job) = (&options.training, &session.job);
    let trunk = match options.loss.critic {
        CriticKind::Head => None,
        CriticKind::Model => {
            let dtype = engine::dtype::DType::F32;
            Some(Decoder::load(&job.source.files, &job.device, dtype)?)
        }
    };
    let adamw = AdamW::new(training.adam_beta1, training.adam_beta2, training.adam_epsilon);
    let stepper = Stepper::new(Optimizer::AdamW(adamw), training.weight_decay, training.max_grad_norm);
    Critic::new(&job.learner.model, trunk, stepper)
}

fn estimator(options: &PpoOptions) -> Estimator {
    match options.loss.kl_estimator {
        KlEstimator::K1 => k1,
        KlEstimator::K3 => k3,
    }
}

/// From rewards to advantages and returns of each token, with the critic as it was when the completions were drawn.
fn estimate(
    session: &mut Session,
    options: &PpoOptions,
    collected: &Collected,
    critic: &Critic,
    kl: &mut AdaptiveKl,
) -> Result<()> {
    let (loss, estimator) = (&options.loss, estimator(options));
    let mut experience = session.experience_of(collected, true, options.rollout.temperature)?;
    let batch_size = options.training.per_device_train_batch_size;
    let values = critic.values_of(&session.job.learner.model, &experience, batch_size)?;
    let penalty = |ended: bool| if ended { 0.0 } else { loss.missing_eos_penalty.unwrap_or(0.0) };
    let scores: Vec<f64> =
        collected.scores.total.iter().zip(&collected.completions).map(|(r, c)| r - penalty(c.ended)).collect();
    let mut rewards: Vec<Vec<f64>> = experience
        .samples
        .iter()
        .zip(&scores)
        .map(|(sample, score)| token_rewards(*score, sample, kl.coefficient, estimator))
        .collect();
    measure_objective(session, &experience.samples, &scores, &rewards, collected);
    let judged: Vec<bool> = scores.iter().map(|score| !score.is_nan()).collect();
    if loss.whiten_rewards {
        rewards = whitened(&rewards, &judged, true);
    }
    let mut advantages = Vec::with_capacity(rewards.len());
    for ((sample, rewards), values) in experience.samples.iter_mut().zip(&rewards).zip(values) {
        let foreseen: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let (advantage, returns) = gae(rewards, &foreseen, loss.gamma, loss.lam);
        sample.values = values;
        sample.returns = returns.iter().map(|r| *r as f32).collect();
        advantages.push(advantage);
    }
    let advantages = whitened(&advantages, &judged, false);
    for ((sample, advantage), judged) in experience.samples.iter_mut().zip(advantages).zip(&judged) {
        sample.advantages = advantage.iter().map(|a| *a as f32).collect();
        if !judged {
            // What nobody judged is no 0: none of its tokens is learnt from, by policy or critic.
            *sample = Sample { masked: true, values: vec![], returns: vec![], advantages: vec![], ..sample.clone() };
        }
    }
    session.record(collected, None)?;
    session.add("val/explained_variance", explained_variance(&experience.samples));
    if loss.kl_target.is_some() {
        session.add("kl_coef", kl.coefficient);
        let each: Vec<f64> = experience.samples.iter().map(|s| kl_of(s, k1).iter().sum()).collect();
        kl.update(mean(&each), each.len());
    }
    session.learn_from(experience);
    Ok(())
}

/// TRL's `objective/…` but for the KL, which the session logs: means over completions of sums over their tokens.
fn measure_objective(
    session: &mut Session,
    samples: &[Sample],
    scores: &[f64],
    rewards: &[Vec<f64>],
    collected: &Collected,
) {
    let mean_of = |x: Vec<f64>| mean(&x);
    let total = mean_of(rewards.iter().map(|r| r.iter().sum()).collect());
    let score = mean(scores);
    let surprise = samples.iter().map(|s| -s.logp_old.iter().map(|p| f64::from(*p)).sum::<f64>());
    let ended = collected.completions.iter().filter(|c| c.ended).count();
    for (name, value) in [
        ("objective/entropy", mean_of(surprise.collect())),
        ("objective/scores", score),
        ("objective/rlhf_reward", total),
        ("objective/non_score_reward", total - score),
        ("val/num_eos_tokens", ended as f64),
    ] {
        session.add(name, value);
    }
}

/// The numbers of all judged completions whitened together; those of the others stay as they are.
fn whitened(each: &[Vec<f64>], judged: &[bool], keep_mean: bool) -> Vec<Vec<f64>> {
    let of_judged: Vec<Vec<f64>> = each.iter().zip(judged).filter(|(_, j)| **j).map(|(x, _)| x.clone()).collect();
    let mut found = cut(&whiten(&of_judged.concat(), keep_mean), &of_judged).into_iter();
    let mut one =
        |(own, judged): (&Vec<f64>, &bool)| if *judged { found.next().unwrap_or_default() } else { own.clone() };
    each.iter().zip(judged).map(&mut one).collect()
}

/// `flat` in pieces as long as those of `like`.
fn cut(flat: &[f64], like: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut rest = flat;
    let mut take = |n: usize| {
        let (own, others) = rest.split_at(n);
        rest = others;
        own.to_vec()
    };
    like.iter().map(|piece| take(piece.len())).collect()
}

/// The samples of an optimiser step: prompts in another order each time the batch is gone through, their completions
/// together.
fn mini_batch(session: &Session, options: &PpoOptions, step: &Step) -> Vec<Sample> {
    let (_, turn) = session.turn(step.batches.start);
    let parts = options.loss.num_mini_batches;
    let (pass, part) = (turn / parts, turn % parts);
    let first_step = step.index - turn as u64;
    let key = first_step * options.loss.num_ppo_epochs as u64 + pass as u64;
    let order = Stream::new(options.training.seed ^ 0x7070_6f21, key).permutation(session.experience.prompts.len());
    let group = options.rollout.num_generations;
    let all: Vec<usize> = order.iter().flat_map(|prompt| prompt * group..(prompt + 1) * group).collect();
    let size = all.len() / parts;
    all[part * size..(part + 1) * size].iter().map(|&i| session.experience.samples[i].clone()).collect()
}

/// Gradients of policy and critic over one mini-batch, in micro-batches.
fn learn(
    session: &mut Session,
    options: &PpoOptions,
    step: &Step,
    samples: &[Sample],
    critic: &mut Critic,
) -> Result<()> {
    let n_tokens: usize = samples.iter().map(Sample::n_trained).sum();
    if n_tokens == 0 {
        return Ok(session.job.learner.accumulate_nothing()?);
    }
    for (i, part) in samples.chunks(options.training.per_device_train_batch_size).enumerate() {
        let batch = session.experience.batch(part)?;
        if batch.n_items() == 0 {
            continue;
        }
        let tape = Tape::new();
        let (watched, judge) = (session.job.learner.model.watch(&tape), critic.watch(&tape));
        let pass = session.job.pass(step, i);
        let scored = score(&watched, &batch, options.rollout.temperature, pass)?;
        let values = judge.values(&watched, Some(&scored.hidden), &batch, pass)?;
        let (policy_loss, value_loss) = losses(session, options, &scored, &values, &batch, part)?;
        let sum = ops::add(&policy_loss, &ops::scale(&value_loss, options.loss.vf_coef as f32)?)?;
        let loss = ops::scale(&sum, 1.0 / n_tokens as f32)?;
        let mut gradients = session.job.learner.accumulate_and_keep(&tape, watched, &loss)?;
        critic.accumulate(&judge, &mut gradients)?;
        session.job.count(f64::from(loss.item()?), 0);
    }
    Ok(())
}

/// Sums over tokens of the policy's and of the critic's loss.
fn losses(
    session: &mut Session,
    options: &PpoOptions,
    scored: &Scored,
    values: &Tensor,
    batch: &Batch,
    samples: &[Sample],
) -> Result<(Tensor, Tensor)> {
    let loss = &options.loss;
    let sequences = sequences(batch, samples)?;
    let log_ratio = ops::sub(&scored.logp, &per_token(samples, |s, t| s.logp_old[t])?)?;
    let ratio = token_ratio(&log_ratio, &sequences)?;
    let advantages = per_token(samples, Sample::advantage)?;
    let terms = Terms {
        logp: &scored.logp,
        log_ratio: &log_ratio,
        ratio: &ratio,
        advantages: &advantages,
        sequences: &sequences,
    };
    let range = loss.cliprange as f32;
    let constants = Constants { epsilon: range, epsilon_high: range, ..Constants::default() };
    let policy_losses = policy::clipped(&terms, &constants)?;
    let (old, returns) = (per_token(samples, |s, t| s.values[t])?, per_token(samples, |s, t| s.returns[t])?);
    let value_losses = clipped_value_loss(values, &old, &returns, loss.cliprange_value as f32)?;

    let (ratios, logs) = (ratio.to_vec()?, log_ratio.to_vec()?);
    let clipped = clipped_units(&ratios, &advantages.to_vec()?, range, range);
    let share = |n: usize| n as f64 / ratios.len() as f64;
    let moved = values
        .to_vec()?
        .iter()
        .zip(old.to_vec()?)
        .filter(|(v, o)| (**v - o).abs() > loss.cliprange_value as f32)
        .count();
    let ratio_mean = mean_f32(&ratios);
    for (name, value) in [
        ("policy/approxkl_avg", 0.5 * logs.iter().map(|l| f64::from(*l).powi(2)).sum::<f64>() / logs.len() as f64),
        ("policy/clipfrac_avg", share(clipped.iter().filter(|c| c.0 || c.1).count())),
        ("policy/entropy_avg", mean_f32(&scored.entropy()?)),
        ("loss/policy_avg", mean_f32(&policy_losses.to_vec()?)),
        ("loss/value_avg", mean_f32(&value_losses.to_vec()?)),
        ("val/clipfrac_avg", share(moved)),
        ("val/ratio", ratio_mean),
    ] {
        session.add(name, value);
    }
    Ok((ops::sum(&policy_losses)?, ops::sum(&value_losses)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_as_they_were_joined() {
        let pieces = vec![vec![1.0, 2.0], vec![], vec![3.0]];
        assert_eq!(cut(&pieces.concat(), &pieces), pieces);
    }

    /// A completion without a reward neither is whitened nor moves the others.
    #[test]
    fn the_unjudged_are_left_out() {
        let all = vec![vec![1.0, 3.0], vec![100.0], vec![5.0]];
        let found = whitened(&all, &[true, false, true], false);
        let alone = whiten(&[1.0, 3.0, 5.0], false);
        assert_eq!(found, [alone[..2].to_vec(), vec![100.0], alone[2..].to_vec()]);
        assert_eq!(whitened(&all, &[true; 3], true).concat(), whiten(&all.concat(), true));
    }
}
