//! Eight optimiser steps of TRL's OnlineDPOTrainer on fixed pairs of completions against `lapidary online-dpo`; and the
//! same pairs given to `lapidary dpo`, which must see the same loss and gradient.
#[macro_use]
mod common;

use common::{Trajectory, golden, run};
use serde_json::{Value, json};

/// (metric, smallest size that a relative error is taken of). TRL's objective/kl and objective/entropy count padding.
const COMPARED: [(&str, f64); 11] = [
    ("loss", 0.1),
    ("grad_norm", 0.1),
    ("logps/chosen", 1.0),
    ("logps/rejected", 1.0),
    ("rewards/chosen", 1.0),
    ("rewards/rejected", 1.0),
    ("rewards/margins", 1.0),
    ("objective/scores", 1.0),
    ("objective/scores_margin", 1.0),
    ("learning_rate", 1e-4),
    ("beta", 0.1),
];

fn compare(name: &str, device: &str) {
    let Some(expected) = Trajectory::named(name) else { return };
    let metrics = expected.run(expected.command(), device, |_| ());
    let steps = expected.value["steps"].as_object().expect("steps");
    assert_eq!(metrics.len(), 8, "{name}: logged steps");
    for (metric, floor) in COMPARED {
        for (step, wanted) in steps[metric].as_array().expect("a series").iter().enumerate() {
            let (found, mut wanted) = (metrics[step][metric].as_f64().unwrap_or(f64::NAN), wanted.as_f64().unwrap());
            if name.ends_with("_accumulate") && metric == "grad_norm" {
                // TRL's online trainer adds up the gradients of its two micro-batches; the mean is half of that.
                wanted /= 2.0;
            }
            let tolerance = if step < 3 { 1e-3 } else { 5e-3 };
            assert!(
                (found - wanted).abs() <= tolerance * wanted.abs().max(floor),
                "{name} on {device}: step {}: {metric} is {found}, {wanted} in TRL",
                step + 1
            );
        }
    }
}

trajectories!(
    |name| name.starts_with("online_");
    online_dpo_accumulate, online_dpo_beta, online_dpo_ipo, online_dpo_qwen3, online_dpo_sigmoid
);

/// Pairs whose tokens are the same give the same bits, whether they are drawn or read.
#[test]
fn the_same_pairs_give_dpos_loss_and_gradient_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tokenizer = trainers::text::Tokenizer::from_directory(&golden("models/llama")).unwrap();
    let (mut prompts, mut fixed, mut pairs) = (String::new(), vec![], String::new());
    for (i, (better, worse)) in
        [("yes", "no, not at all"), ("no", "yes"), ("In a day", "12"), ("the line", "Oslo")].iter().enumerate()
    {
        let prompt = format!("Which line {i}?");
        let ids = |answer: &str| {
            let whole = tokenizer.encode(&format!("{prompt}{answer}")).unwrap();
            let mut ids = whole[tokenizer.encode(&prompt).unwrap().len()..].to_vec();
            ids.push(tokenizer.eos_id().unwrap());
            ids
        };
        prompts += &format!("{}\n", json!({"prompt": prompt}));
        // The worse one first, so that they must be put in order.
        fixed.push(json!({"prompt": prompt, "completion_ids": [ids(worse), ids(better)], "rewards": [0.0, 1.0]}));
        pairs += &format!("{}\n", json!({"prompt": prompt, "chosen": better, "rejected": worse}));
    }
    std::fs::write(at("prompts.jsonl"), prompts).unwrap();
    std::fs::write(at("fixed.json"), Value::from(fixed).to_string()).unwrap();
    std::fs::write(at("pairs.jsonl"), pairs).unwrap();
    let steps = |command: &str, data: &str, more: &str| -> Vec<(f64, f64)> {
        let out = at(command);
        let line = format!(
            "--dataset_name {} --output_dir {} --device cpu --learning_rate 1e-2 --per_device_train_batch_size 4 --max_steps 3 \
             --logging_steps 1 --save_strategy no --train_sampling_strategy sequential --model_name_or_path {} {more}",
            at(data).display(),
            out.display(),
            golden("models/llama").display()
        );
        let arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
        let number = |line: &Value, name: &str| line[name].as_f64().unwrap();
        run(command, &arguments, &out).iter().map(|l| (number(l, "loss"), number(l, "grad_norm"))).collect()
    };
    let online = steps("online-dpo", "prompts.jsonl", &format!("--completions_file {}", at("fixed.json").display()));
    assert_eq!(online, steps("dpo", "pairs.jsonl", ""));
    assert!(online[2].0 < online[0].0, "{online:?}");
}
