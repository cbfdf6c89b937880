//! Inputs as people have them, and wrong ones: what is taken, what is said, and with which exit code.
mod common;

use common::golden;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn lapidary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A directory with a copy of the tiny llama in `model`.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(place.at("model")).expect("made");
        for name in
            ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
        {
            fs::copy(golden("models/llama").join(name), place.at("model").join(name)).expect("copied");
        }
        place
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn write(&self, name: &str, content: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }
    /// The words of a command line; `{}` is this directory.
    fn run(&self, line: &str) -> Output {
        let words: Vec<String> = line.split(' ').map(|word| word.replace("{}", &shown(self.dir.path()))).collect();
        lapidary(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
    fn done(&self, line: &str) -> (String, String) {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }
    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(name)).expect("read")).expect("JSON")
    }
}

const GENERATE: &str = "generate --device cpu --model_name_or_path {}/model --max_new_tokens 12 --prompt Sort";
const SFT: &str =
    "sft --device cpu --max_steps 1 --per_device_train_batch_size 1 --model_name_or_path {}/model --output_dir {}/out";
const GRPO: &str = "grpo --device cpu --max_steps 1 --per_device_train_batch_size 4 --num_generations 4 --max_completion_length 6 \
                    --logging_steps 1 --model_name_or_path {}/model --output_dir {}/out --dataset_name {}/prompts.jsonl \
                    --reward_funcs length";

#[test]
fn generation_config_ends_texts_and_says_how_they_are_drawn() {
    let place = Place::new();
    let (whole, said) = place.done(&format!("{GENERATE} --temperature 0"));
    assert!(!said.contains("generation_config"), "{said}");
    // Every token ends a text: nothing is left of it.
    let all: Vec<u32> = (0..512).collect();
    place.write(
        "model/generation_config.json",
        &json!({"eos_token_id": all, "num_beams": 4, "do_sample": true}).to_string(),
    );
    let (ended, said) = place.done(&format!("{GENERATE} --temperature 0"));
    assert!(ended.trim().is_empty() && !whole.trim().is_empty(), "{ended:?} of {whole:?}");
    assert!(said.contains("generation_config.json: num_beams is not used"), "{said}");
    // A rollout ends with it as well.
    place.write("prompts.jsonl", "{\"prompt\": \"a b\"}\n");
    let (_, said) = place.done(GRPO);
    assert!(said.contains("do_sample"), "{said}");
    let metrics = fs::read_to_string(place.at("out/metrics.jsonl")).expect("read");
    let first: Value = serde_json::from_str(metrics.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["completions/mean_length"], 1.0, "{first}");
    assert_eq!(first["completions/clipped_ratio"], 0.0, "{first}");
    // How it is drawn: as the file says, unless an option says otherwise.
    place.write("model/generation_config.json", "{\"do_sample\": false, \"max_new_tokens\": 3, \"top_k\": 7}");
    let greedy = GENERATE.replace(" --max_new_tokens 12", "");
    let (short, said) = place.done(&greedy);
    assert!(whole.starts_with(short.trim_end()) && short.len() < whole.len(), "{short:?} of {whole:?}");
    assert!(said.contains("drawn as generation_config.json says: temperature 0, top_k 7, max_new_tokens 3"), "{said}");
    assert_eq!(place.done(&format!("{GENERATE} --temperature 0")).0, whole);
    // The penalty changes what is likeliest.
    place.write("model/generation_config.json", "{\"repetition_penalty\": 9.5}");
    assert_ne!(place.done(&format!("{GENERATE} --temperature 0")).0, whole);
    assert_eq!(place.done(&format!("{GENERATE} --temperature 0 --repetition_penalty 1")).0, whole);
}

#[test]
fn a_saved_model_keeps_its_generation_config() {
    let place = Place::new();
    let file = json!({"eos_token_id": [2, 463], "temperature": 0.6, "something_new": {"a": 1}, "transformers_version": "4.45.0"});
    place.write("model/generation_config.json", &file.to_string());
    place.write("rows.jsonl", "{\"text\": \"a b c\"}\n");
    place.done(&format!("{SFT} --dataset_name {{}}/rows.jsonl --save_strategy steps --save_steps 1"));
    for saved in ["out", "out/checkpoint-1"] {
        let kept = place.json(&format!("{saved}/generation_config.json"));
        for (name, value) in file.as_object().expect("an object") {
            assert_eq!(&kept[name], value, "{saved}: {name}");
        }
        assert_eq!(kept["bos_token_id"], 0, "{kept}");
    }
    assert_eq!(place.json("out/config.json")["eos_token_id"], 2);
}

#[test]
fn what_a_model_brings_is_read_or_named() {
    let place = Place::new();
    for name in ["pytorch_model.bin", "README.md", "adapter_config.json"] {
        place.write(&format!("model/{name}"), "{}");
    }
    let (_, said) = place.done(&format!("{GENERATE} --temperature 0"));
    assert!(said.contains("not read: README.md, adapter_config.json, pytorch_model.bin"), "{said}");
    assert!(!said.contains("tokenizer") && !said.contains("config.json, model"), "{said}");
}

#[test]
fn a_directory_with_splits_trains_on_one_of_them() {
    let place = Place::new();
    for (file, word) in [("train", "train"), ("test", "test"), ("validation", "val")] {
        place.write(&format!("rows/{file}.jsonl"), &format!("{{\"text\": \"{word} row\", \"id\": 7}}\n"));
    }
    let preview = "preview --model_name_or_path {}/model --dataset_name {}/rows";
    let (shown, _) = place.done(preview);
    assert!(
        shown.contains("1 row,") && shown.contains("train.jsonl") && shown.contains("columns that are not read: id"),
        "{shown}"
    );
    assert!(shown.contains("not read: test (test.jsonl), validation (validation.jsonl)"), "{shown}");
    let (shown, _) = place.done(&format!("{preview} --dataset_split validation"));
    assert!(shown.contains("split validation is read"), "{shown}");
    let (_, said) = place.done(&format!("{SFT} --dataset_name {{}}/rows --eval_strategy steps --eval_steps 1"));
    assert!(
        said.contains("on 1 row,") && said.contains("eval_dataset") && said.contains("split test is read: test.jsonl"),
        "{said}"
    );
    assert!(fs::read_to_string(place.at("out/metrics.jsonl")).expect("read").contains("eval_loss"));
    let (_, said) = place.done(&format!("{SFT}-2 --dataset_name {{}}/rows --dataset_train_split test"));
    assert!(said.contains("split test is read"), "{said}");
}

#[test]
fn rows_of_llama_factory_keep_system_calls_and_history() {
    let place = Place::new();
    let preview = |rows: &str| {
        place.write("rows.jsonl", rows);
        place.done("preview --model_name_or_path {}/model --dataset_name {}/rows.jsonl --max_length 256").0
    };
    let plain = |text: &str| -> String { text.chars().filter(|c| !matches!(c, '[' | ']' | '⟦' | '⟧')).collect() };
    let shown = plain(&preview(
        r#"{"system": "Be brief.", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}"#,
    ));
    assert!(shown.contains("system") && shown.contains("Be brief."), "{shown}");
    let shown = plain(&preview(
        r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}, {"from": "observation", "value": "3"}, {"from": "gpt", "value": "Yo"}]}"#,
    ));
    assert!(!shown.contains("function_call") && shown.contains("arguments") && shown.contains("tool"), "{shown}");
    let shown = plain(&preview(
        r#"{"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Sums.", "history": [["One?", "Two."]]}"#,
    ));
    for part in ["Sums.", "One?", "Two.", "Add.", "1, 2", "3", "became conversations"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn free_texts_and_home_are_taken_as_they_are_written() {
    let place = Place::new();
    place.write("prompts.jsonl", "{\"prompt\": \"a b\"}\n");
    place.write("run.yaml", "output_dir: ~/run\nmodel_name_or_path: ~/model\nstop_strings: [\" \", \"t2f 6, 7\"]\n");
    let home = shown(place.dir.path());
    let config = shown(&place.at("run.yaml"));
    let line = GRPO.replace(" --model_name_or_path {}/model --output_dir {}/out", "").replace("{}", "~");
    let run = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(line.split(' '))
        .args(["--config", &config])
        .env("HOME", &home)
        .current_dir(place.dir.path())
        .output()
        .expect("the program runs");
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(!place.at("~").exists(), "a directory called ~ was made");
    let resolved = fs::read_to_string(place.at("run/config.yaml")).expect("read");
    assert!(resolved.contains("\" \"") || resolved.contains("' '"), "{resolved}");
    assert!(resolved.contains("t2f 6, 7"), "{resolved}");
    let words: Vec<String> = GRPO.split(' ').map(|word| word.replace("{}", &home)).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend(["--stop_strings", "t2f 6"]);
    assert!(lapidary(&words).status.success());
    let resolved = fs::read_to_string(place.at("out/config.yaml")).expect("read");
    assert!(resolved.contains("t2f 6"), "{resolved}");
}

/// A disk that is full in mid-run is no wrong input. The limit on the size of files stands for it.
#[cfg(unix)]
#[test]
fn a_full_disk_in_mid_run_is_exit_code_1() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"text\": \"a b c\"}\n");
    let line = format!("{SFT} --dataset_name {{}}/rows.jsonl").replace("{}", &shown(place.dir.path()));
    let limited = |kilobytes: usize| {
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec {} {line}", env!("CARGO_BIN_EXE_lapidary"));
        Command::new("bash").args(["-c", &script]).output().expect("bash runs")
    };
    let run = limited(64);
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(
        said.lines().last().is_some_and(|line| line.starts_with("error: ") && line.contains("cannot be written")),
        "{said}"
    );
    assert!(place.at("out").exists());
}

/// Output that nobody takes is no wrong input either.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_exit_code_1() {
    let place = Place::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("opened");
    let words: Vec<String> = GENERATE.split(' ').map(|word| word.replace("{}", &shown(place.dir.path()))).collect();
    let run = Command::new(env!("CARGO_BIN_EXE_lapidary")).args(words).stdout(full).output().expect("the program runs");
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stderr));
}

/// Wrong input of every kind: one line that says what, exit code 2, nothing written.
#[test]
fn wrong_input_is_one_line_and_exit_code_2() {
    let place = Place::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let dataset = |name: &str| format!("{SFT} --dataset_name {{}}/{name}");
    place.write("rows.jsonl", "{\"text\": \"a b c\"}\n");
    place.write("lfs.jsonl", pointer);
    place.write("lfs.parquet", pointer);
    place.write("nan.jsonl", "{\"text\": NaN}\n");
    place.write("label.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": Infinity}\n");
    place.write("wide.csv", "text\na,b\n");
    place.write("splits/train.jsonl", "{\"text\": \"a b\"}\n");
    place.write("splits/test.jsonl", "{\"text\": \"a b\"}\n");
    place.write("arrow/data-00000-of-00001.arrow", "ARROW1");
    place.write(
        "configs/README.md",
        "---\nconfigs:\n- config_name: one\n  data_dir: x\n- config_name: two\n  data_dir: y\n---\n",
    );
    place.write("turn.jsonl", "{\"conversations\": [{\"from\": 1, \"value\": \"a\"}]}\n");
    place.write("history.jsonl", "{\"instruction\": \"a\", \"output\": \"b\", \"history\": [\"q\"]}\n");
    place.write("two.yaml", "seed: 1\n---\nseed: 2\n");
    place.write("list.yaml", "- seed\n");
    place.write("bin.yaml", "");
    fs::write(place.at("bin.yaml"), b"\xff\xfe").expect("written");
    for (name, broken) in [("generation", "generation_config.json"), ("tokenizer", "tokenizer.json")] {
        fs::create_dir(place.at(name)).expect("made");
        for entry in fs::read_dir(place.at("model")).expect("read") {
            let path = entry.expect("an entry").path();
            fs::copy(&path, place.at(name).join(path.file_name().expect("a name"))).expect("copied");
        }
        place.write(&format!("{name}/{broken}"), if name == "tokenizer" { pointer } else { "{\"top_p\": 1.5}" });
    }
    let cases: Vec<(String, &[&str])> = vec![
        (dataset("lfs.jsonl"), &["lfs.jsonl", "Git LFS", "git lfs pull"]),
        (dataset("lfs.parquet"), &["lfs.parquet", "Git LFS"]),
        (dataset("nan.jsonl"), &["nan.jsonl:1", "\"text\"", "NaN"]),
        (
            format!("{} --dataset_name {{}}/label.jsonl", SFT.replacen("sft", "kto", 1)),
            &["label.jsonl:1", "\"label\"", "Infinity"],
        ),
        (dataset("wide.csv"), &["wide.csv:2", "2 fields"]),
        (dataset("splits --dataset_train_split dev"), &["splits", "\"dev\"", "test, train"]),
        (dataset("splits --dataset_config other"), &["dataset_config", "\"other\""]),
        (dataset("rows.jsonl --dataset_config other"), &["rows.jsonl", "dataset_config"]),
        (dataset("configs"), &["one, two", "--dataset_config"]),
        (dataset("arrow"), &["arrow", "Parquet"]),
        (dataset("rows.jsonl --eval_strategy steps"), &["eval_strategy", "--eval_dataset"]),
        (dataset("turn.jsonl"), &["turn.jsonl:1", "conversations[0]", "from"]),
        (dataset("history.jsonl"), &["history.jsonl:1", "history[0]"]),
        (dataset("rows.jsonl --config {}/two.yaml"), &["two.yaml:3", "a second document"]),
        (dataset("rows.jsonl --config {}/list.yaml"), &["list.yaml:1", "NAME: VALUE"]),
        (dataset("rows.jsonl --config {}/bin.yaml"), &["bin.yaml", "UTF-8"]),
        (dataset("rows.jsonl").replace("/model", "/generation"), &["generation_config.json", "top_p"]),
        (dataset("rows.jsonl").replace("/model", "/tokenizer"), &["tokenizer.json", "Git LFS"]),
        (format!("{GRPO} --stop_strings "), &["stop_strings"]),
    ];
    for (line, words) in cases {
        let output = place.run(&line);
        let said = text(&output.stderr);
        let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("note:")).collect();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert_eq!(errors.len(), 1, "{line}: one line: {said}");
        assert!(output.stdout.is_empty(), "{line}");
        for word in words {
            assert!(errors[0].contains(word), "{line}: {word:?} is not in {said}");
        }
        assert!(!place.at("out").exists(), "{line}: the output directory was made");
    }
}
