//! A model leaves (`export`) and is talked with (`chat`), through the program.
mod common;

use common::golden;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn lapidary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(arguments).output().expect("the program runs")
}

/// The program with these lines as standard input.
fn told(arguments: &[&str], lines: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program runs");
    child.stdin.take().expect("standard input").write_all(lines.as_bytes()).expect("lines");
    child.wait_with_output().expect("the program ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(p: impl AsRef<Path>) -> String {
    p.as_ref().display().to_string()
}

/// Standard output of a command that must succeed.
fn done(arguments: &[&str]) -> String {
    let output = lapidary(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn asked(model: &str, more: &[&str]) -> String {
    let asked = ["generate", "--model_name_or_path", model, "--prompt", "Compute 7", "--temperature", "0"];
    done(&[&asked[..], &["--max_new_tokens", "24", "--device", "cpu"], more].concat())
}

#[test]
fn an_exported_model_says_what_the_model_says() {
    let dir = tempfile::tempdir().expect("a directory");
    for family in ["llama", "llama3", "mistral", "qwen2", "qwen3", "granite", "olmo2"] {
        let (model, file) =
            (path(golden(&format!("models/{family}"))), path(dir.path().join(format!("{family}.gguf"))));
        let export = ["export", "--model_name_or_path", &model, "--output_file", &file, "--outtype", "f32"];
        let output = lapidary(&export);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains(&format!("ollama create {family} -f")) && said.contains("(f32, "), "{said}");
        assert_eq!(asked(&file, &[]), asked(&model, &[]), "{family}");
    }
    // Each has a Modelfile of its own, beside it.
    let modelfile = fs::read_to_string(dir.path().join("olmo2.Modelfile")).expect("a Modelfile");
    assert!(
        fs::read_to_string(dir.path().join("llama.Modelfile")).expect("its own").starts_with("FROM ./llama.gguf\n")
    );
    assert!(modelfile.starts_with("FROM ./olmo2.gguf\n"), "{modelfile}");
    assert!(modelfile.contains("TEMPLATE \"\"\"{{ if .System }}{{ \"<|im_start|>system\\n\" }}"), "{modelfile}");
    assert!(modelfile.contains("PARAMETER stop \"<|im_end|>\"\n"), "{modelfile}");

    // From GGUF to a directory, whose weights are the same.
    let (file, out) = (path(dir.path().join("qwen3.gguf")), path(dir.path().join("back")));
    done(&["export", "--model_name_or_path", &file, "--output_dir", &out]);
    assert_eq!(asked(&out, &[]), asked(&file, &[]));
}

/// The adapter and the model that it was trained beside, folded into one file: what `merge` makes, in float32 to the bit.
#[test]
fn an_adapter_is_folded_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let (model, data) = (path(golden("models/llama")), path(golden("data/messages.jsonl")));
    let at = |name: &str| path(dir.path().join(name));
    let (adapter, merged) = (at("adapter"), at("merged"));
    let train = ["sft", "--model_name_or_path", &model, "--dataset_name", &data, "--output_dir", &adapter];
    let how = ["--use_peft", "--learning_rate", "0.05", "--max_steps", "3", "--max_length", "64", "--device", "cpu"];
    done(&[&train[..], &how, &["--per_device_train_batch_size", "2"]].concat());
    let both = ["--model_name_or_path", &model, "--adapter_name_or_path", &adapter];
    done(&[&["merge"][..], &both, &["--output_dir", &merged]].concat());
    done(&[
        "export",
        "--model_name_or_path",
        &merged,
        "--output_file",
        &at("of-merged.gguf"),
        "--outtype",
        "f32",
        "--modelfile",
        "false",
    ]);
    // The adapter's directory alone says which model it belongs to.
    for (name, source) in
        [("both.gguf", &both[..]), ("alone.gguf", &["--model_name_or_path", &adapter]), ("adapter.gguf", &both[2..])]
    {
        let to = ["--output_file", &at(name), "--outtype", "f32", "--modelfile", "false"];
        done(&[&["export"][..], source, &to].concat());
        let read = |file: &str| engine::files::ModelFiles::open(at(file)).expect("a model");
        let (got, want) = (read(name), read("of-merged.gguf"));
        for slot in want.config.slots() {
            let values = |files: &engine::files::ModelFiles| {
                format!("{:?}", files.weights.load(&slot.path, engine::dtype::DType::F32).expect("a tensor"))
            };
            assert_eq!(values(&got), values(&want), "{name} {}", slot.path);
        }
    }
    assert_ne!(asked(&at("both.gguf"), &[]), asked(&model, &[]), "the adapter has learnt something");
    let out = at("directory");
    done(&["export", "--adapter_name_or_path", &adapter, "--output_dir", &out, "--outtype", "f32"]);
    assert_eq!(asked(&out, &[]), asked(&at("both.gguf"), &[]));
}

#[test]
fn what_cannot_leave_is_told_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let (model, reward) = (path(golden("models/llama")), path(golden("models/llama-reward")));
    let at = |name: &str| path(dir.path().join(name));
    fs::write(dir.path().join("old.gguf"), "x").expect("a file");
    let lora = path(golden("adapters/sft_lora-final"));
    for (arguments, words) in [
        (vec!["--model_name_or_path", &model, "--output_file", "m.bin"], "must end in .gguf"),
        (vec!["--model_name_or_path", &model, "--output_file", "m-Q8_0.gguf"], "says q8_0, but its type is f16"),
        (vec!["--model_name_or_path", &model, "--output_file", &at("old.gguf")], "is there already"),
        (vec!["--model_name_or_path", &model, "--output_file", &at("no/m.gguf")], "is no directory"),
        (vec!["--model_name_or_path", &model], "output_file"),
        (vec!["--output_file", &at("m.gguf")], "give a model"),
        (vec!["--model_name_or_path", &model, "--output_dir", &at("d"), "--outtype", "q8_0"], "cannot hold q8_0"),
        (
            vec!["--model_name_or_path", &model, "--output_dir", &at("d"), "--modelfile", "false"],
            "goes with --output_file",
        ),
        (vec!["--model_name_or_path", &reward, "--output_file", &at("m.gguf")], "reward model"),
        (vec!["--adapter_name_or_path", &lora, "--output_file", &at("m.gguf")], "whose base model is not there"),
    ] {
        let output = lapidary(&[&["export"][..], &arguments].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(words), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "nothing was written");
}

#[test]
fn each_line_is_a_turn() {
    let model = path(golden("models/llama"));
    let chat =
        ["chat", "--model_name_or_path", &model, "--temperature", "0", "--max_new_tokens", "24", "--device", "cpu"];
    let output = told(&chat, "Compute 7\n\n/help\n/reset\nCompute 7\nAnd now?\n/quit\nnever\n");
    let (said, noted) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{noted}");
    assert!(noted.contains("there is no /help") && noted.contains("begins anew"), "{noted}");
    // The first turn is what generate answers; behind a reset it is the same again; then the conversation goes on.
    let first = asked(&model, &[]);
    let rest = said.strip_prefix(&first).and_then(|rest| rest.strip_prefix(&first)).expect("the same answer twice");
    let messages = serde_json::json!([
        {"role": "user", "content": "Compute 7"},
        {"role": "assistant", "content": first.strip_suffix('\n').expect("a line")},
        {"role": "user", "content": "And now?"}
    ]);
    let how = ["--temperature", "0", "--max_new_tokens", "24", "--device", "cpu"];
    let on =
        done(&[&["generate", "--model_name_or_path", &model, "--messages", &messages.to_string()][..], &how].concat());
    assert_eq!(rest, on);
    // The end of standard input ends it too, and a last line needs no end.
    let output = told(&chat, "Compute 7");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), first));
}

#[test]
fn base_and_tuned_answer_side_by_side() {
    let dir = tempfile::tempdir().expect("a directory");
    let (model, data, adapter) =
        (path(golden("models/llama")), path(golden("data/messages.jsonl")), path(dir.path().join("adapter")));
    let train = ["sft", "--model_name_or_path", &model, "--dataset_name", &data, "--output_dir", &adapter];
    let how = ["--use_peft", "--learning_rate", "0.05", "--max_steps", "3", "--max_length", "64", "--device", "cpu"];
    done(&[&train[..], &how, &["--per_device_train_batch_size", "2"]].concat());
    let chat = ["chat", "--adapter_name_or_path", &adapter, "--beside", "base", "--temperature", "0"];
    let output = told(&[&chat[..], &["--max_new_tokens", "24", "--device", "cpu"]].concat(), "Compute 7\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let want = format!("base: {}tuned: {}", asked(&model, &[]), asked(&model, &["--adapter_name_or_path", &adapter]));
    assert_eq!(text(&output.stdout), want);
    let output = told(&["chat", "--model_name_or_path", &model, "--beside", "base"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("give one with --adapter_name_or_path"), "{}", text(&output.stderr));
}
