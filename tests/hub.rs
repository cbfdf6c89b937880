//! Models and data sets from the hub, and models pushed to it: the whole program against a hub on loopback (hub/server.rs).
mod common;
#[path = "hub/pushes.rs"]
mod pushes;
#[path = "hub/server.rs"]
mod server;

use common::golden;
use serde_json::{Value, json};
use server::{FakeHub, FakeRepo, Fault, sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A hub, and a machine that knows of no other.
struct Place {
    hub: FakeHub,
    dir: tempfile::TempDir,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Place {
    fn new() -> Self {
        Place { hub: FakeHub::start(), dir: tempfile::tempdir().expect("a directory") }
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn cache(&self, below: &str) -> PathBuf {
        self.at("hf/hub").join(below)
    }
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("HF_HOME", self.at("hf"))
            .env("NO_PROXY", "127.0.0.1,localhost");
        command.current_dir(self.dir.path()).args(line.split_whitespace());
        command
    }
    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("the program runs")
    }
    /// Standard error of a command that must succeed.
    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        text(&output.stderr)
    }
    /// The error of a command that must end with this exit code.
    fn fails(&self, line: &str, code: i32) -> String {
        told(self.run(line), code)
    }
    /// The tiny llama under this name.
    fn put_llama(&self, id: &str) -> FakeRepo {
        let repo = FakeRepo::new(llama());
        self.hub.put(&format!("models/{id}"), repo.clone());
        repo
    }
}

fn told(output: Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said.lines().filter(|line| !line.starts_with("note: ")).collect::<Vec<_>>().join("\n")
}

fn file(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of the tiny llama, and some that are never fetched.
fn llama() -> Vec<(String, Vec<u8>)> {
    let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
    let mut files: Vec<(String, Vec<u8>)> =
        names.iter().map(|name| (name.to_string(), file(&golden("models/llama").join(name)))).collect();
    files.push(("pytorch_model.bin".into(), vec![1; 5000]));
    files.push(("modeling_x.py".into(), b"import os".to_vec()));
    files.push(("README.md".into(), b"# A model".to_vec()));
    files
}

fn rows() -> Vec<u8> {
    file(&golden("data/messages.jsonl"))
}

const ASK: &str = "--prompt Hello --max_new_tokens 2 --device cpu --temperature 0";
const TRAIN: &str = "--device cpu --max_length 64 --per_device_train_batch_size 2 --save_steps 1 --learning_rate 1e-3";

#[test]
fn a_model_comes_once_and_stays() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let ask = format!("generate --model_name_or_path org/llama {ASK}");
    let said = place.succeeds(&ask);
    assert!(said.contains("fetching model.safetensors of org/llama@"), "{said}");
    assert!(said.contains(&format!("note: model_name_or_path org/llama is org/llama@{}", repo.commit)), "{said}");

    // The layout of Hugging Face's own cache.
    let folder = place.cache("models--org--llama");
    assert_eq!(text(&file(&folder.join("refs/main"))), repo.commit);
    let snapshot = folder.join("snapshots").join(&repo.commit);
    let mut names: Vec<String> = fs::read_dir(&snapshot)
        .expect("a snapshot")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    // Neither code nor pickled weights.
    assert_eq!(
        names,
        ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    );
    let weights = &repo.files["model.safetensors"];
    let link = Path::new("../../blobs").join(sha256(weights));
    assert_eq!(fs::read_link(snapshot.join("model.safetensors")).expect("a link"), link);
    assert_eq!(&file(&snapshot.join("model.safetensors")), weights);
    let trees: Value =
        serde_json::from_slice(&file(&folder.join(format!("trees/{}.json", repo.commit)))).expect("JSON");
    assert_eq!(trees["files"]["model.safetensors"]["lfs_sha256"], json!(sha256(weights)));
    assert_eq!(trees["format_version"], 1);

    // Once more: the branch is looked up, and nothing else.
    place.hub.forget();
    place.succeeds(&ask);
    let seen = place.hub.seen("");
    assert_eq!(seen.len(), 1, "{seen:?}");
    // By its commit: nothing at all. Offline: nothing either.
    place.succeeds(&format!("generate --model_name_or_path org/llama@{} {ASK}", repo.commit));
    let offline = place.command(&ask).env("HF_HUB_OFFLINE", "1").output().expect("runs");
    assert!(offline.status.success(), "{}", text(&offline.stderr));
    assert_eq!(place.hub.seen("").len(), 1);
    // A hub that does not answer: what is there is used, and that is said; what is not there, may be a path.
    let nobody = place.command(&ask).env("HF_ENDPOINT", "http://127.0.0.1:1").output().expect("runs");
    assert!(nobody.status.success() && text(&nobody.stderr).contains("does not answer"), "{}", text(&nobody.stderr));
    let other = ask.replace("org/llama", "org/other");
    let said = told(place.command(&other).env("HF_ENDPOINT", "http://127.0.0.1:1").output().expect("runs"), 2);
    assert!(said.contains("org/other: http://127.0.0.1:1: ") && said.contains("and here is no such file"), "{said}");
}

#[test]
fn what_is_not_in_the_cache_is_not_there_offline() {
    let place = Place::new();
    place.put_llama("org/llama");
    let offline = |line: &str| told(place.command(line).env("HF_HUB_OFFLINE", "1").output().expect("runs"), 2);
    let ask = format!("generate --model_name_or_path org/llama {ASK}");
    let said = offline(&ask);
    assert!(said.contains("org/llama: is not in the cache, and HF_HUB_OFFLINE is set"), "{said}");
    place.succeeds(&ask);
    fs::remove_file(
        place
            .cache("models--org--llama/snapshots")
            .join(&place.hub.state().repos["models/org/llama"].commit)
            .join("model.safetensors"),
    )
    .expect("removed");
    let said = offline(&ask);
    assert!(said.contains("model.safetensors is not in the cache, and HF_HUB_OFFLINE is set"), "{said}");
    let said = offline(&format!("generate --model_name_or_path org/llama@v2 {ASK}"));
    assert!(said.contains("org/llama@v2: is not in the cache"), "{said}");
}

/// The tensors of the tiny llama in two files, with their index.
fn shards() -> Vec<(String, Vec<u8>)> {
    let all = file(&golden("models/llama/model.safetensors"));
    let all = safetensors::SafeTensors::deserialize(&all).expect("tensors");
    let mut map = BTreeMap::new();
    let mut files = Vec::new();
    for i in 0..2 {
        let name = format!("model-0000{}-of-00002.safetensors", i + 1);
        let part: Vec<_> = all.tensors().into_iter().enumerate().filter(|(j, _)| j % 2 == i).map(|(_, t)| t).collect();
        part.iter().for_each(|(tensor, _)| drop(map.insert(tensor.clone(), name.clone())));
        files.push((name, safetensors::serialize(part, None).expect("serialised")));
    }
    files.push((
        "model.safetensors.index.json".into(),
        json!({"metadata": {}, "weight_map": map}).to_string().into_bytes(),
    ));
    files
}

#[test]
fn shards_come_by_their_index() {
    let place = Place::new();
    let mut files: Vec<_> = llama().into_iter().filter(|(name, _)| name != "model.safetensors").collect();
    files.extend(shards());
    files.push(("model-00001-of-00009.safetensors".into(), vec![0; 5000]));
    place.hub.put("models/org/sharded", FakeRepo::new(files));
    // The list of files comes in pages.
    place.hub.state().page = Some(3);
    place.put_llama("org/llama");
    let of = |model: &str| {
        let output = place.run(&format!("generate --model_name_or_path {model} {ASK}"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(of("org/sharded"), of("org/llama"));
    assert!(place.hub.seen("tree/").len() >= 4);
    assert!(place.hub.seen("00001-of-00002").len() == 1 && place.hub.seen("00001-of-00009").is_empty());
}

#[test]
fn a_cut_connection_goes_on_where_it_ended() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let weights = &repo.files["model.safetensors"];
    let size = weights.len();
    place.hub.state().faults.insert("model.safetensors".into(), Fault::Cut(100_000));
    let said = place.succeeds(&format!("generate --model_name_or_path org/llama {ASK}"));
    assert!(said.contains(&format!("the connection was cut; going on from byte 100000 of {size}")), "{said}");
    let seen = place.hub.seen(&sha256(weights));
    assert_eq!(seen.iter().map(|seen| seen.range.as_deref()).collect::<Vec<_>>(), [None, Some("bytes=100000-")]);
    assert_eq!(seen.iter().map(|seen| seen.served).sum::<usize>(), size);
}

/// What another process has left half-way.
#[test]
fn a_download_that_was_stopped_goes_on() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let weights = &repo.files["model.safetensors"];
    let blobs = place.cache("models--org--llama/blobs");
    fs::create_dir_all(&blobs).expect("made");
    let incomplete = blobs.join(format!("{}.incomplete", sha256(weights)));
    fs::write(&incomplete, &weights[..200_000]).expect("written");
    place.succeeds(&format!("generate --model_name_or_path org/llama {ASK}"));
    let seen = place.hub.seen(&sha256(weights));
    assert_eq!(seen.iter().map(|seen| seen.served).sum::<usize>(), weights.len() - 200_000);
    assert!(!incomplete.exists() && blobs.join(sha256(weights)).exists());
}

/// Another program, ours or Hugging Face's, is at the same file.
#[test]
fn two_programs_do_not_fetch_one_file_at_once() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let weights = &repo.files["model.safetensors"];
    let locks = place.cache(".locks/models--org--llama");
    fs::create_dir_all(&locks).expect("made");
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(weights)))).expect("a file");
    lock.lock().expect("locked");
    let mut command = place.command(&format!("generate --model_name_or_path org/llama {ASK}"));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let waits = lines.any(|line| line.starts_with("waiting for another program that fetches model.safetensors"));
    assert!(waits && place.hub.seen(&sha256(weights)).is_empty());
    // The other one has it.
    let blobs = place.cache("models--org--llama/blobs");
    fs::write(blobs.join(sha256(weights)), weights).expect("written");
    drop(lock);
    lines.for_each(drop);
    assert!(child.wait().expect("it ends").success());
    assert!(place.hub.seen(&sha256(weights)).is_empty());
}

#[test]
fn what_comes_is_what_was_listed_or_is_refused() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let ask = format!("generate --model_name_or_path org/llama {ASK}");
    let blob = place.cache("models--org--llama/blobs").join(sha256(&repo.files["model.safetensors"]));
    for (fault, said) in [(Fault::Garbled, "its SHA-256 is"), (Fault::Short(1000), "1000 bytes would come")] {
        place.hub.state().faults.insert("model.safetensors".into(), fault);
        let found = place.fails(&ask, 1);
        assert!(found.contains("what the hub sends is not what it lists") && found.contains(said), "{found}");
        assert!(!blob.exists());
    }
    // A small file is compared by its length.
    place.hub.state().faults.clear();
    place.hub.state().faults.insert("config.json".into(), Fault::Short(10));
    fs::remove_dir_all(place.at("hf")).expect("removed");
    let found = place.fails(&ask, 1);
    assert!(found.contains("config.json") && found.contains("10 bytes would come"), "{found}");
    place.hub.state().faults.clear();
    place.succeeds(&ask);
}

#[test]
fn a_token_opens_what_is_private_and_goes_nowhere_else() {
    let place = Place::new();
    let mut repo = place.put_llama("org/secret");
    repo.token = Some("hf_read");
    place.hub.put("models/org/secret", repo.clone());
    let ask = format!("generate --model_name_or_path org/secret {ASK}");
    let said = place.fails(&ask, 2);
    assert!(said.contains("there is neither such a model on") && said.contains("HF_TOKEN"), "{said}");
    let wrong = place.command(&ask).env("HF_TOKEN", "hf_other").output().expect("runs");
    assert!(told(wrong, 2).contains("the token that is given"));
    repo.gated = true;
    place.hub.put("models/org/secret", repo);
    let said = place.fails(&ask, 2);
    assert!(said.contains("accept the terms at") && said.contains("/org/secret"), "{said}");
    place.hub.forget();
    fs::create_dir_all(place.at("hf")).expect("made");
    fs::write(place.at("hf/token"), "hf_read\n").expect("written");
    place.succeeds(&ask);
    let seen = place.hub.seen("");
    assert!(seen.iter().any(|seen| seen.path.starts_with("/cdn/")));
    for seen in &seen {
        let expected = if seen.path.starts_with("/cdn/") { None } else { Some("Bearer hf_read") };
        assert_eq!(seen.token.as_deref(), expected, "{}", seen.path);
    }
}

#[test]
fn names_that_are_wrong_are_told_with_what_to_do() {
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    place
        .hub
        .put("models/org/ggufs", FakeRepo::new(["a.Q4.gguf", "b.Q8.gguf"].map(|name| (name.to_string(), vec![1; 9]))));
    place.hub.put(
        "models/org/pickled",
        FakeRepo::new(["config.json", "pytorch_model.bin"].map(|name| (name.to_string(), vec![1; 9]))),
    );
    for (model, said) in [
        ("org/nothing", "org/nothing: there is neither such a model on http://127.0.0.1"),
        ("org/nothing", "nor a file or directory here"),
        ("org/llama@v9", "has no revision \"v9\""),
        ("hf://org/llama/m.gguf", "there is no such file"),
        ("hf://org/llama/config.json", "a single file of a model is a .gguf file"),
        ("hf://datasets/org/llama", "names a data set, and a model is wanted"),
        ("hf://llama", "names no repository"),
        ("org/ggufs", "has several GGUF files; name one of them: a.Q4.gguf, b.Q8.gguf"),
        ("org/pickled", "only as pytorch_model.bin"),
        ("gpt2", "a name of two parts"),
        ("no/such.gguf", "there is no such file or directory"),
        ("./org/llama", "there is no such file or directory"),
    ] {
        let found = place.fails(&format!("generate --model_name_or_path {model} {ASK}"), 2);
        assert!(found.contains(said) && found.lines().count() == 1, "{model}: {found}");
    }
    let found = place.fails(&format!("generate --model_name_or_path org/llama@v9 --model_revision v1 {ASK}"), 2);
    assert!(found.contains("--model_revision: contradicts org/llama@v9"), "{found}");
    // What is here wins.
    let here = place.at("org/llama");
    fs::create_dir_all(&here).expect("made");
    repo.files.iter().for_each(|(name, bytes)| fs::write(here.join(name), bytes).expect("written"));
    place.hub.forget();
    let said = place.succeeds(&format!("generate --model_name_or_path org/llama --model_revision v1 {ASK}"));
    assert!(place.hub.seen("").is_empty() && said.contains("model_revision has no effect"), "{said}");
}

#[test]
fn a_list_of_files_that_leads_out_of_the_cache_is_refused() {
    for (path, oid) in [("../../../../escaped", "0".repeat(40)), ("config.json", "../../../escaped".into())] {
        let place = Place::new();
        let mut repo = place.put_llama("org/evil");
        repo.more_entries = vec![json!({"type": "file", "path": path, "oid": oid, "size": 3})];
        place.hub.put("models/org/evil", repo);
        let said = place.fails(&format!("generate --model_name_or_path org/evil {ASK}"), 1);
        assert!(said.contains("its list of files"), "{said}");
        assert!(place.hub.seen("/resolve/").is_empty());
        assert!(!place.cache("models--org--evil/snapshots").exists());
    }
}

#[test]
fn a_run_says_what_it_read_and_goes_on_with_the_same() {
    let place = Place::new();
    let (model, data) = (place.put_llama("org/llama"), FakeRepo::new([("train.jsonl".to_string(), rows())]));
    place.hub.put("datasets/org/rows", data.clone());
    let train =
        format!("sft --model_name_or_path org/llama --dataset_name org/rows --output_dir run --use_peft {TRAIN}");
    place.succeeds(&format!("{train} --max_steps 1"));
    let manifest: Value = serde_json::from_slice(&file(&place.at("run/manifest.json"))).expect("JSON");
    assert_eq!(manifest["hub"], json!({"datasets/org/rows": data.commit, "models/org/llama": model.commit}));
    let config = text(&file(&place.at("run/config.yaml")));
    for line in [
        "model_name_or_path: org/llama",
        &format!("model_revision: {}", model.commit),
        &format!("dataset_name: org/rows@{}", data.commit),
    ] {
        assert!(config.contains(line), "{line} is not in\n{config}");
    }
    let adapter: Value = serde_json::from_slice(&file(&place.at("run/adapter_config.json"))).expect("JSON");
    assert_eq!(
        (&adapter["base_model_name_or_path"], &adapter["revision"]),
        (&json!("org/llama"), &json!(model.commit))
    );

    // Both branches move on; files that other programs fetch come into the directory of the old commit.
    let mut newer = model.clone();
    newer.files.insert("generation_config.json".into(), b"{}".to_vec());
    newer.commit_files();
    newer.tags.insert(model.commit.clone(), model.clone());
    place.hub.put("models/org/llama", newer);
    let moved = FakeRepo::new([("train.jsonl".to_string(), rows()[..2000].to_vec())]);
    place.hub.put("datasets/org/rows", moved);
    fs::write(place.cache("models--org--llama/snapshots").join(&model.commit).join("pytorch_model.bin"), "x")
        .expect("written");
    let said = place.succeeds(&format!("{train} --max_steps 2 --resume_from_checkpoint last"));
    assert!(said.contains("resumed from") && said.contains(&model.commit), "{said}");
    let resumed: Value = serde_json::from_slice(&file(&place.at("run/manifest.json"))).expect("JSON");
    assert_eq!(resumed["hub"], manifest["hub"]);
    // As the resumed run's own config file says it.
    place.succeeds("sft --config run/config.yaml --max_steps 3 --resume_from_checkpoint last");
    // The adapter finds its base by name.
    let said = place.succeeds(&format!("generate --model_name_or_path run {ASK}"));
    assert!(said.contains("run is an adapter; its base is"), "{said}");
}

#[test]
fn an_adapter_and_its_base_come_by_name() {
    let place = Place::new();
    place.put_llama("org/llama");
    let mut config: Value =
        serde_json::from_slice(&file(&golden("adapters/sft_lora/adapter_config.json"))).expect("JSON");
    config["base_model_name_or_path"] = "org/llama".into();
    let weights = file(&golden("adapters/sft_lora/adapter_model.safetensors"));
    let files = [
        ("adapter_config.json".to_string(), config.to_string().into_bytes()),
        ("adapter_model.safetensors".to_string(), weights),
    ];
    place.hub.put("models/org/adapter", FakeRepo::new(files.clone()));
    let here = place.at("adapter");
    fs::create_dir_all(&here).expect("made");
    files.iter().for_each(|(name, bytes)| fs::write(here.join(name), bytes).expect("written"));
    let of = |model: &str| {
        let output = place.run(&format!("generate {model} {ASK}"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let whole = of("--model_name_or_path org/llama --adapter_name_or_path adapter");
    assert_eq!(of("--model_name_or_path org/adapter"), whole);
    assert_eq!(of("--model_name_or_path org/llama --adapter_name_or_path org/adapter"), whole);
    let said = place.succeeds("merge --model_name_or_path org/adapter --output_dir merged");
    assert!(said.contains("merged into merged"), "{said}");
}

const CARD: &str = "---
configs:
- config_name: first
  data_files:
  - split: train
    path: first/train-*.jsonl
  - split: test
    path: first/test.jsonl
- config_name: second
  data_dir: other
---
# Rows
";

#[test]
fn data_sets_come_by_configuration_and_split() {
    let place = Place::new();
    let all = text(&rows());
    let lines: Vec<&str> = all.lines().collect();
    let some = |range: std::ops::Range<usize>| lines[range].join("\n").into_bytes();
    place.hub.put(
        "datasets/org/rows",
        FakeRepo::new([
            ("README.md".to_string(), CARD.as_bytes().to_vec()),
            ("first/train-1.jsonl".to_string(), some(0..2)),
            ("first/train-2.jsonl".to_string(), some(2..4)),
            ("first/test.jsonl".to_string(), some(4..5)),
            ("other/data/train-00000-of-00001.jsonl".to_string(), some(5..6)),
            ("other/data/test-00000-of-00001.jsonl".to_string(), some(6..7)),
        ]),
    );
    let model = golden("models/llama");
    let preview = |data: &str| format!("preview --model_name_or_path {} --rows 9 {data}", model.display());
    let shown = |data: &str| {
        place.hub.forget();
        let output = place.run(&preview(data));
        assert!(output.status.success(), "{data}: {}", text(&output.stderr));
        let fetched: Vec<String> = place
            .hub
            .seen("/resolve/")
            .into_iter()
            .filter_map(|seen| Some(seen.path.split_once("/resolve/")?.1[41..].to_string()))
            .collect();
        fetched
    };
    let fetched = shown("--dataset_name org/rows --dataset_config first");
    assert_eq!(fetched, ["README.md", "first/train-1.jsonl", "first/train-2.jsonl"]);
    let fetched = shown("--dataset_name org/rows --dataset_config first --dataset_split test");
    assert_eq!(fetched, ["first/test.jsonl"]);
    let fetched = shown("--dataset_name org/rows --dataset_config second");
    assert_eq!(fetched, ["other/data/train-00000-of-00001.jsonl"]);
    let fetched = shown("--dataset_name hf://datasets/org/rows/other/data/test-00000-of-00001.jsonl");
    assert_eq!(fetched, ["other/data/test-00000-of-00001.jsonl"]);
    for (data, said) in [
        ("--dataset_name org/rows", "has the configurations first, second"),
        ("--dataset_name org/rows --dataset_config third", "has no configuration \"third\""),
        (
            "--dataset_name org/rows --dataset_config first --dataset_split valid",
            "has no split \"valid\"; its splits are test, train",
        ),
        ("--dataset_name org/none", "neither such a data set on"),
        ("--dataset_name hf://datasets/org/rows/none.jsonl", "there is no such file"),
    ] {
        let found = place.fails(&preview(data), 2);
        assert!(found.contains(said), "{data}: {found}");
    }
    // Offline, all that has been fetched is read, and what has not is named.
    let offline = |data: &str| place.command(&preview(data)).env("HF_HUB_OFFLINE", "1").output().expect("runs");
    assert!(offline("--dataset_name org/rows --dataset_config first").status.success());
    let said = told(offline("--dataset_name hf://datasets/org/rows/other/data/test-00000-of-00001.jsonl"), 0);
    assert!(!said.contains("fetching"), "{said}");
}

#[test]
fn sets_of_other_kinds_are_read_or_refused() {
    let place = Place::new();
    let model = golden("models/llama");
    let preview = |name: &str| format!("preview --model_name_or_path {} --dataset_name {name}", model.display());
    place.hub.put("datasets/org/csv", FakeRepo::new([("train.csv".to_string(), b"text\nhello there\n".to_vec())]));
    place.succeeds(&preview("org/csv"));
    let program = FakeRepo::new([("script.py".to_string(), b"import datasets".to_vec())]);
    place.hub.put("datasets/org/script", program);
    let said = place.fails(&preview("org/script"), 2);
    assert!(said.contains("no program of a data set is run") && said.contains("@refs/convert/parquet"), "{said}");
    // Its copy as the hub converts it, here in another format.
    let mut with_copy = FakeRepo::new([("script.py".to_string(), b"import datasets".to_vec())]);
    let copy = FakeRepo::new([("default/train/0000.jsonl".to_string(), b"{\"text\": \"hello\"}\n".to_vec())]);
    with_copy.tags.insert("refs/convert/parquet".into(), copy.clone());
    place.hub.put("datasets/org/script", with_copy);
    place.succeeds(&preview("org/script@refs/convert/parquet"));
    assert_eq!(text(&file(&place.cache("datasets--org--script/refs/refs/convert/parquet"))), copy.commit);
    // Several, one of them from the hub.
    let train = format!("sft --model_name_or_path {} --output_dir mixed {TRAIN} --max_steps 1", model.display());
    let mut command = place.command(&train);
    command.args(["--datasets", "[{\"path\": \"org/csv\"}]"]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let commit = place.hub.state().repos["datasets/org/csv"].commit.clone();
    assert!(text(&file(&place.at("mixed/config.yaml"))).contains(&format!("org/csv@{commit}")));
}

/// Hugging Face's own library finds what was fetched here, and what it fetches is found here (tests/hub.py).
/// LAPIDARY_PYTHON names a Python with huggingface_hub.
#[test]
fn the_cache_is_shared_with_huggingface_hub() {
    let Some(python) = std::env::var_os("LAPIDARY_PYTHON") else {
        eprintln!("SKIPPED: LAPIDARY_PYTHON is not set");
        return;
    };
    let place = Place::new();
    let repo = place.put_llama("org/llama");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub.py");
    let other = |what: &str, home: &Path| {
        let mut command = Command::new(&python);
        command.arg(&script).args([what, "org/llama", &repo.commit]).env("HF_ENDPOINT", place.hub.endpoint());
        let output = command.env("HF_HOME", home).env_remove("HF_HUB_OFFLINE").output().expect("Python runs");
        assert!(output.status.success(), "{what}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let ask = format!("generate --model_name_or_path org/llama {ASK}");
    place.succeeds(&ask);
    assert_eq!(other("find", &place.at("hf")).trim(), sha256(&repo.files["model.safetensors"]));
    // The other way round, in another home.
    other("fetch", &place.at("theirs"));
    place.hub.forget();
    let mut offline = place.command(&ask);
    let output = offline.env("HF_HOME", place.at("theirs")).env("HF_HUB_OFFLINE", "1").output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = place.command(&ask).env("HF_HOME", place.at("theirs")).output().expect("runs");
    assert!(output.status.success() && place.hub.seen("/resolve/").is_empty(), "{}", text(&output.stderr));
}
