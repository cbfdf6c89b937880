//! Preferences are learnt: a reward model finds a known rule, and policies move to the preferred side, on small models
//! made here. Each in three of three seeds.
mod common;

use common::run;
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::generate::{Sampling, generate};
use engine::model::decoder::Decoder;
use engine::random::Stream;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use trainers::small_model::{Shape, make};
use trainers::text::Tokenizer;

const SEEDS: [u64; 3] = [1, 2, 3];

fn cpu() -> Device {
    engine::cpu::Cpu::new(Some(2)).expect("the CPU")
}

fn write(path: &Path, rows: impl Iterator<Item = Value>) {
    fs::write(path, rows.map(|row| format!("{row}\n")).collect::<String>()).expect("written");
}

/// Runs a command on `data` from `model` into `out`; the lines of its metrics.
fn train(command: &str, model: &Path, data: &Path, out: &Path, seed: u64, more: &str) -> Vec<Value> {
    let mut all: Vec<String> = Vec::new();
    for (flag, value) in [("model_name_or_path", model), ("dataset_name", data), ("output_dir", out)] {
        all.extend([format!("--{flag}"), value.display().to_string()]);
    }
    let shared = format!("--device cpu --seed {seed} --save_strategy no --gradient_checkpointing false {more}");
    all.extend(shared.split_whitespace().map(String::from));
    run(command, &all, out)
}

/// The rule: of two answers of eight letters, the one with more `a`s is better.
fn letter_pairs(n: usize, seed: u64) -> Vec<Value> {
    let stream = Stream::new(seed, 0);
    let mut at = 0;
    let mut answer = || -> String {
        at += 8;
        (at - 8..at).map(|i| ["a", "b", "c", "d"][stream.below(i, 4) as usize]).collect()
    };
    let count = |text: &str| text.matches('a').count();
    let mut rows = Vec::new();
    while rows.len() < n {
        let (x, y) = (answer(), answer());
        let (chosen, rejected) = if count(&x) > count(&y) { (x, y) } else { (y, x) };
        if count(&chosen) > count(&rejected) {
            rows.push(json!({"prompt": "say: ", "chosen": chosen, "rejected": rejected}));
        }
    }
    rows
}

#[test]
fn a_reward_model_finds_the_rule() {
    for seed in SEEDS {
        let dir = tempfile::tempdir().unwrap();
        let [model, data, held_out, out] =
            ["model", "train.jsonl", "held-out.jsonl", "out"].map(|n| dir.path().join(n));
        make(&model, Shape::TINY, &cpu(), seed).expect("a model");
        let rows = letter_pairs(1400, seed);
        write(&data, rows[..1200].iter().cloned());
        write(&held_out, rows[1200..].iter().cloned());
        let more = format!(
            "--learning_rate 5e-3 --per_device_train_batch_size 32 --num_train_epochs 4 --eval_dataset {} --eval_strategy epoch \
             --per_device_eval_batch_size 100",
            held_out.display()
        );
        let metrics = train("reward", &model, &data, &out, seed, &more);
        let accuracy = metrics.iter().filter_map(|line| line.get("eval_accuracy")?.as_f64()).next_back();
        assert!(accuracy.is_some_and(|a| a > 0.9), "seed {seed}: {accuracy:?} of held-out pairs are right");
    }
}

/// A ranking of three by the same rule.
#[test]
fn a_reward_model_learns_from_rankings() {
    let dir = tempfile::tempdir().unwrap();
    let [model, data, out] = ["model", "train.jsonl", "out"].map(|n| dir.path().join(n));
    make(&model, Shape::TINY, &cpu(), 1).expect("a model");
    let letters = ["aaaa", "aabb", "bbbb", "abba", "cbbb", "acca"];
    let ranked = |i: usize| {
        let mut three = vec![letters[i % 6], letters[(i + 1) % 6], letters[(i + 2) % 6]];
        three.sort_by_key(|text| std::cmp::Reverse(text.matches('a').count()));
        json!({"prompt": "say: ", "completions": three})
    };
    write(&data, (0..96).map(ranked));
    let more = "--learning_rate 5e-3 --per_device_train_batch_size 16 --num_train_epochs 5 --logging_steps 1";
    let metrics = train("reward", &model, &data, &out, 1, more);
    let losses: Vec<f64> = metrics.iter().filter_map(|line| line.get("loss")?.as_f64()).collect();
    // A ranking of three at random costs ln 6.
    assert!((losses[0] - 6f64.ln()).abs() < 0.5 && losses[losses.len() - 1] < 0.9, "{losses:?}");
}

/// Questions with two kinds of answer.
fn question(i: usize) -> String {
    format!("{:02}? ", i % 100)
}
const GOOD: &str = "yes";
const BAD: &str = "no";

/// How many of a hundred questions are given the good answer, and how many the bad one.
fn answers_of(model: &Path) -> (usize, usize) {
    let source = ModelFiles::open(model).expect("a model");
    let (decoder, tokenizer) =
        (Decoder::load(&source, &cpu(), DType::F32).unwrap(), Tokenizer::from_directory(model).unwrap());
    let prompts: Vec<Vec<u32>> = (0..100).map(|i| tokenizer.encode(&question(i)).unwrap()).collect();
    let sampling =
        Sampling { max_new_tokens: 5, temperature: 1.0, stop_tokens: vec![0], seed: 7, ..Default::default() };
    let answers = generate(&decoder, &prompts, 1, &sampling, |_, _| true).expect("answers");
    let count = |text| answers.iter().filter(|a| tokenizer.decode_plain(&a.tokens).unwrap().trim() == text).count();
    (count(GOOD), count(BAD))
}

/// A policy that has learnt to give either answer, and then which is preferred: a third of the bad answers are left at
/// most, and good ones take their place.
fn moves(command: &str, more: &str) {
    for seed in SEEDS {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        make(&at("model"), Shape::TINY, &cpu(), seed).expect("a model");
        let stream = Stream::new(seed, 9);
        let either = |i: usize| if stream.below(i as u64, 2) == 0 { GOOD } else { BAD };
        write(&at("sft.jsonl"), (0..960).map(|i| json!({"prompt": question(i), "completion": either(i)})));
        let settings = "--learning_rate 5e-3 --per_device_train_batch_size 32 --num_train_epochs 4";
        train("sft", &at("model"), &at("sft.jsonl"), &at("start"), seed, settings);
        let before = answers_of(&at("start"));
        assert!(before.0.min(before.1) > 25, "{command}, seed {seed}: {before:?} before");
        write(&at("pairs.jsonl"), (0..320).map(|i| json!({"prompt": question(i), "chosen": GOOD, "rejected": BAD})));
        train(command, &at("start"), &at("pairs.jsonl"), &at("out"), seed, more);
        let after = answers_of(&at("out"));
        let moved = after.0 >= before.0 + 20 && after.1 <= before.1 / 3;
        assert!(moved, "{command}, seed {seed}: {after:?} good and bad after, {before:?} before");
    }
}

#[test]
fn dpo_moves_generation() {
    moves("dpo", "--learning_rate 5e-4 --per_device_train_batch_size 16 --num_train_epochs 2 --beta 0.3");
}

#[test]
fn kto_moves_generation() {
    moves(
        "kto",
        "--learning_rate 1e-3 --per_device_train_batch_size 16 --num_train_epochs 4 --train_sampling_strategy random",
    );
}

#[test]
fn bco_moves_generation() {
    moves("bco", "--learning_rate 1e-3 --per_device_train_batch_size 16 --num_train_epochs 4");
}

#[test]
fn orpo_moves_generation() {
    moves("orpo", "--learning_rate 1e-3 --per_device_train_batch_size 16 --num_train_epochs 4 --beta 1");
}

#[test]
fn simpo_moves_generation() {
    moves(
        "cpo",
        "--loss_type simpo --cpo_alpha 0 --simpo_gamma 5 --beta 10 --learning_rate 1e-4 --num_train_epochs 6 --per_device_train_batch_size 16",
    );
}
