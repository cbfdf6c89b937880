//! A disk that fails at every call in turn: the run says so, and what it has left is whole; the same command then ends in the
//! bits of a run that nothing befell. `strace` makes the calls fail; where it is missing or may not trace, nothing is tested.
#![cfg(target_os = "linux")]
mod common;

use common::golden;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use trainers::run::Checkpoint;

/// What fails, and how a disk would say so.
const FAULTS: [(&str, &str); 4] = [("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"), ("mkdir", "EACCES")];

fn words(out: &Path) -> Vec<String> {
    let (model, data) =
        (golden("models/llama").display().to_string(), golden("data/messages.jsonl").display().to_string());
    let line = format!(
        "sft --model_name_or_path {model} --dataset_name {data} --device cpu --threads 1 --max_steps 2 --save_steps 1 \
         --learning_rate 1e-3 --save_total_limit 1 --report_to tensorboard --output_dir {}",
        out.display()
    );
    line.split_whitespace().map(String::from).collect()
}

/// The run under strace, its n-th such call failing.
fn faulty(out: &Path, call: &str, error: &str, n: usize) -> Output {
    let inject = format!("inject={call}:error={error}:when={n}");
    // What strace itself has to say goes nowhere, or it would stand among the program's own words.
    let traced = ["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject].map(String::from);
    let mut command = Command::new("strace");
    command.args(traced).arg(env!("CARGO_BIN_EXE_lapidary")).args(words(out)).output().expect("strace runs")
}

fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "-e", "trace=write", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whatever a failed run has left: checkpoints that are good, a model that is whole or not there, nothing half written.
fn check_what_is_left(out: &Path, whole: &[u8], place: &str) {
    if !out.is_dir() {
        return;
    }
    for checkpoint in Checkpoint::list(out).expect("listed") {
        Checkpoint::open(&checkpoint.path).unwrap_or_else(|e| panic!("{place}: {e}"));
    }
    if let Ok(model) = fs::read(out.join("model.safetensors")) {
        assert!(model == whole, "{place}: a model that is not the finished one");
    }
}

#[test]
fn every_call_of_a_disk_may_fail() {
    if !can_trace() {
        eprintln!("SKIPPED: strace is missing, or may not trace here");
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let straight = dir.path().join("straight");
    let output = Command::new(env!("CARGO_BIN_EXE_lapidary")).args(words(&straight)).output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let whole = fs::read(straight.join("model.safetensors")).expect("the model");
    for (call, error) in FAULTS {
        let mut failed = 0;
        for n in 1.. {
            let place = format!("{error} at {call} {n}");
            let out = dir.path().join(format!("{call}-{n}"));
            let output = faulty(&out, call, error, n);
            let said = stderr(&output);
            assert!(!said.contains("panicked") && !said.contains("internal error"), "{place}: {said}");
            check_what_is_left(&out, &whole, &place);
            let code = output.status.code();
            assert!(matches!(code, Some(0..=2)), "{place}: {code:?}: {said}");
            if code != Some(0) {
                failed += 1;
                assert!(said.contains("error: "), "{place}: {said}");
            }
            let again = Command::new(env!("CARGO_BIN_EXE_lapidary")).args(words(&out)).output().expect("it runs");
            // A fault that cost nothing (a picture, a hint), or one after the end: then the run is over.
            let over = stderr(&again).contains("holds an earlier run");
            assert!(again.status.success() || over, "{place}: {}", stderr(&again));
            assert!(fs::read(out.join("model.safetensors")).is_ok_and(|model| model == whole), "{place}: other bits");
            let names = fs::read_dir(&out).expect("a run").map(|e| e.expect("an entry").file_name());
            let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
            assert!(left.is_empty(), "{place}: {left:?} is left over");
            let _ = fs::remove_dir_all(&out);
            // No such call is left that could fail.
            if code == Some(0) && !hit(&dir.path().join("hit"), call, n) {
                break;
            }
        }
        assert!(failed > 0, "{call}: nothing has failed, so nothing was tested");
    }
}

/// Whether a run makes so many of these calls.
fn hit(out: &Path, call: &str, n: usize) -> bool {
    let log = out.with_extension("log");
    let traced = ["-f", "-qq", "-o", &log.display().to_string(), "-e", &format!("trace={call}")].map(String::from);
    let output = Command::new("strace").args(traced).arg(env!("CARGO_BIN_EXE_lapidary")).args(words(out)).output();
    assert!(output.expect("strace runs").status.success());
    let _ = fs::remove_dir_all(out);
    let text = fs::read_to_string(&log).expect("its log");
    text.lines().filter(|line| line.contains(&format!("{call}("))).count() >= n
}
