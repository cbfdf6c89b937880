//! A number depends only on the values it is computed from: whole runs, compared bit by bit.
mod common;

use common::{golden, run, sft};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn arguments(model: &str, data: &str, out: &Path, more: &str) -> Vec<String> {
    let mut all = vec!["--model_name_or_path".to_string(), golden(model).display().to_string()];
    all.extend(["--dataset_name".into(), golden(data).display().to_string()]);
    all.extend(["--output_dir".into(), out.display().to_string()]);
    all.extend("--device cpu --learning_rate 1e-3 --max_length 128 --logging_steps 1".split(' ').map(String::from));
    all.extend(more.split_whitespace().map(String::from));
    all
}

fn weights(out: &Path) -> Vec<u8> {
    let names = ["model.safetensors", "adapter_model.safetensors"];
    let file = names.iter().map(|n| out.join(n)).find(|p| p.exists()).expect("weights");
    fs::read(file).expect("read")
}

fn losses(metrics: &[Value], name: &str) -> Vec<f64> {
    metrics.iter().filter_map(|line| line.get(name)?.as_f64()).collect()
}

const LORA: &str = "--use_peft --lora_r 4 --lora_alpha 8 --lora_dropout 0.1 --lora_target_modules all-linear --max_steps 4 --per_device_train_batch_size 3";

#[test]
fn any_number_of_threads() {
    let run = |threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        sft(&arguments("models/qwen3", "data/messages.jsonl", &out, &format!("{LORA} --threads {threads}")), &out);
        weights(&out)
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads gave other bits than one");
    }
}

/// An evaluation before the first step is logged as that of step 0, by each kind of trainer, and changes no bit.
#[test]
fn an_evaluation_at_the_start_changes_nothing() {
    let file = |name: &str| golden(name).display().to_string();
    let (chats, pairs) = (file("data/messages.jsonl"), file("data/preference.jsonl"));
    let task = "task:addition?digits=1&rows=8".to_string();
    for (command, data, measure, more) in [
        ("sft", chats, "eval_loss", "--max_length 64"),
        ("dpo", pairs, "eval_loss", "--max_length 64"),
        ("grpo", task, "eval_reward", "--max_completion_length 4"),
    ] {
        let [(n, _, without), (n_first, step, with)] = ["false", "true"].map(|first| {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let model = file("models/llama");
            let given = ["--model_name_or_path", &model, "--dataset_name", &data, "--eval_dataset", &data];
            let rest = format!(
                "--device cpu --max_steps 2 --logging_steps 1 --eval_strategy steps --eval_steps 2 --eval_on_start {first} \
                 --output_dir {} {more}",
                out.display()
            );
            let all: Vec<String> = given.into_iter().chain(rest.split_whitespace()).map(String::from).collect();
            let metrics = run(command, &all, &out);
            (losses(&metrics, measure).len(), metrics[0]["step"].as_u64(), weights(&out))
        });
        assert_eq!((n_first, step), (n + 1, Some(0)), "{command}");
        assert!(with == without, "{command}: evaluating first changed what was learnt");
    }
}

#[test]
fn a_resumed_run_ends_in_the_bits_of_an_uninterrupted_one() {
    let parts = "--use_peft --lora_r 4 --lora_dropout 0 --lora_target_modules q_proj lm_head embed_tokens \
                 --lora_modules_to_save norm down_proj --max_steps 4 --per_device_train_batch_size 3";
    let dora = "--use_peft --lora_r 4 --use_dora --lora_target_modules q_proj lm_head embed_tokens --max_steps 4 \
                --per_device_train_batch_size 3";
    let rows = "--use_peft --lora_r 4 --lora_target_modules q_proj lm_head --lora_trainable_token_indices 5 9 40 \
                --max_steps 4 --per_device_train_batch_size 3";
    let noisy = "--max_steps 4 --per_device_train_batch_size 3 --neftune_noise_alpha 5";
    for kind in [
        LORA,
        parts,
        dora,
        rows,
        noisy,
        "--max_steps 4 --per_device_train_batch_size 5 --gradient_accumulation_steps 2",
    ] {
        resumes("sft", "data/messages.jsonl", kind);
    }
}

/// The same for runs that keep more than weights: a reference that moves, a running mean, a reward model's head.
#[test]
fn resumed_preference_runs_end_in_the_same_bits() {
    let short = "--max_steps 4 --per_device_train_batch_size 3";
    for (command, data, kind) in [
        ("dpo", "data/preference.jsonl", format!("{short} --sync_ref_model --ref_model_sync_steps 1")),
        ("dpo", "data/preference.jsonl", format!("{short} --precompute_ref_log_probs --gradient_accumulation_steps 2")),
        ("dpo", "data/preference.jsonl", format!("{LORA} --no_disable_dropout")),
        ("orpo", "data/preference.jsonl", short.to_string()),
        ("cpo", "data/preference.jsonl", format!("{short} --loss_type alphapo --alpha 0.25")),
        ("kto", "data/unpaired_preference.jsonl", short.to_string()),
        ("bco", "data/unpaired_preference.jsonl", short.to_string()),
        ("reward", "data/preference.jsonl", short.to_string()),
        ("reward", "data/preference_margin.jsonl", LORA.to_string()),
    ] {
        resumes(command, data, &kind);
    }
}

/// Judged by the highest loss, the first of three evaluations is the best: the run stops after the third, and its finished
/// model is that of the first, with and without an adapter.
#[test]
fn the_best_evaluation_is_the_finished_model() {
    let rows = golden("data/messages.jsonl").display().to_string();
    for kind in ["--per_device_train_batch_size 3", LORA] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let more = format!(
            "{kind} --eval_dataset {rows} --eval_strategy steps --eval_steps 1 --save_steps 1 --save_total_limit 1 \
             --load_best_model_at_end --greater_is_better true --early_stopping_patience 2"
        );
        let metrics = sft(&arguments("models/llama", "data/messages.jsonl", &out, &more), &out);
        let measured = losses(&metrics, "eval_loss");
        assert!(measured.len() == 3 && measured[0] > measured[1] && measured[1] > measured[2], "{measured:?}");
        assert!(weights(&out) == weights(&out.join("checkpoint-1")), "not the model of step 1: {kind}");
        assert!(weights(&out) != weights(&out.join("checkpoint-3")) && !out.join("checkpoint-2").exists(), "{kind}");
    }
}

/// Noise on the embeddings changes a step, but no evaluation; packed rows count as one sequence.
#[test]
fn noise_is_of_training_only() {
    let rows = golden("data/messages.jsonl").display().to_string();
    let of = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let more = format!(
            "--max_steps 1 --per_device_train_batch_size 3 --eval_dataset {rows} --eval_strategy steps --eval_steps 1 \
             --eval_on_start {more}"
        );
        let metrics = sft(&arguments("models/llama", "data/messages.jsonl", &out, &more), &out);
        (losses(&metrics, "eval_loss")[0], losses(&metrics, "loss")[0])
    };
    let (plain, noisy, packed) = (of(""), of("--neftune_noise_alpha 5"), of("--neftune_noise_alpha 5 --packing"));
    assert_eq!(plain.0, noisy.0);
    assert_ne!(plain.1, noisy.1);
    assert!((plain.1 - noisy.1).abs() < 0.5 && packed.1.is_finite(), "{plain:?} {noisy:?} {packed:?}");
}

/// Runs to the end, then again from the checkpoint in the middle: the same weights and losses.
fn resumes(command: &str, data: &str, kind: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (whole, halves) = (dir.path().join("whole"), dir.path().join("halves"));
    let start = |out: &Path, more: &str| {
        run(command, &arguments("models/llama", data, out, &format!("{kind} --save_steps 2 {more}")), out)
    };
    let straight = start(&whole, "");
    // The state after two steps, as if the run had been interrupted there.
    copy_dir(&whole, &halves);
    for file in ["model.safetensors", "adapter_model.safetensors", "checkpoint-4"] {
        let path = halves.join(file);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else if path.exists() {
            fs::remove_file(&path).unwrap()
        }
    }
    let resumed = start(&halves, "--resume_from_checkpoint last");
    assert!(weights(&whole) == weights(&halves), "other weights after resuming: {command} {kind}");
    for metric in ["loss", "rewards/margins", "kl", "delta", "accuracy"] {
        assert_eq!(losses(&straight, metric), losses(&resumed, metric), "{command} {kind}");
    }
}

/// How a step's pairs are cut into micro-batches changes nothing but rounding.
#[test]
fn cutting_pairs_changes_nothing() {
    // Neighbouring pairs with one prompt, which they share where they are in one micro-batch.
    let shared = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
    let pair = |i: usize| {
        let prompt = format!("Which line comes after line {}?", i / 2);
        serde_json::json!({"prompt": prompt, "chosen": format!(" Line {i}."), "rejected": " No idea, none at all."})
    };
    fs::write(shared.path(), (0..12).map(|i| format!("{}\n", pair(i))).collect::<String>()).unwrap();
    let shared = shared.path().to_str().unwrap();
    for (command, data, kind) in [
        ("dpo", shared, ""),
        ("orpo", shared, ""),
        ("cpo", shared, ""),
        ("dpo", "data/preference.jsonl", "--loss_type sigmoid sft"),
        ("orpo", "data/preference.jsonl", ""),
        ("cpo", "data/preference.jsonl", ""),
        ("reward", "data/preference.jsonl", ""),
    ] {
        let norm = |more: &str| {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let more = format!("{kind} --max_steps 1 --train_sampling_strategy sequential {more}");
            let metrics = run(
                command,
                &arguments(if command == "reward" { "models/llama-reward" } else { "models/llama" }, data, &out, &more),
                &out,
            );
            (losses(&metrics, "loss")[0], losses(&metrics, "grad_norm")[0])
        };
        let whole = norm("--per_device_train_batch_size 12");
        let cut = norm("--per_device_train_batch_size 3 --gradient_accumulation_steps 4");
        let close = |a: f64, b: f64| (a - b).abs() < 2e-5 * b.abs();
        assert!(close(cut.0, whole.0) && close(cut.1, whole.1), "{command}: {cut:?}, whole {whole:?}");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// Loss and gradient norm of one step, however its batch is cut, packed or recomputed: equal to float rounding.
#[test]
fn cutting_packing_and_checkpointing_change_nothing() {
    let run = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let metrics = sft(
            &arguments(
                "models/mistral",
                "data/messages.jsonl",
                &out,
                &format!("--max_steps 1 --train_sampling_strategy sequential {more}"),
            ),
            &out,
        );
        (losses(&metrics, "loss")[0], losses(&metrics, "grad_norm")[0])
    };
    let whole = run("--per_device_train_batch_size 48");
    for more in [
        "--per_device_train_batch_size 12 --gradient_accumulation_steps 4",
        "--per_device_train_batch_size 1 --gradient_accumulation_steps 48",
        "--per_device_train_batch_size 48 --gradient_checkpointing false",
        "--per_device_train_batch_size 48 --packing",
    ] {
        let cut = run(more);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5 * b.abs();
        assert!(close(cut.0, whole.0) && close(cut.1, whole.1), "{more}: {cut:?}, whole {whole:?}");
    }
}
