//! What every training run has around its steps: model, device, directory, schedule, state, metrics.
//!
//! A trainer reads its data, opens a [`Job`] (which checks everything before it writes anything), and is then one loop:
//!
//! ```text
//! while let Some(step) = job.next_step() {
//!     for each micro-batch i: job.learn(&step, i, |model, pass| loss and metrics)?;
//!     let due = job.step()?;                            the optimiser's step
//!     if due.log { job.log()? }  if due.evaluate { job.evaluate(…)? }  if due.save { job.save(|_| Ok(()))? }
//! }
//! job.finish()
//! ```
pub mod batch;
pub mod diverged;
pub mod eval_samples;
pub mod stepper;
pub mod learner;
pub mod moving_reference;
pub mod scoring;
pub mod setup;
pub mod need;

use crate::data::blocks::Reached;
use crate::data::order::{Sampling, epoch_order};
use crate::data::{Example, marked};
use crate::error::{Error, Result};
use crate::hub;
use crate::job::learner::Learner;
use crate::job::need::Beside;
use crate::job::setup::{ModelSource, Policy};
use crate::options::{self, Common, OnNan, SamplingStrategy, Strategy, TrainingCommand};
use crate::plural::counted;
use crate::report;
use crate::run::memory::show_bytes;
use crate::run::schedule::{RunLength, Schedule, run_length};
use crate::run::summary::quoted;
use crate::run::tensorboard::EventFile;
use crate::run::{
    self, Accumulator, Begin, Cadence, Checkpoint, DataPosition, Due, Ending, MetricsFile, MetricsLog, Outcome,
    Progress, Pusher, RunDirectory, TrainerState, Watch,
};
use engine::backend::Device;
use engine::config::Head;
use engine::model::decoder::{Decoder, Pass};
use engine::model::linear::DropoutKey;
use engine::model::neftune::EmbeddingNoise;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Metrics since the last log line. Each is a mean over what was added: the loss once a step, the others once a
/// micro-batch, as TRL takes them.
#[derive(Clone, Debug, Default)]
pub struct Window(BTreeMap<String, Accumulator>);

impl Window {
    /// Adds a value that counts once to the mean of metric `name`.
    pub fn add(&mut self, name: &str, value: f64) {
        self.add_weighted(name, value, 1.0);
    }
    /// Adds a value that counts `weight` times to the mean of metric `name`.
    pub fn add_weighted(&mut self, name: &str, value: f64, weight: f64) {
        self.0.entry(name.into()).or_default().add(value, weight);
    }
    /// What has become no finite number is again as it was `before`.
    fn forget_what_is_no_number(&mut self, before: &Window) {
        self.0.retain(|name, mean| mean.sum.is_finite() || before.0.contains_key(name));
        for (name, mean) in self.0.iter_mut().filter(|(_, mean)| !mean.sum.is_finite()) {
            *mean = before.0.get(name).copied().unwrap_or_default();
        }
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
    /// Optimiser steps of the whole run, those before it was resumed included.
    pub steps: u64,
    /// Tokens read in all of them, as TRL counts them.
    pub num_tokens: u64,
}

/// What a trainer brings to its run besides the options.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Rows that are trained on: sequences after packing, or prompts; 0 of streamed rows, which nobody has counted.
    pub n_rows: usize,
    /// Tokens of all rows.
    pub n_tokens: usize,
    /// Steps and batches over these rows.
    pub length: RunLength,
    /// (tokens, predictions) of the largest micro-batch.
    pub largest: (usize, usize),
    /// What is in memory beside the model that is trained.
    pub beside: Beside,
    /// What the run reads, by role.
    pub reads: Vec<(&'static str, &'a Path)>,
    /// What a person should know about the rows.
    pub notes: &'a [String],
    /// The first rows with a title each, for the run's report.
    pub shown: Vec<(String, Example)>,
}

/// The length of a run over `n_rows` rows.
pub fn length_of(n_rows: usize, training: &options::TrainingOptions) -> RunLength {
    let (batch, accumulation) = (training.per_device_train_batch_size, training.gradient_accumulation_steps);
    run_length(n_rows, batch, accumulation, training.num_train_epochs, training.max_steps)
}

/// The length of a run over streamed rows, as transformers has it: nobody knows how many there are, so an epoch is counted as if it
/// were the whole run.
pub fn length_of_stream(training: &options::TrainingOptions) -> RunLength {
    let steps = training.max_steps.unwrap_or(1);
    let per_step = training.gradient_accumulation_steps.max(1) as u64;
    RunLength {
        batches_per_epoch: steps * per_step,
        batches_per_step: per_step,
        steps_per_epoch: steps,
        total_steps: steps,
    }
}

/// What one micro-batch says about itself.
pub struct Measured {
    /// Its share of the step's loss, on the tape: [1].
    pub loss: Tensor,
    /// By the names of METRICS.
    pub metrics: Vec<(&'static str, f64)>,
    /// Tokens, as TRL counts them.
    pub n_tokens: u64,
}

/// One optimiser step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Counted from 0.
    pub index: u64,
    /// Pass over the data that it belongs to, counted from 0.
    pub epoch: u64,
    /// Which batches of the epoch the step takes.
    pub batches: Range<u64>,
}

impl Step {
    /// Its micro-batches, counted from 0.
    pub fn micro_batches(&self) -> Range<usize> {
        0..self.batches.clone().count()
    }
}

/// A run that is under way.
pub struct Job {
    /// The model, its gradients so far and its optimiser.
    pub learner: Learner,
    /// Where the model lies and runs.
    pub device: Device,
    /// The model's files as they were opened, and their tokenizer.
    pub source: ModelSource,
    /// Which weights are trained, and how they are saved.
    pub policy: Policy,
    /// What the next checkpoint will hold besides weights and optimiser: steps, position, random counters.
    pub state: TrainerState,
    /// Metrics since the last log line.
    pub window: Window,
    /// The bar or lines that a person sees.
    pub progress: Progress,
    /// How many steps there are, and which batches each takes.
    pub length: RunLength,
    /// The checkpoint that the run went on from, for what a trainer kept in it besides.
    pub resumed: Option<Checkpoint>,
    schedule: Schedule,
    cadence: Cadence,
    metrics: MetricsLog,
    events: Option<EventFile>,
    directory: RunDirectory,
    /// Who pushes to the hub, if anything is pushed.
    pusher: Option<Pusher>,
    grad_norm: f64,
    /// Loss and tokens of the micro-batches since the last step.
    collected: (f64, u64),
    /// The rows of the micro-batches of the step under way, where they are known.
    rows: Vec<Vec<usize>>,
    /// The first of these micro-batches whose loss is no finite number.
    not_finite: Option<usize>,
    /// The window as it was when the step began.
    before: Window,
    training: options::TrainingOptions,
    /// The seed of the run.
    pub seed: u64,
    /// Whether checkpoints are written.
    pub saves: bool,
    save_total_limit: Option<usize>,
    /// What makes an evaluation the best, if somebody asks for it.
    watch: Option<Watch>,
    /// Whether the evaluation rows are to be looked at before the first step.
    pub evaluates_first: bool,
    /// Bytes at the peak as they were predicted, where memory is the host's.
    needed: Option<u64>,
    /// Whether there was a step left to take when it began.
    trains: bool,
    /// The trainer's command: sft …
    command: &'static str,
    /// Whether the run ends before its last step, since it was asked to.
    stops: bool,
}

/// What a person is told about a run that is resumed: from where, and what has changed of its length. Errors: more steps
/// are done than it is to have now.
fn going_on(
    saved: &TrainerState,
    checkpoint: &Checkpoint,
    length: RunLength,
    training: &options::TrainingOptions,
) -> Result<Vec<String>> {
    let (done, then, now) = (saved.global_step, saved.max_steps, length.total_steps);
    if done > now {
        return Err(Error::Input(format!(
            "resume_from_checkpoint: {} done in {}, and the run is to have {now} (--max_steps, --num_train_epochs)",
            if done == 1 { "1 optimiser step is".into() } else { format!("{done} optimiser steps are") },
            checkpoint.path.display()
        )));
    }
    let mut said = vec![format!("resumed from {}: step {done} of {now}", checkpoint.path.display())];
    if then != now {
        let rate = |total| Schedule::new(training, total).map(|schedule| schedule.at(done));
        said.push(format!(
            "note: the run was begun for {} and now has {now}, as transformers does it: the learning rate goes on where a run of \
             {} would be, at {:.3e} (over {}: {:.3e})",
            counted(then, "step"),
            counted(now, "step"),
            rate(now)?,
            counted(then, "step"),
            rate(then)?
        ));
    }
    if done == now {
        let longer = if training.max_steps.is_some() { "--max_steps" } else { "--num_train_epochs" };
        said.push(format!("all its steps are done, nothing is trained: a larger {longer} makes it go on"));
    }
    Ok(said)
}

impl Job {
    /// Checks memory, directory and checkpoint, loads the model, and begins the run's directory.
    pub fn open<C: TrainingCommand>(options: &C, source: ModelSource, work: Work) -> Result<Job> {
        let Common { model, training, lora, record, upload, device: compute } = options.common();
        let policy = Policy::new(&source, model, lora, training.seed)?;
        let device = crate::device::open_to_train(compute.device, compute.threads, training.fp16)?;
        let shape = policy.step_shape(training, work.largest);
        let batch_size = training.per_device_train_batch_size;
        let beside = Beside {
            stays: work.beside.stays + policy.bytes_trained_whole(training),
            in_host_memory: device.is_host(),
            ..work.beside
        };
        let parts = need::check_run(need::free(&device), &source.files.config, shape, batch_size, beside)?;
        let expected = device.is_host().then(|| run::memory::expect(&parts));
        let paths: Vec<&Path> = work.reads.iter().map(|(_, path)| *path).collect();
        let (resume, overwrite) = (&record.resume_from_checkpoint, training.overwrite_output_dir);
        let plan = RunDirectory::plan(&training.output_dir, resume, overwrite, &paths)?;
        let inputs = setup::hash_inputs(&work.reads)?;
        let pusher = Pusher::open(upload, &training.output_dir)?;
        let (length, resumed) = (work.length, plan.resumes_from().cloned());
        let mut state = TrainerState { max_steps: length.total_steps, seed: training.seed, ..TrainerState::new() };
        let mut resuming = Vec::new();
        (state.options, state.inputs) = (options::fingerprint(options), setup::combined(&inputs));
        if let Some(checkpoint) = &resumed {
            let saved = checkpoint.state()?;
            saved.check_same_run(&state.options, &state.inputs)?;
            resuming = going_on(&saved, checkpoint, length, training)?;
            let (max_steps, options) = (length.total_steps, state.options);
            state = TrainerState { max_steps, options, ..saved };
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
        resuming.extend_from_slice(plan.notes());
        let directory = plan.begin(&about)?;
        run::interrupt::begin();
        let metrics = directory.metrics()?;
        let events = match record.reports_to_tensorboard() {
            true => Some(EventFile::begin(directory.path(), MetricsFile::open(directory.path())?.lines())?),
            false => None,
        };
        let marked = marked::to_json(&work.shown, &source.tokenizer)?;
        run::durable::write_file(&directory.path().join(run::PREVIEW), marked.as_bytes())?;
        let progress = Progress::new(length.total_steps, state.global_step);
        resuming.iter().for_each(|said| progress.say(said));
        work.notes.iter().for_each(|note| progress.say(&format!("note: {note}")));
        let trains = state.global_step < length.total_steps;
        if trains {
            let amount = match work.n_rows {
                0 => "rows that are read as they come".to_string(),
                n => format!("{}, {}", counted(n as u64, "row"), counted(work.n_tokens as u64, "token")),
            };
            progress.say(&policy.describe(&learner.model, &amount, &name));
        }
        if let Some(expected) = expected.as_ref().filter(|_| trains) {
            progress.say(&format!("memory at the peak: about {expected}"));
        }
        Ok(Job {
            window: Window(std::mem::take(&mut state.accumulators)),
            schedule: Schedule::new(training, length.total_steps)?,
            cadence: Cadence::new(record, length),
            grad_norm: f64::NAN,
            collected: (0.0, 0),
            rows: vec![],
            not_finite: None,
            before: Window::default(),
            training: training.clone(),
            seed: training.seed,
            saves: record.save_strategy != Strategy::No,
            save_total_limit: record.save_total_limit,
            watch: Watch::new(record),
            evaluates_first: record.eval_on_start && state.global_step == 0,
            needed: expected.map(|expected| expected.bytes()),
            trains,
            command: C::NAME,
            stops: false,
            learner,
            device,
            source,
            policy,
            state,
            progress,
            length,
            resumed,
            metrics,
            events,
            directory,
            pusher,
        })
    }

    /// Where the run writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The next optimiser step; None when the run is complete, was asked to stop, or no evaluation has been better for too
    /// long.
    pub fn next_step(&self) -> Option<Step> {
        let is_over = self.watch.as_ref().is_some_and(|watch| watch.is_over(&self.state.best));
        self.upcoming().filter(|_| !self.stops && !is_over)
    }

    /// Whether the run ends before its last step, since it was asked to.
    pub fn stops(&self) -> bool {
        self.stops
    }

    /// The optimiser step that is next, now or when the run is resumed.
    pub fn upcoming(&self) -> Option<Step> {
        let index = self.state.global_step;
        let (epoch, batches) = self.length.batches_of(index);
        (index < self.length.total_steps).then_some(Step { index, epoch, batches })
    }

    /// The rows of each micro-batch of a step.
    pub fn rows_of(&mut self, step: &Step, n_rows: usize, strategy: SamplingStrategy) -> Vec<Vec<usize>> {
        let sampling = match strategy {
            SamplingStrategy::Random => Sampling::Random,
            SamplingStrategy::Sequential => Sampling::Sequential,
        };
        let order = epoch_order(n_rows, sampling, self.seed, step.epoch);
        let size = self.training.per_device_train_batch_size;
        let rows = |batch: u64| order.iter().copied().skip(batch as usize * size).take(size);
        self.rows = step.batches.clone().map(|batch| rows(batch).collect()).collect();
        self.rows.clone()
    }

    /// How micro-batch `i` of a step is passed through the model in training.
    pub fn pass(&self, step: &Step, i: usize) -> Pass {
        let key = DropoutKey { seed: self.seed, pass: step.index * self.length.batches_per_step + i as u64 };
        let alpha = self.training.neftune_noise_alpha.filter(|alpha| *alpha > 0.0);
        let noise = alpha.map(|alpha| EmbeddingNoise { alpha: alpha as f32, key, length: None });
        Pass { checkpointing: self.training.gradient_checkpointing, dropout: Some(key), noise }
    }

    /// The learning rate of the step that is next.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.at(self.state.global_step)
    }

    /// Learns from micro-batch `i` of a step: `measure` says its loss under the model that it is given, and the loss is
    /// walked back. Gradients, loss, tokens and metrics gather until [`Job::step`].
    pub fn learn(
        &mut self,
        step: &Step,
        i: usize,
        measure: impl FnOnce(&Decoder, Pass) -> Result<Measured>,
    ) -> Result<()> {
        let tape = Tape::new();
        let watched = self.learner.model.watch(&tape);
        let measured = measure(&watched, self.pass(step, i))?;
        self.learner.accumulate(&tape, watched, &measured.loss)?;
        let loss = f64::from(measured.loss.item()?);
        if !loss.is_finite() {
            self.not_finite = self.not_finite.or(Some(i));
        }
        self.count(loss, measured.n_tokens);
        measured.metrics.iter().for_each(|(name, value)| self.window.add(name, *value));
        Ok(())
    }

    /// Adds to the loss and the tokens of the step that is next.
    pub fn count(&mut self, loss: f64, n_tokens: u64) {
        self.collected.0 += loss;
        self.collected.1 += n_tokens;
    }

    /// Steps the optimiser with the gradients that have gathered. Returns what is due after the step.
    pub fn step(&mut self) -> Result<Due> {
        let (step, length) = (self.state.global_step, self.length);
        let (epoch, batches) = length.batches_of(step);
        let position = DataPosition { epoch, batch: batches.end, stream: None };
        self.take_step(position, length.epochs_after(step + 1), length.ends_epoch(step + 1))
    }

    /// [`Job::step`], where the step's batches were streamed.
    pub fn step_to(&mut self, reached: Reached) -> Result<Due> {
        let Reached { pass, batches, ends_pass, position } = reached;
        let epochs = pass as f64 + batches as f64 / self.length.batches_per_epoch as f64;
        self.take_step(DataPosition { epoch: pass, batch: batches, stream: Some(position) }, epochs, ends_pass)
    }

    /// Steps the optimiser; behind the step the run stands at `position`, `epochs` passes over the data are done, and one may
    /// end.
    fn take_step(&mut self, position: DataPosition, epochs: f64, ends_epoch: bool) -> Result<Due> {
        let (loss, n_tokens) = std::mem::take(&mut self.collected);
        let step = self.state.global_step;
        let taken = self.try_step(loss)?;
        self.grad_norm = taken.unwrap_or(f64::NAN);
        match taken {
            Some(_) => self.window.add("loss", loss),
            None => self.window.forget_what_is_no_number(&self.before),
        }
        if self.training.on_nan != OnNan::Stop {
            self.window.add("skipped_steps", f64::from(u8::from(taken.is_none())));
        }
        (self.not_finite, self.before) = (None, self.window.clone());
        self.state.global_step = step + 1;
        self.state.num_tokens += n_tokens;
        (self.state.epoch, self.state.position) = (epochs, position);
        self.progress.step(step + 1, n_tokens, loss);
        let due = self.cadence.after(step + 1, ends_epoch);
        // Decided once a step, with its checkpoint: a signal that comes later stops the run after the step that follows.
        self.stops = run::interrupt::asked(step + 1);
        Ok(Due { save: due.save || self.stops, ..due })
    }

    /// Writes a line with what the window gathered, and empties it.
    pub fn log(&mut self) -> Result<()> {
        let (now, loss) = (self.state.global_step, self.window.mean("loss"));
        let window = std::mem::take(&mut self.window);
        self.before = Window::default();
        let mut values = vec![("loss", loss), ("grad_norm", self.grad_norm)];
        values.push(("learning_rate", self.schedule.at(now - 1)));
        values.extend(window.means().into_iter().filter(|(name, _)| *name != "loss"));
        values.push(("num_tokens", self.state.num_tokens as f64));
        self.write_metrics(&values)?;
        self.progress.logged(now, &values);
        Ok(())
    }

    /// Writes the metrics of the present step wherever they are to go.
    fn write_metrics(&mut self, values: &[(&str, f64)]) -> Result<()> {
        let now = self.state.global_step;
        self.metrics.write(now, self.state.epoch, values)?;
        self.events.as_mut().map_or(Ok(()), |events| events.write(now, values))
    }

    /// Means over `n_rows` evaluation rows as transformers' Trainer takes them, written down: the loss weighed by rows,
    /// metrics by batch. `measure` says what the model makes of some rows.
    pub fn evaluate(
        &mut self,
        n_rows: usize,
        batch_size: usize,
        mut measure: impl FnMut(&Decoder, &[usize]) -> Result<Measured>,
    ) -> Result<()> {
        if n_rows == 0 {
            return Ok(());
        }
        let (began, all) = (Instant::now(), (0..n_rows).collect::<Vec<_>>());
        let (mut loss, mut n_batches, mut n_tokens, mut metrics) = (0.0, 0.0, 0, Window::default());
        for rows in all.chunks(batch_size) {
            let measured = measure(&self.learner.model, rows)?;
            loss += f64::from(measured.loss.item()?) * rows.len() as f64;
            measured.metrics.iter().for_each(|(name, value)| metrics.add(name, *value));
            n_batches += 1.0;
            n_tokens += measured.n_tokens;
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut values = vec![("eval_loss".to_string(), loss / n_rows as f64)];
        values.extend(metrics.means().into_iter().map(|(name, value)| (format!("eval_{name}"), value)));
        values.extend([
            ("eval_num_tokens".to_string(), n_tokens as f64),
            ("eval_runtime".to_string(), seconds),
            ("eval_samples_per_second".to_string(), n_rows as f64 / seconds),
            ("eval_steps_per_second".to_string(), n_batches / seconds),
        ]);
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.log_evaluation(&values)
    }

    /// Writes what an evaluation found; the first value is said aloud.
    pub fn log_evaluation(&mut self, values: &[(&str, f64)]) -> Result<()> {
        let now = self.state.global_step;
        self.write_metrics(values)?;
        if let Some((name, value)) = values.first() {
            self.progress.say(&format!("step {now}: {name} {value:.4}"));
        }
        // What is measured before the first step is no model of this run.
        if let Some(watch) = self.watch.as_ref().filter(|_| now > 0) {
            watch.see(&mut self.state.best, now, values)?;
            if watch.is_over(&self.state.best) {
                let said = format!(
                    "{} is no better for {}: the run stops",
                    watch.metric,
                    counted(self.state.best.since, "evaluation")
                );
                self.progress.say(&format!("step {now}: {said}"));
            }
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
        let checkpoint = writer.commit(&self.state, &self.learner.optimizer_state()?)?;
        self.push_checkpoint(&checkpoint);
        let best = self.watch.as_ref().filter(|watch| watch.loads).and(self.state.best.step);
        self.directory.rotate(self.save_total_limit, best)
    }

    /// Pushes a checkpoint's model, where that is asked for. What fails there must not end the run.
    fn push_checkpoint(&self, checkpoint: &Checkpoint) {
        let Some(pusher) = self.pusher.as_ref().filter(|pusher| pusher.pushes_checkpoints()) else { return };
        let pushed = pusher.push(&checkpoint.path, &format!("Training in progress, step {}", checkpoint.step));
        self.progress.say(&pushed.unwrap_or_else(|error| format!("note: {error}")));
    }

    /// Takes up the model of the best evaluation, if that is asked for and is another than the last.
    fn load_best(&mut self) -> Result<()> {
        let Some(watch) = self.watch.as_ref().filter(|watch| watch.loads) else { return Ok(()) };
        let step = self.state.best.step.filter(|step| *step != self.state.global_step);
        let Some(checkpoint) = self.directory.checkpoint_of(step)? else { return Ok(()) };
        self.learner.model = self.policy.model(&self.device, &self.source, Some(&checkpoint))?;
        let value = self.state.best.value.unwrap_or(f64::NAN);
        let said = format!("the finished model is that of step {}: {} {value:.4}", checkpoint.step, watch.metric);
        self.progress.say(&said);
        Ok(())
    }

    /// Saves the finished model and says what the run has learnt. Of a run that was asked to stop, says how it goes on.
    pub fn finish(mut self) -> Result<Summary> {
        self.progress.finish();
        if self.state.global_step < self.length.total_steps && self.stops {
            run::interrupt::end();
            return Err(self.stopped());
        }
        self.load_best()?;
        let peak = run::memory::peak_bytes();
        if let (Some(needed), Some(peak), true) = (self.needed, peak, self.trains) {
            let (peak, needed) = (show_bytes(peak), show_bytes(needed));
            self.progress.say(&format!("memory at the peak: {peak} ({needed} predicted)"));
        }
        self.policy.save(self.directory.path(), &self.learner.model, &self.source.tokenizer)?;
        let outcome = Outcome {
            seconds: self.progress.elapsed().as_secs_f64(),
            tokens_per_second: self.progress.tokens_per_second(),
            peak_bytes: peak.filter(|_| self.needed.is_some()),
            predicted_bytes: self.needed,
        };
        if self.trains {
            self.directory.finish(outcome)?
        } else {
            self.directory.finish_again(outcome)?
        }
        run::interrupt::end();
        let report = report::write(self.directory.path()).unwrap_or_else(|error| {
            self.progress.say(&format!("note: there is no report: {error}"));
            self.directory.path().to_path_buf()
        });
        let metrics = MetricsFile::open(self.directory.path())?;
        let (saved, next) = (self.policy.kind(), self.next_command());
        let ending = Ending::of(self.directory.path(), &metrics, self.state.global_step, &self.progress);
        let ending = Ending { trained: self.trains, ..ending };
        self.progress.say(&Ending { saved: &saved, next: &next, report: &report, ..ending }.text());
        if let Some(pusher) = &self.pusher {
            self.progress.say(&pusher.push(self.directory.path(), "End of training")?);
        }
        Ok(Summary { steps: self.state.global_step, num_tokens: self.state.num_tokens })
    }

    /// Where a stopped run stands, and the command that goes on with it.
    fn stopped(&self) -> Error {
        let (step, total, dir) = (self.state.global_step, self.length.total_steps, self.directory.path());
        let config = quoted(&dir.join(run::CONFIG).to_string_lossy());
        Error::Stopped(format!(
            "stopped after step {step} of {total}; the checkpoint is {}. To go on with the same bits: lapidary {} --config \
             {config} --resume_from_checkpoint last",
            run::checkpoint::path_of(dir, step).display(),
            self.command
        ))
    }

    /// The command that uses what the run has made.
    fn next_command(&self) -> String {
        let out = quoted(&self.directory.path().to_string_lossy());
        let (model, adapter) = match self.policy.is_adapter() {
            true => {
                let path = &self.source.files.path;
                let base =
                    hub::name_of(path).map_or_else(|| path.to_string_lossy().into_owned(), |name| name.to_string());
                (quoted(&base), format!(" --adapter_name_or_path {out}"))
            }
            false => (out, String::new()),
        };
        let (command, what) = match self.source.files.config.head {
            Head::Score => ("score", "--dataset_name FILE"),
            Head::LanguageModel => ("generate", "--prompt 'TEXT'"),
        };
        format!("lapidary {command} --model_name_or_path {model}{adapter} {what}")
    }
}
