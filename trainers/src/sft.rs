//! Supervised fine-tuning: raise the log-probability of the trained tokens of each example.
//!
//! This is pre-training's objective on chosen tokens: the data set says which tokens count (`data/tokenize.rs`), the
//! loss (`losses/sft.rs`) is a mean over them. All weights are trained, or a LoRA adapter beside frozen ones.
use crate::batch::Batch;
use crate::data::order::{Sampling, epoch_order};
use crate::data::pack::{best_fit_decreasing, wrapped};
use crate::data::{self, Example};
use crate::device;
use crate::error::{Error, Result};
use crate::learner::{Learner, Optimizer, loss_device};
use crate::losses::sft::{dft, nll};
use crate::options::{self, PackingStrategy, ResumeFrom, SamplingStrategy, SftLoss, SftOptions, TextOptions};
use crate::run::{Accumulator, MetricsLog, Progress, RunDirectory, TrainerState};
use crate::schedule::{RunLength, Schedule, run_length};
use crate::setup::{self, Source};
use crate::text::Tokenizer;
use engine::files::adapter_config::AdapterConfig;
use engine::model::decoder::{Decoder, Pass};
use engine::model::linear::DropoutKey;
use engine::ops;
use engine::optim::AdamW;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::path::Path;

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
