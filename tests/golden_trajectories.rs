//! Eight optimiser steps of TRL's SFTTrainer against `lapidary sft` with the same options, on each device.
//!
//! The loss and the gradient norm of each step must agree within 1e-3 for the first three steps, 5e-3 after.
mod common;

use common::{Trajectory, golden, golden_root, relative_error, sft, software_gpu_is_there};
use std::path::Path;

/// Runs a trajectory's options on `device` and compares every step.
fn compare(name: &str, device: &str) {
    let path = golden(&format!("trajectories/{name}.json"));
    if !path.exists()
        && golden_root().join("trajectories/sft_text.json").exists()
        && std::env::var_os("LAPIDARY_GOLDEN").is_some()
    {
        eprintln!("SKIPPED: {name} is not among the data that LAPIDARY_GOLDEN names");
        return;
    }
    let expected = Trajectory::read(&path);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut arguments = expected.arguments(&golden_root());
    arguments.extend(["--device".into(), device.into(), "--output_dir".into(), out.display().to_string()]);
    let metrics = sft(&arguments, &out);
    expected.check_steps(&metrics, &format!("{name} on {device}"));
    if device == "cpu" {
        check_final_norms(&expected, &out, name);
    }
}

/// The norm of every trained tensor after the last step.
fn check_final_norms(expected: &Trajectory, out: &Path, name: &str) {
    let file = ["model.safetensors", "adapter_model.safetensors"]
        .map(|f| out.join(f))
        .into_iter()
        .find(|f| f.exists())
        .unwrap();
    let saved = common::Expected::read(&file);
    let mut compared = 0;
    for (tensor, norm) in &expected.final_l2 {
        let tensor = tensor.replace(".default.weight", ".weight");
        if !saved.names().contains(&tensor) {
            continue;
        }
        let values = saved.f32(&tensor).1;
        let found = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let error = relative_error(&[found as f32], &[*norm as f32]);
        assert!(error < 1e-3, "{name}: norm of {tensor} is {found}, {norm} in TRL");
        compared += 1;
    }
    assert!(compared >= expected.final_l2.len() - 1, "{name}: {compared} of {} tensors found", expected.final_l2.len());
}

macro_rules! trajectories {
    ($($name:ident),* $(,)?) => {
        mod cpu {
            $( #[test] fn $name() { super::compare(stringify!($name), "cpu"); } )*
        }
        mod gpu {
            $( #[test] fn $name() {
                if super::software_gpu_is_there() { super::compare(stringify!($name), "gpu:software"); }
            } )*
        }
        /// Every SFT trajectory of the golden directory is in the list above.
        #[test]
        fn all_are_compared() {
            let listed = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(golden("trajectories")).unwrap() {
                let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
                let supported = name.starts_with("sft_") && !["sft_gpt2", "sft_dora"].contains(&name.as_str()); // not built yet
                assert!(!supported || listed.contains(&name.as_str()), "{name} is not compared");
            }
        }
    };
}

trajectories!(
    sft_text,
    sft_prompt_completion,
    sft_messages,
    sft_assistant_only,
    sft_accumulate,
    sft_warmup_decay_clip,
    sft_dft,
    sft_qwen3,
    sft_lora,
    sft_rslora,
    sft_cosine,
    sft_epochs,
    sft_epochs_accumulate,
    sft_evaluate,
    sft_mistral_long,
    sft_packing,
    sft_packing_mistral,
    sft_truncated,
);
