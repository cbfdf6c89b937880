//! What every training run has around its steps: model, device, directory, schedule, state, metrics.
//!
//! A trainer reads its data, opens a [`Job`] (which checks everything before it writes anything), and is then one loop:
//!
//! ```text
//! while let Some(step) = job.next_step() {
//!     for each micro-batch: loss → job.learner.accumulate, job.window.add(metric)
//!     let due = job.step(loss, n_tokens)?;              the optimiser's step
//!     if due.log { job.log()? }  if due.evaluate { … }  if due.save { job.save(|_| Ok(()))? }
//! }
//! job.finish()
//! ```
pub mod batch;
pub mod learner;
pub mod setup;

use crate::data::order::{Sampling, epoch_order};
use crate::error::Result;
use crate::job::learner::Learner;
use crate::job::setup::{Policy, Source};
use crate::options::{self, Common, SamplingStrategy, TrainingCommand};
use crate::run::memory::show_bytes;
use crate::run::schedule::{RunLength, Schedule, run_length};
use crate::run::{
    self, Accumulator, Begin, Cadence, Checkpoint, DataPosition, Due, MetricsLog, Progress, RunDirectory, TrainerState,
};
use engine::backend::Device;
use engine::model::decoder::Pass;
use engine::model::linear::DropoutKey;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Metrics since the last log line. Each is a mean over what was added: the loss once a step, the others once a
/// micro-batch, as TRL takes them.
#[derive(Debug, Default)]
pub struct Window(BTreeMap<String, Accumulator>);

impl Window {
    pub fn add(&mut self, name: &str, value: f64) {
        self.add_weighted(name, value, 1.0);
    }
    pub fn add_weighted(&mut self, name: &str, value: f64, weight: f64) {
        self.0.entry(name.into()).or_default().add(value, weight);
    }
    /// NaN where nothing was added.
    pub fn mean(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Accumulator::mean).unwrap_or(f64::NAN)
    }
    /// Every metric with its mean, by name.
    pub fn means(&self) -> Vec<(&str, f64)> {
        self.0.keys().map(|name| (name.as_str(), self.mean(name))).collect()
    }
}

/// How far a finished run came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub num_tokens: u64,
}

/// What a trainer brings to its run besides the options.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    pub n_rows: usize,
    /// Tokens of all rows.
    pub n_tokens: usize,
    pub length: RunLength,
    /// (tokens, predictions) of the largest micro-batch.
    pub largest: (usize, usize),
    /// Bytes that stay in memory beside the model that is trained: a reference, a reward model.
    pub bytes_beside: u64,
    /// What the run reads, by role.
    pub reads: Vec<(&'static str, &'a Path)>,
    /// What a person should know about the rows.
    pub notes: &'a [String],
}

/// The length of a run over `n_rows` rows.
pub fn length_of(n_rows: usize, training: &options::TrainingOptions) -> RunLength {
    let (batch, accumulation) = (training.per_device_train_batch_size, training.gradient_accumulation_steps);
    run_length(n_rows, batch, accumulation, training.num_train_epochs, training.max_steps)
}

/// One optimiser step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Counted from 0.
    pub index: u64,
    pub epoch: u64,
    /// Which batches of the epoch the step takes.
    pub batches: Range<u64>,
}

/// A run that is under way.
pub struct Job {
    pub learner: Learner,
    pub device: Device,
    pub source: Source,
    pub policy: Policy,
    pub state: TrainerState,
    pub window: Window,
    pub progress: Progress,
    pub length: RunLength,
    /// The checkpoint that the run went on from, for what a trainer kept in it besides.
    pub resumed: Option<Checkpoint>,
    schedule: Schedule,
    cadence: Cadence,
    metrics: MetricsLog,
    directory: RunDirectory,
    grad_norm: f64,
    batch_size: usize,
    seed: u64,
    checkpointing: bool,
    save_total_limit: Option<usize>,
    /// Whether the evaluation rows are to be looked at before the first step.
    pub evaluates_first: bool,
    /// Bytes at the peak as they were predicted, where memory is the host's.
    needed: Option<u64>,
}

impl Job {
    /// Checks memory, directory and checkpoint, loads the model, and begins the run's directory.
    pub fn open<C: TrainingCommand>(options: &C, source: Source, work: Work) -> Result<Job> {
        let Common { model, training, lora, record, device: compute } = options.common();
        let policy = Policy::new(&source, model, lora, training.seed)?;
        let device = crate::device::open_to_train(compute.device, compute.threads, training.fp16)?;
        let free = if device.shares_host_memory() { run::memory::available_bytes() } else { device.memory_bytes() };
        let shape = policy.step_shape(training, work.largest);
        let batch_size = training.per_device_train_batch_size;
        let beside = work.bytes_beside + policy.bytes_trained_whole(training);
        let needed = setup::check_memory(free, &source.files.config, shape, batch_size, beside)?;
        let paths: Vec<&Path> = work.reads.iter().map(|(_, path)| *path).collect();
        let (resume, overwrite) = (&record.resume_from_checkpoint, training.overwrite_output_dir);
        let plan = RunDirectory::plan(&training.output_dir, resume, overwrite, &paths)?;
        let inputs = setup::hash_inputs(&work.reads)?;
        let (length, resumed) = (work.length, plan.resumes_from().cloned());
        let mut state = TrainerState { max_steps: length.total_steps, seed: training.seed, ..TrainerState::new() };
        (state.options, state.inputs) = (options::fingerprint(options), setup::combined(&inputs));
        if let Some(checkpoint) = &resumed {
            let saved = checkpoint.state()?;
            saved.check_same_run(&state.options, &state.inputs)?;
            state = TrainerState { max_steps: length.total_steps, ..saved };
        }
        let learner = policy.learner(&device, &source, training, resumed.as_ref())?;
        let name = device.name();
        let about = Begin {
            command: C::NAME,
            options: &options::resolved(options),
            device: &name,
            seed: training.seed,
            inputs: &inputs,
        };
        let directory = plan.begin(&about)?;
        let metrics = directory.metrics()?;
        let progress = Progress::new(length.total_steps, state.global_step);
        work.notes.iter().for_each(|note| progress.say(&format!("note: {note}")));
        progress.say(&policy.describe(&learner.model, work.n_rows, work.n_tokens, &name));
        let needed = device.is_host().then_some(needed);
        if let Some(needed) = needed {
            progress.say(&format!("memory at the peak: about {}", show_bytes(needed)));
        }
        Ok(Job {
            window: Window(std::mem::take(&mut state.accumulators)),
            schedule: Schedule::new(training, length.total_steps),
            cadence: Cadence::new(record, length),
            grad_norm: f64::NAN,
            batch_size,
            seed: training.seed,
            checkpointing: training.gradient_checkpointing,
            save_total_limit: record.save_total_limit,
            evaluates_first: record.eval_on_start && state.global_step == 0,
            needed,
            learner,
            device,
            source,
            policy,
            state,
            progress,
            length,
            resumed,
            metrics,
            directory,
        })
    }

    /// The next optimiser step; None when the run is complete.
    pub fn next_step(&self) -> Option<Step> {
        let index = self.state.global_step;
        let (epoch, batches) = self.length.batches_of(index);
        (index < self.length.total_steps).then_some(Step { index, epoch, batches })
    }

    /// The rows of each micro-batch of a step.
    pub fn rows_of(&self, step: &Step, n_rows: usize, strategy: SamplingStrategy) -> Vec<Vec<usize>> {
        let sampling = match strategy {
            SamplingStrategy::Random => Sampling::Random,
            SamplingStrategy::Sequential => Sampling::Sequential,
        };
        let order = epoch_order(n_rows, sampling, self.seed, step.epoch);
        let rows = |batch: u64| order.iter().copied().skip(batch as usize * self.batch_size).take(self.batch_size);
        step.batches.clone().map(|batch| rows(batch).collect()).collect()
    }

    /// How micro-batch `i` of a step is passed through the model in training.
    pub fn pass(&self, step: &Step, i: usize) -> Pass {
        let key = DropoutKey { seed: self.seed, pass: step.index * self.length.batches_per_step + i as u64 };
        Pass { checkpointing: self.checkpointing, dropout: Some(key) }
    }

    /// The learning rate of the step that is next.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.at(self.state.global_step)
    }

    /// Steps the optimiser with the gradients collected in `learner`; `loss` and `n_tokens` are those of all
    /// micro-batches together. Returns what is due after the step.
    pub fn step(&mut self, loss: f64, n_tokens: u64) -> Result<Due> {
        let step = self.state.global_step;
        let (epoch, batches) = self.length.batches_of(step);
        self.grad_norm = self.learner.step(self.schedule.at(step))?;
        self.window.add("loss", loss);
        self.state.global_step = step + 1;
        self.state.num_tokens += n_tokens;
        self.state.epoch = self.length.epochs_after(step + 1);
        self.state.position = DataPosition { epoch, batch: batches.end };
        self.progress.step(step + 1, n_tokens, loss);
        Ok(self.cadence.after(step + 1))
    }

    /// Writes a line with what the window gathered, and empties it.
    pub fn log(&mut self) -> Result<()> {
        let (now, loss) = (self.state.global_step, self.window.mean("loss"));
        let window = std::mem::take(&mut self.window);
        let mut values = vec![("loss", loss), ("grad_norm", self.grad_norm)];
        values.push(("learning_rate", self.schedule.at(now - 1)));
        values.extend(window.means().into_iter().filter(|(name, _)| *name != "loss"));
        values.push(("num_tokens", self.state.num_tokens as f64));
        self.metrics.write(now, self.state.epoch, &values)?;
        self.progress.logged(now, loss);
        Ok(())
    }

    /// Writes what an evaluation found; the first value is said aloud.
    pub fn log_evaluation(&mut self, values: &[(&str, f64)]) -> Result<()> {
        let now = self.state.global_step;
        self.metrics.write(now, self.state.epoch, values)?;
        if let Some((name, value)) = values.first() {
            self.progress.say(&format!("step {now}: {name} {value:.4}"));
        }
        Ok(())
    }

    /// Writes a checkpoint with everything that a run needs to go on to the same bits: weights, optimiser, position,
    /// counters, and what `besides` puts into its directory (read it back from [`Job::resumed`]).
    pub fn save(&mut self, besides: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.state.accumulators = self.window.0.clone();
        let writer = run::CheckpointWriter::begin(self.directory.path(), self.state.global_step)?;
        self.policy.save(writer.path(), &self.learner.model, &self.source.tokenizer)?;
        besides(writer.path())?;
        writer.commit(&self.state, &self.learner.optimizer_state()?)?;
        self.directory.rotate(self.save_total_limit)
    }

    /// Saves the finished model.
    pub fn finish(mut self) -> Result<Summary> {
        self.progress.finish();
        if let (Some(needed), Some(peak)) = (self.needed, run::memory::peak_bytes()) {
            let (peak, needed) = (show_bytes(peak), show_bytes(needed));
            self.progress.say(&format!("memory at the peak: {peak} ({needed} predicted)"));
        }
        self.policy.save(self.directory.path(), &self.learner.model, &self.source.tokenizer)?;
        self.directory.finish()?;
        Ok(Summary { steps: self.state.global_step, num_tokens: self.state.num_tokens })
    }
}
