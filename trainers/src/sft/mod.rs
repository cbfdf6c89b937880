//! Supervised fine-tuning: raise the log-probability of the trained tokens of each example.
//!
//! This is pre-training's objective on chosen tokens: the data set says which tokens count (`data/tokenize.rs`), the
//! loss (`losses/sft.rs`) is a mean over them. All weights are trained, or a LoRA adapter beside frozen ones.
pub mod rows;

use crate::data::Example;
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::learner::loss_device;
use crate::job::setup;
use crate::job::{Job, Summary, Work, length_of};
use crate::losses::sft::TokenMean;
use crate::options::SftOptions;
use crate::sft::rows::read_sft_data;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::time::Instant;

/// What one micro-batch says about itself.
struct Measured {
    loss: f64,
    entropy: f64,
    accuracy: f64,
}

/// Forward, loss and metrics of a micro-batch; `n_items` predictions normalise the loss.
fn measure(model: &Decoder, batch: &Batch, n_items: usize, loss: TokenMean, pass: Pass) -> Result<(Tensor, Measured)> {
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

/// Runs `lapidary sft`: everything is read and checked first, then trained, then saved.
pub fn train(options: &SftOptions) -> Result<Summary> {
    let training = &options.training;
    let mut source = setup::open_source(&options.model.model_name_or_path)?;
    let data = read_sft_data(options, &mut source.tokenizer)?;
    let work = Work {
        n_rows: data.train.len(),
        n_tokens: data.stats.n_tokens,
        length: length_of(data.train.len(), training),
        largest: setup::largest_batch(&data.train, training.per_device_train_batch_size),
        bytes_beside: 0,
        reads: data.paths(options),
        notes: &data.notes,
    };
    let mut job = Job::open(options, source, work)?;
    let loss_of = options.loss.loss_type.value();
    if job.evaluates_first && !data.eval.is_empty() {
        let values = evaluate(&job.learner.model, &data.eval, training.per_device_eval_batch_size, loss_of)?;
        job.log_evaluation(&values)?;
    }
    while let Some(step) = job.next_step() {
        let micro: Vec<Batch> = job
            .rows_of(&step, data.train.len(), options.data.train_sampling_strategy)
            .iter()
            .map(|rows| Batch::from_examples(rows.iter().flat_map(|&r| &data.train[r])))
            .collect::<engine::Result<_>>()?;
        let n_items: usize = micro.iter().map(Batch::n_items).sum();
        let (mut loss_sum, mut n_tokens) = (0.0, 0);
        for (i, batch) in micro.iter().enumerate() {
            let tape = Tape::new();
            let watched = job.learner.model.watch(&tape);
            let (loss, measured) = measure(&watched, batch, n_items, loss_of, job.pass(&step, i))?;
            job.learner.accumulate(&tape, watched, &loss)?;
            loss_sum += measured.loss;
            n_tokens += batch.n_tokens() as u64;
            job.window.add("entropy", measured.entropy);
            job.window.add("mean_token_accuracy", measured.accuracy);
        }
        let due = job.step(loss_sum, n_tokens)?;
        if due.log {
            job.log()?;
        }
        if due.evaluate && !data.eval.is_empty() {
            let values = evaluate(&job.learner.model, &data.eval, training.per_device_eval_batch_size, loss_of)?;
            job.log_evaluation(&values)?;
        }
        if due.save {
            job.save(|_| Ok(()))?;
        }
    }
    job.finish()
}

/// Means over the evaluation rows, weighed as transformers' Trainer does: each batch by its rows.
fn evaluate(
    model: &Decoder,
    rows: &[Vec<Example>],
    batch_size: usize,
    loss: TokenMean,
) -> Result<Vec<(&'static str, f64)>> {
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
