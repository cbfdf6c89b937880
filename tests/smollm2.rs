//! A real model: SmolLM2-135M-Instruct from its GGUF file, against transformers and TRL (tests/golden/smollm2).
//!
//! The file comes from `tests/fetch-smollm2.sh DIR`; LAPIDARY_MODELS names DIR (default: target/models). Without it the
//! tests say that they are skipped, and fail in CI.
mod common;

use common::{Trajectory, golden, sft, software_gpu};
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::forest::Forest;
use engine::generate::{Sampling, generate};
use engine::model::decoder::{Decoder, Pass};
use serde_json::Value;
use std::path::PathBuf;
use trainers::job::setup::open_source;
use trainers::text::RenderInput;

fn model_path() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/models");
    let dir = std::env::var_os("LAPIDARY_MODELS").map_or(default, PathBuf::from);
    let path = dir.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    let advice = format!("{} is not there; `tests/fetch-smollm2.sh {}` fetches it", path.display(), dir.display());
    assert!(std::env::var_os("CI").is_none(), "CI needs the model: {advice}");
    eprintln!("SKIPPED: {advice}");
    None
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|v| v.as_u64().expect("an id") as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn inference() -> Value {
    let text = std::fs::read_to_string(golden("smollm2/inference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Greedy completions, equal up to the first step whose two best tokens are closer than 1e-2; `n` conversations.
fn greedy(device: &Device, n: usize, max_new_tokens: usize) {
    let Some(path) = model_path() else { return };
    let source = open_source(&path.display().to_string()).unwrap();
    let model = Decoder::load(&source.files, device, DType::F32).unwrap();
    let templates = source.tokenizer.chat_templates(0).unwrap();
    let expected = inference();
    let cases = expected["greedy"].as_array().unwrap();
    let mut prompts = Vec::new();
    for case in &cases[..n.min(cases.len())] {
        let messages = case["messages"].as_array().unwrap();
        let input = RenderInput { messages, add_generation_prompt: true, ..Default::default() };
        let prompt = source.tokenizer.encode_rendered(&templates.render(&input).unwrap().text).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]), "tokens of {messages:?}");
        prompts.push(prompt);
    }
    let sampling = Sampling { max_new_tokens, temperature: 0.0, stop_tokens: vec![2], ..Default::default() };
    let completions = generate(&model, &prompts, 1, &sampling, |_, _| true).unwrap();
    for (case, completion) in cases.iter().zip(&completions) {
        let margins = floats(&case["top2_margin"]);
        let certain = margins.iter().position(|m| *m < 1e-2).unwrap_or(margins.len()).min(completion.tokens.len());
        assert!(certain > 0, "{}: nothing to compare", case["messages"]);
        assert_eq!(
            completion.tokens[..certain],
            ids(&case["completion_ids"])[..certain],
            "completion of {}",
            case["messages"]
        );
    }
}

/// log-probabilities of texts, each token within 2e-3.
fn token_logprobs(device: &Device) {
    let Some(path) = model_path() else { return };
    let model = Decoder::load(&ModelFiles::open(&path).unwrap(), device, DType::F32).unwrap();
    let source = open_source(&path.display().to_string()).unwrap();
    for case in inference()["texts"].as_array().unwrap() {
        let tokens = ids(&case["ids"]);
        assert_eq!(source.tokenizer.encode(case["text"].as_str().unwrap()).unwrap(), tokens);
        let forest = Forest::from_sequences(&[&tokens]).unwrap();
        let hidden = model.hidden(&forest, Pass::default()).unwrap();
        let rows: Vec<u32> = (0..tokens.len() as u32 - 1).collect();
        let logps = model.score(&hidden, &rows, &tokens[1..], 1.0).unwrap().logp.to_vec().unwrap();
        for (i, (found, expected)) in logps.iter().zip(floats(&case["token_logprobs"])).enumerate() {
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < 2e-3, "{}: token {i}: {found}, {expected} in transformers", case["text"]);
        }
    }
}

/// The steps TRL took, by the program's own `sft`.
fn trajectory(name: &str, device: &str) {
    let Some(path) = model_path() else { return };
    let expected = Trajectory::read(&golden(&format!("smollm2/{name}.json")));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let mut arguments = expected.arguments(&golden("smollm2"));
    arguments.extend(["--model_name_or_path".into(), path.display().to_string()]);
    arguments.extend(["--device".into(), device.into(), "--output_dir".into(), out.display().to_string()]);
    let metrics = sft(&arguments, &out);
    expected.check_steps(&metrics, &format!("{name} on {device}"));
}

fn cpu() -> Device {
    engine::cpu::Cpu::new(None).unwrap()
}

#[test]
fn greedy_completions_on_the_cpu() {
    greedy(&cpu(), usize::MAX, 48);
}

#[test]
fn token_logprobs_on_the_cpu() {
    token_logprobs(&cpu());
}

#[test]
fn sft_lora_on_the_cpu() {
    trajectory("sft_lora", "cpu");
}

#[test]
fn sft_full_on_the_cpu() {
    trajectory("sft_full", "cpu");
}

// Software Vulkan runs the real model too. It is slow: of the completions, the first tokens.

#[test]
fn token_logprobs_on_software_vulkan() {
    if let Some(gpu) = software_gpu() {
        token_logprobs(&gpu);
    }
}

#[test]
fn greedy_completions_on_software_vulkan() {
    if let Some(gpu) = software_gpu() {
        greedy(&gpu, usize::MAX, 8);
    }
}

#[test]
fn sft_lora_on_software_vulkan() {
    if software_gpu().is_some() {
        trajectory("sft_lora", "gpu:software");
    }
}

#[test]
fn sft_full_on_software_vulkan() {
    if software_gpu().is_some() {
        trajectory("sft_full", "gpu:software");
    }
}

/// Peak memory of a run in a process of its own, predicted and measured, in bytes.
#[cfg(target_os = "linux")]
fn predicted_and_measured(options: &[&str]) -> Option<(f64, f64)> {
    let path = model_path()?;
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("rows.jsonl");
    let text = "the quick brown fox jumps over the lazy dog and runs away ".repeat(40);
    std::fs::write(&data, format!("{}\n", serde_json::json!({ "text": text })).repeat(4)).expect("rows");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(["sft", "--device", "cpu", "--max_steps", "2", "--max_length", "256", "--save_strategy", "no"])
        .args(["--per_device_train_batch_size", "4", "--model_name_or_path"])
        .arg(&path)
        .arg("--dataset_name")
        .arg(&data)
        .arg("--output_dir")
        .arg(dir.path().join("run"))
        .args(options)
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // "memory at the peak: 2.9 GB (2.8 GB predicted)"
    let line = said.lines().rev().find_map(|line| line.split_once("memory at the peak: ")).expect("a line on memory").1;
    let figures: Vec<f64> = line.split(|c: char| !c.is_ascii_digit() && c != '.').flat_map(str::parse).collect();
    assert_eq!(line.matches(" GB").count(), 2, "{line}");
    Some((figures[1], figures[0]))
}

/// The memory that a run is refused for is the memory it takes: within 10 %, all weights, an adapter, over the file's 4-bit
/// weights too, checkpointing.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_predicted_on_cpu() {
    let adapter = ["--use_peft", "true", "--lora_target_modules", "all-linear", "--learning_rate", "1e-4"];
    let recomputing = ["--gradient_checkpointing", "true"];
    let plain = ["--gradient_checkpointing", "false"];
    let dora = [&adapter[..], &plain, &["--use_dora"]].concat();
    let over_four_bits = [&adapter[..], &plain, &["--dtype", "auto"]].concat();
    for options in [plain.to_vec(), recomputing.to_vec(), [&adapter[..], &plain].concat(), dora, over_four_bits] {
        let Some((predicted, measured)) = predicted_and_measured(&options) else { return };
        let off = predicted / measured - 1.0;
        assert!(off.abs() <= 0.1, "{options:?}: {predicted} GB predicted, {measured} GB measured");
    }
}
