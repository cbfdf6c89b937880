//! What a newcomer stumbles over: the same rule in every command, advice that helps, and silence where nothing is wrong.
mod common;

use common::golden;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn lapidary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(arguments).output().expect("the program runs")
}

/// The words of a line, parted by blanks.
fn line(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(p: impl AsRef<Path>) -> String {
    p.as_ref().display().to_string()
}

/// A command that must succeed: what it prints, and what it says.
fn done(words: &str) -> (String, String) {
    let output = lapidary(&line(words));
    assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn model() -> String {
    path(golden("models/llama"))
}

fn messages() -> String {
    path(golden("data/messages.jsonl"))
}

/// An adapter of the tiny llama, trained for a step.
fn adapter(out: &Path, more: &str) -> String {
    let how =
        "--use_peft --max_steps 1 --per_device_train_batch_size 2 --max_length 64 --device cpu --save_strategy no";
    done(&format!(
        "sft --model_name_or_path {} --dataset_name {} --output_dir {} {how} {more}",
        model(),
        messages(),
        out.display()
    ));
    path(out)
}

/// What training has left beside an adapter holds wherever the adapter is put on: its chat template, and its base's name.
#[test]
fn an_adapters_own_tokenizer_holds_in_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    let own = fs::read_to_string(golden("models/llama/chat_template.jinja")).unwrap();
    fs::write(at("own.jinja"), format!("Compute 7 {own}")).unwrap();
    let adapter = adapter(&dir.path().join("adapter"), &format!("--chat_template_path {}", at("own.jinja")));
    fs::write(at("asked.jsonl"), "{\"prompt\": [{\"role\": \"user\", \"content\": \"Compute\"}]}\n").unwrap();
    let (data, few) = (messages(), "--max_new_tokens 2 --device cpu");
    let train = "--max_steps 1 --per_device_train_batch_size 2 --max_length 64 --device cpu";
    for command in [
        format!("generate --prompt Compute {few}"),
        format!("generate --dataset_name {} {few}", at("asked.jsonl")),
        format!("preview --dataset_name {data}"),
        format!("merge --output_dir {}", at("merged")),
        format!("export --output_dir {}", at("exported")),
        format!("export --output_file {}", at("exported.gguf")),
        format!("chat {few}"),
        format!("sft --dataset_name {data} --output_dir {} {train}", at("on")),
        format!("dpo --dataset_name {} --output_dir {} {train}", path(golden("data/preference.jsonl")), at("dpo")),
        format!(
            "raft --dataset_name task:sorting --output_dir {} {} --num_generations 2 --max_completion_length 4",
            at("raft"),
            train.replace("--max_length 64 ", "")
        ),
    ] {
        // The adapter alone: its configuration names the base.
        let (_, said) = done(&format!("{command} --adapter_name_or_path {adapter}"));
        assert!(said.contains("the adapter's own chat template is used"), "{command}: {said}");
    }
    for kept in ["merged", "exported", "on"] {
        let kept = fs::read_to_string(dir.path().join(kept).join("chat_template.jinja")).unwrap();
        assert!(kept.starts_with("Compute 7 "), "{kept}");
    }
    // An adapter that names no base cannot stand alone.
    let config = dir.path().join("adapter/adapter_config.json");
    let named = fs::read_to_string(&config).unwrap();
    fs::write(&config, named.replace("base_model_name_or_path", "of")).unwrap();
    let output = lapidary(&line(&format!("generate --prompt x --adapter_name_or_path {adapter}")));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("names no base model"), "{}", text(&output.stderr));
}

/// A model is not written into a run's directory, and the advice is not to resume that run.
#[test]
fn a_runs_directory_is_no_place_for_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(&dir.path().join("adapter"), "");
    let before = fs::read_dir(&adapter).unwrap().count();
    for command in ["merge", "export"] {
        let words = format!("{command} --adapter_name_or_path {adapter} --output_dir {adapter} --overwrite_output_dir");
        let output = lapidary(&line(&words));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("give another directory") && !said.contains("resume"), "{said}");
        // What the command wrote before may be written over.
        let out = path(dir.path().join(command));
        done(&format!("{command} --adapter_name_or_path {adapter} --output_dir {out}"));
        let again = format!("{command} --adapter_name_or_path {adapter} --output_dir {out}");
        assert!(text(&lapidary(&line(&again)).stderr).contains("--overwrite_output_dir to write over it"));
        done(&format!("{again} --overwrite_output_dir"));
    }
    assert_eq!(fs::read_dir(&adapter).unwrap().count(), before);
}

/// What bash offers for the last of these words.
fn offered(completions: &Path, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, previous) = (words[words.len() - 1], words[words.len() - 2]);
    let script = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; _lapidary lapidary '{last}' '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        completions.display(),
        quoted.join(" "),
        words.len() - 1
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
    text(&output.stdout).lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

#[test]
fn bash_offers_the_values_that_an_option_takes() {
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no bash");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("completions");
    fs::write(&file, done("completions bash").0).unwrap();
    for (words, values) in [
        (
            vec!["lapidary", "sft", "--lr_scheduler_type", "cosine_w"],
            vec!["cosine_with_restarts", "cosine_with_min_lr"],
        ),
        (vec!["lapidary", "dpo", "--loss_type", "apo_"], vec!["apo_zero", "apo_down"]),
        (vec!["lapidary", "sft", "--packing", ""], vec!["true", "false"]),
        (vec!["lapidary", "sft", "--device", ""], vec!["auto", "cpu", "gpu"]),
        (vec!["lapidary", "export", "--outtype", "q"], vec!["q8_0"]),
    ] {
        let got = offered(&file, &words);
        for value in &values {
            assert!(got.iter().any(|offer| offer == value), "{words:?}: {got:?}");
        }
        assert!(got.len() < 12, "no files: {got:?}");
    }
    // A number has no completion, a path has.
    assert_eq!(offered(&file, &["lapidary", "sft", "--learning_rate", ""]), [""; 0]);
}

/// A reader that has enough closes the pipe: nothing is wrong.
#[test]
fn a_closed_pipe_is_no_fault() {
    let (model, data) = (model(), messages());
    for words in [
        "completions bash".to_string(),
        "completions man".into(),
        "--help".into(),
        "sft --help".into(),
        format!("preview --model_name_or_path {model} --dataset_name {data}"),
        format!("generate --model_name_or_path {model} --prompt Compute --max_new_tokens 2 --device cpu"),
        format!(
            "score --model_name_or_path {} --dataset_name {}",
            path(golden("models/llama-reward")),
            path(golden("data/preference.jsonl"))
        ),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
        let output =
            command.args(line(&words)).stdout(writer).stderr(Stdio::piped()).output().expect("the program runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words}: {said}");
        assert!(!said.contains("pipe") && !said.contains("error"), "{words}: {said}");
    }
}

/// A completion ends with the text that stops it, whoever draws it.
#[test]
fn stop_strings_end_a_completion() {
    let dir = tempfile::tempdir().unwrap();
    let model = model();
    let how = format!("--model_name_or_path {model} --temperature 0 --max_new_tokens 24 --device cpu");
    let rows = dir.path().join("rows.jsonl");
    fs::write(&rows, "{\"prompt\": [{\"role\": \"user\", \"content\": \"Compute\"}]}\n").unwrap();
    let asked = format!("generate --prompt Compute {how}");
    let whole = done(&asked).0.trim_end_matches('\n').to_string();
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[characters.len() / 3..][..2].iter().collect();
    let end = whole.find(&stop).unwrap() + stop.len();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(line(&format!("chat {how}")))
        .args(["--stop_strings", &stop])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Compute\n").unwrap();
    let in_chat = text(&child.wait_with_output().unwrap().stdout);
    let one = lapidary(&[&line(&asked)[..], &["--stop_strings", &stop]].concat());
    let all = format!("generate --dataset_name {} {how}", rows.display());
    let all = lapidary(&[&line(&all)[..], &["--stop_strings", "never there", &stop]].concat());
    let row: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    let of_row = row["completion"][0]["content"].as_str().unwrap().to_string();
    for answer in [in_chat.trim_end_matches('\n'), text(&one.stdout).trim_end_matches('\n'), &of_row] {
        assert!(whole.starts_with(answer) && answer.len() < whole.len(), "{answer:?} of {whole:?}");
        assert!(answer.len() >= end, "{answer:?} has no {stop:?}");
    }
    // What the model's makers say holds unless an option says otherwise.
    let copy = dir.path().join("model");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&model).unwrap() {
        let file: PathBuf = entry.unwrap().path();
        fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    let config = serde_json::json!({"eos_token_id": 2, "stop_strings": [stop]});
    fs::write(copy.join("generation_config.json"), config.to_string()).unwrap();
    let (own, said) = done(&asked.replace(&model, &path(&copy)));
    assert_eq!(own, text(&one.stdout));
    assert!(said.contains("stop_strings"), "{said}");
}

/// A line of the metrics that cannot be read is named, and the others are shown.
#[test]
fn a_damaged_line_does_not_hide_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\"\n{\"step\": 3, \"loss\": 1}\n{\"step\": 4";
    fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
    fs::write(dir.path().join("samples.jsonl"), "{\"step\": 1, \"completion\": \"ab\", \"reward\": 1}\nx\n").unwrap();
    let (run, svg) = (path(dir.path()), path(dir.path().join("loss.svg")));
    for (command, n) in [(format!("report {run}"), 3), (format!("plot {run} --out {svg}"), 2)] {
        let (_, said) = done(&command);
        assert!(
            said.contains("metrics.jsonl:2: is no JSON") && said.contains("metrics.jsonl:4: the last line"),
            "{said}"
        );
        assert_eq!(said.matches("warning: ").count(), n, "{said}");
    }
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("metrics.jsonl:2") && page.contains("samples.jsonl:2") && page.contains("2.0000 → 1.0000"));
}

/// "1 step", not "1 steps".
#[test]
fn one_is_not_many() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path().join(name));
    fs::write(at("row.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap();
    fs::write(at("pair.jsonl"), "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n").unwrap();
    let (model, how) = (model(), "--device cpu --max_steps 1 --save_strategy no");
    for command in [
        format!("sft --model_name_or_path {model} --dataset_name {} --output_dir {} {how}", at("row.jsonl"), at("sft")),
        format!(
            "dpo --model_name_or_path {model} --dataset_name {} --output_dir {} {how}",
            at("pair.jsonl"),
            at("dpo")
        ),
        format!(
            "kto --model_name_or_path {model} --dataset_name {} --output_dir {} {how}",
            at("pair.jsonl"),
            at("kto")
        ),
        format!("preview --model_name_or_path {model} --dataset_name {}", at("row.jsonl")),
        format!("preview --model_name_or_path {model} --dataset_name {}", at("pair.jsonl")),
        format!("plot {} --out {}", at("sft"), at("a.svg")),
        format!(
            "score --model_name_or_path {} --dataset_name {}",
            path(golden("models/llama-reward")),
            at("pair.jsonl")
        ),
    ] {
        let (printed, said) = done(&command);
        for words in format!("{said}{printed}").split_whitespace().collect::<Vec<_>>().windows(2) {
            let noun = words[1].trim_end_matches([',', '.', ';', ':', ')']);
            let many = noun.len() > 3 && noun.ends_with('s') && !noun.ends_with("ss");
            assert!(words[0].trim_start_matches('(') != "1" || !many, "{command}: {} {}", words[0], words[1]);
        }
    }
}

/// The block of a bug report needs no driver, and the same stands in it as JSON.
#[test]
fn the_environment_is_told_without_a_driver() {
    let told = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
        command.arg("env").args(more).env("VK_DRIVER_FILES", "/nowhere.json").env("VK_ICD_FILENAMES", "/nowhere.json");
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let block = told(&[]);
    for line in [
        "- lapidary: ",
        "- features: ",
        "- system: ",
        "- threads: ",
        "- computes on: cpu (",
        "- GPUs: none",
        "VK_DRIVER_FILES=/nowhere.json",
    ] {
        assert!(block.contains(line), "{line} is not in {block}");
    }
    let json: serde_json::Value = serde_json::from_str(&told(&["--json"])).expect("JSON");
    assert_eq!(json["variables"]["VK_DRIVER_FILES"], "/nowhere.json");
    assert_eq!(json["GPUs"], serde_json::json!([]));
}

fn rows_of(file: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

/// A model and its adapter answer the same prompts. What each says about the answers is what it says in training.
#[test]
fn two_models_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (model, at) = (model(), |name: &str| dir.path().join(name));
    let adapter = adapter(&at("adapter"), "--learning_rate 0.05 --lora_target_modules all-linear");
    let prompts =
        ["Compute 7", "Compute 7", "Say it"].map(|prompt| format!("{{\"prompt\": \"{prompt}\", \"answer\": \"x\"}}\n"));
    fs::write(at("prompts.jsonl"), prompts.concat()).unwrap();
    fs::write(at("principles.txt"), "Be brief.").unwrap();
    let compared = |a: &str, b: &str, name: &str, more: &str| {
        let (page, file) = (path(at(&format!("{name}.html"))), path(at(&format!("{name}.jsonl"))));
        let prompts = path(at("prompts.jsonl"));
        let how = format!("--max_new_tokens 6 --device cpu --rows 1 --output_file {file} --out {page} {more}");
        let (printed, _) = done(&format!("compare {a} {b} --prompts {prompts} {how}"));
        (printed, rows_of(Path::new(&file)), fs::read_to_string(page).unwrap())
    };
    let judges = format!(
        "--judge_model {model} --judge_constitution {} --reward_model {}",
        path(at("principles.txt")),
        path(golden("models/llama-reward"))
    );
    let (printed, rows, page) = compared(&model, &adapter, "both", &judges);
    for part in [
        "[llama]",
        "[adapter]",
        "win rate by the judge",
        "win rate by the reward",
        "exactly the reference",
        "to the other",
        "length, tokens",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    assert!(page.contains("win rate by the judge") && page.contains("Say it") && !page.contains("<script"));
    assert_eq!(rows.len(), 3);
    for row in &rows {
        for one in row["answers"].as_array().unwrap() {
            let (n, sum) = (one["tokens"].as_f64().unwrap(), one["logp"][0].as_f64().unwrap());
            assert!((sum / n - one["logp_per_token"][0].as_f64().unwrap()).abs() < 1e-9);
            assert_ne!(one["logp"][0], one["logp"][1], "the adapter has learnt something");
            assert!(one["reward"].is_number() && one["exact"] == false && sum < 0.0);
        }
        assert!(row["winner"].is_string());
    }
    // Streams of random numbers go by the place of the prompt, for both alike.
    let (_, again, _) = compared(&model, &model, "same", &judges);
    for (row, before) in again.iter().zip(&rows) {
        let answers = row["answers"].as_array().unwrap();
        assert_eq!(answers[0]["completion"], answers[1]["completion"]);
        assert_eq!(answers[0]["completion"], before["answers"][0]["completion"]);
        assert_eq!((&answers[0]["logp"][0], &row["winner"]), (&answers[0]["logp"][1], &serde_json::json!("tie")));
    }
    let (_, greedy, _) = compared(&model, &adapter, "greedy", "--temperature 0");
    assert_eq!(greedy[0]["answers"][0]["completion"], greedy[1]["answers"][0]["completion"], "the same prompt");
    // The adapter of another model is refused before anything is written.
    let other = path(golden("models/qwen3"));
    let words =
        format!("compare {other} {adapter} --model_name_or_path {other} --prompts {}", path(at("prompts.jsonl")));
    assert_ne!(lapidary(&line(&words)).status.code(), Some(0));
}

/// Answers to held-out prompts at each evaluation, which change no bit of the training.
#[test]
fn evaluations_leave_samples_where_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (command, data) in
        [("sft", "messages"), ("sft", "prompt_completion"), ("dpo", "preference"), ("kto", "unpaired_preference")]
    {
        let data = path(golden(&format!("data/{data}.jsonl")));
        if !Path::new(&data).exists() {
            continue;
        }
        let train = |name: &str, more: &str| {
            let out = dir.path().join(format!("{command}-{name}"));
            done(&format!(
                "{command} --model_name_or_path {} --dataset_name {data} --eval_dataset {data} --eval_strategy steps --eval_steps 1 \
                 --output_dir {} --max_steps 2 --per_device_train_batch_size 2 --max_length 64 --device cpu --save_strategy no \
                 --learning_rate 0.01 --overwrite_output_dir {more}",
                model(),
                out.display()
            ));
            out
        };
        let with = train("with", "--log_completions --num_prompts 2 --max_new_tokens 4 --eval_on_start");
        let without = train("without", "");
        let weights = |out: &Path| fs::read(out.join("model.safetensors")).unwrap();
        assert!(weights(&with) == weights(&without), "{command}: samples change the training");
        assert!(!without.join("samples.jsonl").exists());
        let lines = rows_of(&with.join("samples.jsonl"));
        let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [0, 0, 1, 1, 2, 2], "{command}");
        for line in &lines {
            assert!(line["prompt"].as_str().is_some_and(|prompt| !prompt.is_empty()), "{line}");
            assert!(line["reference"].as_str().is_some_and(|answer| !answer.is_empty()), "{line}");
            assert!((1..=4).contains(&line["length"].as_u64().unwrap()));
        }
        assert_ne!(lines[0]["prompt"], lines[1]["prompt"]);
        let page = fs::read_to_string(with.join("report.html")).unwrap();
        assert!(page.contains("Held-out prompts"), "{command}");
        fs::remove_dir_all(&with).unwrap();
        fs::remove_dir_all(&without).unwrap();
    }
}
