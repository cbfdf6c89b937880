//! Every option of TRL's stable trainers is declared, or has no effect for a stated reason, or is refused for one.
use super::accepted::{Foreign, foreign};
use super::spec::OptionSpec;
use super::value::{ANY, Raw};
use super::*;
use crate::cli::{Request, read};
use serde_json::{Map, Value};
use std::io::Write;

/// tests/golden/trl_options.json: TRL 1.16's options with their defaults, by command; `script`: those of all commands.
fn trl() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../tests/golden/trl_options.json")).expect("golden options")
}

fn specs_of(command: &str) -> Vec<&'static OptionSpec> {
    match command {
        "sft" => SftOptions::specs(),
        "dpo" => DpoOptions::specs(),
        "grpo" => GrpoOptions::specs(),
        "rloo" => RlooOptions::specs(),
        "kto" => KtoOptions::specs(),
        "reward" => RewardOptions::specs(),
        other => panic!("{other}"),
    }
}

/// The options of a command with TRL's defaults, those of all commands among them.
fn options_of(all: &Map<String, Value>, command: &str) -> Map<String, Value> {
    let mut options = all["script"].as_object().expect("options").clone();
    options.extend(all[command].as_object().expect("options").clone());
    options
}

fn commands(all: &Map<String, Value>) -> Vec<&str> {
    all.keys().map(String::as_str).filter(|name| *name != "script").collect()
}

#[test]
fn every_option_of_trl_is_known() {
    let all = trl();
    let mut unknown = Vec::new();
    for command in commands(&all) {
        let specs = specs_of(command);
        for name in options_of(&all, command).keys() {
            if !specs.iter().any(|spec| spec.is_called(name)) && foreign(name).is_none() {
                unknown.push(format!("{command}: {name}"));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// A file that lists every option of TRL with its default, with what is required filled in, is taken as it is.
#[test]
fn a_file_of_all_defaults_is_taken() {
    let all = trl();
    for command in commands(&all) {
        let mut options = options_of(&all, command);
        for (name, value) in [("model_name_or_path", "model"), ("dataset_name", "rows.jsonl"), ("output_dir", "run")] {
            options.insert(name.into(), value.into());
        }
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("temporary file");
        write!(file, "{}", Value::Object(options)).expect("written");
        let line = ["lapidary", command, "--config", file.path().to_str().expect("a path")];
        if let Err(e) = read(line.iter().map(Into::into)) {
            panic!("{command}: {e}");
        }
    }
}

/// What is declared and what is foreign do not overlap, and a refusal has a reason.
#[test]
fn refusals_have_reasons() {
    let all = trl();
    for command in commands(&all) {
        for name in options_of(&all, command).keys().filter(|name| !specs_of(command).iter().any(|s| s.is_called(name)))
        {
            let known = foreign(name).expect("known");
            let Foreign::NotSupported(..) = known else { continue };
            let refused = known.judge(&Raw::Text("something else".into())).expect_err("refused");
            let reason = refused.split_once(" is refused: ").map_or("", |(_, reason)| reason);
            assert!(reason.split(' ').count() > 3, "{name}: {refused}");
        }
    }
}

/// The values that TRL's options choose from.
#[test]
fn every_choice_is_taken_or_refused_for_a_reason() {
    let choices: [(&str, &[&str]); 4] = [
        (
            "lr_scheduler_type",
            &[
                "linear",
                "cosine",
                "cosine_with_restarts",
                "polynomial",
                "constant",
                "constant_with_warmup",
                "inverse_sqrt",
                "reduce_lr_on_plateau",
                "cosine_with_min_lr",
                "cosine_warmup_with_min_lr",
                "warmup_stable_decay",
                "greedy",
            ],
        ),
        (
            "optim",
            &[
                "adamw_torch",
                "adamw_torch_fused",
                "adamw_8bit",
                "adamw_bnb_8bit",
                "paged_adamw_32bit",
                "paged_adamw_8bit",
                "adafactor",
                "ademamix_8bit",
                "lion_32bit",
                "rmsprop",
                "galore_adamw",
                "sgd",
                "adagrad",
                "stable_adamw",
            ],
        ),
        ("train_sampling_strategy", &["random", "sequential", "group_by_length", "batch_rebalance"]),
        ("save_strategy", &["no", "steps", "epoch", "best"]),
    ];
    for (name, values) in choices {
        let spec = SftOptions::specs().into_iter().find(|spec| spec.name == name).expect("declared");
        for value in values {
            let taken = (spec.normal)(&Raw::Text((*value).into()), ANY).is_some();
            assert!(taken != super::refused::refused(name, value).is_some(), "{name} {value}");
        }
    }
}

fn sft(file: &str, flags: &[&str]) -> crate::Result<Parsed<SftOptions>> {
    let mut yaml = tempfile::Builder::new().suffix(".yaml").tempfile().expect("temporary file");
    yaml.write_all(file.as_bytes()).expect("written");
    let path = yaml.path().to_str().expect("a path").to_string();
    let line = ["lapidary", "sft", "--config", &path].into_iter().chain(flags.iter().copied());
    match read(line.map(Into::into)) {
        Ok(Request::Sft(parsed)) => Ok(*parsed),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(crate::Error::Input(error.to_string().replace(&path, "F"))),
    }
}

const REQUIRED: &str = "model_name_or_path: m\noutput_dir: o\ndataset_name: d\n";

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let file =
        "model_name_or_path: m\nlerning_rate: 1\nseed: x\noptim: lion_8bit\nseed: 2\nlabel_smoothing_factor: 0.1\n";
    let told = sft(file, &["--max-lenght", "5", "--packing", "maybe"]).expect_err("is wrong").to_string();
    let starts = [
        "F:5: seed is given twice (also in line 3)",
        "F:2: unknown option lerning_rate; did you mean learning_rate?",
        "F:6: label_smoothing_factor: \"0.1\" is refused: ",
        "unknown option --max_lenght; did you mean --max_length?",
        "F:3: seed: got \"x\", but it takes a whole number",
        "F:4: optim: \"lion_8bit\" is refused: another algorithm",
        "--output_dir is missing.",
        "--packing: got \"maybe\", but it takes true or false",
        "--dataset_name is missing.",
    ];
    for start in starts {
        assert!(told.lines().any(|line| line.starts_with(start)), "{start}\n{told}");
    }
    assert_eq!(told.lines().count(), starts.len(), "{told}");
    // Contradictions of several groups come together too.
    let told = sft(REQUIRED, &["--lora_r", "4", "--eval_strategy", "steps", "--warmup_steps", "1.5"]);
    assert_eq!(told.expect_err("is wrong").to_string().lines().count(), 3);
}

#[test]
fn schedules_and_their_parameters() {
    let file = format!("{REQUIRED}lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr: 1.0e-6\n");
    let options = sft(&file, &[]).expect("fits").options;
    assert_eq!(options.training.lr_scheduler_kwargs.0["min_lr"], 1e-6);
    let given = ["--lr_scheduler_kwargs", "{\"min_lr_rate\": 0.1}", "--lr_scheduler_type", "cosine_with_min_lr"];
    assert!(sft(REQUIRED, &given).is_ok());
    let told = sft(REQUIRED, &["--lr_scheduler_type", "cosine_with_min_lr"]).expect_err("lacks min_lr").to_string();
    assert!(told.starts_with("lr_scheduler_kwargs: min_lr (or min_lr_rate"), "{told}");
    let notes = sft(REQUIRED, &["--optim", "adamw_8bit"]).expect("fits").notes;
    assert_eq!(notes, ["optim adamw_8bit is adamw here: its moments stay float32, in the device's memory"]);
}

#[test]
fn mixtures() {
    let file = "model_name_or_path: m\noutput_dir: o\ndatasets:\n  - path: a.jsonl\n    columns: [messages]\n  - path: b\n    \
                name: x\n    split: test\ntest_split_size: 0.1\nstreaming: false\n";
    let Parsed { options, notes } = sft(file, &[]).expect("fits");
    assert_eq!((options.data.datasets.0.len(), notes), (2, vec![]));
    assert_eq!(options.record.eval_strategy, Strategy::Epoch);
    assert_eq!(options.data.reads().len(), 2);
    let notes = sft(file, &["--dataset_name", "c.jsonl"]).expect("fits").notes;
    assert_eq!(notes, ["dataset_name has no effect: datasets is given"]);
    let told = sft(REQUIRED, &["--test_split_size", "0.1"]).expect_err("needs datasets").to_string();
    assert!(told.starts_with("--test_split_size: holds out rows of datasets"), "{told}");
    let told =
        sft("datasets: []\n", &["--model_name_or_path", "m", "--output_dir", "o"]).expect_err("none").to_string();
    assert!(told.starts_with("--dataset_name is missing"), "{told}");
}

/// Each data set has a probability, and streaming needs a length and cannot count.
#[test]
fn drawn_and_streamed_data_sets() {
    let two = "model_name_or_path: m\noutput_dir: o\ndatasets:\n  - path: a.jsonl\n  - path: b.jsonl\n";
    let drawn = format!("{two}interleave_probabilities: [3, 1]\n");
    let options = sft(&drawn, &[]).expect("fits").options;
    assert_eq!(options.data.interleave_probabilities.as_ref().map(|list| list.0.clone()), Some(vec![3.0, 1.0]));
    let shares = two.replace("a.jsonl", "a.jsonl\n    fraction: 1").replace("b.jsonl", "b.jsonl\n    fraction: 2");
    for (file, flags, start) in [
        (two, "--interleave_probabilities 0.5", "--interleave_probabilities: has 1 numbers for 2 data sets"),
        (two, "--interleave_probabilities 0.5,0", "--interleave_probabilities: has 0: a data set that is never"),
        (REQUIRED, "--interleave_probabilities 1", "--interleave_probabilities: draws from the data sets of datasets"),
        (&shares, "--interleave_probabilities 1,1", "--interleave_probabilities: contradicts fraction"),
        (REQUIRED, "--dataset_streaming", "--dataset_streaming: nobody knows how many rows"),
        (two, "--streaming", "--streaming: nobody knows how many rows"),
        (&shares, "--streaming --max_steps 9", "--streaming: a fraction in datasets is a share"),
        (two, "--streaming --max_steps 9 --test_split_size 0.1", "--test_split_size: holds out rows of data that is"),
    ] {
        let flags: Vec<&str> = flags.split(' ').collect();
        let told = sft(file, &flags).expect_err("is wrong").to_string();
        assert!(told.lines().any(|line| line.starts_with(start)), "{start}\n{told}");
    }
    let notes = |flags: &[&str]| sft(REQUIRED, flags).expect("fits").notes;
    assert_eq!(notes(&["--dataset_streaming", "--max_steps", "9"]), Vec::<String>::new());
    let random = notes(&["--dataset_streaming", "--max_steps", "9", "--train_sampling_strategy", "random"]);
    assert!(random[0].starts_with("train_sampling_strategy has no effect: streamed rows come"), "{random:?}");
    let alone = notes(&["--interleave_stopping_strategy", "all_exhausted"]);
    assert_eq!(alone, ["interleave_stopping_strategy has no effect without interleave_probabilities"]);
}

#[test]
fn the_best_model_needs_evaluations_and_checkpoints() {
    let with = |flags: &str| {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        sft(REQUIRED, &flags).map(|parsed| parsed.notes).map_err(|e| e.to_string())
    };
    for (flags, start) in [
        ("--load_best_model_at_end", "--load_best_model_at_end: needs evaluations"),
        ("--early_stopping_patience 3", "--early_stopping_patience: needs evaluations"),
        (
            "--load_best_model_at_end --eval_dataset e",
            "--load_best_model_at_end: needs a checkpoint of each evaluation",
        ),
        (
            "--load_best_model_at_end --eval_dataset e --eval_strategy steps --eval_steps 20 --save_steps 30",
            "--load_best_model_at_end: needs an evaluation before each checkpoint",
        ),
    ] {
        let told = with(flags).expect_err("is wrong");
        assert!(told.starts_with(start), "{told}");
    }
    for flags in [
        "--load_best_model_at_end --eval_dataset e --save_strategy epoch",
        "--load_best_model_at_end --eval_dataset e --eval_strategy steps --eval_steps 20 --save_steps 40",
        "--early_stopping_patience 3 --eval_dataset e",
    ] {
        assert_eq!(with(flags), Ok(vec![]), "{flags}");
    }
    let notes = with("--metric_for_best_model eval_loss").expect("fits");
    assert!(notes[0].starts_with("metric_for_best_model has no effect without"), "{notes:?}");
}
