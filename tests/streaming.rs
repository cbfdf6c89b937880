//! Rows that are read as they are needed: the bits of a run whose rows are in memory, and what streaming asks for.
mod common;

use common::golden;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn program(line: &str, out: &Path) -> Output {
    let model = golden("models/llama");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
    command.args(line.split_whitespace());
    command.arg("--model_name_or_path").arg(model).args(["--device", "cpu", "--logging_steps", "1"]);
    command.arg("--output_dir").arg(out).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn trained(line: &str, out: &Path) -> String {
    let output = program(line, out);
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stderr(&output)
}

/// One line on standard error and exit code 2.
fn refused(line: &str, out: &Path) -> String {
    let output = program(line, out);
    let said = stderr(&output);
    let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("note:")).collect();
    assert_eq!((output.status.code(), errors.len(), out.exists()), (Some(2), 1, false), "{line}: {said}");
    errors[0].to_string()
}

fn weights(out: &Path) -> Vec<u8> {
    fs::read(out.join("model.safetensors")).expect("weights")
}

/// The lines of metrics, without what streaming cannot know and what a clock says.
fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let fields = line.as_object_mut().expect("an object");
        fields.retain(|name, _| name != "epoch" && !name.contains("runtime") && !name.contains("per_second"));
        line
    };
    text.lines().map(line).collect()
}

/// A directory of this test, and files in it.
fn place(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    dir
}

fn read(name: &str) -> Vec<u8> {
    fs::read(golden(name)).expect("a golden file")
}

fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Trains twice, with rows in memory in the file's order and streamed: the same weights, the same metrics.
fn same_bits(dir: &Path, name: &str, line: &str) {
    let (whole, streamed): (PathBuf, PathBuf) =
        (dir.join(format!("{name}-whole")), dir.join(format!("{name}-streamed")));
    trained(&format!("{line} --train_sampling_strategy sequential"), &whole);
    trained(&format!("{line} --dataset_streaming"), &streamed);
    assert_eq!(metrics(&whole), metrics(&streamed), "{name}");
    assert!(weights(&whole) == weights(&streamed), "{name}: other weights");
}

/// Two passes over the data, steps of two batches, evaluations at the end of each pass.
#[test]
fn streamed_rows_give_the_bits_of_rows_in_memory() {
    let text = String::from_utf8(read("data/text.jsonl")).expect("text");
    let (one, two) = text.split_at(text.match_indices('\n').nth(19).expect("20 lines").0 + 1);
    let dir = place(&[
        ("rows/train-1.jsonl", one.into()),
        ("rows/train-2.jsonl", two.into()),
        ("rows/test.jsonl", read("data/text_eval.jsonl")),
    ]);
    let steps = "--max_steps 8 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --max_length 64";
    let rows = shown(dir.path().join("rows"));
    same_bits(dir.path(), "text", &format!("sft --dataset_name {rows} {steps} --eval_strategy epoch"));
    let packed = "--max_steps 10 --per_device_train_batch_size 2 --max_length 64 --packing";
    for (name, more) in
        [("bfd", ""), ("split", "--packing_strategy bfd_split"), ("wrapped", "--packing_strategy wrapped")]
    {
        same_bits(dir.path(), name, &format!("sft --dataset_name {rows} {packed} {more}"));
    }
    let chats = shown(golden("data/messages.jsonl"));
    let adapter = "--use_peft --neftune_noise_alpha 5 --max_steps 3 --per_device_train_batch_size 4";
    let (whole, streamed) = (dir.path().join("a"), dir.path().join("b"));
    trained(&format!("sft --dataset_name {chats} {adapter} --train_sampling_strategy sequential"), &whole);
    trained(&format!("sft --dataset_name {chats} {adapter} --dataset_streaming"), &streamed);
    let of = |out: &Path| fs::read(out.join("adapter_model.safetensors")).expect("an adapter");
    assert!(of(&whole) == of(&streamed), "dropout and noise are those of the step");
}

#[test]
fn streamed_preferences_give_the_bits_of_rows_in_memory() {
    let dir = place(&[]);
    let (pairs, judged) = (shown(golden("data/preference.jsonl")), shown(golden("data/unpaired_preference.jsonl")));
    let margins = shown(golden("data/preference_margin.jsonl"));
    let steps = "--max_steps 6 --per_device_train_batch_size 4 --gradient_accumulation_steps 2 --max_length 64";
    for (name, line) in [
        ("dpo", format!("dpo --dataset_name {pairs}")),
        ("orpo", format!("orpo --dataset_name {pairs}")),
        ("cpo", format!("cpo --dataset_name {pairs}")),
        ("kto", format!("kto --dataset_name {judged} --learning_rate 1e-3")),
        ("kto-of-pairs", format!("kto --dataset_name {pairs}")),
        ("bco", format!("bco --dataset_name {judged}")),
        ("reward", format!("reward --dataset_name {margins}")),
    ] {
        same_bits(dir.path(), name, &format!("{line} {steps}"));
    }
}

/// In the middle of a block, packed and shuffled, and in the second pass.
#[test]
fn a_streamed_run_goes_on_to_the_same_bits() {
    let dir = place(&[]);
    let rows = shown(golden("data/text.jsonl"));
    let common = format!("--dataset_name {rows} --dataset_streaming --save_steps 3 --per_device_train_batch_size 3");
    for (name, more) in [
        ("plain", "sft --max_length 64 --max_steps 20"),
        ("packed", "sft --max_length 64 --packing --shuffle_dataset --max_steps 8"),
    ] {
        let (whole, again) = (dir.path().join(name), dir.path().join(format!("{name}-again")));
        trained(&format!("{more} {common}"), &whole);
        trained(&format!("{more} {common}"), &again);
        let last = if name == "plain" { 18 } else { 6 };
        for step in [3, last] {
            let checkpoint = shown(again.join(format!("checkpoint-{step}")));
            trained(&format!("{more} {common} --resume_from_checkpoint {checkpoint}"), &again);
            assert!(weights(&again) == weights(&whole), "{name}: resumed at step {step}");
            assert_eq!(metrics(&again), metrics(&whole), "{name}: resumed at step {step}");
        }
        // In the second pass, or in the middle of the block.
        let (step, field, value) = if name == "plain" { (18, "pass", 1) } else { (3, "taken", 9) };
        let state = fs::read_to_string(whole.join(format!("checkpoint-{step}/trainer_state.json"))).expect("a state");
        let state: Value = serde_json::from_str(&state).expect("JSON");
        assert_eq!(state["position"]["stream"][field], value, "{name}: {}", state["position"]);
    }
}

/// Drawn from two data sets, streamed or not.
#[test]
fn a_mixture_is_drawn_alike() {
    let dir = place(&[]);
    let config = dir.path().join("mixture.yaml");
    let (a, b) = (shown(golden("data/text.jsonl")), shown(golden("data/text_eval.jsonl")));
    let text = format!(
        "datasets:\n  - path: {a}\n  - path: {b}\ninterleave_probabilities: [0.75, 0.25]\n\
         interleave_stopping_strategy: all_exhausted\nmax_steps: 8\nper_device_train_batch_size: 8\nmax_length: 64\n"
    );
    fs::write(&config, text).expect("written");
    let (whole, streamed) = (dir.path().join("whole"), dir.path().join("streamed"));
    let line = format!("sft --config {}", shown(&config));
    trained(&format!("{line} --train_sampling_strategy sequential"), &whole);
    trained(&format!("{line} --streaming"), &streamed);
    assert!(weights(&whole) == weights(&streamed));
    assert_eq!(metrics(&whole), metrics(&streamed));
}

#[test]
fn what_streaming_asks_for() {
    let late = format!("{}{{\"text\": 7}}\n", "{\"text\": \"a short row\"}\n".repeat(1005));
    let dir = place(&[("late.jsonl", late.into())]);
    let out = dir.path().join("out");
    let (text, judged) = (shown(golden("data/text.jsonl")), shown(golden("data/unpaired_preference.jsonl")));
    let said = refused(&format!("sft --dataset_name {text} --dataset_streaming"), &out);
    assert!(said.contains("--dataset_streaming: nobody knows how many rows") && said.contains("max_steps"), "{said}");
    let said = refused(&format!("dpo --dataset_name {judged} --dataset_streaming --max_steps 2"), &out);
    assert!(said.contains("unpaired_preference.jsonl:1: is a single answer with a label"), "{said}");
    let flags = "--dataset_streaming --max_steps 2 --precompute_ref_log_probs";
    let said = refused(&format!("dpo --dataset_name {judged} {flags}"), &out);
    assert!(said.contains("--precompute_ref_log_probs: needs all rows"), "{said}");

    // A row that is wrong behind those that are looked at first: the run is under way.
    let late = shown(dir.path().join("late.jsonl"));
    let line = format!("sft --dataset_name {late} --dataset_streaming --max_steps 20 --per_device_train_batch_size 64");
    let output = program(&line, &out);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("late.jsonl:1006: the field \"text\" must be a string"), "{said}");
    assert!(said.contains("memory is estimated from the first 1000 rows"), "{said}");
}
