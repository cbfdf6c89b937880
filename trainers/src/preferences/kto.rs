//! KTO and BCO: learn from single answers, each labelled good or bad.
//!
//! They differ from DPO in that an answer is compared not with another one but with an anchor: KTO's is the divergence
//! z of policy and reference, estimated on answers to other prompts of the batch; BCO's is the running mean of rewards.
use crate::data::Sequence;
use crate::data::answers::{Labelled, Rules, encode_labelled};
use crate::data::preference_rows::judged_rows;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::learner::loss_device;
use crate::job::need::Beside;
use crate::job::scoring::log_probabilities;
use crate::job::setup::ModelSource;
use crate::job::{Job, Measured, Summary};
use crate::losses::kto::{self as losses, Unpaired};
use crate::losses::sequences::{pick, sum_of_tokens};
use crate::options::{AnswerOptions, BcoOptions, DataOptions, KtoLoss, KtoOptions, ReferenceOptions, SyncOptions};
use crate::preferences::likelihoods::Answers;
use crate::preferences::{self, Objective, Reference, Rows, Set, known, reference_sums, shared_size};
use crate::run::Accumulator;
use crate::run::side_files::{REWARDS, read_json, write_json};
use crate::statistics::mean_f32;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tensor::Tensor;
use std::path::Path;

/// What answers are measured from.
enum Anchor {
    /// 0
    Nothing,
    /// z = max(0, mean of log π − log π_ref over mismatched answers): KTO, section 4.1.
    Divergence,
    /// δ, the mean of all rewards so far: BCO, section 4.2.
    RunningMean(Accumulator),
}

struct Single<'a> {
    rows: Rows<Labelled>,
    /// Of each row the answer of another prompt, for the divergence.
    mismatched: [Vec<Sequence>; 2],
    reference: Reference,
    precomputed: &'a ReferenceOptions,
    sync: &'a SyncOptions,
    loss: Unpaired,
    anchor: Anchor,
    beta: f32,
    weights: [f32; 2],
    max_length: Option<usize>,
}

/// Each prompt with the answer of the row before it, in groups of `batch_size` rows of the file, cut at `max_length`:
/// (x₁, y₁), …, (xₙ, yₙ) → (x₁, yₙ), (x₂, y₁), …, (xₙ, yₙ₋₁).
pub fn mismatched(rows: &[Labelled], batch_size: usize, max_length: Option<usize>) -> Vec<Sequence> {
    let mut all = Vec::with_capacity(rows.len());
    for group in rows.chunks(batch_size) {
        for i in 0..group.len() {
            let (prompt, answer) = (&group[i].sequence, &group[(i + group.len() - 1) % group.len()].sequence);
            let mut ids = [prompt.prompt(), answer.answer()].concat();
            ids.truncate(max_length.unwrap_or(usize::MAX));
            all.push(Sequence { ids, start: prompt.start });
        }
    }
    all
}

impl Single<'_> {
    fn answers(&self, set: Set, rows: &[usize]) -> Vec<Sequence> {
        rows.iter().map(|&row| self.rows.of(set)[row].sequence.clone()).collect()
    }

    fn mismatched(&self, set: Set, rows: &[usize]) -> Vec<Sequence> {
        rows.iter().map(|&row| self.mismatched[set as usize][row].clone()).collect()
    }

    /// Σ log π_ref of the answers, then of the mismatched ones where the anchor needs them.
    fn reference_logp(&self, set: Set, rows: &[usize]) -> Result<Vec<f32>> {
        let model = match &self.reference {
            Reference::Model(model) => model,
            Reference::Known(all) => {
                let column = |i: usize| rows.iter().filter_map(move |&row| all[set as usize][row].get(i).copied());
                return Ok(column(0).chain(column(1)).collect());
            }
        };
        let all = self.answers(set, rows);
        if matches!(self.anchor, Anchor::Divergence) {
            // The same prompts again: each answer beside the mismatched one.
            let pairs: Vec<Sequence> =
                all.into_iter().zip(self.mismatched(set, rows)).flat_map(|(answer, other)| [answer, other]).collect();
            let sums = reference_sums(model, &batch(&pairs)?, None, pairs.len())?.to_vec()?;
            return Ok(sums.iter().step_by(2).chain(sums.iter().skip(1).step_by(2)).copied().collect());
        }
        Ok(reference_sums(model, &batch(&all)?, None, all.len())?.to_vec()?)
    }

    /// The anchor of a micro-batch. `ratio`: log-ratios of its answers.
    fn anchor(&mut self, model: &Decoder, set: Set, rows: &[usize], logp_ref: &[f32], ratio: &[f32]) -> Result<f32> {
        match &mut self.anchor {
            Anchor::Nothing => Ok(0.0),
            Anchor::Divergence => {
                let others = self.mismatched(set, rows);
                let batch = batch(&others)?;
                let logp = log_probabilities(&model.without_gradient(), &batch, 1.0)?;
                let sums = sum_of_tokens(&logp, None, &batch.sequences, others.len())?.to_vec()?;
                let ratios: Vec<f32> = sums.iter().zip(&logp_ref[rows.len()..]).map(|(p, r)| p - r).collect();
                Ok(mean_f32(&ratios).max(0.0) as f32)
            }
            Anchor::RunningMean(rewards) => {
                if set == Set::Train {
                    ratio.iter().for_each(|&r| rewards.add(f64::from(self.beta * r), 1.0));
                }
                Ok(rewards.mean().unwrap_or(0.0) as f32)
            }
        }
    }
}

fn batch(sequences: &[Sequence]) -> engine::Result<Batch> {
    Batch::from_answers(&sequences.iter().collect::<Vec<_>>(), true, false)
}

/// Metrics of the answers of one kind.
fn side_metrics(
    names: [&'static str; 3],
    which: &[usize],
    rewards: &[f32],
    logp: &[f32],
    answers: &Answers,
) -> Vec<(&'static str, f64)> {
    let of = |values: &[f32]| mean_f32(&which.iter().map(|&i| values[i]).collect::<Vec<_>>());
    if which.is_empty() {
        return Vec::new();
    }
    let mut all = vec![(names[0], of(rewards)), (names[1], of(logp))];
    all.extend(answers.mean_logit(|s| which.contains(&s)).map(|value| (names[2], value)));
    all
}

impl Objective for Single<'_> {
    type Row = Labelled;

    fn rows(&mut self) -> &mut Rows<Labelled> {
        &mut self.rows
    }

    fn streamed(&mut self, batch_size: usize) {
        if matches!(self.anchor, Anchor::Divergence) {
            self.mismatched[Set::Train as usize] = mismatched(&self.rows.train, batch_size, self.max_length);
        }
    }

    fn held_out(&self) -> Vec<&Sequence> {
        self.rows.eval.iter().map(|row| &row.sequence).collect()
    }

    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured> {
        let n = rows.len();
        let sequences = self.answers(set, rows);
        let logp_ref = self.reference_logp(set, rows)?;
        let batch = batch(&sequences)?;
        let answers = Answers::score(model, &batch, pass)?;
        let logp = answers.sums(n)?;
        let ratio = ops::sub(&logp, &known(logp_ref[..n].to_vec())?)?;
        let ratios = ratio.to_vec()?;
        let anchor = self.anchor(model, set, rows, &logp_ref, &ratios)?;
        let (good, bad): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| self.rows.of(set)[rows[i]].label);
        let mut loss = Tensor::zeros(&loss_device(), &[1])?;
        for (which, function, weight) in
            [(&good, self.loss.good, self.weights[0]), (&bad, self.loss.bad, self.weights[1])]
        {
            if !which.is_empty() {
                let each = function(&pick(&ratio, which.iter().copied())?, self.beta, anchor)?;
                loss = ops::add(&loss, &ops::scale(&ops::sum(&each)?, weight / step.len() as f32)?)?;
            }
        }
        let rewards: Vec<f32> = ratios.iter().map(|r| self.beta * r).collect();
        let logp = logp.to_vec()?;
        let mut metrics =
            side_metrics(["rewards/chosen", "logps/chosen", "logits/chosen"], &good, &rewards, &logp, &answers);
        metrics.extend(side_metrics(
            ["rewards/rejected", "logps/rejected", "logits/rejected"],
            &bad,
            &rewards,
            &logp,
            &answers,
        ));
        if !good.is_empty() && !bad.is_empty() {
            let of = |which: &[usize]| mean_f32(&which.iter().map(|&i| rewards[i]).collect::<Vec<_>>());
            metrics.push(("rewards/margins", of(&good) - of(&bad)));
        }
        metrics.push(("entropy", answers.entropy(n)));
        metrics.push(match self.anchor {
            Anchor::RunningMean(_) => ("delta", f64::from(anchor)),
            _ => ("kl", f64::from(anchor)),
        });
        Ok(Measured { loss, metrics, n_tokens: sequences.iter().map(|s| s.ids.len() as u64).sum() })
    }

    fn stepped(&mut self, model: &Decoder, step: u64) -> Result<()> {
        self.reference.sync(model, step, self.sync)
    }

    fn save(&mut self, checkpoint: &Path) -> Result<()> {
        if let Anchor::RunningMean(rewards) = &self.anchor {
            write_json(checkpoint, REWARDS, rewards)?;
        }
        self.reference.save(checkpoint, self.sync)
    }
}

/// BCO's mean of the rewards so far.
fn running_mean(job: &Job) -> Result<Accumulator> {
    job.resumed.as_ref().map_or(Ok(Accumulator::default()), |checkpoint| read_json(&checkpoint.path, REWARDS))
}

/// What a person should know about the labels; `ranges`: whether to recommend weights, KTO's equation 8.
fn label_notes(rows: &[Labelled], weights: Option<[f64; 2]>) -> Result<Vec<String>> {
    let good = rows.iter().filter(|row| row.label).count();
    let bad = rows.len() - good;
    let mut notes = Vec::new();
    if good == 0 || bad == 0 {
        notes.push(format!(
            "the label of all {} rows is {}: there is nothing that they could be preferred to, and the policy may drift; \
             rows of the other kind are needed",
            rows.len(),
            good > 0
        ));
    } else if let Some([desirable, undesirable]) = weights {
        let (low, high) = (bad as f64 * undesirable / good as f64, 1.33 * bad as f64 * undesirable / good as f64);
        let ratio = good as f64 * desirable / bad as f64;
        let in_range = (low - 5e-3..=high + 5e-3).contains(&desirable)
            || (ratio / 1.33 - 5e-3..=ratio + 5e-3).contains(&undesirable);
        if good != bad && !in_range {
            notes.push(format!(
                "{good} rows are good, {bad} bad: desirable_weight between {low:.2} and {high:.2} (or undesirable_weight \
                 between {:.2} and {ratio:.2}) would balance them",
                ratio / 1.33
            ));
        }
    }
    Ok(notes)
}

/// Reads rows of single answers.
fn read(
    text: &AnswerOptions,
    data: (&DataOptions, u64),
    source: &ModelSource,
    weights: Option<[f64; 2]>,
) -> Result<Rows<Labelled>> {
    let encoding = preferences::encoding(text, Rules::Prefix);
    let mut rows = preferences::read(data, &source.tokenizer, &encoding, judged_rows, encode_labelled)?;
    rows.notes.extend(label_notes(&rows.train, weights)?);
    Ok(rows)
}

fn size(row: &Labelled) -> (usize, usize) {
    shared_size(&[&row.sequence])
}

/// The reference's log-probabilities of all rows.
fn precompute(objective: &Single, batch_size: usize) -> Result<Reference> {
    let of = |set: Set| -> Result<Vec<Vec<f32>>> {
        let all: Vec<usize> = (0..objective.rows.of(set).len()).collect();
        let mut values = Vec::with_capacity(all.len());
        for rows in all.chunks(batch_size) {
            let logp = objective.reference_logp(set, rows)?;
            values
                .extend((0..rows.len()).map(|i| logp.iter().skip(i).step_by(rows.len()).copied().collect::<Vec<_>>()));
        }
        Ok(values)
    };
    Ok(Reference::Known(Box::new([of(Set::Train)?, of(Set::Eval)?])))
}

/// Computes the reference beforehand where asked for.
fn with_reference<'a>(mut objective: Single<'a>, job: &Job, batch_size: usize) -> Result<Single<'a>> {
    if objective.precomputed.precompute_ref_log_probs {
        job.progress.say("computing the reference's log-probabilities");
        let size = objective.precomputed.precompute_ref_batch_size.unwrap_or(batch_size);
        objective.reference = precompute(&objective, size)?;
    }
    Ok(objective)
}

/// Runs `lapidary kto`.
pub fn train_kto(options: &KtoOptions) -> Result<Summary> {
    let source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    let loss = &options.loss;
    let balance = Some([loss.desirable_weight, loss.undesirable_weight]);
    let rows = read(&options.text, (&options.data, options.training.seed), &source, balance)?;
    let (batch_size, max_length) = (options.training.per_device_train_batch_size, options.text.max_length);
    if loss.loss_type == KtoLoss::Kto && batch_size < 2 {
        return Err(Error::input(
            "per_device_train_batch_size: kto measures the divergence on answers to other prompts of the batch, so it \
             needs at least 2 rows at once",
        ));
    }
    let beside = Reference::bytes(&source, &options.lora, &options.reference);
    // The divergence is measured between a batch's forward and its backward.
    let beside = Beside { measures_between: loss.loss_type == KtoLoss::Kto, ..Beside::staying(beside) };
    let job = preferences::open(options, &options.data, source, &rows, size, beside)?;
    let objective = Single {
        mismatched: [&rows.train, &rows.eval].map(|set| mismatched(set, batch_size, max_length)),
        rows,
        reference: Reference::open(&job, &options.sync)?,
        precomputed: &options.reference,
        sync: &options.sync,
        loss: loss.loss_type.value(),
        anchor: if loss.loss_type == KtoLoss::Kto { Anchor::Divergence } else { Anchor::Nothing },
        beta: loss.beta as f32,
        weights: [loss.desirable_weight as f32, loss.undesirable_weight as f32],
        max_length,
    };
    let objective = with_reference(objective, &job, batch_size)?;
    let how = (options.text.disable_dropout, Some(&options.samples));
    preferences::train(job, objective, &options.data, &options.training, how)
}

/// Runs `lapidary bco`.
pub fn train_bco(options: &BcoOptions) -> Result<Summary> {
    let source = preferences::open_source(&options.model, &options.lora, &options.text)?;
    let rows = read(&options.text, (&options.data, options.training.seed), &source, None)?;
    let beside = Reference::bytes(&source, &options.lora, &options.reference);
    let job = preferences::open(options, &options.data, source, &rows, size, Beside::staying(beside))?;
    let objective = Single {
        mismatched: [Vec::new(), Vec::new()],
        rows,
        reference: Reference::open(&job, &options.sync)?,
        precomputed: &options.reference,
        sync: &options.sync,
        loss: Unpaired { good: losses::bco_good, bad: losses::bco_bad },
        anchor: Anchor::RunningMean(running_mean(&job)?),
        beta: options.loss.beta as f32,
        weights: [1.0, 1.0],
        max_length: options.text.max_length,
    };
    let objective = with_reference(objective, &job, options.training.per_device_train_batch_size)?;
    let how = (options.text.disable_dropout, Some(&options.samples));
    preferences::train(job, objective, &options.data, &options.training, how)
}
