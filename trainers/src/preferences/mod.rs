//! The loop of every trainer that learns from preferences: pairs, rankings, single answers with labels.
//!
//! It differs from supervised fine-tuning in what a row is and in the loss, which an [`Objective`] brings along: a row
//! has several answers to one prompt (computed once), and their log-probabilities are compared with each other, and
//! mostly with those of a reference, the model as it was before training.
pub mod likelihoods;
pub mod answer_stream;
pub mod reward_trainer;
pub mod dpo;
pub mod orpo;
pub mod cpo;
pub mod kto;

use crate::data::answers::{AnswerEncoding, AnswerStats, Rules};
use crate::data::blocks::Blocks;
use crate::data::format::columns_not_read;
use crate::data::marked::{Marked, first_rows};
use crate::data::preference_rows::COLUMNS;
use crate::data::{Loaded, Sequence};
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::eval_samples::EvalSamples;
use crate::job::learner::loss_device;
use crate::job::moving_reference;
use crate::job::need::{Beside, largest_of};
use crate::job::scoring::log_probabilities;
use crate::job::setup::{self, ModelSource, Policy};
use crate::job::{Job, Measured, Summary, Work, length_of, length_of_stream};
use crate::losses::sequences::sum_of_tokens;
use crate::options::{
    self, AnswerOptions, DataOptions, EvaluationSampleOptions, LoraOptions, ModelOptions, ReferenceOptions,
    SyncOptions, TrainingCommand,
};
use crate::preferences::answer_stream::AnswerMaker;
use crate::text::Tokenizer;
use engine::model::decoder::{Decoder, Pass};
use engine::tensor::Tensor;
use std::path::Path;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Those that are trained on.
    Train,
    /// Those that evaluations measure.
    Eval,
}

/// Rows for training and evaluation, as tokens.
pub struct Rows<R> {
    /// What is trained on.
    pub train: Vec<R>,
    /// What evaluations measure; empty without an evaluation set.
    pub eval: Vec<R>,
    /// What became of the training rows.
    pub stats: AnswerStats,
    /// What a person should know about either set, a line each.
    pub notes: Vec<String>,
    /// Where the training rows are streamed: those of the next step. `train` has the first rows, then those of the step.
    pub stream: Option<Box<Blocks<AnswerMaker<R>>>>,
}

impl<R> Rows<R> {
    /// The rows of a set.
    pub fn of(&self, set: Set) -> &[R] {
        match set {
            Set::Train => &self.train,
            Set::Eval => &self.eval,
        }
    }
}

/// What is to be learnt from rows.
pub trait Objective {
    /// A row as tokens.
    type Row;

    /// The rows of both sets.
    fn rows(&mut self) -> &mut Rows<Self::Row>;

    /// After streamed rows, in batches of `batch_size`, have become the training rows.
    fn streamed(&mut self, _batch_size: usize) {}

    /// Loss and metrics of the rows `rows` of a step that takes `step` in all (its micro-batches together).
    fn measure(&mut self, model: &Decoder, set: Set, rows: &[usize], step: &[usize], pass: Pass) -> Result<Measured>;

    /// Evaluation rows whose prompts may be answered, each with the answer that is wanted; none of a reward model.
    fn held_out(&self) -> Vec<&Sequence> {
        Vec::new()
    }

    /// After the optimiser's step `step` (from 1).
    fn stepped(&mut self, _model: &Decoder, _step: u64) -> Result<()> {
        Ok(())
    }

    /// Puts what the objective must remember into a checkpoint.
    fn save(&mut self, _checkpoint: &Path) -> Result<()> {
        Ok(())
    }
}

/// The model's files and tokenizer, the latter as the options want it.
pub fn open_source(model: &ModelOptions, lora: &LoraOptions, text: &AnswerOptions) -> Result<ModelSource> {
    let mut source = setup::open_with(&model.model_name_or_path, lora.adapter_name_or_path.as_deref())?;
    setup::adjust_tokenizer(text.chat_template_path.as_deref(), text.eos_token.as_deref(), &mut source.tokenizer)?;
    Ok(source)
}

/// How the options want answers made tokens.
pub fn encoding(text: &AnswerOptions, rules: Rules) -> AnswerEncoding {
    AnswerEncoding::new(rules, text.max_length, text.truncation_mode)
}

/// Reads training and evaluation rows: `sort` says what kind they are, `tokenize` makes tokens of them.
pub fn read<S: 'static, R: 'static>(
    (data, seed): (&DataOptions, u64),
    tokenizer: &Tokenizer,
    encoding: &AnswerEncoding,
    sort: fn(&[crate::data::Row]) -> Result<(Vec<S>, Vec<String>)>,
    tokenize: fn(&[S], &Tokenizer, &AnswerEncoding) -> Result<(Vec<R>, AnswerStats)>,
) -> Result<Rows<R>> {
    let one = |loaded: Loaded| -> Result<(Vec<R>, AnswerStats, Vec<String>)> {
        let (sorted, more) = sort(&loaded.rows)?;
        let mut notes = loaded.notes;
        notes.extend(columns_not_read(&loaded.rows, &COLUMNS));
        notes.extend(more);
        let (rows, stats) = tokenize(&sorted, tokenizer, encoding)?;
        stats.check(encoding.max_length)?;
        notes.extend(stats.notes());
        Ok((rows, stats, notes))
    };
    let calls = setup::calls_of(tokenizer);
    let (train, stats, mut notes, stream) = match data.streams() {
        true => answer_stream::open((data, seed), tokenizer, encoding, sort, tokenize)?,
        false => {
            let (train, stats, notes) = one(data.load_train(seed, calls)?)?;
            (train, stats, notes, None)
        }
    };
    if data.shuffle_dataset && stream.is_none() {
        return Err(Error::input(
            "shuffle_dataset: rows are shuffled in each epoch already (train_sampling_strategy random)",
        ));
    }
    let mut eval = Vec::new();
    if let Some(loaded) = data.load_evaluation(seed, calls)? {
        let (rows, _, more) = one(loaded)?;
        notes.extend(more.into_iter().map(|note| format!("eval_dataset: {note}")));
        eval = rows;
    }
    Ok(Rows { train, eval, stats, notes, stream })
}

/// The files that a run reads, by role.
fn reads<'a, C: TrainingCommand>(options: &'a C, data: &'a DataOptions) -> Vec<(&'static str, &'a Path)> {
    let common = options.common();
    let mut all = vec![("model", Path::new(&*common.model.model_name_or_path))];
    all.extend(data.reads());
    all.extend(common.lora.adapter_name_or_path.as_deref().map(|p| ("adapter", p)));
    all
}

/// Opens the run. `size`: (tokens, predictions) of a row in its forest; `beside`: a reference.
pub fn open<C: TrainingCommand, R: Marked>(
    options: &C,
    data: &DataOptions,
    source: ModelSource,
    rows: &Rows<R>,
    size: impl Fn(&R) -> (usize, usize),
    beside: Beside,
) -> Result<Job> {
    let training = options.common().training;
    let batch_size = training.per_device_train_batch_size;
    let (n_rows, length) = match &rows.stream {
        None => (rows.train.len(), length_of(rows.train.len(), training)),
        Some(_) => (0, length_of_stream(training)),
    };
    let measured = largest_of(rows.eval.iter().map(&size), training.per_device_eval_batch_size);
    let work = Work {
        n_rows,
        n_tokens: rows.stats.n_tokens,
        length,
        largest: largest_of(rows.train.iter().map(&size), batch_size),
        beside: Beside { measured, ..beside },
        reads: reads(options, data),
        notes: &rows.notes,
        shown: first_rows(&rows.train, 3),
    };
    Job::open(options, source, work)
}

/// Trains to the end.
pub fn train<O: Objective>(
    mut job: Job,
    mut objective: O,
    data: &DataOptions,
    training: &options::TrainingOptions,
    (disable_dropout, samples): (bool, Option<&EvaluationSampleOptions>),
) -> Result<Summary> {
    let held_out = objective.held_out();
    let mut samples = samples.map(|samples| EvalSamples::open(samples, &job, held_out)).transpose()?.flatten();
    let mut evaluate = |job: &mut Job, objective: &mut O| {
        job.evaluate(objective.rows().of(Set::Eval).len(), training.per_device_eval_batch_size, |model, rows| {
            objective.measure(model, Set::Eval, rows, rows, Pass::default())
        })?;
        samples.as_mut().map_or(Ok(()), |samples| samples.draw(job))
    };
    if let (Some(stream), Some(position)) = (&mut objective.rows().stream, job.state.position.stream) {
        stream.go_to(position)?;
    }
    if job.evaluates_first {
        evaluate(&mut job, &mut objective)?;
    }
    while let Some(step) = job.next_step() {
        let n_rows = objective.rows().train.len();
        let (micro_batches, reached) = match objective.rows().next_step(training)? {
            None => (job.rows_of(&step, n_rows, data.train_sampling_strategy), None),
            Some((rows, reached)) => {
                objective.streamed(training.per_device_train_batch_size);
                (rows, Some(reached))
            }
        };
        let all: Vec<usize> = micro_batches.concat();
        for (i, rows) in micro_batches.iter().enumerate() {
            job.learn(&step, i, |model, pass| {
                let pass = if disable_dropout { Pass { dropout: None, ..pass } } else { pass };
                objective.measure(model, Set::Train, rows, &all, pass)
            })?;
        }
        let due = match reached {
            None => job.step()?,
            Some(reached) => job.step_to(reached)?,
        };
        objective.stepped(&job.learner.model, step.index + 1)?;
        if due.log {
            job.log()?;
        }
        if due.evaluate {
            evaluate(&mut job, &mut objective)?;
        }
        if due.save {
            job.save(|checkpoint| objective.save(checkpoint))?;
        }
    }
    if let Some(stream) = &objective.rows().stream {
        stream.maker.stats.notes().iter().for_each(|said| job.progress.say(&format!("streamed rows: {said}")));
    }
    job.finish()
}

/// The model that the policy is compared with.
pub enum Reference {
    /// A model beside the policy, which scores the answers of every batch.
    Model(Box<Decoder>),
    /// Log-probabilities of all sequences, computed before training: by set, row, sequence of the row.
    Known(Box<[Vec<Vec<f32>>; 2]>),
}

impl Reference {
    /// The model as it was before training; of a resumed run whose reference moves, as it was in the checkpoint.
    pub fn open(job: &Job, options: &SyncOptions) -> Result<Self> {
        let mut model = job.policy.reference(&job.learner.model, &job.source, job.resumed.is_some())?;
        if let Some(checkpoint) = &job.resumed {
            moving_reference::restore(&mut model, &checkpoint.path, options)?;
        }
        Ok(Reference::Model(Box::new(model)))
    }

    /// Bytes that a reference will keep beside the model.
    pub fn bytes(source: &ModelSource, lora: &options::LoraOptions, options: &ReferenceOptions) -> u64 {
        if options.precompute_ref_log_probs { 0 } else { Policy::reference_bytes(source, lora) }
    }

    /// Moves the reference towards the policy, when due.
    pub fn sync(&mut self, policy: &Decoder, step: u64, options: &SyncOptions) -> Result<()> {
        match self {
            Reference::Model(reference) => moving_reference::sync(reference, policy, step, options),
            Reference::Known(_) => Ok(()),
        }
    }

    /// Keeps a reference that moves in a checkpoint.
    pub fn save(&self, checkpoint: &Path, options: &SyncOptions) -> Result<()> {
        match self {
            Reference::Model(reference) => moving_reference::save(reference, checkpoint, options),
            Reference::Known(_) => Ok(()),
        }
    }
}

/// Σ log π_ref of each of `n` sequences of a batch, with the tokens' weights: [n] on the loss device.
pub fn reference_sums(model: &Decoder, batch: &Batch, weights: Option<&[f32]>, n: usize) -> Result<Tensor> {
    Ok(sum_of_tokens(&log_probabilities(model, batch, 1.0)?, weights, &batch.sequences, n)?)
}

/// Known values as a tensor on the loss device.
pub fn known(values: Vec<f32>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_f32(&loss_device(), values, &[n])?)
}

/// Tokens of a forest in which neighbours share their prompt, and predictions in it.
pub fn shared_size(sequences: &[&Sequence]) -> (usize, usize) {
    let (mut tokens, mut open): (usize, Option<&[u32]>) = (0, None);
    for s in sequences {
        let prompt = if open == Some(s.prompt()) { 0 } else { s.start };
        tokens += prompt + s.answer().len();
        open = Some(s.prompt());
    }
    (tokens, sequences.iter().map(|s| s.n_predicted()).sum())
}
