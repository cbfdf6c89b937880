//! The bits that a short run of every trainer ends in, as they were when `golden/final_bits.txt` was written.
//!
//! A change of the house must not change them. Where a change of numbers is meant, LOG.md says why, and
//! `LAPIDARY_RECORD=1 cargo test --test final_bits` writes the file anew. The hash is over the tensors that were trained:
//! name, shape and bits of each, in the order of names; not over the file, whose header may say other things tomorrow.
mod common;

use common::{golden, run};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// (name, command, model, data set, options): every trainer, with all weights or an adapter, and what changes its arithmetic.
const RUNS: &[(&str, &str, &str, &str, &str)] = &[
    ("sft", "sft", "llama", "messages.jsonl", "--per_device_train_batch_size 3 --gradient_accumulation_steps 2"),
    (
        "sft_packing",
        "sft",
        "mistral",
        "messages.jsonl",
        "--packing --max_length 96 --learning_rate 1e-3 --weight_decay 0.1",
    ),
    ("sft_dft", "sft", "qwen2", "prompt_completion.jsonl", "--loss_type dft --gradient_checkpointing false"),
    ("sft_sgd", "sft", "llama3", "text.jsonl", "--optim sgd --learning_rate 0.1 --lr_scheduler_type cosine"),
    (
        "sft_lora",
        "sft",
        "qwen3",
        "messages.jsonl",
        "LORA --learning_rate 1e-3 --lora_target_modules all-linear --lora_dropout 0.1",
    ),
    ("sft_rslora", "sft", "llama3", "messages.jsonl", "LORA --learning_rate 1e-3 --use_rslora --lora_dropout 0"),
    ("sft_bf16_base", "sft", "llama", "messages.jsonl", "LORA --learning_rate 1e-3 --dtype bfloat16 --lora_dropout 0"),
    ("dpo", "dpo", "llama", "preference.jsonl", "--per_device_train_batch_size 3"),
    (
        "dpo_lora",
        "dpo",
        "qwen3",
        "preference.jsonl",
        "LORA --learning_rate 1e-3 --per_device_train_batch_size 3 --loss_type sigmoid sft",
    ),
    ("dpo_ipo", "dpo", "llama", "preference_implicit.jsonl", "--loss_type ipo --f_divergence_type js_divergence"),
    ("orpo", "orpo", "llama", "preference.jsonl", "--per_device_train_batch_size 3"),
    ("cpo", "cpo", "llama", "preference.jsonl", "--loss_type simpo"),
    ("kto", "kto", "llama", "unpaired_preference.jsonl", ""),
    ("bco", "bco", "llama", "unpaired_preference.jsonl", ""),
    ("reward", "reward", "llama", "preference_margin.jsonl", "--center_rewards_coefficient 0.01"),
    ("reward_lora", "reward", "llama-reward", "preference.jsonl", "LORA --learning_rate 1e-3"),
    ("raft", "raft", "llama", "prompts.jsonl", "REWARD --num_generations 4"),
    ("reinforce", "reinforce", "llama", "prompts.jsonl", "REWARD"),
    ("rloo", "rloo", "llama", "prompts.jsonl", "REWARD --num_generations 2 --beta 0.05"),
    ("grpo", "grpo", "llama", "prompts.jsonl", "REWARD --num_generations 4 --num_iterations 2 --beta 0.04"),
    ("grpo_lora", "grpo", "qwen3", "prompts.jsonl", "REWARD LORA --num_generations 4 --loss_type cispo --top_k 20"),
    ("grpo_gspo", "grpo", "llama", "prompts.jsonl", "REWARD --num_generations 4 --importance_sampling_level sequence"),
    ("ppo", "ppo", "llama", "prompts.jsonl", "REWARD"),
    ("online_dpo", "online-dpo", "llama", "prompts.jsonl", "REWARD"),
];

/// What the words in capitals stand for.
const LORA: &str = "--use_peft --lora_r 4 --lora_alpha 8";
const REWARD: &str =
    "--reward_funcs regex:[ae] --max_completion_length 6 --per_device_train_batch_size 4 --learning_rate 1e-4";

fn arguments(model: &str, data: &str, options: &str, out: &Path) -> Vec<String> {
    let paths = [
        ("--model_name_or_path", golden(&format!("models/{model}"))),
        ("--dataset_name", golden(&format!("data/{data}"))),
        ("--output_dir", out.to_path_buf()),
    ];
    let mut all: Vec<String> = paths.iter().flat_map(|(n, p)| [n.to_string(), p.display().to_string()]).collect();
    let options = options.replace("LORA", LORA).replace("REWARD", REWARD);
    let rest = format!("--device cpu --max_steps 3 --save_strategy no --logging_steps 1 {options}");
    all.extend(rest.split_whitespace().map(String::from));
    all
}

/// The hash of the weights that a run has left.
fn hash(out: &Path) -> String {
    let files = ["model.safetensors", "adapter_model.safetensors"].map(|name| out.join(name));
    let file = files.iter().find(|path| path.exists()).expect("weights");
    let bytes = std::fs::read(file).expect("the weights can be read");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let by_name: BTreeMap<String, _> = tensors.tensors().into_iter().collect();
    let mut sha = Sha256::new();
    for (name, tensor) in by_name {
        sha.update(format!("{name} {:?} {:?}\n", tensor.dtype(), tensor.shape()));
        sha.update(tensor.data());
    }
    sha.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/final_bits.txt")
}

#[test]
fn every_trainer_ends_in_the_recorded_bits() {
    if std::env::var_os("LAPIDARY_GOLDEN").is_some() {
        return eprintln!("SKIPPED: the bits were recorded with the data of tests/golden");
    }
    let mut found = String::new();
    for (name, command, model, data, options) in RUNS {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out");
        run(command, &arguments(model, data, options, &out), &out);
        writeln!(found, "{name} {}", hash(&out)).expect("a string grows");
    }
    if std::env::var_os("LAPIDARY_RECORD").is_some() {
        return std::fs::write(recorded(), found).expect("the record can be written");
    }
    let expected = std::fs::read_to_string(recorded()).expect("tests/golden/final_bits.txt");
    let other: Vec<&str> = found.lines().zip(expected.lines()).filter(|(f, e)| f != e).map(|(f, _)| f).collect();
    assert!(other.is_empty(), "these runs end in other bits than recorded: {other:#?}");
    assert_eq!(found.lines().count(), expected.lines().count(), "a trainer was added or left out: record it");
}
