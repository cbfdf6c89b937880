//! `--dtype bfloat16` and `float16`: an adapter over frozen weights held in 16 bits learns as one over the same numbers in
//! float32, for thirty optimiser steps, on the CPU and on software Vulkan. Arithmetic is float32 in both, so that only the
//! decoding of weights and the order of sums can differ. tests/f16_operands.rs goes on where operands are f16 too.
mod common;

use common::{golden, sft, software_gpu_is_there};
use engine::backend::Device;
use engine::cpu::Cpu;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::model::decoder::Decoder;
use std::fs;
use std::path::Path;

const STEPS: usize = 30;

/// The tiny llama with its matrices rounded to `dtype`, saved as float32.
fn rounded(dtype: DType, dir: &Path) -> String {
    let device: Device = Cpu::new(Some(1)).expect("a CPU");
    let files = ModelFiles::open(golden("models/llama")).expect("the tiny llama");
    Decoder::load(&files, &device, dtype).expect("loaded").save(dir, DType::F32).expect("saved");
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(golden("models/llama").join(name), dir.join(name)).expect("copied");
    }
    dir.display().to_string()
}

/// (loss, gradient norm) of every step.
fn trajectory(model: &str, dtype: &str, device: &str) -> Vec<(f64, f64)> {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("run");
    let (data, output) = (golden("data/messages.jsonl").display().to_string(), out.display().to_string());
    let flags = format!(
        "--use_peft --lora_target_modules all-linear --lora_dropout 0 --learning_rate 3e-3 --max_length 48 --per_device_train_batch_size 2 --logging_steps 1 --save_strategy no --max_steps {STEPS}"
    );
    let given = ["--model_name_or_path", model, "--dataset_name", &data, "--output_dir", &output, "--dtype", dtype];
    let all: Vec<String> =
        given.into_iter().chain(["--device", device]).chain(flags.split_whitespace()).map(String::from).collect();
    let number = |line: &serde_json::Value, name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    sft(&all, &out).iter().map(|line| (number(line, "loss"), number(line, "grad_norm"))).collect()
}

/// The largest relative difference of losses and of gradient norms.
fn apart(a: &[(f64, f64)], b: &[(f64, f64)]) -> (f64, f64) {
    assert_eq!((a.len(), b.len()), (STEPS, STEPS));
    let largest = |pick: fn(&(f64, f64)) -> f64| {
        a.iter().zip(b).map(|(a, b)| ((pick(a) - pick(b)) / pick(b)).abs()).fold(0.0, f64::max)
    };
    (largest(|s| s.0), largest(|s| s.1))
}

fn check(device: &str) {
    for (dtype, name) in [(DType::BF16, "bfloat16"), (DType::F16, "float16")] {
        let dir = tempfile::tempdir().expect("a directory");
        let same_numbers = rounded(dtype, dir.path());
        let expected = trajectory(&same_numbers, "float32", device);
        let original = golden("models/llama").display().to_string();
        let found = trajectory(&original, name, device);
        let (loss, norm) = apart(&found, &expected);
        eprintln!(
            "{name} on {device}: loss {} -> {}, apart by {loss:.1e}, gradient norms by {norm:.1e}",
            found[0].0,
            found[STEPS - 1].0
        );
        assert!(loss < 1e-4 && norm < 1e-3, "{name} on {device}: losses {loss:.1e}, gradient norms {norm:.1e} apart");
        assert!(found[STEPS - 1].0 < 0.9 * found[0].0, "{name} on {device}: nothing was learnt: {found:?}");
        // Weights that were not rounded are another model, and the comparison sees it.
        let (unrounded, _) = apart(&found, &trajectory(&original, "float32", device));
        assert!(unrounded > 3.0 * loss.max(1e-7), "{name} on {device}: {unrounded:.1e} from the unrounded model");
    }
}

#[test]
fn on_the_cpu() {
    check("cpu");
}

#[test]
fn on_software_vulkan() {
    if software_gpu_is_there() {
        check("gpu:software");
    }
}
