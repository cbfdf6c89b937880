//! Supervised fine-tuning: raise the log-probability of the trained tokens of each example.
//!
//! This is pre-training's objective on chosen tokens: the data set says which tokens count (`data/tokenize.rs`), the
//! loss (`losses/sft.rs`) is a mean over them. All weights are trained, or a LoRA adapter beside frozen ones.
use crate::batch::Batch;
use crate::data::{Example, order};
use crate::error::Result;
use crate::learner::{Learner, loss_device};
use crate::losses::sft::{dft, nll};
use crate::options::{self, SamplingStrategy, SftLoss, SftOptions};
use crate::run::{Accumulator, Begin, Cadence, DataPosition, Progress, TrainerState};
use crate::schedule::{Schedule, run_length};
use crate::setup::{self, Policy};
use crate::sft_data::{SftData, read_sft_data};
use crate::{device, run};
use engine::model::decoder::{Decoder, Pass};
use engine::model::linear::DropoutKey;
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// A loss over the log-probabilities of the trained tokens, divided by the number of them in the accumulated batch.
type Loss = fn(&Tensor, f32) -> engine::Result<Tensor>;

fn loss_function(choice: SftLoss) -> Loss {
    match choice {
        SftLoss::Nll => nll,
        SftLoss::Dft => dft,
    }
}

/// What one micro-batch says about itself.
struct Measured {
    loss: f64,
    entropy: f64,
    accuracy: f64,
}

/// Forward, loss and metrics of a micro-batch; `n_items` predictions normalise the loss.
fn measure(model: &Decoder, batch: &Batch, n_items: usize, loss: Loss, pass: Pass) -> Result<(Tensor, Measured)> {
    let hidden = model.hidden(&batch.forest, pass)?;
    let scored = model.score(&hidden, &batch.rows, &batch.targets, 1.0)?;
    let logp = ops::to_device(&scored.logp, &loss_device())?;
    let loss = loss(&logp, n_items as f32)?;
    let correct = scored.argmax()?.iter().zip(&batch.targets).filter(|(a, t)| a == t).count();
    let entropy: f64 = scored.entropy.to_vec()?.iter().map(|&e| f64::from(e)).sum();
    let n = batch.n_items() as f64;
    let measured = Measured { loss: f64::from(loss.item()?), entropy: entropy / n, accuracy: correct as f64 / n };
    Ok((loss, measured))
}

/// Metrics since the last log line, as TRL takes their means: the loss over steps, the others over micro-batches.
#[derive(Default)]
struct Window(BTreeMap<String, Accumulator>);

impl Window {
    fn add(&mut self, name: &str, value: f64) {
        self.0.entry(name.into()).or_default().add(value, 1.0);
    }
    fn mean(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Accumulator::mean).unwrap_or(f64::NAN)
    }
}

/// How far a finished run came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub num_tokens: u64,
}

/// Runs `lapidary sft`: everything is read and checked first, then trained, then saved.
pub fn train(options: &SftOptions) -> Result<Summary> {
    let (training, record) = (&options.training, &options.record);
    let mut source = setup::open_source(&options.model.model_name_or_path)?;
    let data = read_sft_data(options, &mut source.tokenizer)?;
    let batch_size = training.per_device_train_batch_size;
    let length = run_length(
        data.train.len(),
        batch_size,
        training.gradient_accumulation_steps,
        training.num_train_epochs,
        training.max_steps,
    );
    let schedule = Schedule::new(training, length.total_steps);
    let policy = Policy::new(&source, &options.model, &options.lora, training.seed)?;
    let largest = setup::largest_batch(&data.train, batch_size);
    let device = device::open(options.device.device, options.device.threads)?;
    let free = if device.is_host() { run::memory::available_bytes() } else { None };
    setup::check_memory(free, &source.files.config, policy.step_shape(training, largest)?, batch_size)?;
    let read = data.paths(options);
    let paths: Vec<&Path> = read.iter().map(|(_, path)| *path).collect();
    let (resume, overwrite) = (&record.resume_from_checkpoint, training.overwrite_output_dir);
    let plan = run::RunDirectory::plan(&training.output_dir, resume, overwrite, &paths)?;
    let inputs = setup::hash_inputs(&read)?;
    let mut state = TrainerState { max_steps: length.total_steps, seed: training.seed, ..TrainerState::new() };
    (state.options, state.inputs) = (options::fingerprint(options), setup::combined(&inputs));
    let resumed = plan.resumes_from().cloned();
    if let Some(checkpoint) = &resumed {
        let saved = checkpoint.state()?;
        saved.check_same_run(&state.options, &state.inputs)?;
        state = TrainerState { max_steps: length.total_steps, ..saved };
    }
    let mut learner = policy.learner(&device, &source, training, resumed.as_ref())?;
    let name = device.name();
    let about = Begin {
        command: "sft",
        options: &options::resolved(options),
        device: &name,
        seed: training.seed,
        inputs: &inputs,
    };
    let mut directory = plan.begin(&about)?;
    let mut metrics = directory.metrics()?;
    let mut progress = Progress::new(length.total_steps, state.global_step);
    data.notes.iter().for_each(|note| progress.say(&format!("note: {note}")));
    progress.say(&policy.describe(&mut learner.model, data.train.len(), data.stats.n_tokens, &name));

    let loss_of = loss_function(options.loss.loss_type);
    let mut window = Window(std::mem::take(&mut state.accumulators));
    let cadence = Cadence::new(record, length);
    while state.global_step < length.total_steps {
        let step = state.global_step;
        let (epoch, batches) = length.batches_of(step);
        let order = epoch_order(&data, training.seed, epoch, options.data.train_sampling_strategy);
        let micro: Vec<Batch> = batches
            .clone()
            .map(|b| rows_of(&order, b as usize, batch_size))
            .map(|rows| Batch::from_examples(rows.iter().flat_map(|&r| &data.train[r])))
            .collect::<engine::Result<_>>()?;
        let n_items: usize = micro.iter().map(Batch::n_items).sum();
        let (mut loss_sum, mut n_tokens) = (0.0, 0);
        for (i, batch) in micro.iter().enumerate() {
            let key = DropoutKey { seed: training.seed, pass: step * length.batches_per_step + i as u64 };
            let pass = Pass { checkpointing: training.gradient_checkpointing, dropout: Some(key) };
            let tape = Tape::new();
            let watched = learner.model.watch(&tape);
            let (loss, measured) = measure(&watched, batch, n_items, loss_of, pass)?;
            learner.accumulate(&tape, watched, &loss)?;
            loss_sum += measured.loss;
            n_tokens += batch.n_tokens() as u64;
            window.add("entropy", measured.entropy);
            window.add("mean_token_accuracy", measured.accuracy);
        }
        let learning_rate = schedule.at(step);
        let grad_norm = learner.step(learning_rate)?;
        window.add("loss", loss_sum);
        state.global_step = step + 1;
        state.num_tokens += n_tokens;
        state.epoch = length.epochs_after(state.global_step);
        state.position = DataPosition { epoch, batch: batches.end };
        progress.step(state.global_step, n_tokens, loss_sum);

        let (now, due) = (state.global_step, cadence.after(state.global_step));
        if due.log {
            let loss = window.mean("loss");
            metrics.write(
                now,
                state.epoch,
                &[
                    ("loss", loss),
                    ("grad_norm", grad_norm),
                    ("learning_rate", learning_rate),
                    ("entropy", window.mean("entropy")),
                    ("mean_token_accuracy", window.mean("mean_token_accuracy")),
                    ("num_tokens", state.num_tokens as f64),
                ],
            )?;
            progress.logged(now, loss);
            window = Window::default();
        }
        if due.evaluate && !data.eval.is_empty() {
            let values = evaluate(&learner.model, &data.eval, training.per_device_eval_batch_size, loss_of)?;
            metrics.write(now, state.epoch, &values)?;
            progress.say(&format!("step {now}: eval_loss {:.4}", values[0].1));
        }
        if due.save {
            state.accumulators = window.0.clone();
            save_checkpoint(directory.path(), &policy, &mut learner, &source.tokenizer, &state)?;
            directory.rotate(record.save_total_limit)?;
        }
    }
    progress.finish();
    policy.save(directory.path(), &mut learner.model, &source.tokenizer)?;
    directory.finish()?;
    Ok(Summary { steps: state.global_step, num_tokens: state.num_tokens })
}

fn epoch_order(data: &SftData, seed: u64, epoch: u64, strategy: SamplingStrategy) -> Vec<usize> {
    let sampling = match strategy {
        SamplingStrategy::Random => order::Sampling::Random,
        SamplingStrategy::Sequential => order::Sampling::Sequential,
    };
    order::epoch_order(data.train.len(), sampling, seed, epoch)
}

/// The rows of batch `batch` of an epoch.
fn rows_of(order: &[usize], batch: usize, batch_size: usize) -> &[usize] {
    let start = (batch * batch_size).min(order.len());
    &order[start..(start + batch_size).min(order.len())]
}

/// Means over the evaluation rows, weighed as transformers' Trainer does: each batch by its rows.
fn evaluate(model: &Decoder, rows: &[Vec<Example>], batch_size: usize, loss: Loss) -> Result<Vec<(&'static str, f64)>> {
    let began = Instant::now();
    let (mut sums, mut n_batches, mut n_tokens) = ([0.0; 3], 0.0, 0);
    for chunk in rows.chunks(batch_size) {
        let batch = Batch::from_examples(chunk.iter().flatten())?;
        let (_, measured) = measure(model, &batch, batch.n_items(), loss, Pass::default())?;
        sums[0] += measured.loss * chunk.len() as f64;
        sums[1] += measured.entropy;
        sums[2] += measured.accuracy;
        n_batches += 1.0;
        n_tokens += batch.n_tokens();
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(vec![
        ("eval_loss", sums[0] / rows.len() as f64),
        ("eval_entropy", sums[1] / n_batches),
        ("eval_mean_token_accuracy", sums[2] / n_batches),
        ("eval_num_tokens", n_tokens as f64),
        ("eval_runtime", seconds),
        ("eval_samples_per_second", rows.len() as f64 / seconds),
        ("eval_steps_per_second", n_batches / seconds),
    ])
}

/// Everything a run needs to go on to the same bits: weights, optimiser, position, counters.
fn save_checkpoint(
    run: &Path,
    policy: &Policy,
    learner: &mut Learner,
    tokenizer: &crate::text::Tokenizer,
    state: &TrainerState,
) -> Result<()> {
    let writer = run::CheckpointWriter::begin(run, state.global_step)?;
    policy.save(writer.path(), &mut learner.model, tokenizer)?;
    writer.commit(state, &learner.optimizer_state()?)?;
    Ok(())
}
