//! Supervised fine-tuning: raise the log-probability of the trained tokens of each example.
//!
//! This is pre-training's objective on chosen tokens: the data set says which tokens count (`data/tokenize.rs`), the
//! loss (`losses/sft.rs`) is a mean over them. All weights are trained, or a LoRA adapter beside frozen ones.
pub mod rows;
pub mod example_stream;

use crate::data::Example;
use crate::data::blocks::{Blocks, Reached};
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::eval_samples::EvalSamples;
use crate::job::need::{Beside, largest_batch};
use crate::job::scoring::score;
use crate::job::setup;
use crate::job::{Job, Measured, Step, Summary, Work, length_of, length_of_stream};
use crate::losses::sft::TokenMean;
use crate::options::{PackingStrategy, SftOptions};
use crate::sft::example_stream::{ExampleMaker, stream_sft_data};
use crate::sft::rows::{SftData, read_sft_data};
use engine::model::decoder::{Decoder, Pass};
use engine::model::neftune::EmbeddingNoise;

/// Forward, loss and metrics of a micro-batch; `n_items` predictions, those of the whole step, normalise the loss.
fn measure(model: &Decoder, batch: &Batch, n_items: usize, loss: TokenMean, pass: Pass) -> Result<Measured> {
    let scored = score(model, batch, 1.0, pass)?;
    let correct = scored.correct(batch)?.into_iter().filter(|&is_right| is_right).count();
    let entropy: f64 = scored.entropy()?.iter().map(|&e| f64::from(e)).sum();
    let n = batch.n_items() as f64;
    Ok(Measured {
        loss: loss(&scored.logp, n_items as f32)?,
        metrics: vec![("entropy", entropy / n), ("mean_token_accuracy", correct as f64 / n)],
        n_tokens: batch.n_tokens() as u64,
    })
}

/// A pass whose batch is one sequence for NEFTune, as in TRL where rows are packed.
fn as_one(pass: Pass, batch: &Batch, is_flat: bool) -> Pass {
    let length = is_flat.then(|| batch.n_tokens());
    Pass { noise: pass.noise.map(|noise| EmbeddingNoise { length, ..noise }), ..pass }
}

/// The rows that a run trains on.
enum TrainingRows {
    /// All of [`SftData`].
    InMemory,
    /// Read as they are needed.
    Streamed(Box<Blocks<ExampleMaker>>),
}

impl TrainingRows {
    /// The micro-batches of a step; of streamed rows with what the step leads to.
    fn of_step(
        &mut self,
        job: &mut Job,
        step: &Step,
        data: &SftData,
        options: &SftOptions,
    ) -> Result<(Vec<Batch>, Option<Reached>)> {
        match self {
            TrainingRows::InMemory => {
                let rows = job.rows_of(step, data.train.len(), options.data.train_sampling_strategy);
                let batch = |rows: &Vec<usize>| Batch::from_examples(rows.iter().flat_map(|&row| &data.train[row]));
                Ok((rows.iter().map(batch).collect::<engine::Result<_>>()?, None))
            }
            TrainingRows::Streamed(blocks) => {
                let training = &options.training;
                let (n, size) = (training.gradient_accumulation_steps, training.per_device_train_batch_size);
                let (batches, reached) = blocks.step(n, size)?;
                let batch = |rows: &Vec<Vec<Example>>| Batch::from_examples(rows.iter().flatten());
                Ok((batches.iter().map(batch).collect::<engine::Result<_>>()?, Some(reached)))
            }
        }
    }
}

/// The run: everything is read and checked before anything is written; of streamed rows the first.
fn open(options: &SftOptions) -> Result<(Job, SftData, TrainingRows)> {
    let mut source = setup::open_with(&options.model.model_name_or_path, options.lora.adapter_name_or_path.as_deref())?;
    let (data, mut rows) = match options.data.streams() {
        false => (read_sft_data(options, &mut source.tokenizer)?, TrainingRows::InMemory),
        true => {
            let (data, blocks) = stream_sft_data(options, &mut source.tokenizer)?;
            (data, TrainingRows::Streamed(Box::new(blocks)))
        }
    };
    let (n_rows, length) = match rows {
        TrainingRows::InMemory => (data.train.len(), length_of(data.train.len(), &options.training)),
        TrainingRows::Streamed(_) => (0, length_of_stream(&options.training)),
    };
    let work = Work {
        n_rows,
        n_tokens: data.stats.n_tokens,
        length,
        largest: largest_batch(&data.train, options.training.per_device_train_batch_size),
        beside: Beside {
            measured: largest_batch(&data.eval, options.training.per_device_eval_batch_size),
            ..Beside::default()
        },
        reads: data.paths(options),
        notes: &data.notes,
        shown: data.shown(),
    };
    let job = Job::open(options, source, work)?;
    if let (TrainingRows::Streamed(blocks), Some(position)) = (&mut rows, job.state.position.stream) {
        blocks.go_to(position)?;
    }
    Ok((job, data, rows))
}

/// Runs `lapidary sft`.
pub fn train(options: &SftOptions) -> Result<Summary> {
    let (mut job, data, mut rows) = open(options)?;
    let loss = options.loss.loss_type.value();
    let is_flat = options.text.packing && options.text.packing_strategy != PackingStrategy::Wrapped;
    let mut samples = EvalSamples::open(&options.samples, &job, &data.held_out)?;
    let mut evaluate = |job: &mut Job| {
        job.evaluate(data.eval.len(), options.training.per_device_eval_batch_size, |model, rows| {
            let batch = Batch::from_examples(rows.iter().flat_map(|&row| &data.eval[row]))?;
            measure(model, &batch, batch.n_items(), loss, Pass::default())
        })?;
        samples.as_mut().map_or(Ok(()), |samples| samples.draw(job))
    };
    if job.evaluates_first {
        evaluate(&mut job)?;
    }
    while let Some(step) = job.next_step() {
        let (micro_batches, streamed) = rows.of_step(&mut job, &step, &data, options)?;
        let n_items: usize = micro_batches.iter().map(Batch::n_items).sum();
        for (i, batch) in micro_batches.iter().enumerate() {
            job.learn(&step, i, |model, pass| measure(model, batch, n_items, loss, as_one(pass, batch, is_flat)))?;
        }
        let due = match streamed {
            None => job.step()?,
            Some(reached) => job.step_to(reached)?,
        };
        if due.log {
            job.log()?;
        }
        if due.evaluate {
            evaluate(&mut job)?;
        }
        if due.save {
            job.save(|_| Ok(()))?;
        }
    }
    if let TrainingRows::Streamed(blocks) = &rows {
        blocks.maker.stats.warnings().iter().for_each(|said| job.progress.say(&format!("streamed rows: {said}")));
    }
    job.finish()
}
