//! RLHF from end to end on a small model: a reward model learns a flawed rule, PPO finds the flaw, and a budget of KL or
//! the gold check ends the run while it is still good. The data are those of examples/rlhf.sh.
mod common;
#[path = "../examples/rlhf_data.rs"]
#[allow(dead_code)]
mod rlhf_data;

use common::run;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn train(command: &str, dir: &Path, from: &str, data: &str, to: &str, seed: u64, more: &str) -> Vec<Value> {
    let at = |name: &str| dir.join(name).display().to_string();
    let line = format!(
        "--model_name_or_path {} --dataset_name {data} --output_dir {} --device cpu --seed {seed} --gradient_checkpointing false \
         {more}",
        at(from),
        at(to)
    );
    run(command, &line.split_whitespace().map(String::from).collect::<Vec<_>>(), &dir.join(to))
}

/// Answers of a model to held-out questions: the share that is right and nothing else, and exclamation marks an answer.
fn gold_of(dir: &Path, model: &str, seed: u64) -> f64 {
    let out = format!("measured-{model}");
    let more = format!(
        "--gold_funcs exact --reward_funcs length --eval_dataset {}&rows=100 --num_generations_eval 2 --eval_strategy steps \
         --eval_steps 1 --max_steps 1 --learning_rate 0 --max_completion_length 12 --per_device_train_batch_size 4 --save_strategy no",
        rlhf_data::TASK
    );
    let metrics = train("reinforce", dir, model, rlhf_data::TASK, &out, seed, &more);
    metrics.iter().filter_map(|line| line.get("eval_gold")?.as_f64()).next_back().expect("a gold check")
}

fn series(metrics: &[Value], name: &str) -> Vec<f64> {
    metrics.iter().filter_map(|line| line.get(name)?.as_f64()).collect()
}

const PPO: &str = "--gold_funcs exact --learning_rate 2e-4 --lr_scheduler_type constant --num_ppo_epochs 2 --temperature 1 --kl_coef 0.01 \
                   --critic head --per_device_train_batch_size 64 --max_completion_length 12 --max_steps 120 --logging_steps 4 \
                   --save_strategy no";

fn hacks_and_is_kept(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rlhf_data::make(dir, seed).expect("data");
    let at = |name: &str| dir.join(name).display().to_string();
    let settings = "--learning_rate 5e-3 --lr_scheduler_type cosine --warmup_steps 20 --per_device_train_batch_size 48 \
                    --num_train_epochs 4 --save_strategy no";
    train("sft", dir, "model", &at("sft.jsonl"), "shown", seed, settings);
    let settings = format!(
        "--learning_rate 2e-3 --per_device_train_batch_size 32 --num_train_epochs 3 --eval_dataset {} --per_device_eval_batch_size \
         100 --save_strategy no",
        at("held-out.jsonl")
    );
    let accuracy =
        series(&train("reward", dir, "shown", &at("pairs.jsonl"), "proxy", seed, &settings), "eval_accuracy");
    assert!(accuracy.last() > Some(&0.9), "seed {seed}: the reward model has not learnt the flawed rule: {accuracy:?}");

    let ppo = |to: &str, more: &str| {
        let more = format!("{PPO} --reward_model_name_or_path {} {more}", at("proxy"));
        train("ppo", dir, "shown", rlhf_data::TASK, to, seed, &more)
    };
    let free = ppo("free", "");
    let guarded = ppo("budget", "--kl_budget 0.5");
    let patient =
        format!("--gold_patience 4 --eval_dataset {}&rows=100 --eval_strategy steps --eval_steps 5", rlhf_data::TASK);
    ppo("patience", &patient);
    let (before, after) = (gold_of(dir, "shown", seed), gold_of(dir, "free", seed));
    let (budget, patience) = (gold_of(dir, "budget", seed), gold_of(dir, "patience", seed));
    let proxy = series(&free, "rewards/proxy/mean");
    println!(
        "seed {seed}: gold {before:.2} after sft; {after:.2} without a budget (proxy {:.2} → {:.2}), {budget:.2} with kl_budget after \
         {} steps, {patience:.2} with gold_patience",
        proxy[0],
        proxy[proxy.len() - 1],
        guarded.last().and_then(|line| line["step"].as_u64()).unwrap_or(0)
    );
    assert!(proxy[proxy.len() - 1] > proxy[0] + 1.0, "seed {seed}: the proxy did not rise: {proxy:?}");
    assert!(after < before - 0.2, "seed {seed}: there is no hack: {before} before, {after} after");
    assert!(budget > before && patience > before, "seed {seed}: {before} before, {budget} and {patience} guarded");
    assert!(series(&guarded, "objective/kl").last() > Some(&0.5), "seed {seed}: the budget did not end the run");
}

#[test]
fn the_hack_shows_and_is_stopped() {
    hacks_and_is_kept(1);
}

#[test]
fn the_hack_shows_and_is_stopped_in_two_more_seeds() {
    if std::env::var_os("LAPIDARY_SLOW_TESTS").is_none() {
        eprintln!("SKIPPED: minutes; LAPIDARY_SLOW_TESTS=1 runs it");
        return;
    }
    hacks_and_is_kept(2);
    hacks_and_is_kept(3);
}

/// A run that its budget ended can go on with a larger one, to the bits of a run that always had it.
#[test]
fn a_stopped_run_goes_on_with_a_larger_budget() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rlhf_data::make(dir, 5).expect("data");
    let more = |budget: &str| {
        format!(
            "--reward_funcs length --gold_funcs exact --num_generations 2 --learning_rate 3e-3 --per_device_train_batch_size 8 \
             --max_completion_length 6 --max_steps 8 --logging_steps 1 --save_steps 100 --kl_budget {budget}"
        )
    };
    let whole = train("grpo", dir, "model", rlhf_data::TASK, "whole", 1, &more("1e9"));
    let kl = series(&whole, "objective/kl");
    let budget = kl[..6].iter().cloned().fold(f64::MIN, f64::max) / 2.0;
    assert!(budget > 0.0, "{kl:?}");
    let stopped = train("grpo", dir, "model", rlhf_data::TASK, "parts", 1, &more(&budget.to_string()));
    assert!(stopped.len() < whole.len(), "the budget of {budget} did not end the run: {kl:?}");
    for (a, b) in stopped.iter().zip(&whole) {
        assert_eq!(a["grad_norm"], b["grad_norm"]);
    }
    fs::remove_file(dir.join("parts/model.safetensors")).expect("a finished model");
    let more = format!("{} --resume_from_checkpoint last", more("1e9"));
    train("grpo", dir, "model", rlhf_data::TASK, "parts", 1, &more);
    let weights = |name: &str| fs::read(dir.join(name).join("model.safetensors")).expect("weights");
    assert!(weights("parts") == weights("whole"), "other weights after going on");
}
