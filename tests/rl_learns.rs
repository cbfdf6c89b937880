//! Reward is learnt: every algorithm raises the accuracy on held-out questions of two tasks far above where it starts.
//!
//! A small model made here sees examples of which a quarter is right, so that it is right now and then; the rest it must
//! find out from reward. Minutes: LAPIDARY_SLOW_TESTS=1 runs it, over three seeds, and prints a table.
mod common;

use common::run;
use engine::backend::Device;
use engine::random::Stream;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use trainers::policy_gradients::tasks::{self, Split};
use trainers::small_model::{Shape, make};

/// Training questions with answers of which a quarter is right, the others the right one's letters in another order.
fn examples(task: &str, seed: u64) -> String {
    let made = tasks::parse(task).unwrap().unwrap().rows(Split::Train, seed, false).unwrap();
    let row = |(i, row): (usize, &trainers::data::Row)| {
        let (stream, answer) = (Stream::new(seed, i as u64), row.fields["answer"].as_str().unwrap());
        let letters: Vec<char> = answer.chars().filter(|c| *c != ' ').collect();
        let order = stream.permutation(letters.len());
        let between = if answer.contains(' ') { " " } else { "" };
        let mixed: Vec<String> = order.iter().map(|&k| letters[k].to_string()).collect();
        let completion = if stream.below(99, 4) == 0 { answer.to_string() } else { mixed.join(between) };
        format!("{}\n", json!({"prompt": row.fields["prompt"], "completion": completion}))
    };
    made.rows.iter().enumerate().map(row).collect()
}

fn train(command: &str, model: &Path, data: &str, out: &Path, seed: u64, more: &str) -> Vec<Value> {
    let mut all: Vec<String> = Vec::new();
    let (model, to) = (model.display().to_string(), out.display().to_string());
    for (flag, value) in [("model_name_or_path", model.as_str()), ("dataset_name", data), ("output_dir", &to)] {
        all.extend([format!("--{flag}"), value.to_string()]);
    }
    let shared = format!("--device cpu --seed {seed} --save_strategy no --gradient_checkpointing false {more}");
    all.extend(shared.split_whitespace().map(String::from));
    run(command, &all, out)
}

const TASKS: [&str; 2] = ["task:sorting?length=3&max=9&style=short", "task:reverse?length=3&style=short"];
const RAFT: (&str, &str) = ("raft", "--learning_rate 1e-3");
const ALGORITHMS: [(&str, &str); 7] = [
    RAFT,
    ("reinforce", "--learning_rate 1e-3"),
    ("reinforce", "--learning_rate 1e-3 --plus_plus"),
    ("rloo", "--learning_rate 1e-3 --num_generations 8"),
    ("grpo", "--learning_rate 1e-3"),
    ("ppo", "--learning_rate 1e-3 --num_ppo_epochs 2 --temperature 1 --kl_coef 0.01"),
    ("ppo", "--learning_rate 1e-3 --num_ppo_epochs 2 --temperature 1 --kl_coef 0.01 --critic head"),
];

/// Held-out accuracy at temperature 1 before and after.
fn accuracies(task: &str, seed: u64, algorithms: &[(&str, &str)]) -> Vec<(f64, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let cpu: Device = engine::cpu::Cpu::new(Some(2)).expect("the CPU");
    make(&at("model"), Shape::SMALL, &cpu, seed).expect("a model");
    fs::write(at("examples.jsonl"), examples(&format!("{task}&rows=3000"), seed)).unwrap();
    let shown = "--learning_rate 5e-3 --per_device_train_batch_size 48 --num_train_epochs 6 --lr_scheduler_type cosine --warmup_steps 20";
    train("sft", &at("model"), &at("examples.jsonl").display().to_string(), &at("start"), seed, shown);
    let of = |(i, (command, more)): (usize, &(&str, &str))| {
        let settings = format!(
            "{more} --eval_dataset {task}&rows=100 --num_generations_eval 2 --eval_strategy steps --eval_steps 200 --max_steps 200 \
             --per_device_train_batch_size 64 --max_completion_length 6"
        );
        let out = at(&format!("out{i}"));
        let frozen =
            settings.replace("--max_steps 200", "--max_steps 1").replace("--learning_rate 1e-3", "--learning_rate 0");
        let reward =
            |lines: Vec<Value>| lines.iter().filter_map(|l| l.get("eval_reward")?.as_f64()).next_back().unwrap();
        let before = reward(train(command, &at("start"), task, &at(&format!("before{i}")), seed, &frozen));
        (before, reward(train(command, &at("start"), task, &out, seed, &settings)))
    };
    algorithms.iter().enumerate().map(of).collect()
}

/// Seconds, so that it always runs: reward-ranked fine-tuning, the newest of them, on one task and one seed.
#[test]
fn reward_ranked_fine_tuning_learns_to_sort() {
    let (before, after) = accuracies(TASKS[0], 1, &[RAFT])[0];
    println!("{} {} {}: {before:.2} → {after:.2}", TASKS[0], RAFT.0, RAFT.1);
    assert!(after > before + 0.2, "held-out accuracy went from {before} to {after}");
}

#[test]
fn every_algorithm_learns_two_tasks() {
    if std::env::var_os("LAPIDARY_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: minutes; LAPIDARY_SLOW_TESTS=1 runs it");
        return;
    }
    let seeds = [1, 2, 3];
    let mut short = Vec::new();
    for task in TASKS {
        let found: Vec<Vec<(f64, f64)>> = seeds.iter().map(|&seed| accuracies(task, seed, &ALGORITHMS)).collect();
        for (i, (command, more)) in ALGORITHMS.iter().enumerate() {
            let of: Vec<(f64, f64)> = found.iter().map(|f| f[i]).collect();
            let percent = |x: f64| (100.0 * x).round();
            let pairs: Vec<String> = of.iter().map(|(b, a)| format!("{} → {}", percent(*b), percent(*a))).collect();
            let line = format!("{task} {command} {more}: {}", pairs.join(", "));
            println!("{line}");
            if of.iter().any(|(before, after)| *after <= before + 0.2) {
                short.push(line);
            }
        }
    }
    assert!(short.is_empty(), "less than 20 points were won in:\n{}", short.join("\n"));
}
