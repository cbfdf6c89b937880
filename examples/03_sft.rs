//! 3: supervised fine-tuning, with the options that the program has, from code.
//!
//! ```text
//! cargo run --release --example 03_sft
//! ```
use serde_json::json;
use std::error::Error;
use std::fs;
use trainers::device::{DeviceChoice, open};
use trainers::options::{SftOptions, options_of};
use trainers::sft;
use trainers::small_model::{self, Shape};

#[path = "02_ask_a_model.rs"]
#[allow(dead_code)]
mod ask_a_model;

/// A small model learns the letter that follows a letter.
pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    small_model::make(dir.path().join("model").as_path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;

    // Rows as TRL has them: with prompt and completion, the completion is trained on.
    let row = |c: u8| json!({"prompt": format!("{}>", char::from(c)), "completion": char::from(c + 1).to_string()});
    let rows: Vec<String> = (b'a'..b'z').map(|c| row(c).to_string()).collect();
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

    let answer = |prompt: &str| ask_a_model::ask(&path("trained"), prompt, 1);
    println!("{} steps; c>{} m>{} y>{}", summary.steps, answer("c>")?, answer("m>")?, answer("y>")?);
    let right = (b'a'..b'z')
        .filter(|c| answer(&format!("{}>", char::from(*c))).is_ok_and(|text| text == char::from(c + 1).to_string()));
    assert!(right.count() >= 20);
    Ok(())
}
