//! Whole command lines and config files: what they give, and what they say when they are wrong.
use super::given::Given;
use super::spec::OptionGroup;
use super::*;
use crate::cli::{Request, read};
use crate::device::DeviceChoice;
use std::ffi::OsString;
use std::io::Write;

fn request(line: &str) -> crate::Result<Request> {
    read(std::iter::once("lapidary").chain(line.split_whitespace()).map(OsString::from))
}
const BASE: &str = "sft --model_name_or_path m --dataset_name d.jsonl --output_dir run";

fn parsed(line: &str) -> Parsed<SftOptions> {
    match request(line) {
        Ok(Request::Sft(parsed)) => *parsed,
        other => panic!("{line}: {other:?}"),
    }
}
fn sft(flags: &str) -> Parsed<SftOptions> {
    parsed(&format!("{BASE} {flags}"))
}
fn error(line: &str) -> String {
    let text = match request(line) {
        Err(e) => e.to_string(),
        Ok(other) => panic!("{line}: {other:?}"),
    };
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}
fn sft_error(flags: &str) -> String {
    error(&format!("{BASE} {flags}"))
}
fn config(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}
fn flag(file: &tempfile::NamedTempFile) -> String {
    format!("--config {}", file.path().display())
}

/// Defaults are read by the same parser as what is given, and the resolved options read back as themselves.
fn defaults_parse<C: Command + Clone + PartialEq + std::fmt::Debug>(required: &[&'static str]) {
    let specs = C::specs();
    let mut names = std::collections::BTreeSet::new();
    for spec in &specs {
        for name in std::iter::once(spec.name).chain(spec.aliases.iter().copied()) {
            assert!(names.insert(name), "{name} is declared twice");
            // Foreign to some commands in TRL's sense, an option of others.
            let is_shared = ["max_completion_length", "log_completions", "num_completions_to_print"].contains(&name);
            assert!(is_shared || super::accepted::foreign(name).is_none(), "{name} is also listed as foreign");
        }
        assert!(spec.paragraph().ends_with('.'), "{}: {}", spec.name, spec.paragraph());
    }
    let mut given = Given::new(specs, C::DEFAULTS);
    for name in required {
        let spec = given.spec(name).expect("declared");
        given.put(spec, value::Raw::Text("x".into()), given::Origin::Flag);
    }
    C::read(&given).expect("defaults parse");
}

#[test]
fn every_default_parses() {
    defaults_parse::<SftOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<DpoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<OrpoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<CpoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<KtoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<BcoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<RewardOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<ScoreOptions>(&["model_name_or_path", "dataset_name"]);
    defaults_parse::<GenerateOptions>(&["model_name_or_path"]);
    defaults_parse::<MergeOptions>(&["model_name_or_path", "output_dir"]);
    defaults_parse::<PreviewOptions>(&["model_name_or_path", "dataset_name"]);
    defaults_parse::<QuickstartOptions>(&[]);
    defaults_parse::<OnlineDpoOptions>(&["model_name_or_path", "dataset_name", "output_dir"]);
    defaults_parse::<JudgeOptions>(&["model_name_or_path", "dataset_name", "constitution"]);
    defaults_parse::<ReviseOptions>(&["model_name_or_path", "dataset_name", "constitution", "output_file"]);
    defaults_parse::<PlotOptions>(&["run_dirs", "out"]);
    defaults_parse::<DoctorOptions>(&[]);
}

#[test]
fn trl_defaults() {
    let o = sft("").options;
    let t = &o.training;
    assert_eq!((t.per_device_train_batch_size, t.per_device_eval_batch_size, t.gradient_accumulation_steps), (8, 8, 1));
    assert_eq!((t.num_train_epochs, t.max_steps, t.learning_rate, t.seed), (3.0, None, 2e-5, 42));
    assert_eq!((t.lr_scheduler_type, t.warmup_steps, t.warmup_ratio), (Scheduler::Linear, 0.0, None));
    assert_eq!((t.optim, t.adam_beta1, t.adam_beta2, t.adam_epsilon), (OptimizerName::AdamW, 0.9, 0.999, 1e-8));
    assert_eq!((t.weight_decay, t.max_grad_norm, t.gradient_checkpointing), (0.0, 1.0, true));
    let r = &o.record;
    assert_eq!(
        (r.logging_steps, r.save_steps, r.save_strategy),
        (Steps::Count(10), Steps::Count(500), Strategy::Steps)
    );
    assert_eq!(
        (r.eval_strategy, r.save_total_limit, &r.resume_from_checkpoint),
        (Strategy::No, None, &ResumeFrom::Auto)
    );
    let x = &o.text;
    assert_eq!((x.max_length, x.truncation_mode, x.packing), (Some(1024), TruncationMode::KeepStart, false));
    assert_eq!((x.completion_only_loss, x.assistant_only_loss, o.loss.loss_type), (None, false, SftLoss::Nll));
    let l = &o.lora;
    assert_eq!((l.use_peft, l.lora_r, l.lora_alpha, l.lora_dropout, l.use_rslora), (false, 16, 32, 0.05, false));
    assert_eq!((&l.lora_target_modules, o.data.train_sampling_strategy), (&None, SamplingStrategy::Random));
    assert_eq!((o.model.dtype, o.device.device, o.device.threads), (WeightType::Float32, DeviceChoice::Auto, None));
}

#[test]
fn ways_to_write_a_flag() {
    for (flags, packing) in [
        ("--packing", true),
        ("--packing true", true),
        ("--packing=True", true),
        ("--packing false", false),
        ("--no_packing", false),
        ("--no-packing", false),
        ("--packing --seed 1", true),
    ] {
        assert_eq!(sft(flags).options.text.packing, packing, "{flags}");
    }
    assert_eq!(sft("--per-device-train-batch-size 3").options.training.per_device_train_batch_size, 3);
    assert_eq!(sft("--learning-rate=1e-3").options.training.learning_rate, 1e-3);
    assert_eq!(sft("--max_steps -1").options.training.max_steps, None);
    assert_eq!(sft("--max_length none").options.text.max_length, None);
    assert!(!sft("--no_gradient_checkpointing").options.training.gradient_checkpointing);
}

#[test]
fn values_of_every_kind() {
    let lora = |flags: &str| sft(&format!("--use_peft {flags}")).options.lora.lora_target_modules;
    let two = Some(TargetModules::Named(vec!["q_proj".into(), "v_proj".into()]));
    assert_eq!(lora("--lora_target_modules q_proj v_proj"), two);
    assert_eq!(lora("--lora_target_modules q_proj,v_proj"), two);
    assert_eq!(lora("--lora_target_modules q_proj v_proj --seed 3"), two);
    assert_eq!(lora("--lora_target_modules all-linear"), Some(TargetModules::AllLinear));
    assert_eq!(sft("--save_steps 0.1").options.record.save_steps, Steps::Share(0.1));
    assert_eq!(sft("--device gpu:1").options.device.device, DeviceChoice::Gpu(Some(1)));
    assert_eq!(sft("--use_cpu").options.device.device, DeviceChoice::Cpu);
    assert_eq!(sft("--optim adamw_torch").options.training.optim, OptimizerName::AdamW);
    assert_eq!(sft("--resume_from_checkpoint true").options.record.resume_from_checkpoint, ResumeFrom::Last);
    assert_eq!(sft("--completion_only_loss false").options.text.completion_only_loss, Some(false));
    assert!(!sft("--activation_checkpointing false").options.training.gradient_checkpointing);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = config(
        "model_name_or_path: from-file\ndataset_name: d.jsonl\noutput_dir: run\nlearning_rate: 1.0e-4\npacking: true\n\
         max_length: null\neval_strategy: no\nlora_target_modules: [q_proj, k_proj]\nuse_peft: true\nbf16: true\n",
    );
    let line = format!("sft {} --model_name_or_path from-line --max_length 99", flag(&file));
    let Parsed { options, notes } = parsed(&line);
    assert_eq!(&*options.model.model_name_or_path, "from-line");
    assert_eq!(options.text.max_length, Some(99));
    assert_eq!((options.training.learning_rate, options.text.packing), (1e-4, true));
    assert_eq!(options.lora.lora_target_modules, Some(TargetModules::Named(vec!["q_proj".into(), "k_proj".into()])));
    assert!(notes.iter().any(|note| note.starts_with("bf16 has no effect")), "{notes:?}");
    let line = format!("sft {} --no_packing", flag(&file));
    let options = parsed(&line).options;
    assert_eq!((options.text.packing, options.text.max_length), (false, None));
}

#[test]
fn unused_names_at_null() {
    let file = config("activation_checkpointing: null\ngradient_checkpointing: false\nmax_seq_length: null\n");
    let options = sft(&flag(&file)).options;
    assert_eq!((options.training.gradient_checkpointing, options.text.max_length), (false, Some(1024)));
}

#[test]
fn json_config() {
    let file = config("{\"learning_rate\": 1e-3, \"seed\": 7, \"packing\": false}");
    let options = sft(&flag(&file)).options;
    assert_eq!((options.training.learning_rate, options.training.seed, options.text.packing), (1e-3, 7, false));
}

#[test]
fn resolved_options_read_back_as_themselves() {
    reads_back(&sft(""));
    reads_back(&sft("--max_steps 5 --adapter_name_or_path a --use_cpu --optim sgd"));
    reads_back(&sft(
        "--learning_rate 3e-7 --use_peft --lora_target_modules all-linear --save_steps 0.25 --max_length none \
         --resume_from_checkpoint last --device gpu:software --warmup_ratio 0.1 --eval_dataset e.jsonl --threads 2",
    ));
}
fn reads_back(first: &Parsed<SftOptions>) {
    let yaml = serde_saphyr::to_string(&resolved(&first.options)).expect("writes");
    let file = config(&yaml);
    let again = parsed(&format!("sft {}", flag(&file)));
    assert_eq!((&again.options, again.notes.len()), (&first.options, 0), "{yaml}\n{:?}", again.notes);
}

#[test]
fn fingerprint_leaves_out_what_changes_nothing() {
    let print = fingerprint(&sft("").options);
    for name in ["learning_rate", "seed", "max_length", "lora_r", "loss_type", "num_train_epochs"] {
        assert!(print.contains_key(name), "{name}");
    }
    for name in ["output_dir", "logging_steps", "device", "threads", "save_total_limit", "gradient_checkpointing"] {
        assert!(!print.contains_key(name), "{name}");
    }
}

#[test]
fn mistakes_on_the_command_line() {
    for (flags, start) in [
        ("--learning_rat 1", "unknown option --learning_rat; did you mean --learning_rate?"),
        ("--qqq 1", "unknown option --qqq"),
        ("--learning_rate fast", "--learning_rate: got \"fast\", but it takes a number at least 0"),
        ("--learning_rate -1e-5", "--learning_rate: got \"-1e-5\", but it takes a number at least 0"),
        ("--save_steps 0", "--save_steps: got \"0\", but it takes a whole number of steps, at least 1"),
        ("--seed 1.5", "--seed: got \"1.5\", but it takes a whole number"),
        ("--packing maybe", "--packing: got \"maybe\", but it takes true or false"),
        ("--loss_type mse", "--loss_type: got \"mse\", but it takes one of nll, dft"),
        ("--max_steps 0", "--max_steps: got \"0\", but it takes a whole number at least 1, or -1 for no limit"),
        ("--device cuda", "--device: got \"cuda\", but it takes auto, cpu, gpu"),
        ("--lora_dropout 1", "--lora_dropout: got \"1\", but it takes a number at least 0 and below 1"),
        ("--use_peft --lora_target_modules q/proj", "--lora_target_modules: got \"q/proj\""),
        ("--lora_modules_to_save lm_head", "--lora_modules_to_save: needs --use_peft"),
        ("--per_device_train_batch_size 0", "--per_device_train_batch_size: got \"0\""),
        ("--seed 1 --seed 2", "--seed is given twice"),
        ("--packing --no_packing", "--packing and --no_packing are both given"),
        ("--learning_rate", "--learning_rate: its value is missing"),
        ("stray", "unexpected \"stray\": options begin with --"),
        ("-x", "unexpected -x; options begin with --"),
        ("--neftune_noise_alpha -5", "--neftune_noise_alpha: got \"-5\", but it takes a number at least 0"),
        ("--dataloader_drop_last", "--dataloader_drop_last: \"true\" is refused: the last batch of an epoch"),
        ("--config no/such.yaml", "--config no/such.yaml: cannot be read"),
    ] {
        let got = sft_error(flags);
        assert!(got.starts_with(start), "{flags}\n got  {got}\n want {start}");
    }
    assert!(
        error("sft --dataset_name d --output_dir o")
            .starts_with("--model_name_or_path is missing. The model: a directory")
    );
    let got = error("sfy");
    assert!(got.starts_with("unknown command sfy; did you mean sft?"), "{got}");
}

#[test]
fn mistakes_in_the_file() {
    for (text, end) in [
        ("seed: 1\nlerning_rate: 1\n", ":2: unknown option lerning_rate; did you mean learning_rate?"),
        ("seed: 1\nlearning_rate: fast\n", ":2: learning_rate: got \"fast\", but it takes a number at least 0"),
        ("seed: 1\nseed: 2\n", ":2: seed is given twice (also in line 1)"),
        ("max_length: 8\nmax_seq_length: 8\n", ":2: max_length is given twice, by two of its names"),
        ("config: other.yaml\n", ":1: unknown option config"),
        ("packing: null\n", ":1: packing: got null, but it takes true or false"),
        ("lora_r: 4\n", ":1: lora_r: needs --use_peft"),
        ("label_smoothing_factor: 0.1\n", ":1: label_smoothing_factor: \"0.1\" is refused: the loss of a token"),
        ("packing: [a\n", "a"),
    ] {
        let file = config(text);
        let got = sft_error(&flag(&file));
        assert!(got.contains(end), "{text}\n got  {got}\n want {end}");
        assert!(got.starts_with(&file.path().display().to_string()), "{got}");
    }
}

#[test]
fn contradictions() {
    for (flags, start) in [
        ("--lora_r 8", "--lora_r: needs --use_peft"),
        ("--use_rslora", "--use_rslora: needs --use_peft"),
        ("--use_dora", "--use_dora: needs --use_peft"),
        ("--load_in_4bit", "--load_in_4bit: not supported yet"),
        ("--adapter_name_or_path a --lora_r 8", "--lora_r: is the adapter's own"),
        ("--adapter_name_or_path a --no_use_peft", "--use_peft: is false"),
        ("--packing --max_length none", "--max_length: packing needs it"),
        ("--eval_strategy steps", "--eval_strategy: steps needs rows to evaluate on: --eval_dataset"),
        ("--warmup_steps 1.5", "--warmup_steps: is a whole number"),
        ("--report_to wandb", "--report_to: wandb is not written"),
        ("--report_to tensorboard mlflow", "--report_to: mlflow is not written"),
        ("--report_to tensorbord", "--report_to: tensorbord is no tracker that is known"),
        ("--log_completions", "--log_completions: goes with evaluations"),
        ("--use_cpu --device gpu", "--use_cpu: contradicts --device gpu"),
        ("--overwrite_output_dir --resume_from_checkpoint last", "--overwrite_output_dir: contradicts"),
    ] {
        let got = sft_error(flags);
        assert!(got.starts_with(start), "{flags}\n got  {got}\n want {start}");
    }
    for (line, start) in [
        ("generate --model_name_or_path m --prompt a --messages b", "--messages: contradicts prompt"),
        ("compare a --prompts p", "--models: names 1 of the two"),
        ("compare a b c --prompts p", "--models: names 3 of the two"),
        ("compare a b --prompts p --out x.txt", "--out: must end in .html"),
        ("compare a b --prompts p --judge j", "judge_constitution: is missing"),
        ("chat --adapter_name_or_path a --compare b", "--compare: contradicts adapter_name_or_path"),
        ("generate --model_name_or_path m --messages b --system c", "--system: goes with --prompt"),
        (
            "generate --model_name_or_path m --prompt a --top_p 0",
            "--top_p: got \"0\", but it takes a number above 0 and at most 1",
        ),
    ] {
        let got = error(line);
        assert!(got.starts_with(start), "{line}\n got  {got}\n want {start}");
    }
}

#[test]
fn notes() {
    for (flags, start) in [
        ("--bf16", "bf16 has no effect"),
        ("--fp16", "fp16 has no effect: it is for frozen weights of dtype float16"),
        ("--fp16 --use_peft --dtype bfloat16", "fp16 has no effect: it is for frozen weights of dtype float16"),
        ("--fp16 --use_peft --dtype float16 --use_cpu", "fp16 has no effect: on the CPU"),
        ("--report_to all", "report_to: of all, tensorboard is written"),
        ("--dataloader_num_workers 4", "dataloader_num_workers has no effect"),
        ("--packing_strategy wrapped", "packing_strategy has no effect without packing"),
        ("--max_steps 5 --num_train_epochs 2", "num_train_epochs has no effect: max_steps"),
        ("--warmup_steps 5 --warmup_ratio 0.1", "warmup_ratio has no effect: warmup_steps"),
        ("--lr_scheduler_type constant --warmup_steps 3", "lr_scheduler_type constant has no warm-up"),
        ("--optim sgd --adam_beta1 0.8", "adam_beta1 has no effect"),
        ("--dtype bfloat16", "dtype bfloat16 has no effect"),
        ("--save_strategy no --save_steps 5", "save_steps has no effect"),
    ] {
        let got = sft(flags).notes;
        assert!(got.iter().any(|note| note.starts_with(start)), "{flags}: {got:?}");
    }
    assert_eq!(sft("").notes, Vec::<String>::new());
    let together =
        sft("--bf16 --tf32 true --report_to all --bf16 --fp16 false --push_to_hub no --deepspeed none").notes;
    assert_eq!(together[0], "bf16, tf32 have no effect: arithmetic is float32 (the type of frozen weights is dtype)");
    assert_eq!(together.len(), 2);
    assert_eq!(sft("--fp16 --use_peft --dtype float16").notes, Vec::<String>::new());
    assert_eq!(sft("--load_in_8bit false --use_peft --dtype bfloat16").notes, Vec::<String>::new());
}

#[test]
fn evaluation_follows_from_its_rows() {
    assert_eq!(sft("--eval_dataset e").options.record.eval_strategy, Strategy::Epoch);
    assert_eq!(sft("--eval_dataset e --eval_steps 5").options.record.eval_strategy, Strategy::Steps);
    let off = sft("--eval_dataset e --eval_strategy no");
    assert_eq!(off.options.record.eval_strategy, Strategy::No);
    assert!(off.notes[0].starts_with("eval_dataset has no effect"));
    assert!(sft("--adapter_name_or_path a").options.lora.use_peft);
}

#[test]
fn other_commands() {
    let Ok(Request::Generate(g)) = request("generate --model_name_or_path m --prompt hi --temperature 0 --top_k 5")
    else {
        panic!()
    };
    assert_eq!((g.options.drawing.max_new_tokens, g.options.drawing.temperature), (None, Some(0.0)));
    assert_eq!(g.notes.len(), 1);
    let Ok(Request::Generate(g)) = request("generate --model_name_or_path m --messages [{\"role\":\"user\"}]") else {
        panic!()
    };
    assert!(matches!(g.options.sampling.messages, Some(Messages::Inline(_))));
    assert!(matches!(
        request("merge --model_name_or_path m --adapter_name_or_path a --output_dir o"),
        Ok(Request::Merge(_))
    ));
    assert!(matches!(request("preview --model_name_or_path m --dataset_name d --rows 2"), Ok(Request::Preview(_))));
    assert!(matches!(request("quickstart --seed 3"), Ok(Request::Quickstart(_))));
    let Ok(Request::Exercise(e)) = request("exercise 07 --overwrite") else { panic!() };
    assert_eq!((e.options.learning.number, e.options.learning.overwrite_output_dir), (Some(7), true));
    for (line, told) in [("--hint", "needs the number"), ("7 --hint --check", "does not go with"), ("0", "at least 1")]
    {
        let error = request(&format!("exercise {line}")).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn help_and_version() {
    let print = |line: &str| match request(line) {
        Ok(Request::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    let help = print("sft --help");
    for spec in SftOptions::specs() {
        assert!(help.contains(&format!("--{}", spec.name)), "{}", spec.name);
    }
    assert!(help.contains("[default: 2e-5, as in TRL]"), "{help}");
    assert!(!help.contains("--no_packing"));
    assert!(print("--help").contains("quickstart"));
    assert!(print("--version").starts_with("lapidary "));
    assert!(matches!(request(""), Ok(Request::Usage(_))));
}
