//! 7: a trainer of your own around a `Job`, which brings what every run has: schedule, metrics, checkpoints, the finished model.
//!
//! ```text
//! cargo run --release --example 07_own_trainer
//! ```
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use serde_json::json;
use std::error::Error;
use std::fs;
use trainers::device::{DeviceChoice, open};
use trainers::job::batch::Batch;
use trainers::job::need::{Beside, largest_batch};
use trainers::job::scoring::score;
use trainers::job::setup::open_source;
use trainers::job::{Job, Measured, Work, length_of};
use trainers::options::{SftOptions, options_of};
use trainers::sft::rows::read_sft_data;
use trainers::small_model::{self, Shape};

/// Likelihood training with a floor: tokens that the model gives more than half are left alone. −(1/N) Σ min(log p, log ½).
fn measure(model: &Decoder, batch: &Batch, n_items: usize, pass: Pass) -> trainers::Result<Measured> {
    let scored = score(model, batch, 1.0, pass)?;
    let floored = ops::clamp(&scored.logp, f32::NEG_INFINITY, 0.5f32.ln())?;
    let loss = ops::scale(&ops::sum(&floored)?, -1.0 / n_items as f32)?;
    // Metrics go by the names that run/metrics.rs explains.
    let correct = scored.correct(batch)?.into_iter().filter(|&is_right| is_right).count();
    let metrics = vec![("mean_token_accuracy", correct as f64 / batch.n_items() as f64)];
    Ok(Measured { loss, metrics, n_tokens: batch.n_tokens() as u64 })
}

/// The loop. What differs from `lapidary sft` is the loss above.
fn train(options: &SftOptions) -> trainers::Result<u64> {
    let mut source = open_source(&options.model.model_name_or_path)?;
    let data = read_sft_data(options, &mut source.tokenizer)?;
    let work = Work {
        n_rows: data.train.len(),
        n_tokens: data.stats.n_tokens,
        length: length_of(data.train.len(), &options.training),
        largest: largest_batch(&data.train, options.training.per_device_train_batch_size),
        beside: Beside::default(),
        reads: data.paths(options),
        notes: &data.notes,
        shown: vec![],
    };
    let mut job = Job::open(options, source, work)?;
    while let Some(step) = job.next_step() {
        let rows = job.rows_of(&step, data.train.len(), options.data.train_sampling_strategy);
        let batches = rows.iter().map(|rows| Batch::from_examples(rows.iter().flat_map(|&row| &data.train[row])));
        let batches = batches.collect::<engine::Result<Vec<Batch>>>()?;
        let n_items = batches.iter().map(Batch::n_items).sum();
        for (i, batch) in batches.iter().enumerate() {
            job.learn(&step, i, |model, pass| measure(model, batch, n_items, pass))?;
        }
        let due = job.step()?;
        if due.log {
            job.log()?;
        }
        if due.save {
            job.save(|_| Ok(()))?;
        }
    }
    Ok(job.finish()?.steps)
}

pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    small_model::make(dir.path().join("model").as_path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;
    let rows: Vec<String> = (0..16).map(|i| json!({"text": format!("{i} gems and {i} rings")}).to_string()).collect();
    fs::write(path("train.jsonl"), rows.join("\n"))?;
    let given = |resume: &'static str| {
        [
            ("model_name_or_path", path("model")),
            ("dataset_name", path("train.jsonl")),
            ("output_dir", path("trained")),
            ("learning_rate", "5e-3".into()),
            ("max_steps", "10".into()),
            ("save_steps", "5".into()),
            ("save_strategy", "steps".into()),
            ("gradient_checkpointing", "false".into()),
            ("device", "cpu".into()),
            ("resume_from_checkpoint", resume.into()),
        ]
    };
    let options = |resume| {
        let given = given(resume);
        let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        options_of::<SftOptions>(&given)
    };
    assert_eq!(train(&options("false")?)?, 10);
    // The same loop goes on from its checkpoints.
    assert!(dir.path().join("trained/checkpoint-5").is_dir());
    assert_eq!(train(&options("last")?)?, 10);
    println!("trained: {}", path("trained"));
    Ok(())
}
