//! The whole program: what a person sees when it works, and one clear line with exit code 2 when the input is wrong.
mod common;

use common::golden;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn lapidary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(p: &Path) -> String {
    p.display().to_string()
}

/// Arguments of a short run on the tiny llama.
struct Run {
    dir: tempfile::TempDir,
    command: &'static str,
    model: String,
    data: String,
    more: Vec<String>,
}

impl Run {
    fn new() -> Self {
        let (model, data) = (path(&golden("models/llama")), path(&golden("data/messages.jsonl")));
        Run { dir: tempfile::tempdir().expect("a directory"), command: "sft", model, data, more: vec![] }
    }
    /// Another command, on data that it takes.
    fn of(command: &'static str) -> Self {
        let data = if matches!(command, "kto" | "bco") { "unpaired_preference" } else { "preference" };
        Run { command, data: path(&golden(&format!("data/{data}.jsonl"))), ..Run::new() }
    }
    fn with(mut self, flags: &[&str]) -> Self {
        self.more.extend(flags.iter().map(|f| f.to_string()));
        self
    }
    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }
    fn start(&self) -> Output {
        let out = path(&self.out());
        let mut all =
            vec![self.command, "--model_name_or_path", &self.model, "--dataset_name", &self.data, "--output_dir", &out];
        let defaults = [
            ("--device", "cpu"),
            ("--max_steps", "2"),
            ("--per_device_train_batch_size", "2"),
            ("--max_length", "128"),
        ];
        for (name, value) in defaults.into_iter().filter(|(name, _)| !self.more.iter().any(|flag| flag == name)) {
            all.extend([name, value]);
        }
        all.extend(self.more.iter().map(String::as_str));
        lapidary(&all)
    }
    /// Exit code 2, one line on standard error that says all of `words`, nothing written.
    fn refused(&self, words: &[&str]) {
        let output = self.start();
        let message = text(&output.stderr);
        let errors: Vec<&str> = message.lines().filter(|l| !l.starts_with("note:")).collect();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert_eq!(errors.len(), 1, "one line: {message}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
        assert!(!self.out().exists(), "the output directory was made");
    }
    /// Data of these lines instead.
    fn data(mut self, lines: &str) -> Self {
        let file = self.dir.path().join("rows.jsonl");
        fs::write(&file, lines).expect("written");
        self.data = path(&file);
        self
    }
    /// A copy of the tiny llama, changed by `change`.
    fn model(mut self, change: impl FnOnce(&Path)) -> Self {
        let copy = self.dir.path().join("model");
        fs::create_dir(&copy).expect("made");
        for name in
            ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
        {
            fs::copy(golden("models/llama").join(name), copy.join(name)).expect("copied");
        }
        change(&copy);
        self.model = path(&copy);
        self
    }
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("read");
    assert!(text.contains(from), "{} has no {from}", file.display());
    fs::write(file, text.replace(from, to)).expect("written");
}

#[test]
fn trains_generates_merges_and_previews() {
    let run = Run::new().with(&["--use_peft", "--lora_target_modules", "all-linear", "--logging_steps", "1"]);
    let output = run.start();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for file in [
        "adapter_model.safetensors",
        "adapter_config.json",
        "metrics.jsonl",
        "config.yaml",
        "manifest.json",
        "tokenizer.json",
    ] {
        assert!(run.out().join(file).exists(), "{file}");
    }
    assert_eq!(fs::read_to_string(run.out().join("metrics.jsonl")).expect("metrics").lines().count(), 2);

    let (out, merged) = (path(&run.out()), path(&run.dir.path().join("merged")));
    let common = ["--prompt", "What is 2 + 3?", "--max_new_tokens", "8", "--temperature", "0", "--device", "cpu"];
    let with_adapter =
        [&["generate", "--model_name_or_path", &run.model, "--adapter_name_or_path", &out], &common[..]].concat();
    let heard = lapidary(&with_adapter);
    assert!(heard.status.success(), "{}", text(&heard.stderr));
    let folded = lapidary(&[
        "merge",
        "--model_name_or_path",
        &run.model,
        "--adapter_name_or_path",
        &out,
        "--output_dir",
        &merged,
    ]);
    assert!(folded.status.success(), "{}", text(&folded.stderr));
    let from_merged = lapidary(&[&["generate", "--model_name_or_path", &merged], &common[..]].concat());
    assert_eq!(text(&heard.stdout), text(&from_merged.stdout), "the merged model says what the adapter said");

    // The adapter as the model: its base is found.
    let alone = lapidary(&[&["generate", "--model_name_or_path", &out], &common[..]].concat());
    assert_eq!(text(&alone.stdout), text(&heard.stdout), "{}", text(&alone.stderr));
    let again = path(&run.dir.path().join("merged-again"));
    let folded = lapidary(&["merge", "--model_name_or_path", &out, "--output_dir", &again]);
    assert!(folded.status.success(), "{}", text(&folded.stderr));
    let bytes = |dir: &str| fs::read(Path::new(dir).join("model.safetensors")).expect("weights");
    assert!(bytes(&again) == bytes(&merged));
    let more = path(&run.dir.path().join("more"));
    let trained = lapidary(&[
        "sft",
        "--model_name_or_path",
        &out,
        "--dataset_name",
        &run.data,
        "--output_dir",
        &more,
        "--max_steps",
        "1",
        "--device",
        "cpu",
    ]);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let names = |dir: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(Path::new(dir).join("adapter_config.json")).expect("a file")).expect("JSON")
    };
    assert_eq!(names(&more)["base_model_name_or_path"], names(&out)["base_model_name_or_path"]);
    let both =
        lapidary(&[&["generate", "--model_name_or_path", &out, "--adapter_name_or_path", &more], &common[..]].concat());
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("names another"), "{}", text(&both.stderr));

    let shown =
        lapidary(&["preview", "--model_name_or_path", &out, "--dataset_name", &run.data, "--assistant_only_loss"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains('⟦'), "{}", text(&shown.stdout));

    let again = run.start();
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("overwrite_output_dir"), "{}", text(&again.stderr));
}

#[test]
fn model_files_that_are_wrong() {
    let mut run = Run::new();
    run.model = path(&run.dir.path().join("nowhere"));
    run.refused(&["nowhere", "no such file"]);
    Run::new()
        .model(|m| fs::remove_file(m.join("tokenizer.json")).expect("removed"))
        .refused(&["tokenizer.json", "not found"]);
    Run::new()
        .model(|m| {
            let file = m.join("model.safetensors");
            let bytes = fs::read(&file).expect("read");
            fs::write(file, &bytes[..bytes.len() / 2]).expect("written");
        })
        .refused(&["model.safetensors"]);
    Run::new().model(|m| edit(&m.join("config.json"), "\"llama\"", "\"mamba\"")).refused(&["mamba", "llama", "qwen3"]);
    Run::new()
        .model(|m| edit(&m.join("config.json"), "\"hidden_size\": 48", "\"hidden_size\": 32"))
        .refused(&["shape"]);
    let gguf = |bytes: &[u8]| {
        let mut run = Run::new();
        let file = run.dir.path().join("model.gguf");
        fs::write(&file, bytes).expect("written");
        run.model = path(&file);
        run
    };
    gguf(b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f").refused(&["model.gguf"]);
    gguf(b"not a model").refused(&["model.gguf"]);
}

#[test]
fn a_tokenizer_of_another_model() {
    Run::new()
        .model(|m| {
            let file = m.join("tokenizer.json");
            let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
            json["model"]["vocab"]["ZZZZ"] = 100_000.into();
            fs::write(file, json.to_string()).expect("written");
        })
        .refused(&["tokenizer", "embedding", "512"]);
}

#[test]
fn data_that_is_wrong() {
    let mut run = Run::new();
    run.data = path(&run.dir.path().join("none.jsonl"));
    run.refused(&["none.jsonl"]);
    Run::new().data("").refused(&["rows.jsonl", "no rows"]);
    Run::new().data("{\"text\": \"a b c\"}\n{\"text\": \n").refused(&["rows.jsonl:2"]);
    Run::new().data("{\"text\": \"a b c\"}\n{\"txt\": \"a\"}\n").refused(&["rows.jsonl:2", "text"]);
    Run::new().data("{\"messages\": [{\"role\": \"user\"}]}\n").refused(&["rows.jsonl:1"]);
    Run::new()
        .data("{\"prompt\": \"a very long prompt indeed\", \"completion\": \"b\"}\n")
        .with(&["--max_length", "3"])
        .refused(&["max_length"]);
}

/// Pairs of text: prompt, chosen, rejected.
fn pairs(rows: &[(&str, &str, &str)]) -> String {
    let row = |(p, c, r): &(&str, &str, &str)| serde_json::json!({"prompt": p, "chosen": c, "rejected": r}).to_string();
    rows.iter().map(|r| row(r) + "\n").collect()
}

#[test]
fn preferences_that_are_wrong() {
    let same = pairs(&[("q", "a", "a"), ("r", "b", "b")]);
    for command in ["dpo", "orpo", "cpo", "reward"] {
        Run::of(command).data(&same).refused(&["all 2 rows", "nothing to prefer"]);
        Run::of(command).data("{\"text\": \"a\"}\n").refused(&["rows.jsonl:1", "chosen", "rejected"]);
        let mixed =
            "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": [{\"role\": \"user\", \"content\": \"b\"}]}\n";
        Run::of(command).data(mixed).refused(&["rows.jsonl:1", "all be text"]);
    }
    let long = pairs(&[("a prompt that is much longer than that", "a", "b"), ("another long prompt indeed", "c", "d")]);
    Run::of("dpo").data(&long).with(&["--max_length", "4"]).refused(&["all 2 rows", "max_length 4", "longest row has"]);
    Run::of("reward").data(&long).with(&["--max_length", "4"]).refused(&["all 2 rows", "max_length 4"]);
    Run::of("kto")
        .data("{\"prompt\": \"q\", \"completion\": \"a\", \"label\": 3}\n")
        .refused(&["rows.jsonl:1", "label"]);
    let one_kind = "{\"prompt\": \"q\", \"completion\": \"a\", \"label\": true}\n".repeat(3);
    Run::of("dpo").data(&one_kind).refused(&["none of the 3 rows makes a pair"]);
    Run::of("kto").data("{\"prompt\": \"q\", \"completion\": \"a\"}\n").refused(&["rows.jsonl:1", "label"]);
}

/// What is odd but can be trained on is told, with rows counted.
#[test]
fn preferences_that_are_odd() {
    let told = |run: Run, words: &[&str]| {
        let output = run.start();
        let message = text(&output.stderr);
        assert!(output.status.success(), "{message}");
        words.iter().for_each(|word| assert!(message.contains(word), "`{word}` is not in: {message}"));
    };
    let rows = pairs(&[("q", "a", "b"), ("r", "c", "c"), ("s", "", "d"), ("a prompt that is so long", "e", "f")]);
    told(
        Run::of("dpo").data(&rows).with(&["--max_length", "8"]),
        &["1 of 4 rows has the same answer", "1 of 4 rows has an empty answer", "1 of 4 rows was left out"],
    );
    let implicit = "{\"chosen\": \"ask: yes\", \"rejected\": \"ask: no\"}\n";
    told(Run::of("dpo").data(implicit), &["1 of 1 rows have no prompt of their own"]);
    let single =
        |p: &str, c: &str, l: bool| serde_json::json!({"prompt": p, "completion": c, "label": l}).to_string() + "\n";
    let rows = [single("q", "a", true), single("q", "b", false), single("r", "c", true)].concat();
    told(Run::of("dpo").data(&rows), &["3 unpaired rows made 1 pair:", "1 of 3 rows was left out"]);
    told(Run::of("kto").data(&pairs(&[("q", "a", "b")])), &["1 pair became 2 rows"]);
    let good = [single("q", "a", true), single("r", "b", true)].concat();
    told(Run::of("kto").data(&good), &["the label of all 2 rows is true"]);
    told(Run::of("bco").data(&good), &["the label of all 2 rows is true"]);
}

#[test]
fn preference_options_that_are_wrong() {
    Run::of("dpo")
        .with(&["--loss_type", "sigmoid", "sft", "--loss_weights", "1"])
        .refused(&["loss_weights", "2 losses"]);
    Run::of("dpo").with(&["--loss_type", "sigmoyd"]).refused(&["loss_type", "sigmoid"]);
    Run::of("dpo").with(&["--loss_type", "exo_pair"]).refused(&["label_smoothing", "exo_pair"]);
    Run::of("dpo").with(&["--loss_type", "robust", "--label_smoothing", "0.5"]).refused(&["label_smoothing", "robust"]);
    Run::of("dpo").with(&["--loss_type", "aot", "--use_weighting"]).refused(&["use_weighting", "aot"]);
    Run::of("dpo")
        .with(&["--loss_type", "apo_zero", "--f_divergence_type", "js_divergence"])
        .refused(&["js_divergence"]);
    Run::of("dpo").with(&["--sync_ref_model", "--use_peft"]).refused(&["sync_ref_model", "adapter"]);
    Run::of("dpo").with(&["--sync_ref_model", "--precompute_ref_log_probs"]).refused(&["precompute_ref_log_probs"]);
    Run::of("dpo").with(&["--beta", "0"]).refused(&["beta"]);
    Run::of("kto").with(&["--per_device_train_batch_size", "1"]).refused(&["per_device_train_batch_size", "2 rows"]);
}

#[test]
fn trains_a_reward_model_and_scores_with_it() {
    let run = Run::of("reward");
    let output = run.start();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("head starts at random"), "{}", text(&output.stderr));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.out().join("config.json")).expect("read")).expect("JSON");
    assert_eq!(config["architectures"][0], "LlamaForSequenceClassification");
    assert_eq!(config["id2label"].as_object().map(|l| l.len()), Some(1));
    assert!(config["pad_token_id"].is_number(), "transformers finds the last token by its padding");

    let (model, scores) = (path(&run.out()), path(&run.dir.path().join("scores.jsonl")));
    let score = |more: &[&str]| {
        lapidary(
            &[&["score", "--model_name_or_path", &model, "--dataset_name", &run.data, "--device", "cpu"], more]
                .concat(),
        )
    };
    let output = score(&["--output_file", &scores]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("comparisons right"), "{}", text(&output.stderr));
    let lines = fs::read_to_string(&scores).expect("scores");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["rewards"].as_array().map(Vec::len), Some(2));
    assert_eq!(text(&score(&["--per_device_eval_batch_size", "1"]).stdout), lines, "no matter how many at once");
    assert_eq!(score(&["--output_file", &scores]).status.code(), Some(2), "nothing is written over");

    let language_model = path(&golden("models/llama"));
    let wrong = lapidary(&["score", "--model_name_or_path", &language_model, "--dataset_name", &run.data]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("no reward model"), "{}", text(&wrong.stderr));
}

#[test]
fn options_that_are_wrong() {
    Run::new().with(&["--learning_rat", "1"]).refused(&["learning_rat", "learning_rate"]);
    Run::new().with(&["--learning_rate", "fast"]).refused(&["learning_rate", "fast"]);
    Run::new().with(&["--lora_r", "8"]).refused(&["lora_r", "use_peft"]);
    Run::new().with(&["--use_peft", "--lora_target_modules", "w_pack"]).refused(&["w_pack", "q_proj"]);
    Run::new().with(&["--max_steps", "0"]).refused(&["max_steps"]);
    Run::new().with(&["--resume_from_checkpoint", "last"]).refused(&["resume_from_checkpoint"]);
    Run::new().with(&["--adapter_name_or_path", "nowhere"]).refused(&["nowhere"]);
    let run = Run::new();
    let config = run.dir.path().join("run.yaml");
    fs::write(&config, "learning_rate: 0.001\nwarmup_stepz: 3\n").expect("written");
    let config = path(&config);
    run.with(&["--config", &config]).refused(&["warmup_stepz", "warmup_steps"]);
}

#[test]
fn a_gpu_that_is_not_there() {
    // Whatever this machine has, it has no hundredth GPU.
    let mut run = Run::new();
    run.more = vec!["--device".into(), "gpu:99".into()];
    let output = run.start();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("--device"), "{message}");
    assert!(!run.out().exists());
}

/// A directory with the tiny llama's tokenizer and 70 billion weights, all zeros: the file has a header, then a hole.
#[cfg(unix)]
fn large_model(dir: &Path) {
    let (d, f, kv, layers) = (8192, 28672, 1024, 80);
    let mut shapes = vec![("model.embed_tokens".to_string(), vec![512, d]), ("model.norm".to_string(), vec![d])];
    for layer in 0..layers {
        let of_layer = [
            ("self_attn.q_proj", vec![d, d]),
            ("self_attn.k_proj", vec![kv, d]),
            ("self_attn.v_proj", vec![kv, d]),
            ("self_attn.o_proj", vec![d, d]),
            ("mlp.gate_proj", vec![f, d]),
            ("mlp.up_proj", vec![f, d]),
            ("mlp.down_proj", vec![d, f]),
            ("input_layernorm", vec![d]),
            ("post_attention_layernorm", vec![d]),
        ];
        shapes.extend(of_layer.map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)));
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let tensor = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(format!("{name}.weight"), tensor);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(dir.join("model.safetensors"), &bytes).expect("written");
    let file = fs::OpenOptions::new().write(true).open(dir.join("model.safetensors")).expect("opened");
    file.set_len(bytes.len() as u64 + end).expect("a hole");
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": d, "intermediate_size": f, "num_hidden_layers": layers,
        "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 512, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3
    });
    fs::write(dir.join("config.json"), config.to_string()).expect("written");
}

#[cfg(unix)]
#[test]
fn memory_that_is_not_there() {
    Run::new().model(large_model).refused(&["1.1 TB of memory", "free", "a smaller model"]);
    Run::new().model(large_model).with(&["--use_peft"]).refused(&["GB of memory", "free", "a smaller model"]);
    if common::software_gpu().is_some() {
        let on_gpu = Run::new().model(large_model).with(&["--device", "gpu:software"]);
        on_gpu.refused(&["1.1 TB of memory", "free", "a smaller model"]);
    }
}

#[test]
fn help_names_every_command() {
    let help = lapidary(&["--help"]);
    assert!(help.status.success());
    for command in [
        "sft",
        "reward",
        "score",
        "dpo",
        "orpo",
        "cpo",
        "kto",
        "bco",
        "raft",
        "reinforce",
        "rloo",
        "grpo",
        "ppo",
        "generate",
        "merge",
        "preview",
        "quickstart",
        "doctor",
    ] {
        assert!(text(&help.stdout).contains(command), "{command}");
    }
    let unknown = lapidary(&["sfft"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("sft"), "{}", text(&unknown.stderr));
}

/// Works without a GPU: devices, kernels, ceilings and cost, for the CPU alone.
#[test]
fn doctor_examines_the_cpu() {
    let model = path(&golden("models/llama"));
    let step = ["--model_name_or_path", &model, "--per_device_train_batch_size", "2", "--max_length", "64"];
    let output = lapidary(&[&["doctor", "--device", "cpu", "--threads", "2"], &step[..]].concat());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for words in [
        "devices",
        "cpu (2 threads",
        "kernels against the reference",
        "ceilings",
        "GFLOP/s",
        "a training step of",
        "2 × 64 tokens",
        "memory at the peak",
    ] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
    // Every case agrees, and there are many.
    let row = said
        .lines()
        .skip_while(|l| !l.starts_with("kernels"))
        .find(|l| l.trim_start().starts_with("cpu"))
        .expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1], cells[2], "{row}");
    assert!(cells[1].parse::<usize>().expect("a number") > 500, "{row}");
}

/// What is missing is said with how to get it, and a wrong model touches no device.
#[test]
fn doctor_says_what_is_missing() {
    let output = lapidary(&["doctor", "--no_check_kernels", "--threads", "1"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    if cfg!(not(feature = "gpu")) {
        assert!(said.contains("built without the feature gpu"), "{said}");
    } else if !said.contains("gpu:0") {
        assert!(said.contains("no real GPU was found") && said.contains("Vulkan driver"), "{said}");
    }
    assert!(said.contains("give --model_name_or_path"), "{said}");
    let wrong = lapidary(&["doctor", "--model_name_or_path", "no/such/model"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(text(&wrong.stderr).lines().count(), 1, "{}", text(&wrong.stderr));
    assert!(wrong.stdout.is_empty());
}

/// The software adapter has a name, its limits and features in the report.
#[cfg(feature = "gpu")]
#[test]
fn doctor_examines_a_gpu() {
    if common::software_gpu().is_none() {
        return;
    }
    let output = lapidary(&["doctor", "--device", "gpu:software", "--no_check_kernels"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for words in ["gpu:software", "Vulkan", "software", "of workgroup memory", "has ", "lacks "] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
}

#[test]
fn what_a_model_asks_for_and_is_not_done_is_said() {
    let run =
        Run::new().model(|m| edit(&m.join("config.json"), "\"attention_dropout\": 0.0", "\"attention_dropout\": 0.25"));
    let output = run.start();
    let (code, said) = (output.status.code(), text(&output.stderr));
    let notes: Vec<&str> = said.lines().filter(|line| line.contains("dropout")).collect();
    assert_eq!((code, notes.len()), (Some(0), 1), "{said}");
    assert!(notes[0].starts_with("note: ") && notes[0].ends_with("not done: attention_dropout 0.25"), "{said}");
    let saved = fs::read_to_string(run.out().join("config.json")).expect("a saved configuration");
    assert!(saved.contains("\"attention_dropout\": 0.25"), "{saved}");
}
