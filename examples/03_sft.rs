//! 3: supervised fine-tuning, with the options that the program has, from code.
//!
//! ```text
//! cargo run --release --example 03_sft
//! ```
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use trainers::device::{DeviceChoice, open};
use trainers::options::{SftOptions, options_of};
use trainers::sft;
use trainers::small_model::{self, Shape};

/// A small model learns the letter that follows a letter.
pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    small_model::make(dir.path().join("model").as_path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;

    // Rows as TRL has them: with prompt and completion, the completion is trained on.
    let row = |c: u8| json!({"prompt": format!("{}>", char::from(c)), "completion": char::from(c + 1).to_string()});
    let rows: Vec<String> = (0..25).map(|i| row(b'a' + i).to_string()).collect();
    fs::write(path("train.jsonl"), rows.join("\n"))?;

    // The names are those of `lapidary sft --help`; what is not named has its default.
    let options = options_of::<SftOptions>(&[
        ("model_name_or_path", &path("model")),
        ("dataset_name", &path("train.jsonl")),
        ("output_dir", &path("trained")),
        ("learning_rate", "1e-2"),
        ("per_device_train_batch_size", "25"),
        ("max_steps", "60"),
        ("logging_steps", "20"),
        ("save_strategy", "no"),
        ("gradient_checkpointing", "false"),
        ("device", "cpu"),
    ])?;
    let summary = sft::train(&options)?;

    // metrics.jsonl has a line for each step that is logged; trained/ is a model that every command takes, and transformers.
    let metrics = fs::read_to_string(path("trained/metrics.jsonl"))?;
    let of_line = |line: &str| serde_json::from_str::<Value>(line).ok()?["mean_token_accuracy"].as_f64();
    let shares: Vec<f64> = metrics.lines().filter_map(of_line).collect();
    println!("{} steps; share of tokens predicted right by log line: {shares:?}", summary.steps);
    assert!(shares.last().is_some_and(|last| *last > 0.8));
    assert!(dir.path().join("trained/model.safetensors").is_file());
    Ok(())
}
