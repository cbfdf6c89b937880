//! RAFT: reward-ranked fine-tuning. H. Dong et al., "RAFT: reward ranked finetuning for generative foundation model
//! alignment", 2023, algorithm 1.
//!
//! What differs from SFT (`sft/mod.rs`): the examples are the policy's own, of several completions of each prompt the one
//! with the highest reward. What differs from REINFORCE (`reinforce.rs`): of the rewards only which is the highest counts,
//! and nothing becomes less likely.
//! ```text
//! loss = −(1/N) Σ over the best completion of each prompt Σₜ log πₜ        N: tokens of all of them in the step
//! ```
use crate::error::Result;
use crate::job::Summary;
use crate::losses::sft::nll;
use crate::options::RaftOptions;
use crate::policy_gradients::measure::{Metrics, Part};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Reward, Sample, Session};
use crate::statistics::mean_f32;
use engine::tensor::Tensor;

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &RaftOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let rollout = &options.rollout;
    let mut session = Session::open(options, Turns::of(options, 1), false, false, rewards)?;
    while let Some(step) = session.next_step() {
        for i in step.micro_batches() {
            if let Some(generation) = session.due(&step, i) {
                let collected = session.collect(&step, generation)?;
                session.record(&collected, None)?;
                let needs_old = session.guard.has_budget();
                let mut experience = session.experience_of(&collected, needs_old, rollout.temperature)?;
                keep_best(&mut experience.samples, &collected.scores.total, rollout.num_generations);
                session.learn_from(experience);
            }
            session.learn(&step, i, loss_of)?;
        }
        session.step(|_| Ok(()))?;
    }
    session.finish()
}

/// Runs `lapidary raft`.
pub fn train(options: &RaftOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// Leaves of each group the completion with the highest reward, the first of equals. Those that were not judged, or are
/// masked already, cannot be it.
fn keep_best(samples: &mut [Sample], rewards: &[f64], group: usize) {
    for (samples, rewards) in samples.chunks_mut(group).zip(rewards.chunks(group)) {
        let judged = (0..samples.len()).filter(|&i| !samples[i].masked && !rewards[i].is_nan());
        let best = judged.reduce(|best, i| if rewards[i] > rewards[best] { i } else { best });
        samples.iter_mut().enumerate().for_each(|(i, sample)| sample.masked = Some(i) != best);
    }
}

/// The loss of supervised fine-tuning over the completions that were kept.
fn loss_of(part: &Part) -> Result<(Tensor, Metrics)> {
    let loss = nll(&part.scored.logp, part.whole.n_tokens as f32)?;
    Ok((loss, vec![("entropy", mean_f32(&part.scored.entropy()?))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_group_the_first_of_the_best_is_kept() {
        let sample = |masked| Sample { ids: vec![1], masked, ..Sample::default() };
        let mut samples = [false, false, false, true, false, false, false, false, false].map(sample);
        keep_best(&mut samples, &[1.0, 2.0, 2.0, 9.0, f64::NAN, -1.0, f64::NAN, f64::NAN, f64::NAN], 3);
        let kept: Vec<bool> = samples.iter().map(|s| !s.masked).collect();
        assert_eq!(kept, [false, true, false, false, false, true, false, false, false]);
    }
}
