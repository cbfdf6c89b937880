//! 5: a loss of your own, and the loop around it: no options, no files but the model's.
//!
//! ```text
//! cargo run --release --example 05_custom_loss
//! ```
use engine::dtype::DType;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::optim::AdamW;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::error::Error;
use trainers::data::Example;
use trainers::device::{DeviceChoice, open};
use trainers::job::batch::Batch;
use trainers::job::learner::{Learner, Optimizer};
use trainers::job::scoring::score;
use trainers::job::setup::open_source;
use trainers::small_model::{self, Shape};

/// The focal loss of T.-Y. Lin et al., 2017, with γ = 2: −(1/N) Σ (1 − p)² log p. Tokens that the model is sure of count less.
/// `logp` [N] holds log p of the tokens; all ops have a gradient, so this is all there is to a loss.
fn focal(logp: &Tensor) -> engine::Result<Tensor> {
    let p = ops::exp(logp)?;
    let unsure = ops::square(&ops::add_scalar(&ops::scale(&p, -1.0)?, 1.0)?)?;
    ops::scale(&ops::sum(&ops::mul(&unsure, logp)?)?, -1.0 / logp.len() as f32)
}

pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let device = open(DeviceChoice::Cpu, None)?;
    small_model::make(dir.path(), Shape::TINY, &device, 1)?;
    let source = open_source(&dir.path().display().to_string())?;

    // Every token but the first is predicted by those before it.
    let ids = source.tokenizer.encode("a lapidary cuts and polishes gems")?;
    let example = Example { trained: vec![true; ids.len()], ids };
    let batch = Batch::from_examples([&example])?;

    let model = Decoder::load(&source.files, &device, DType::F32)?;
    let mut learner = Learner::new(model, Optimizer::AdamW(AdamW::new(0.9, 0.999, 1e-8)), 0.0, 1.0);
    let mut losses = Vec::new();
    for _ in 0..30 {
        let tape = Tape::new();
        let watched = learner.model.watch(&tape);
        let loss = focal(&score(&watched, &batch, 1.0, Pass::default())?.logp)?;
        losses.push(loss.item()?);
        learner.accumulate(&tape, watched, &loss)?;
        learner.step(1e-2)?;
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    println!("focal loss: {first:.3} before, {last:.3} after {} steps", losses.len());
    assert!(last < 0.2 * first);
    Ok(())
}
