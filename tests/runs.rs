//! How a run is seen, stopped, gone on with and ended.
mod common;

use common::golden;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A command line on the tiny llama, its output directory last.
fn words(command: &str, data: &str, out: &Path, more: &str) -> Vec<String> {
    let data = if data.contains(':') { data.to_string() } else { golden(data).display().to_string() };
    let model = golden("models/llama").display().to_string();
    let mut all: Vec<String> =
        [command, "--model_name_or_path", &model, "--dataset_name", &data].map(String::from).into();
    let steps = if more.contains("--logging_steps") { "" } else { "--logging_steps 2" };
    all.extend(
        ["--device", "cpu"]
            .into_iter()
            .chain(steps.split_whitespace())
            .chain(more.split_whitespace())
            .map(String::from),
    );
    all.extend(["--output_dir".into(), out.display().to_string()]);
    all
}

fn program(words: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(words).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn metrics(out: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).expect("metrics.jsonl");
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

fn logged_steps(out: &Path) -> Vec<u64> {
    metrics(out).into_iter().filter(|l| l.get("loss").is_some()).filter_map(|l| l["step"].as_u64()).collect()
}

fn weights(out: &Path) -> Vec<u8> {
    fs::read(out.join("model.safetensors")).expect("weights")
}

/// The checkpoints of a run, by step.
fn checkpoints(out: &Path) -> Vec<u64> {
    let name = |e: fs::DirEntry| e.file_name().into_string().ok()?.strip_prefix("checkpoint-")?.parse().ok();
    let mut all: Vec<u64> = fs::read_dir(out).expect("a run").filter_map(|e| name(e.expect("an entry"))).collect();
    all.sort_unstable();
    all
}

#[test]
fn the_first_and_the_last_step_are_logged_and_the_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (command, data, shown) in [
        ("sft", "data/messages.jsonl", ["loss", "token acc"]),
        ("dpo", "data/preference.jsonl", ["accuracy", "margin"]),
        ("cpo", "data/preference.jsonl", ["accuracy", "margin"]),
        ("kto", "data/unpaired_preference.jsonl", ["margin", "chosen"]),
        ("reward", "data/preference.jsonl", ["accuracy", "margin"]),
        ("grpo", "task:addition?digits=1&rows=16", ["reward", "length"]),
    ] {
        let more = "--max_steps 3 --per_device_train_batch_size 4 --num_generations 4 --max_completion_length 4";
        let more = if command == "grpo" { more } else { "--max_steps 3 --per_device_train_batch_size 2" };
        let output = program(&words(command, data, &out, &format!("{more} --logging_steps 10 --overwrite_output_dir")));
        let said = stderr(&output);
        assert!(output.status.success(), "{command}: {said}");
        assert_eq!(logged_steps(&out), [1, 3], "{command}");
        let head = said
            .lines()
            .find(|l| l.trim_start().starts_with("step ") && l.ends_with("tokens/s"))
            .expect("the head of the table");
        for column in shown {
            assert!(head.contains(column), "{command}: no {column} in {head}");
            assert!(said.contains(&format!("  {column:<20}")), "{command}: {column} is not in the summary:\n{said}");
        }
        for part in ["done: 3 steps in", " → ", "saved: ", "next: lapidary "] {
            assert!(said.contains(part), "{command}: no {part:?} in\n{said}");
        }
    }
}

/// Starts a run that would take long, and signals it after its first logged step; what it says, and its exit code.
fn interrupted(words: &[String], signal: &str) -> (String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(words)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut said = String::new();
    let mut signalled = false;
    for line in BufReader::new(child.stderr.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        if line.trim_start().starts_with("2 ") && !signalled {
            let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
            assert!(sent.expect("kill runs").success());
            signalled = true;
        }
        said += &(line + "\n");
    }
    assert!(signalled, "no second step in {said}");
    (said, child.wait().expect("it ends").code())
}

/// SIGTERM, as a test may itself run where SIGINT is ignored (a shell's background job), which the program keeps to.
#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_with_a_checkpoint_that_goes_on_to_the_same_bits() {
    // Of so many passes over a generation the signal always comes in the middle: what is learnt from must be kept. The steps
    // are small, or all ratios would soon be clipped and nothing learnt from it.
    let rl = "--per_device_train_batch_size 16 --num_generations 4 --max_completion_length 3 --num_iterations 100000 \
              --reward_funcs regex:[ae] --learning_rate 1e-6";
    for (signal, command, data, more) in [
        (
            "TERM",
            "sft",
            "data/messages.jsonl",
            "--learning_rate 1e-3 --per_device_train_batch_size 2 --save_strategy no",
        ),
        ("TERM", "kto", "data/unpaired_preference.jsonl", "--learning_rate 1e-3 --per_device_train_batch_size 3"),
        ("TERM", "grpo", "data/prompts.jsonl", rl),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (halves, whole) = (dir.path().join("halves"), dir.path().join("whole"));
        let more = format!("--lr_scheduler_type constant {more}");
        let (said, code) = interrupted(&words(command, data, &halves, &format!("{more} --max_steps 100000")), signal);
        assert_eq!(code, Some(130), "{command}: {said}");
        let stopped = *checkpoints(&halves).last().unwrap_or_else(|| panic!("{command}: no checkpoint: {said}"));
        assert!(said.contains(&format!("stopped after step {stopped} of 100000")), "{said}");
        assert!(!halves.join("model.safetensors").exists(), "{command}: an unfinished run has no finished model");

        // The command that it names, for two steps more.
        let (_, told) = said.split_once("lapidary ").expect("a command");
        let mut again: Vec<String> = told.split_whitespace().map(String::from).collect();
        again.extend(["--max_steps".into(), (stopped + 2).to_string()]);
        let output = program(&again);
        let said = stderr(&output);
        assert!(output.status.success(), "{command}: {said}");
        for part in [&format!("step {stopped} of {}", stopped + 2), "was begun for 100000 steps", "resumed from"] {
            assert!(said.contains(part), "{command}: no {part:?} in {said}");
        }
        let straight = program(&words(command, data, &whole, &format!("{more} --max_steps {}", stopped + 2)));
        assert!(straight.status.success(), "{}", stderr(&straight));
        assert!(weights(&halves) == weights(&whole), "{command}: other bits after a signal at step {stopped}");
        let start = fs::read(golden("models/llama/model.safetensors")).expect("the model");
        assert!(weights(&whole) != start, "{command}: nothing was learnt, so nothing was tested");
        let norm = |line: &serde_json::Value| line["grad_norm"].as_f64().is_some_and(|norm| norm > 0.0);
        assert!(metrics(&whole).iter().any(norm), "{command}: no gradient, so nothing was tested");
    }
}

#[test]
fn a_finished_run_says_so_when_it_is_resumed_and_may_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let out: PathBuf = dir.path().join("out");
    let line = |steps: u64, more: &str| {
        words(
            "sft",
            "data/messages.jsonl",
            &out,
            &format!("--max_steps {steps} --per_device_train_batch_size 2 {more}"),
        )
    };
    assert!(program(&line(3, "")).status.success());
    let before = weights(&out);
    let manifest = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).expect("JSON")
    };
    let ended = manifest();
    let again = program(&line(3, "--resume_from_checkpoint last"));
    let said = stderr(&again);
    assert!(again.status.success() && said.contains("all its steps are done"), "{said}");
    assert!(said.contains("done before: 3 steps"), "{said}");
    for training in ["training ", "memory at the peak", "tokens/s"] {
        assert!(!said.contains(training), "nothing was trained: {said}");
    }
    // The time and the speed are those of the training.
    assert_eq!((&manifest()["outcome"], &manifest()["finished"]), (&ended["outcome"], &ended["finished"]));
    assert!(weights(&out) == before);
    let fewer = program(&line(2, "--resume_from_checkpoint last"));
    assert_eq!(fewer.status.code(), Some(2), "{}", stderr(&fewer));
    assert!(stderr(&fewer).contains("3 optimiser steps are done"), "{}", stderr(&fewer));
    let more = program(&line(6, "--resume_from_checkpoint last"));
    assert!(more.status.success(), "{}", stderr(&more));
    assert_eq!(logged_steps(&out), [1, 2, 3, 4, 6]);
    assert!(weights(&out) != before);
}

/// A reward program that dies without an answer ends the run; so does a reward that never has an opinion.
#[test]
fn a_reward_that_never_judged_is_an_error() {
    for (program_line, said) in
        [("program:false", "never gave an answer"), ("program:sh NONE", "no completion was judged")]
    {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none.sh");
        fs::write(&none, "while read -r line; do echo '[null, null, null, null]'; done\n").unwrap();
        let reward = program_line.replace("NONE", &none.display().to_string());
        let out = dir.path().join("out");
        let more = "--max_steps 1 --per_device_train_batch_size 4 --num_generations 4 --max_completion_length 4";
        let mut all = words("grpo", "data/prompts.jsonl", &out, more);
        all.extend(["--reward_funcs".into(), reward]);
        let output = program(&all);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!out.join("model.safetensors").exists());
    }
}

/// A page about one run and about two; what is no run, or no page, is refused.
#[test]
fn reports_of_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for (out, command, data) in [(&a, "sft", "data/messages.jsonl"), (&b, "dpo", "data/preference.jsonl")] {
        let output = program(&words(command, data, out, "--max_steps 3 --per_device_train_batch_size 2"));
        assert!(output.status.success(), "{}", stderr(&output));
        let page = fs::read_to_string(out.join("report.html")).expect("a report");
        for part in ["<svg", "Healthy:", "What was trained on", "<b>", "learning_rate", "memory at the peak"] {
            assert!(page.contains(part), "{command}: no {part} in the report");
        }
    }
    let report = |words: &[&str]| {
        let mut all = vec!["report".to_string()];
        all.extend(words.iter().map(|w| w.replace("{}", &dir.path().display().to_string())));
        program(&all)
    };
    let both = report(&["{}/a", "{}/b", "--out", "{}/both.html"]);
    assert!(both.status.success(), "{}", stderr(&both));
    let page = fs::read_to_string(dir.path().join("both.html")).expect("a report");
    assert!(page.contains("<h2>a</h2>") && page.contains("<h2>b</h2>"));
    for (wrong, said) in [
        (&["{}/none"][..], "is no directory of a run"),
        (&["{}/a", "--out", "{}/a.png"], "must end in .html"),
        (&["{}/a", "{}/b"], "out is missing"),
        (&["{}/a", "--out", "{}/both.html"], "is there already"),
    ] {
        let output = report(wrong);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

/// `watch` serves the page as it is now, and nothing else.
#[test]
fn a_run_is_watched_in_a_browser() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 2.5}\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(["watch", &dir.path().display().to_string(), "--port", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let told = lines.next().expect("a line").expect("text");
    let address = told.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let before = ask("/");
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": 1.25}\n")
        .unwrap();
    let after = ask("/");
    let other = ask("/etc/passwd");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(before.starts_with("HTTP/1.1 200") && before.contains("http-equiv=\"refresh\""), "{before}");
    assert!(!before.contains("1.2500") && after.contains("2.5000 → 1.2500"));
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
}

/// A browser without a network reads the report and complains of nothing. `LAPIDARY_BROWSER` names a Chromium; CI has one.
#[test]
fn a_browser_reads_the_report() {
    let Some(browser) = std::env::var_os("LAPIDARY_BROWSER") else {
        assert!(std::env::var_os("CI").is_none(), "CI needs LAPIDARY_BROWSER: a Chromium");
        eprintln!("SKIPPED: LAPIDARY_BROWSER is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let more = "--max_steps 2 --per_device_train_batch_size 4 --num_generations 4 --max_completion_length 4";
    let output = program(&words("grpo", "task:addition?digits=1&rows=16", &out, more));
    assert!(output.status.success(), "{}", stderr(&output));
    let (home, page) = (dir.path().join("home"), out.join("report.html"));
    let seen = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser runs");
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let dom = String::from_utf8_lossy(&seen.stdout);
    for part in ["</svg>", "Completions along the way", "Healthy:", "</html>"] {
        assert!(dom.contains(part), "no {part} in what the browser reads");
    }
    let complaints: Vec<&str> = std::str::from_utf8(&seen.stderr)
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains("CONSOLE") || line.contains("ERR_"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
