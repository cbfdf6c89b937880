//! Supervised fine-tuning: raise the log-probability of the trained tokens of each example.
//!
//! This is pre-training's objective on chosen tokens: the data set says which tokens count (`data/tokenize.rs`), the
//! loss (`losses/sft.rs`) is a mean over them. All weights are trained, or a LoRA adapter beside frozen ones.
pub mod rows;

use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::need::{Beside, largest_batch};
use crate::job::scoring::score;
use crate::job::setup;
use crate::job::{Job, Measured, Summary, Work, length_of};
use crate::losses::sft::TokenMean;
use crate::options::{PackingStrategy, SftOptions};
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

/// The run: everything is read and checked before anything is written.
fn open(options: &SftOptions) -> Result<(Job, SftData)> {
    let mut source = setup::open_source(&options.model.model_name_or_path)?;
    let data = read_sft_data(options, &mut source.tokenizer)?;
    let work = Work {
        n_rows: data.train.len(),
        n_tokens: data.stats.n_tokens,
        length: length_of(data.train.len(), &options.training),
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
    Ok((job, data))
}

/// Runs `lapidary sft`.
pub fn train(options: &SftOptions) -> Result<Summary> {
    let (mut job, data) = open(options)?;
    let loss = options.loss.loss_type.value();
    let is_flat = options.text.packing && options.text.packing_strategy != PackingStrategy::Wrapped;
    let evaluate = |job: &mut Job| {
        job.evaluate(data.eval.len(), options.training.per_device_eval_batch_size, |model, rows| {
            let batch = Batch::from_examples(rows.iter().flat_map(|&row| &data.eval[row]))?;
            measure(model, &batch, batch.n_items(), loss, Pass::default())
        })
    };
    if job.evaluates_first {
        evaluate(&mut job)?;
    }
    while let Some(step) = job.next_step() {
        let micro_batches: Vec<Batch> = job
            .rows_of(&step, data.train.len(), options.data.train_sampling_strategy)
            .iter()
            .map(|rows| Batch::from_examples(rows.iter().flat_map(|&row| &data.train[row])))
            .collect::<engine::Result<_>>()?;
        let n_items: usize = micro_batches.iter().map(Batch::n_items).sum();
        for (i, batch) in micro_batches.iter().enumerate() {
            job.learn(&step, i, |model, pass| measure(model, batch, n_items, loss, as_one(pass, batch, is_flat)))?;
        }
        let due = job.step()?;
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
    job.finish()
}
