//! A real model: SmolLM2-135M-Instruct from its GGUF file, against transformers and TRL (tests/golden/smollm2).
//!
//! The file comes from `tests/fetch-smollm2.sh DIR`; LAPIDARY_MODELS names DIR (default: target/models). Without it the
//! tests say that they are skipped, and fail in CI.
mod common;

use common::{Trajectory, golden, sft, smollm2, software_gpu};
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::forest::Forest;
use engine::generate::{Sampling, generate};
use engine::model::decoder::{Decoder, Pass};
use serde_json::Value;
use trainers::job::setup::open_source;
use trainers::text::RenderInput;

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
    let Some(path) = smollm2() else { return };
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
    let Some(path) = smollm2() else { return };
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
    let Some(path) = smollm2() else { return };
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
