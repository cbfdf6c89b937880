//! Predicted memory against what commands take: each in a process of its own, over many shapes, within 10 % or 16 MB.
//!
//! A peak is VmHWM of /proc/self/status, which the program tells with the prediction where LAPIDARY_MEMORY=say asks for it.
//! What the allocator keeps between its blocks, threads' scratch and the pages of the program are not predicted one by one:
//! they are the 16 MB, which count for small models alone.
//!
//! The first tests take models of the golden directory. Those of real size want SmolLM2's file (see smollm2.rs), and are
//! skipped without it.
#![cfg(target_os = "linux")]
mod common;

use common::{golden, smollm2};
use engine::backend::Device;
use engine::config::ModelConfig;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::model::decoder::Decoder;
use engine::ops::kept_and_chunk;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use trainers::text::Tokenizer;

/// A command's own directory, with rows of every kind.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().expect("a directory") };
        let text = "the quick brown fox jumps over the lazy dog and runs away ";
        let (prompt, answer) = (text.repeat(3), text.repeat(12));
        let rows = |make: &dyn Fn(usize) -> Value| (0..8).map(|i| format!("{}\n", make(i))).collect::<String>();
        place.write("text.jsonl", &rows(&|_| json!({"text": text.repeat(40)})));
        place.write(
            "pairs.jsonl",
            &rows(&|i| json!({"prompt": format!("{prompt}{i}"), "chosen": answer, "rejected": format!("no {answer}")})),
        );
        place.write(
            "labelled.jsonl",
            &rows(&|i| json!({"prompt": format!("{prompt}{i}"), "completion": answer, "label": i % 2 == 0})),
        );
        place.write("prompts.jsonl", &rows(&|i| json!({"prompt": format!("{prompt}{i}")})));
        place.write("principles.txt", "Be brief. Be kind.");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// Runs a command line, `@name` standing for a file here; bytes (predicted, measured).
    fn run(&self, line: &str, model: &Path) -> (f64, f64) {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None if word == "MODEL" => model.as_os_str().to_owned(),
            None => word.into(),
        };
        let output = Command::new(env!("CARGO_BIN_EXE_lapidary"))
            .args(line.split_whitespace().map(word))
            .env("LAPIDARY_MEMORY", "say")
            .output()
            .expect("the program");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        let figures = said.lines().find_map(|line| line.strip_prefix("peak of memory: ")).expect("a line on memory");
        let mut numbers = figures.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        let (peak, predicted) = (numbers.next().expect("the peak"), numbers.next().expect("the prediction"));
        (predicted, peak)
    }
}

/// A prediction may be off by a tenth, or by this many bytes.
const FLOOR: f64 = 16e6;

fn check(lines: &[&str], model: &Path) {
    let place = Place::new();
    let mut wrong = Vec::new();
    for line in lines {
        let (predicted, measured) = place.run(line, model);
        let told = format!(
            "{:7.0} MB predicted, {:7.0} measured, {:.3}: {line}",
            predicted / 1e6,
            measured / 1e6,
            predicted / measured
        );
        eprintln!("{told}");
        if (predicted - measured).abs() > (0.1 * measured).max(FLOOR) {
            wrong.push(told);
        }
    }
    assert!(wrong.is_empty(), "more than a tenth or 16 MB off:\n{}", wrong.join("\n"));
}

/// What every training run of this file shares.
const RUN: &str =
    "--model_name_or_path MODEL --output_dir @run --overwrite_output_dir --device cpu --max_steps 2 --save_strategy no";
/// The same for what draws completions.
const DRAWN: &str = "--num_generations 4 --per_device_train_batch_size 4 --reward_funcs length";
const ADAPTER: &str = "--use_peft true --lora_target_modules all-linear --learning_rate 1e-4";

fn trained(lines: &[&str]) -> Vec<String> {
    let with = |line: &&str| {
        let (command, options) = line.split_once(' ').unwrap_or((line, ""));
        format!("{command} {RUN} {options}").replace("DRAWN", DRAWN).replace("ADAPTER", ADAPTER)
    };
    lines.iter().map(with).collect()
}

fn check_training(lines: &[&str], model: &Path) {
    check(&trained(lines).iter().map(String::as_str).collect::<Vec<_>>(), model);
}

/// 256 MiB hold 1365 rows of logits over 49 152 tokens: chunks are of 1280, and the last ones that fit together are kept.
#[test]
fn logits_that_are_there_at_once() {
    let bytes = |rows: u64| rows * 4 * 49_152;
    assert_eq!(kept_and_chunk(0, 49_152), (0, 0));
    assert_eq!(kept_and_chunk(1000, 49_152), (bytes(1000), bytes(1000)));
    assert_eq!(kept_and_chunk(1300, 49_152), (bytes(1300), bytes(1280)));
    assert_eq!(kept_and_chunk(3000, 49_152), (bytes(440 + 1280), bytes(1280)));
}

#[test]
fn small_models_are_trained_within_the_floor() {
    let lines = [
        "sft --dataset_name @text.jsonl --max_length 64",
        "sft --dataset_name @text.jsonl --max_length 256 --packing true --gradient_accumulation_steps 2",
        "sft --dataset_name @text.jsonl ADAPTER --dtype bfloat16",
        "dpo --dataset_name @pairs.jsonl",
        "kto --dataset_name @labelled.jsonl ADAPTER",
        "reward --dataset_name @pairs.jsonl",
        "grpo --dataset_name @prompts.jsonl --max_completion_length 16 DRAWN",
        "ppo --dataset_name @prompts.jsonl --response_length 16 --num_generations 1 --reward_funcs length --critic model",
    ];
    check_training(&lines, &golden("models/llama"));
}

#[test]
fn small_models_are_used_within_the_floor() {
    let lines = [
        "generate --model_name_or_path MODEL --device cpu --prompt hello --max_new_tokens 16",
        "generate --model_name_or_path MODEL --device cpu --dataset_name @prompts.jsonl --num_generations 8 --max_new_tokens 16",
        "export --model_name_or_path MODEL --output_file @model.gguf --modelfile false",
        "export --model_name_or_path MODEL --output_dir @model --outtype bf16",
    ];
    check(&lines, &golden("models/llama"));
    check(
        &["score --model_name_or_path MODEL --device cpu --dataset_name @pairs.jsonl"],
        &golden("models/llama-reward"),
    );
}

#[test]
fn smollm2_is_trained_within_a_tenth() {
    let Some(model) = smollm2() else { return };
    let lines = [
        "sft --dataset_name @text.jsonl --max_length 256 --per_device_train_batch_size 4 --gradient_checkpointing false",
        "sft --dataset_name @text.jsonl --max_length 128 --per_device_train_batch_size 1 --gradient_accumulation_steps 2",
        "sft --dataset_name @text.jsonl --max_length 512 --packing true --per_device_train_batch_size 2 ADAPTER",
        "sft --dataset_name @text.jsonl --max_length 256 --per_device_train_batch_size 2 --gradient_checkpointing false ADAPTER --dtype auto",
        "sft --dataset_name @text.jsonl --max_length 128 --per_device_train_batch_size 2 --gradient_checkpointing false ADAPTER --use_dora",
        "dpo --dataset_name @pairs.jsonl --per_device_train_batch_size 2 ADAPTER",
        "dpo --dataset_name @pairs.jsonl --per_device_train_batch_size 1",
        "kto --dataset_name @labelled.jsonl --per_device_train_batch_size 2 ADAPTER --dtype bfloat16",
        "reward --dataset_name @pairs.jsonl --per_device_train_batch_size 2",
        "grpo --dataset_name @prompts.jsonl --max_completion_length 32 DRAWN ADAPTER",
        "grpo --dataset_name @prompts.jsonl --max_completion_length 16 DRAWN",
        "ppo --dataset_name @prompts.jsonl --response_length 16 --num_generations 1 --per_device_train_batch_size 2 --reward_funcs length ADAPTER --critic head",
    ];
    check_training(&lines, &model);
}

#[test]
fn smollm2_is_used_within_a_tenth() {
    let Some(model) = smollm2() else { return };
    let lines = [
        "generate --model_name_or_path MODEL --device cpu --prompt hello --max_new_tokens 8",
        "generate --model_name_or_path MODEL --device cpu --dtype auto --dataset_name @prompts.jsonl --num_generations 8 --max_new_tokens 64",
        "judge --model_name_or_path MODEL --device cpu --dataset_name @pairs.jsonl --constitution @principles.txt --judge_verdict average",
        "export --model_name_or_path MODEL --output_file @model.gguf --modelfile false",
        "export --model_name_or_path MODEL --output_dir @model --outtype bf16",
    ];
    check(&lines, &model);
}

/// A model of random weights with the tokenizer of the golden llama: 0.4 billion weights, bfloat16, an output layer of its own.
fn large(dir: &Path) {
    let small = ModelFiles::open(golden("models/llama")).expect("the tiny llama");
    let mut config = small.config.raw.clone();
    for (key, value) in [
        ("vocab_size", 65_536),
        ("hidden_size", 1024),
        ("intermediate_size", 3072),
        ("num_hidden_layers", 20),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 8),
        ("head_dim", 64),
    ] {
        config.insert(key.into(), json!(value));
    }
    config.insert("tie_word_embeddings".into(), json!(false));
    let config = ModelConfig::from_json(config, &dir.join("config.json")).expect("a configuration");
    let cpu: Device = engine::cpu::Cpu::new(None).expect("the CPU");
    Decoder::random(config, &cpu, 0.02, 1).expect("weights").save(dir, DType::BF16).expect("saved");
    Tokenizer::from_directory(&golden("models/llama")).expect("a tokenizer").save(dir).expect("saved");
}

#[test]
fn a_larger_model_within_a_tenth() {
    if smollm2().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    large(dir.path());
    let generate = "generate --model_name_or_path MODEL --device cpu --prompt hello --max_new_tokens 4";
    check(&[generate, &format!("{generate} --dtype auto")], dir.path());
    let lines = [
        "sft --dataset_name @text.jsonl --max_length 64 --per_device_train_batch_size 2 ADAPTER --dtype auto",
        "grpo --dataset_name @prompts.jsonl --max_completion_length 8 DRAWN ADAPTER --dtype auto",
    ];
    check_training(&lines, dir.path());
}
