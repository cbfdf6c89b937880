//! Online DPO: the policy writes two answers to each prompt, a judge or a reward says which is better, and the pair is
//! learnt from as DPO does. S. Guo et al., "Direct language model alignment from online AI feedback", 2024, §3.
//!
//! What differs from DPO (`dpo.rs`): pairs are not read but made, anew from the policy as it is; so the policy is
//! compared on what it really says. What differs from RLOO with two completions (`rloo.rs`): of the rewards only the
//! order counts, and the loss is DPO's.
//!
//! A pair of which neither answer is better teaches nothing. (TRL takes the first.)
use crate::data::Sequence;
use crate::error::Result;
use crate::job::{Measured, Step, Summary};
use crate::losses::dpo::{DpoSettings, Pairs};
use crate::losses::sequences::sum_of_tokens;
use crate::options::OnlineDpoOptions;
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Collected, Reward, Sample, Session};
use crate::preferences::dpo::{pair_batch, pair_metrics, sides};
use crate::preferences::known;
use crate::preferences::likelihoods::Answers;
use crate::statistics::{mean, mean_f32};
use engine::model::decoder::Pass;
use engine::ops;
use engine::tensor::Tensor;

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &OnlineDpoOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let mut session = Session::open(options, Turns::of(options, 1), true, false, rewards)?;
    while let Some(step) = session.next_step() {
        let (beta, mut spent) = (beta_of(options, &step), vec![]);
        for i in step.micro_batches() {
            if let Some(generation) = session.due(&step, i) {
                let collected = session.collect(&step, generation)?;
                let scores = scores(&collected, options.loss.missing_eos_penalty);
                session.record(&collected, Some(share_of_ties(&scores)))?;
                measure_scores(&mut session, &collected, &scores);
                let mut experience = session.experience_of(&collected, false, 1.0)?;
                put_better_first(&mut experience.samples, &scores);
                session.learn_from(experience);
            }
            let samples = session.samples_of(&step, i);
            let sequences = sequences(&session.experience.prompts, &samples);
            let whole = step.micro_batches().len() * options.training.per_device_train_batch_size;
            session.job.learn(&step, i, |model, pass| {
                let pass = if options.loss.disable_dropout { Pass { dropout: None, ..pass } } else { pass };
                let batch = pair_batch(&sequences, false)?;
                let answers = Answers::score(model, &batch, pass)?;
                let (measured, kl) = loss_of(options, &answers, &samples, beta, whole)?;
                spent.push(kl);
                Ok(measured)
            })?;
        }
        session.spent(mean(&spent));
        session.add("beta", beta);
        session.step(|_| Ok(()))?;
    }
    session.finish()
}

/// Runs `lapidary online-dpo`.
pub fn train(options: &OnlineDpoOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// DPO's loss of a micro-batch, a mean over the `n_pairs` pairs of the step; ties count nothing. With TRL's metrics, and
/// the KL from the reference in nats a completion.
fn loss_of(
    options: &OnlineDpoOptions,
    answers: &Answers,
    samples: &[Sample],
    beta: f64,
    n_pairs: usize,
) -> Result<(Measured, f64)> {
    let pairs = pairs(answers, samples)?;
    let each = options.loss.loss_type.value()(&pairs, DpoSettings { beta: beta as f32, ..DpoSettings::default() })?;
    let compared: Vec<f32> = samples.chunks(2).map(|pair| pair[0].advantage(0)).collect();
    let loss = ops::scale(&ops::sum(&ops::mul(&each, &known(compared)?)?)?, 1.0 / n_pairs as f32)?;
    let rewards = pairs.ratio.map(|r| ops::scale(&r.detach(), beta as f32))?;
    let both = |x: &Tensor, y: &Tensor| -> Result<f64> { Ok(0.5 * (mean_f32(&x.to_vec()?) + mean_f32(&y.to_vec()?))) };
    let kl = both(&pairs.ratio.chosen, &pairs.ratio.rejected)?;
    let mut metrics = pair_metrics(answers, &rewards, &pairs.logp)?;
    metrics.push(("objective/entropy", -both(&pairs.logp.chosen, &pairs.logp.rejected)?));
    metrics.push(("objective/non_score_reward", -beta * kl));
    metrics.retain(|(_, value)| !value.is_nan());
    Ok((Measured { loss, metrics, n_tokens: 0 }, kl))
}

/// β of the step's epoch; the last one goes on.
fn beta_of(options: &OnlineDpoOptions, step: &Step) -> f64 {
    let all = &options.loss.beta.0;
    all.get(step.epoch as usize).or(all.last()).copied().unwrap_or(0.1)
}

/// Rewards, less what a missing end costs.
fn scores(collected: &Collected, missing_eos_penalty: Option<f64>) -> Vec<f64> {
    let penalty = |ended: bool| if ended { 0.0 } else { missing_eos_penalty.unwrap_or(0.0) };
    collected.scores.total.iter().zip(&collected.completions).map(|(r, c)| r - penalty(c.ended)).collect()
}

/// Whether one of two completions is better: not if they are equal, or one could not be judged.
fn differ(pair: &[f64]) -> bool {
    pair[0].partial_cmp(&pair[1]).is_some_and(|order| order.is_ne())
}

fn share_of_ties(scores: &[f64]) -> f64 {
    let ties = scores.chunks(2).filter(|pair| !differ(pair)).count();
    2.0 * ties as f64 / scores.len().max(1) as f64
}

/// Puts the better completion of each pair first. Its advantage is 1, that of the other −1; of a tie both are 0.
fn put_better_first(samples: &mut [Sample], scores: &[f64]) {
    for (pair, scores) in samples.chunks_mut(2).zip(scores.chunks(2)) {
        let counts = if differ(scores) { 1.0 } else { 0.0 };
        if scores[1] > scores[0] {
            pair.swap(0, 1);
        }
        pair[0].advantages = vec![counts];
        pair[1].advantages = vec![-counts];
    }
}

/// Prompt and completion of each sample.
fn sequences(prompts: &[Vec<u32>], samples: &[Sample]) -> Vec<Sequence> {
    let of = |s: &Sample| Sequence {
        ids: prompts[s.prompt].iter().chain(&s.ids).copied().collect(),
        start: prompts[s.prompt].len(),
    };
    samples.iter().map(of).collect()
}

/// What the losses are made of: as DPO's of the same pairs.
fn pairs(answers: &Answers, samples: &[Sample]) -> Result<Pairs> {
    let n = samples.len() / 2;
    let logp = answers.sums(2 * n)?;
    let tokens = known(samples.iter().flat_map(|s| s.logp_ref.clone()).collect())?;
    let logp_ref = sum_of_tokens(&tokens, None, &answers.batch.sequences, 2 * n)?;
    let ratio = sides(&ops::sub(&logp, &logp_ref)?, n)?;
    let lengths: Vec<f32> = samples.iter().map(|s| s.ids.len() as f32).collect();
    let mean_chosen_length = lengths.iter().step_by(2).sum::<f32>() / n as f32;
    let logp = sides(&logp, n)?;
    Ok(Pairs {
        score: ratio.clone(),
        logp_chosen: logp.chosen.clone(),
        logp,
        logp_ref: sides(&logp_ref, n)?,
        ratio,
        length: sides(&known(lengths)?, n)?,
        mean_chosen_length,
    })
}

/// TRL's metrics of what the completions were given.
fn measure_scores(session: &mut Session, collected: &Collected, scores: &[f64]) {
    let margins: Vec<f64> = scores.chunks(2).map(|pair| (pair[0] - pair[1]).abs()).collect();
    let ended = collected.completions.iter().filter(|c| c.ended).count() as f64;
    for (name, value) in [
        ("objective/scores", mean(scores)),
        ("objective/scores_margin", mean(&margins)),
        ("objective/ties", share_of_ties(scores)),
        ("val/contain_eos_token", ended / collected.completions.len().max(1) as f64),
    ] {
        session.add(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_completion_comes_first_and_ties_count_nothing() {
        let sample = |id: u32| Sample { prompt: id as usize / 2, ids: vec![id], ..Sample::default() };
        let mut samples: Vec<Sample> = (0..8).map(sample).collect();
        let scores = [1.0, 2.0, 3.0, 2.0, 1.0, 1.0, f64::NAN, 1.0];
        put_better_first(&mut samples, &scores);
        let ids: Vec<u32> = samples.iter().map(|s| s.ids[0]).collect();
        assert_eq!(ids, [1, 0, 2, 3, 4, 5, 6, 7]);
        let advantages: Vec<f32> = samples.iter().map(|s| s.advantage(0)).collect();
        assert_eq!(advantages, [1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(share_of_ties(&scores), 0.5);
    }
}
