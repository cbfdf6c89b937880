//! 4: reinforcement learning with a reward of your own, a Rust closure.
//!
//! ```text
//! cargo run --release --example 04_custom_reward
//! ```
use serde_json::json;
use std::error::Error;
use std::fs;
use trainers::device::{DeviceChoice, open};
use trainers::options::{GrpoOptions, options_of};
use trainers::policy_gradients::{FunctionReward, Judged, Reward, grpo};
use trainers::small_model::{self, Shape};

/// What a completion is worth: the share of its letters that are capitals. The row's columns are at hand in
/// `completion.prompt.row.fields`; None stands for "no opinion".
fn capitals(completion: &Judged) -> Option<f64> {
    let n = completion.text.chars().count();
    let capitals = completion.text.chars().filter(char::is_ascii_uppercase).count();
    (n > 0).then(|| capitals as f64 / n as f64)
}

/// A small model with random weights hears nothing but the reward.
pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    small_model::make(dir.path().join("model").as_path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;
    let rows: Vec<String> = (0..8).map(|i| json!({"prompt": format!("{i}:")}).to_string()).collect();
    fs::write(path("prompts.jsonl"), rows.join("\n"))?;

    let options = options_of::<GrpoOptions>(&[
        ("model_name_or_path", &path("model")),
        ("dataset_name", &path("prompts.jsonl")),
        ("output_dir", &path("trained")),
        ("learning_rate", "5e-3"),
        ("per_device_train_batch_size", "32"),
        ("num_generations", "8"),
        ("max_completion_length", "8"),
        ("max_steps", "12"),
        ("logging_steps", "1"),
        ("save_strategy", "no"),
        ("gradient_checkpointing", "false"),
        ("device", "cpu"),
    ])?;
    // A reward judges a batch at once; this closure takes its completions one by one.
    let reward = FunctionReward {
        name: "capitals".into(),
        function: |completions: &[Judged]| Ok(completions.iter().map(capitals).collect()),
    };
    let rewards: Vec<Box<dyn Reward>> = vec![Box::new(reward)];
    grpo::train_with(&options, rewards)?;

    // metrics.jsonl has a line for each step that is logged.
    let metrics = fs::read_to_string(path("trained/metrics.jsonl"))?;
    let of_line = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["rewards/capitals/mean"].as_f64();
    let means: Vec<f64> = metrics.lines().filter_map(of_line).collect();
    let (first, last) = (means.first().ok_or("no metrics")?, means.last().ok_or("no metrics")?);
    println!("share of capitals: {first:.2} in the first step, {last:.2} in the last");
    assert!(last > first);
    Ok(())
}
