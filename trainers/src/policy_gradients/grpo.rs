//! GRPO: group-relative policy optimisation. Z. Shao et al., "DeepSeekMath", 2024, §4.1; TRL's variants of it.
//!
//! What differs from RLOO (`rloo.rs`):
//! - A completion is compared with its whole group, and (unless `scale_rewards` is none) in units of its deviation.
//! - Each **token** has an importance ratio and is clipped by itself, rather than the completion as one action.
//! - A KL, if any, is a term of the loss (k3, per token), not of the reward.
//! - `loss_type` chooses the loss of a token and how tokens are averaged: two functions, chosen once.
use crate::advantages::{Advantages, normalise_then_sum, scaled_by_batch, scaled_by_group, unscaled};
use crate::error::{Error, Result};
use crate::job::{Step, Summary};
use crate::losses::clipping::{clipped_units, sequence_shares, token_shares, top_entropy_mask};
use crate::losses::kl::k3_tensor;
use crate::losses::policy::{
    self, Constants, Ratio, Terms, TokenLoss, bounded, sequence_ratio, token_ratio, vespo_weights,
};
use crate::losses::weights::{self, Weights};
use crate::options::{Aggregation, GrpoLoss, GrpoOptions, RatioLevel, ScaleRewards};
use crate::policy_gradients::measure::{Metrics, Part, clip_range, per_token, weighted};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Collected, Reward, Sample, Session};
use crate::statistics::mean_f32;
use engine::ops;
use engine::tensor::Tensor;

/// What was clipped, in the terms of a loss.
type Clipped = fn(&Terms, &Constants, RatioLevel) -> Result<Metrics>;

/// A loss type, taken apart.
struct Recipe {
    token_loss: TokenLoss,
    weights: Weights,
    ratio: Ratio,
    clipped: Clipped,
    constants: Constants,
}

fn recipe(options: &GrpoOptions) -> Recipe {
    let loss = &options.loss;
    let (token_loss, weights, clipped): (TokenLoss, Weights, Clipped) = match loss.loss_type {
        GrpoLoss::Grpo => (policy::clipped, weights::mean_of_means, clip_shares),
        GrpoLoss::Bnpo => (policy::clipped, weights::mean_of_micro_batch, clip_shares),
        GrpoLoss::DrGrpo => (policy::clipped, weights::by_longest, clip_shares),
        GrpoLoss::Dapo => (policy::clipped, weights::mean_of_step, clip_shares),
        GrpoLoss::Luspo => (policy::clipped, weights::mean_of_sums, clip_shares),
        GrpoLoss::Cispo => (policy::cispo, weights::mean_of_step, cispo_share),
        GrpoLoss::Sapo => (policy::sapo, weights::mean_of_means, nothing_clipped),
        GrpoLoss::Vespo => (policy::vespo, weights::mean_of_step, vespo_mean),
    };
    let f = |x: f64| x as f32;
    let constants = Constants {
        delta: loss.delta.map(f),
        sapo: [f(loss.sapo_temperature_pos), f(loss.sapo_temperature_neg)],
        vespo: [(f(loss.vespo_k_pos), f(loss.vespo_lambda_pos)), (f(loss.vespo_k_neg), f(loss.vespo_lambda_neg))],
        ..clip_range(&options.ratio)
    };
    let ratio = match loss.importance_sampling_level {
        RatioLevel::Token => token_ratio,
        RatioLevel::Sequence => sequence_ratio,
    };
    Recipe { token_loss, weights, ratio, clipped, constants }
}

/// The run, with further rewards beside those that the options name: each counts once.
pub fn train_with(options: &GrpoOptions, rewards: Vec<Box<dyn Reward>>) -> Result<Summary> {
    let (recipe, turns) = (recipe(options), Turns::of(options, options.ratio.num_iterations));
    let mut session = Session::open(options, turns, options.ratio.beta > 0.0, false, rewards)?;
    while let Some(step) = session.next_step() {
        for i in step.micro_batches() {
            if let Some(generation) = session.due(&step, i) {
                let collected = collect(&mut session, options, &step, generation)?;
                let advantages = advantages(options, &session, &collected);
                session.record(&collected, Some(advantages.share_without_spread()))?;
                let needs_old = !turns.within_a_step() || session.guard.has_budget();
                let mut experience = session.experience_of(&collected, needs_old, options.rollout.temperature)?;
                experience.set_advantages(&advantages.values);
                session.learn_from(experience);
            }
            session.learn(&step, i, |part| loss_of(&recipe, options, part))?;
        }
        session.step(|_| Ok(()))?;
    }
    session.finish()
}

/// Runs `lapidary grpo`.
pub fn train(options: &GrpoOptions) -> Result<Summary> {
    train_with(options, Vec::new())
}

/// The completions of a generation. With dynamic sampling, groups whose rewards are all equal are replaced by those of
/// further prompts. Q. Yu et al., "DAPO", 2025, §3.2.
fn collect(session: &mut Session, options: &GrpoOptions, step: &Step, generation: u64) -> Result<Collected> {
    let mut kept = session.collect(step, generation)?;
    let (group, rounds) = (options.rollout.num_generations, options.loss.dynamic_sampling_rounds);
    let mut n_replaced = 0;
    for round in 0..rounds {
        let dull = dull_groups(&kept, group);
        if dull.is_empty() {
            break;
        }
        let n = session.prompts.train.len();
        let key = (step.index * rounds as u64 + round as u64) ^ 0x6479_6e61;
        let order = engine::random::Stream::new(options.training.seed ^ key, generation).permutation(n);
        let fresh = order.into_iter().filter(|row| !kept.prompts.contains(row)).take(dull.len()).collect();
        let drawn = session.collect_of(fresh)?;
        n_replaced += replace(&mut kept, &dull, drawn, group);
    }
    if rounds > 0 {
        session.add("resampled_groups", n_replaced as f64);
    }
    Ok(kept)
}

/// Groups whose rewards are all equal.
fn dull_groups(collected: &Collected, group: usize) -> Vec<usize> {
    let spread = scaled_by_group(&collected.scores.total, group).std;
    (0..collected.prompts.len()).filter(|g| spread[g * group].is_nan() || spread[g * group] <= 1e-8).collect()
}

/// Puts groups of `drawn` that have a spread in the place of dull ones; returns how many.
fn replace(kept: &mut Collected, dull: &[usize], drawn: Collected, group: usize) -> usize {
    let useless = dull_groups(&drawn, group);
    let useful = (0..drawn.prompts.len()).filter(|g| !useless.contains(g));
    let places: Vec<(&usize, usize)> = dull.iter().zip(useful).collect();
    for &(to, from) in &places {
        kept.prompts[*to] = drawn.prompts[from];
        for k in 0..group {
            let (to, from) = (to * group + k, from * group + k);
            kept.completions[to] = drawn.completions[from].clone();
            kept.scores.total[to] = drawn.scores.total[from];
            kept.scores.each.iter_mut().zip(&drawn.scores.each).for_each(|(a, b)| a[to] = b[from]);
        }
    }
    places.len()
}

fn advantages(options: &GrpoOptions, session: &Session, collected: &Collected) -> Advantages {
    let (group, scores) = (options.rollout.num_generations, &collected.scores);
    match (options.loss.multi_objective_aggregation, options.loss.scale_rewards) {
        (Aggregation::NormalizeThenSum, _) => {
            let weights = if session.rewards.is_empty() { &[1.0][..] } else { &session.rewards.weights };
            normalise_then_sum(&scores.each, weights, group)
        }
        (_, ScaleRewards::Group) => scaled_by_group(&scores.total, group),
        (_, ScaleRewards::Batch) => scaled_by_batch(&scores.total, group),
        (_, ScaleRewards::None) => unscaled(&scores.total, group),
    }
}

/// Σᵢ wᵢ (ℓᵢ + β ρᵢ k3ᵢ) of a micro-batch, and its metrics.
fn loss_of(recipe: &Recipe, options: &GrpoOptions, part: &Part) -> Result<(Tensor, Metrics)> {
    let Part { scored, samples, sequences, whole } = part;
    let logp = &scored.logp;
    let logp_old = match samples.iter().all(|s| s.logp_old.is_empty()) {
        true => logp.detach(),
        false => per_token(samples, |s, t| s.logp_old[t])?,
    };
    let log_ratio = ops::sub(logp, &logp_old)?;
    let ratio = (recipe.ratio)(&log_ratio, sequences)?;
    let advantages = per_token(samples, Sample::advantage)?;
    let terms = Terms { logp, log_ratio: &log_ratio, ratio: &ratio, advantages: &advantages, sequences };
    let mut losses = (recipe.token_loss)(&terms, &recipe.constants)?;
    let mut metrics = (recipe.clipped)(&terms, &recipe.constants, options.loss.importance_sampling_level)?;
    let entropy = scored.entropy()?;
    if options.loss.top_entropy_quantile < 1.0 {
        let mask = top_entropy_mask(&entropy, options.loss.top_entropy_quantile);
        let n = mask.len();
        losses = ops::mul(&losses, &Tensor::from_f32(losses.device(), mask, &[n])?)?;
    }
    if options.ratio.beta > 0.0 {
        let mut kl = k3_tensor(logp, &per_token(samples, |s, t| s.logp_ref[t])?)?;
        if options.loss.use_bias_correction_kl {
            kl = ops::mul(&kl, &ratio)?;
        }
        metrics.push(("kl", mean_f32(&kl.to_vec()?)));
        losses = ops::add(&losses, &ops::scale(&kl, options.ratio.beta as f32)?)?;
    }
    metrics.push(("entropy", mean_f32(&entropy)));
    let loss = weighted(&losses, (recipe.weights)(sequences, whole))?;
    if !loss.item()?.is_finite() {
        return Err(Error::Input("the loss is not finite: the policy has moved too far from the one that drew".into()));
    }
    Ok((loss, metrics))
}

/// TRL's `clip_ratio/…`: over tokens, or over completions where each has one ratio.
fn clip_shares(terms: &Terms, c: &Constants, level: RatioLevel) -> Result<Metrics> {
    let (ratio, advantages) = (bounded(terms.ratio, c)?.to_vec()?, terms.advantages.to_vec()?);
    let clipped = clipped_units(&ratio, &advantages, c.epsilon, c.epsilon_high);
    let shares = match level {
        RatioLevel::Token => token_shares(&clipped, terms.sequences),
        RatioLevel::Sequence => {
            // A completion without tokens has ratio 1.
            let mut of_sequence = vec![(false, false); terms.sequences.lengths.len()];
            terms.sequences.of_token.rows.iter().zip(&clipped).for_each(|(s, c)| of_sequence[*s as usize] = *c);
            sequence_shares(&of_sequence)
        }
    };
    Ok(shares.metrics())
}

fn cispo_share(terms: &Terms, c: &Constants, _: RatioLevel) -> Result<Metrics> {
    let (ratio, advantages) = (terms.ratio.to_vec()?, terms.advantages.to_vec()?);
    let cut = ratio.iter().zip(&advantages).filter(|(r, a)| **r > c.epsilon_high && **a > 0.0).count();
    Ok(vec![("cispo_clip_ratio", cut as f64 / ratio.len() as f64)])
}

fn vespo_mean(terms: &Terms, c: &Constants, _: RatioLevel) -> Result<Metrics> {
    Ok(vec![("vespo/phi_seq_mean", mean_f32(&vespo_weights(terms, c)?.to_vec()?))])
}

fn nothing_clipped(_: &Terms, _: &Constants, _: RatioLevel) -> Result<Metrics> {
    Ok(vec![])
}
