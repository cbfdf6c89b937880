//! Direct preference optimisation: make the preferred of two answers likelier, the other less, against a reference.
//!
//! Where supervised fine-tuning raises the log-probability of one answer, this compares two answers to the same prompt:
//! of each the log-ratio to the reference counts, and a loss of `losses/dpo.rs` (or a weighted sum of several) is a
//! function of these. The prompt is computed once for both, in the policy and in the reference; the reference of a LoRA
//! run is the model with the adapter off.
use crate::data::answers::{Rules, encode_rankings};
use crate::data::preference_rows::ranked_rows;
use crate::data::{Ranking, Sequence};
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::learner::loss_device;
use crate::job::need::Beside;
use crate::job::{Measured, Summary};
use crate::losses::divergence::Score;
use crate::losses::dpo::{DpoSettings, PairLoss, Pairs, Sides};
use crate::losses::sequences::{length_weights, pick, sum_of_tokens};
use crate::options::DpoOptions;
use crate::preferences::likelihoods::Answers;
use crate::preferences::{self, Objective, Reference, Rows, Set, known, reference_sums, shared_size};
use crate::statistics::mean_f32;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tensor::Tensor;
use std::path::Path;

/// The answers of some pairs: chosen, rejected, chosen, rejected …
pub fn sequences(pairs: &[Ranking], rows: &[usize]) -> Vec<Sequence> {
    rows.iter().flat_map(|&row| pairs[row].answers.iter().take(2).cloned()).collect()
}

/// A batch of pairs that share their prompts.
pub fn pair_batch(sequences: &[Sequence], score_prompts: bool) -> engine::Result<Batch> {
    Batch::from_answers(&sequences.iter().collect::<Vec<_>>(), true, score_prompts)
}

/// Values by sequence as values by pair: chosen are the even ones.
pub fn sides(x: &Tensor, n_pairs: usize) -> engine::Result<Sides> {
    Ok(Sides { chosen: pick(x, (0..n_pairs).map(|p| 2 * p))?, rejected: pick(x, (0..n_pairs).map(|p| 2 * p + 1))? })
}

/// TRL's metrics of pairs, from rewards and log-probabilities of each side.
pub fn pair_metrics(answers: &Answers, rewards: &Sides, logp: &Sides) -> Result<Vec<(&'static str, f64)>> {
    let (chosen, rejected) = (rewards.chosen.to_vec()?, rewards.rejected.to_vec()?);
    let n = chosen.len();
    let right = chosen.iter().zip(&rejected).filter(|(c, r)| c > r).count();
    let (is_chosen, is_rejected) = (|s: usize| s < 2 * n && s & 1 == 0, |s: usize| s < 2 * n && s & 1 == 1);
    Ok(vec![
        ("rewards/chosen", mean_f32(&chosen)),
        ("rewards/rejected", mean_f32(&rejected)),
        ("rewards/accuracies", right as f64 / n as f64),
        ("rewards/margins", mean_f32(&chosen) - mean_f32(&rejected)),
        ("logps/chosen", mean_f32(&logp.chosen.to_vec()?)),
        ("logps/rejected", mean_f32(&logp.rejected.to_vec()?)),
        ("logits/chosen", answers.mean_logit(is_chosen).unwrap_or(0.0)),
        ("logits/rejected", answers.mean_logit(is_rejected).unwrap_or(0.0)),
        ("entropy", answers.entropy(2 * n)),
        ("mean_token_accuracy", answers.token_accuracy(is_chosen)),
    ])
}

/// Tokens of a step's chosen answers that are predicted, per pair.
pub fn mean_chosen_length(pairs: &[Ranking], step: &[usize]) -> f32 {
    step.iter().map(|&row| pairs[row].answers[0].n_predicted()).sum::<usize>() as f32 / step.len() as f32
}

struct Dpo<'a> {
    options: &'a DpoOptions,
    rows: Rows<Ranking>,
    reference: Reference,
    losses: Vec<(PairLoss, f32)>,
    score: Score,
}

impl Dpo<'_> {
    /// Tokens' weights of LD-DPO.
    fn weights(&self, batch: &Batch) -> Option<Vec<f32>> {
        self.options.loss.ld_alpha.map(|alpha| length_weights(&batch.sequences, alpha as f32))
    }

    /// Σ log π_ref by sequence: [2P].
    fn reference_logp(&self, set: Set, rows: &[usize], batch: &Batch, weights: Option<&[f32]>) -> Result<Tensor> {
        match &self.reference {
            Reference::Model(model) => reference_sums(model, batch, weights, 2 * rows.len()),
            Reference::Known(all) => known(rows.iter().flat_map(|&row| all[set as usize][row].clone()).collect()),
        }
    }

    /// What the losses are made of; `logp` by sequence: [2P].
    fn pairs(
        &self,
        answers: &Answers,
        logp: Tensor,
        logp_ref: Tensor,
        sequences: &[Sequence],
        mean_chosen_length: f32,
    ) -> Result<Pairs> {
        let n = sequences.len() / 2;
        let ratio = sides(&ops::sub(&logp, &logp_ref)?, n)?;
        let alpha = self.options.loss.f_alpha_divergence_coef as f32;
        Ok(Pairs {
            score: ratio.map(|r| (self.score)(r, alpha))?,
            logp: sides(&logp, n)?,
            logp_ref: sides(&logp_ref, n)?,
            ratio,
            length: sides(&known(sequences.iter().map(|s| s.answer().len() as f32).collect())?, n)?,
            logp_chosen: sides(&answers.sums(2 * n)?, n)?.chosen,
            mean_chosen_length,
        })
    }
}

/// exp of the mean of log π(t) − log Σᵥ π(v)² over both answers: how much each pair weighs, [P].
/// W. Zhou et al., "WPO: enhancing RLHF with weighted preference optimization", EMNLP 2024, equation 2 and section 3.3.
fn policy_weights(answers: &Answers, n_pairs: usize) -> Result<Tensor> {
    let (logp, collision) = (answers.logp.to_vec()?, answers.log_collision.as_deref().unwrap_or_default());
    let (mut sums, mut counts) = (vec![0.0f64; 2 * n_pairs], vec![0usize; 2 * n_pairs]);
    for ((p, c), &s) in logp.iter().zip(collision).zip(&answers.batch.sequences) {
        sums[s as usize] += f64::from(p - c);
        counts[s as usize] += 1;
    }
    let mean = |s: usize| sums[s] / counts[s].max(1) as f64;
    known((0..n_pairs).map(|p| (mean(2 * p) + mean(2 * p + 1)).exp() as f32).collect())
}

impl Objective for Dpo<'_> {
    type Row = Ranking;

    fn rows(&mut self) -> &mut Rows<Ranking> {
        &mut self.rows
    }

    fn held_out(&self) -> Vec<&Sequence> {
        self.rows.eval.iter().filter_map(|pair| pair.answers.first()).collect()
    }

    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured> {
        let (options, n) = (&self.options.loss, rows.len());
        let sequences = sequences(self.rows.of(set), rows);
        let batch = pair_batch(&sequences, false)?;
        let weights = self.weights(&batch);
        let logp_ref = self.reference_logp(set, rows, &batch, weights.as_deref())?;
        let score = if options.use_weighting { Answers::score_with_collision } else { Answers::score };
        let answers = score(model, &batch, pass)?;
        let logp = sum_of_tokens(&answers.logp, weights.as_deref(), &batch.sequences, 2 * n)?;
        let pairs = self.pairs(&answers, logp, logp_ref, &sequences, mean_chosen_length(self.rows.of(set), step))?;
        let settings = DpoSettings {
            beta: options.beta as f32,
            label_smoothing: options.label_smoothing as f32,
            discopop_tau: options.discopop_tau as f32,
            dpop_lambda: options.dpop_lambda as f32,
        };
        let mut total = Tensor::zeros(&loss_device(), &[n])?;
        for (loss, weight) in &self.losses {
            total = ops::add(&total, &ops::scale(&loss(&pairs, settings)?, *weight)?)?;
        }
        if options.use_weighting {
            total = ops::mul(&total, &policy_weights(&answers, n)?)?;
        }
        let rewards = pairs.ratio.map(|r| ops::scale(&r.detach(), settings.beta))?;
        Ok(Measured {
            loss: ops::scale(&ops::sum(&total)?, 1.0 / step.len() as f32)?,
            metrics: pair_metrics(&answers, &rewards, &pairs.logp)?,
            n_tokens: sequences.iter().map(|s| s.ids.len() as u64).sum(),
        })
    }

    fn stepped(&mut self, model: &Decoder, step: u64) -> Result<()> {
        self.reference.sync(model, step, &self.options.sync)
    }

    fn save(&mut self, checkpoint: &Path) -> Result<()> {
        self.reference.save(checkpoint, &self.options.sync)
    }
}

/// Runs `lapidary dpo`.
pub fn train(options: &DpoOptions) -> Result<Summary> {
    let source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    let encoding = preferences::encoding(&options.text, Rules::Prefix);
    let rows = preferences::read(
        (&options.data, options.training.seed),
        &source.tokenizer,
        &encoding,
        |rows| ranked_rows(rows, false),
        encode_rankings,
    )?;
    let beside = Reference::bytes(&source, &options.lora, &options.reference);
    let size = |pair: &Ranking| shared_size(&pair.answers.iter().collect::<Vec<_>>());
    // The weights of WPO come from a second pass through the output layer.
    let beside = Beside { measures_between: options.loss.use_weighting, ..Beside::staying(beside) };
    let job = preferences::open(options, &options.data, source, &rows, size, beside)?;
    let weights = options.loss.loss_weights.as_ref().map(|w| w.0.clone());
    let weights = weights.unwrap_or_else(|| vec![1.0; options.loss.loss_type.0.len()]);
    let losses = options.loss.loss_type.0.iter().zip(weights).map(|(&l, w)| (l.value(), w as f32)).collect();
    let mut objective = Dpo {
        options,
        rows,
        reference: Reference::open(&job, &options.sync)?,
        losses,
        score: options.loss.f_divergence_type.value(),
    };
    if options.reference.precompute_ref_log_probs {
        job.progress.say("computing the reference's log-probabilities");
        let size = options.reference.precompute_ref_batch_size;
        objective.reference = precompute(&objective, size.unwrap_or(options.training.per_device_train_batch_size))?;
    }
    let how = (options.text.disable_dropout, Some(&options.samples));
    preferences::train(job, objective, &options.data, &options.training, how)
}

/// The reference's log-probabilities of all rows.
fn precompute(objective: &Dpo, batch_size: usize) -> Result<Reference> {
    let of = |set: Set| -> Result<Vec<Vec<f32>>> {
        let all: Vec<usize> = (0..objective.rows.of(set).len()).collect();
        let mut values = Vec::with_capacity(all.len());
        for rows in all.chunks(batch_size) {
            let batch = pair_batch(&sequences(objective.rows.of(set), rows), false)?;
            let weights = objective.weights(&batch);
            let logp = objective.reference_logp(set, rows, &batch, weights.as_deref())?.to_vec()?;
            values.extend(logp.chunks(2).map(<[f32]>::to_vec));
        }
        Ok(values)
    };
    Ok(Reference::Known(Box::new([of(Set::Train)?, of(Set::Eval)?])))
}
