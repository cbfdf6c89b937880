//! lm-eval's own results on the same task files and models; no bit of them moves with the batch.
mod common;

use common::golden;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TASKS: [&str; 6] = ["choices", "choices_fewshot", "inputs", "last_word", "rolling", "answers"];

fn eval(model: &str, tasks: &[String], out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
    command.args(["eval", "--model_name_or_path", &golden(&format!("models/{model}")).display().to_string()]);
    command.args(["--device", "cpu", "--output_dir", &out.display().to_string(), "--tasks"]).args(tasks).args(more);
    command.output().expect("the program runs")
}

fn files() -> Vec<String> {
    TASKS.iter().map(|task| golden(&format!("evaluation/{task}.yaml")).display().to_string()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
}

fn samples(out: &Path, task: &str) -> Vec<Value> {
    let text = fs::read_to_string(out.join(format!("samples_{task}.jsonl"))).expect("samples");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Numbers up to a tolerance, everything else as it is; lm-eval has each answer in a list of its own.
fn alike(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= tolerance * b.abs().max(1.0)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, tolerance))
        }
        (a, b) => a == b,
    }
}

/// An answer as lm-eval writes it: a rolling likelihood is a number alone.
fn in_its_form(answer: &Value, task: &str) -> Value {
    if task == "rolling" { answer[0].clone() } else { answer.clone() }
}

#[test]
fn lm_evals_numbers() {
    let expected = json(&golden("evaluation/expected.json"));
    for model in ["llama", "qwen3"] {
        let dir = tempfile::tempdir().expect("directory");
        let printed = succeeded(eval(model, &files(), dir.path(), &[]));
        assert!(printed.contains("choices_fewshot") && printed.contains("3-shot"), "{printed}");
        let found = json(&dir.path().join("results.json"));
        for task in TASKS {
            let theirs = &expected[model][task];
            for (name, value) in theirs["results"].as_object().expect("results").iter().filter(|(n, _)| n.contains(','))
            {
                let ours = &found["results"][task][name];
                // Standard errors of sums over all rows are bootstrapped there.
                let bootstrapped =
                    name.contains("_stderr") && !ours.is_number() || name.starts_with("perplexity_stderr");
                let tolerance = if name.contains("perplexity") || name.contains("bits") { 2e-4 } else { 1e-6 };
                assert!(bootstrapped || alike(ours, value, tolerance), "{model} {task} {name}: {ours} and {value}");
            }
            let ours = samples(dir.path(), task);
            let theirs = theirs["samples"].as_array().expect("samples");
            assert_eq!(ours.len(), theirs.len(), "{model} {task}");
            for theirs in theirs {
                let same = |line: &&Value| line["doc_id"] == theirs["doc_id"] && line["filter"] == theirs["filter"];
                let ours = ours.iter().find(same).expect("the row");
                let place = format!("{model} {task} row {}", theirs["doc_id"]);
                let asked = theirs["arguments"].as_array().expect("arguments");
                for (ours, theirs) in ours["arguments"].as_array().expect("arguments").iter().zip(asked) {
                    let text = |i: usize| if task == "answers" && i == 1 { &Value::Null } else { &theirs[i] };
                    assert_eq!((&ours[0], &ours[1]), (text(0), text(1)), "{place}");
                }
                for (ours, theirs) in
                    ours["resps"].as_array().expect("resps").iter().zip(theirs["resps"].as_array().expect("resps"))
                {
                    let theirs = if task == "answers" { theirs } else { &theirs[0] };
                    assert!(alike(&in_its_form(ours, task), theirs, 2e-4), "{place}: {ours} and {theirs}");
                }
                if task == "answers" {
                    assert_eq!(ours["filtered_resps"], theirs["filtered_resps"], "{place}");
                }
            }
        }
    }
}

#[test]
fn no_bit_depends_on_the_batch() {
    let dir = tempfile::tempdir().expect("directory");
    let (one, many) = (dir.path().join("one"), dir.path().join("many"));
    succeeded(eval("llama", &files(), &one, &["--batch_size", "1"]));
    succeeded(eval("llama", &files(), &many, &["--batch_size", "7", "--threads", "1"]));
    for task in TASKS {
        assert_eq!(samples(&one, task), samples(&many, task), "{task}");
    }
    assert_eq!(json(&one.join("results.json")), json(&many.join("results.json")));
}

/// What a task file may hold and is refused: one line, before the model is loaded.
#[test]
fn wrong_task_files_are_told() {
    let dir = tempfile::tempdir().expect("directory");
    let rows = golden("evaluation/sums.jsonl").display().to_string();
    let usual = format!(
        "dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {rows}\ntest_split: test\ndoc_to_target: answer\n"
    );
    for (text, told) in [
        (format!("{usual}process_docs: !function utils.process\n"), "!function names Python code"),
        (format!("{usual}process_results: utils.count\n"), "process_results is Python code"),
        (format!("{usual}metric_list:\n  - metric: bleu\n"), "the metric bleu is not computed"),
        (format!("{usual}doc_to_txt: a\n"), "doc_to_txt is no key"),
        (format!("{usual}output_type: embeddings\n"), "output_type embeddings is none of"),
        (format!("{usual}generation_kwargs:\n  num_beams: 3\n"), "generation_kwargs.num_beams is not read"),
        (usual.replace("json\n", "openai/gsm8k\n"), "only files are read"),
        (usual.replace("test_split: test", "test_split: train"), "names no files of the split train"),
        (usual.replace("test_split: test\n", ""), "names neither a test_split nor a validation_split"),
        (usual.replace("doc_to_target: answer\n", ""), "has no doc_to_target"),
        (format!("{usual}filter_list:\n  - name: f\n    filter:\n      - function: custom\n"), "custom is not one of"),
        ("- a\n".to_string(), "is no task file"),
    ] {
        let path = dir.path().join("task.yaml");
        fs::write(&path, &text).expect("written");
        let output = eval("llama", &[path.display().to_string()], &dir.path().join("out"), &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(told) && said.trim().lines().count() == 1, "{told}: {said}");
    }
}
