//! GRPO: group-relative policy optimisation. Z. Shao et al., "DeepSeekMath", 2024, §4.1; TRL's variants of it.
//!
//! What differs from RLOO (`rloo.rs`):
//! - A completion is compared with its whole group, and (unless `scale_rewards` is none) in units of its deviation.
//! - Each **token** has an importance ratio and is clipped by itself, rather than the completion as one action.
//! - A KL, if any, is a term of the loss (k3, per token), not of the reward.
//! - `loss_type` chooses the loss of a token and how tokens are averaged: two functions, chosen once.
use crate::advantages::{Advantages, normalise_then_sum, scaled_by_batch, scaled_by_group, unscaled};
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::{Step, Summary};
use crate::losses::clipping::{clipped_units, sequence_shares, token_shares, top_entropy_mask};
use crate::losses::kl::k3_tensor;
use crate::losses::policy::{
    self, Constants, Ratio, Terms, TokenLoss, bounded, sequence_ratio, token_ratio, vespo_weights,
};
use crate::losses::weights::{self, Weights, Whole};
use crate::options::{Aggregation, GrpoLoss, GrpoOptions, RatioLevel, ScaleRewards};
use crate::policy_gradients::measure::{Scored, mean, per_token, score, sequences};
use crate::policy_gradients::session::Turns;
use crate::policy_gradients::{Collected, Sample, Session};
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;

/// What a micro-batch says about itself, by TRL's names.
type Metrics = Vec<(&'static str, f64)>;
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
    let (loss, ratio) = (&options.loss, &options.ratio);
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
        epsilon: f(ratio.epsilon),
        epsilon_high: f(ratio.epsilon_high.unwrap_or(ratio.epsilon)),
        delta: loss.delta.map(f),
        sapo: [f(loss.sapo_temperature_pos), f(loss.sapo_temperature_neg)],
        vespo: [(f(loss.vespo_k_pos), f(loss.vespo_lambda_pos)), (f(loss.vespo_k_neg), f(loss.vespo_lambda_neg))],
    };
    let ratio = match loss.importance_sampling_level {
        RatioLevel::Token => token_ratio,
        RatioLevel::Sequence => sequence_ratio,
    };
    Recipe { token_loss, weights, ratio, clipped, constants }
}

/// Runs `lapidary grpo`.
pub fn train(options: &GrpoOptions) -> Result<Summary> {
    let (training, rollout) = (&options.training, &options.rollout);
    let recipe = recipe(options);
    let cuts = rollout.batches_per_generation(training);
    let turns =
        Turns { per_generation: cuts * options.ratio.num_iterations, per_step: training.gradient_accumulation_steps };
    // Where every generation is learnt from within one step, the policy that drew is the policy that learns.
    let is_on_policy = turns.per_step.is_multiple_of(turns.per_generation);
    let mut session = Session::open(options, turns, options.ratio.beta > 0.0, 0)?;
    while let Some(step) = session.next_step() {
        let n_micro = step.batches.clone().count();
        let (mut loss_sum, mut n_tokens) = (0.0, 0);
        for (i, batch) in step.batches.clone().enumerate() {
            let (generation, turn) = session.turn(batch);
            if turn == 0 {
                let collected = collect(&mut session, options, &step, generation)?;
                let advantages = advantages(options, &session, &collected);
                session.record(&collected, Some(advantages.share_without_spread()))?;
                let needs_old = !is_on_policy || session.guard.has_budget();
                session.experience = session.experience_of(&collected, needs_old, rollout.temperature)?;
                for (sample, advantage) in session.experience.samples.iter_mut().zip(&advantages.values) {
                    sample.advantages = vec![*advantage as f32];
                }
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
            let (loss, metrics) = loss_of(&recipe, options, &scored, &batch, &samples, &whole)?;
            session.job.learner.accumulate(&tape, watched, &loss)?;
            loss_sum += f64::from(loss.item()?);
            metrics.into_iter().for_each(|(name, value)| session.add(name, value));
        }
        let due = session.job.step(loss_sum, n_tokens)?;
        let due = session.after_step(due)?;
        if due.save {
            session.save(|_| Ok(()))?;
        }
    }
    session.finish()
}

/// The completions of a generation. With dynamic sampling, groups whose rewards are all equal are replaced by those of
/// further prompts. Q. Yu et al., "DAPO", 2025, §3.2.
fn collect(session: &mut Session, options: &GrpoOptions, step: &Step, generation: u64) -> Result<Collected> {
    let mut kept = session.collect(step, generation)?;
    let (group, rounds) = (options.rollout.num_generations, options.loss.dynamic_sampling_rounds);
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
        session.add("resampled_groups", drawn.prompts.len() as f64);
        replace(&mut kept, &dull, drawn, group);
    }
    Ok(kept)
}

/// Groups whose rewards are all equal.
fn dull_groups(collected: &Collected, group: usize) -> Vec<usize> {
    let spread = scaled_by_group(&collected.scores.total, group).std;
    (0..collected.prompts.len()).filter(|g| spread[g * group].is_nan() || spread[g * group] <= 1e-8).collect()
}

/// Puts groups of `drawn` that have a spread in the place of dull ones.
fn replace(kept: &mut Collected, dull: &[usize], drawn: Collected, group: usize) {
    let useless = dull_groups(&drawn, group);
    let useful = (0..drawn.prompts.len()).filter(|g| !useless.contains(g));
    for (to, from) in dull.iter().zip(useful) {
        kept.prompts[*to] = drawn.prompts[from];
        for k in 0..group {
            let (to, from) = (to * group + k, from * group + k);
            kept.completions[to] = drawn.completions[from].clone();
            kept.scores.total[to] = drawn.scores.total[from];
            kept.scores.each.iter_mut().zip(&drawn.scores.each).for_each(|(a, b)| a[to] = b[from]);
        }
    }
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
fn loss_of(
    recipe: &Recipe,
    options: &GrpoOptions,
    scored: &Scored,
    batch: &Batch,
    samples: &[Sample],
    whole: &Whole,
) -> Result<(Tensor, Metrics)> {
    let sequences = sequences(batch, samples)?;
    let logp = &scored.logp;
    let logp_old = match samples.iter().all(|s| s.logp_old.is_empty()) {
        true => logp.detach(),
        false => per_token(samples, |s, t| s.logp_old[t])?,
    };
    let log_ratio = ops::sub(logp, &logp_old)?;
    let ratio = (recipe.ratio)(&log_ratio, &sequences)?;
    let advantages = per_token(samples, Sample::advantage)?;
    let terms = Terms { logp, log_ratio: &log_ratio, ratio: &ratio, advantages: &advantages, sequences: &sequences };
    let mut losses = (recipe.token_loss)(&terms, &recipe.constants)?;
    let mut metrics = (recipe.clipped)(&terms, &recipe.constants, options.loss.importance_sampling_level)?;
    if options.loss.top_entropy_quantile < 1.0 {
        let mask = top_entropy_mask(&scored.entropy, options.loss.top_entropy_quantile);
        let n = mask.len();
        losses = ops::mul(&losses, &Tensor::from_f32(losses.device(), mask, &[n])?)?;
    }
    if options.ratio.beta > 0.0 {
        let mut kl = k3_tensor(logp, &per_token(samples, |s, t| s.logp_ref[t])?)?;
        if options.loss.use_bias_correction_kl {
            kl = ops::mul(&kl, &ratio)?;
        }
        metrics.push(("kl", mean(&kl.to_vec()?)));
        losses = ops::add(&losses, &ops::scale(&kl, options.ratio.beta as f32)?)?;
    }
    metrics.push(("entropy", mean(&scored.entropy)));
    let weights = (recipe.weights)(&sequences, whole);
    let n = weights.len();
    let loss = ops::sum(&ops::mul(&losses, &Tensor::from_f32(losses.device(), weights, &[n])?)?)?;
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
    Ok(vec![
        ("clip_ratio/low_mean", shares.low_mean),
        ("clip_ratio/high_mean", shares.high_mean),
        ("clip_ratio/region_mean", shares.region_mean),
        ("clip_ratio/low_min", shares.low_min),
        ("clip_ratio/high_max", shares.high_max),
    ])
}

fn cispo_share(terms: &Terms, c: &Constants, _: RatioLevel) -> Result<Metrics> {
    let (ratio, advantages) = (terms.ratio.to_vec()?, terms.advantages.to_vec()?);
    let cut = ratio.iter().zip(&advantages).filter(|(r, a)| **r > c.epsilon_high && **a > 0.0).count();
    Ok(vec![("cispo_clip_ratio", cut as f64 / ratio.len() as f64)])
}

fn vespo_mean(terms: &Terms, c: &Constants, _: RatioLevel) -> Result<Metrics> {
    Ok(vec![("vespo/phi_seq_mean", mean(&vespo_weights(terms, c)?.to_vec()?))])
}

fn nothing_clipped(_: &Terms, _: &Constants, _: RatioLevel) -> Result<Metrics> {
    Ok(vec![])
}
