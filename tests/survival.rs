//! Runs that are killed go on by the same command, to the same bits; runs that are over can be checked and run again.
mod common;

use common::golden;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A command line on the tiny llama, its output directory last.
fn words(command: &str, out: &Path, more: &str) -> Vec<String> {
    let model = golden("models/llama").display().to_string();
    let words = [command, "--model_name_or_path", &model, "--device", "cpu", "--threads", "1", "--logging_steps", "1"];
    let words = words.into_iter().chain(more.split_whitespace()).map(String::from);
    words.chain(["--output_dir".into(), out.display().to_string()]).collect()
}

fn program(words: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(words).output().expect("the program runs")
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a run has made, by file name.
fn made(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(out)
        .expect("a run")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(path).expect("read")))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "{} has no weights", out.display());
    all
}

/// The trainers, on few rows: each with the options that give it a state of its own.
fn trainers() -> Vec<(&'static str, String)> {
    let data = |name: &str| format!("--dataset_name {}", golden(&format!("data/{name}.jsonl")).display());
    let rl = "--per_device_train_batch_size 8 --num_generations 4 --max_completion_length 4 --reward_funcs regex:[ae]";
    let judge = format!("--reward_model_path {}", golden("models/llama-reward").display());
    vec![
        ("sft", format!("{} --use_peft --neftune_noise_alpha 5", data("messages"))),
        ("dpo", data("preference")),
        ("kto", data("unpaired_preference")),
        ("reward", data("preference")),
        ("grpo", format!("{} {rl} --num_iterations 3 --beta 0.1", data("prompts"))),
        (
            "online-dpo",
            format!("{} --per_device_train_batch_size 4 --max_completion_length 4 {judge}", data("prompts")),
        ),
        ("ppo", format!("{} --per_device_train_batch_size 4 --max_completion_length 4 {judge}", data("prompts"))),
    ]
}

/// A moment at which a run is killed: what its directory looks like then.
type Moment = (&'static str, fn(&Path) -> bool);

fn logged(out: &Path) -> usize {
    fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

const MOMENTS: [Moment; 5] = [
    ("in the first steps", |out| logged(out) >= 1),
    ("while a checkpoint is written", |out| out.join(".checkpoint-2.partial").is_dir()),
    ("as its weights lie there", |out| {
        let partial = out.join(".checkpoint-4.partial");
        ["model.safetensors", "adapter_model.safetensors"].iter().any(|name| partial.join(name).exists())
    }),
    ("between two checkpoints", |out| logged(out) >= 5),
    ("at the end", |out| out.join("model.safetensors").exists() || out.join("adapter_model.safetensors").exists()),
];

/// Starts a run and kills it at the moment; false: the run was over before.
fn killed(words: &[String], out: &Path, moment: Moment) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    loop {
        if moment.1(out) {
            child.kill().expect("killed");
            return !child.wait().expect("ended").success();
        }
        if let Some(status) = child.try_wait().expect("waited for") {
            assert!(status.success(), "{words:?}");
            return false;
        }
    }
}

/// SIGKILL at five moments of one run, checkpoints half written included; the same command each time.
#[test]
fn the_same_command_goes_on_after_a_kill_to_the_same_bits() {
    for (command, more) in trainers() {
        let dir = tempfile::tempdir().expect("directory");
        let (torn, whole) = (dir.path().join("torn"), dir.path().join("whole"));
        let more = format!("{more} --max_steps 6 --save_steps 2 --learning_rate 1e-3");
        let straight = program(&words(command, &whole, &more));
        assert!(straight.status.success(), "{command}: {}", stderr(&straight));
        let again = words(command, &torn, &more);
        let mut hit = 0;
        for moment in MOMENTS {
            hit += usize::from(killed(&again, &torn, moment));
        }
        assert!(hit >= 3, "{command}: only {hit} moments were hit");
        let last = program(&again);
        // Killed when all was written but the manifest, or not at all: then nothing is left to do.
        let over = stderr(&last).contains("holds an earlier run");
        assert!(last.status.success() || over, "{command}: {}", stderr(&last));
        assert!(made(&torn) == made(&whole), "{command}: other bits after {hit} kills");
        let left: Vec<PathBuf> = fs::read_dir(&torn).expect("a run").map(|e| e.expect("an entry").path()).collect();
        let hidden = left.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
        assert_eq!(hidden.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{command}: what is left over");
        let found = program(&own(&["diff", &whole.display().to_string(), &torn.display().to_string()]));
        let said = stdout(&found);
        assert!(said.contains("are the same") && said.contains("have the same bits"), "{command}: {said}");
    }
}

#[test]
fn a_run_is_verified_compared_and_reproduced() {
    let dir = tempfile::tempdir().expect("directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let data = golden("data/messages.jsonl").display().to_string();
    let more = format!("--dataset_name {data} --max_steps 4 --save_steps 2 --learning_rate 1e-3");
    let begun = |out: &Path, more: &str| {
        let output = program(&words("sft", out, more));
        assert!(output.status.success(), "{}", stderr(&output));
    };
    begun(&a, &more);
    begun(&b, &format!("{more} --seed 7"));
    let shown = |path: &Path| path.display().to_string();

    let verified = program(&own(&["verify", &shown(&a)]));
    assert!(verified.status.success() && stdout(&verified).contains("whole  checkpoint-4"), "{}", stdout(&verified));
    let reproduced = program(&own(&["reproduce", &shown(&a)]));
    assert!(reproduced.status.success(), "{}{}", stdout(&reproduced), stderr(&reproduced));
    let said = stdout(&reproduced);
    assert!(said.contains("reproduced: all") && said.contains("the finished weights have the same bits"), "{said}");
    let part = program(&own(&["reproduce", &shown(&a), "--until", "2"]));
    assert!(part.status.success() && stdout(&part).contains("up to step 2"), "{}{}", stdout(&part), stderr(&part));

    let apart = stdout(&program(&own(&["diff", &shown(&a), &shown(&b)])));
    for part in
        ["seed: 42 and 7", "the numbers part at step 1", "finished weights: model.safetensors has another content"]
    {
        assert!(apart.contains(part), "no {part:?} in\n{apart}");
    }

    // A number that was written down wrongly, and a byte that has flipped.
    let metrics = a.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).expect("read");
    fs::write(&metrics, text.replacen("\"grad_norm\":", "\"grad_norm\":1", 1)).expect("written");
    let refused = program(&own(&["reproduce", &shown(&a)]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("not reproduced: the numbers part at step 1: grad_norm"), "{}", stderr(&refused));
    let weights = a.join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("written");
    let refused = program(&own(&["verify", &shown(&a)]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("model.safetensors: is not what was written"), "{}", stderr(&refused));
    let nowhere = program(&own(&["verify", &shown(dir.path())]));
    assert_eq!(nowhere.status.code(), Some(2), "{}", stderr(&nowhere));
}

/// The numbers of a file of float32 weights, tensor by tensor in the order of their names.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let tensors = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
    let mut all: Vec<(String, Vec<u8>)> =
        tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    all.sort();
    let bytes = all.into_iter().flat_map(|(_, data)| data).collect::<Vec<u8>>();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A learning rate that ruins the model at its first step: the second step has no numbers.
#[test]
fn a_step_without_numbers_is_told_and_never_taken() {
    let dir = tempfile::tempdir().expect("directory");
    let data = golden("data/messages.jsonl").display().to_string();
    let more = format!(
        "--dataset_name {data} --learning_rate 1e30 --lr_scheduler_type constant --max_steps 2 --max_grad_norm 0 \
         --per_device_train_batch_size 2 --train_sampling_strategy sequential --save_strategy no"
    );
    let of = |policy: &str| {
        let out = dir.path().join(policy);
        let output = program(&words("sft", &out, &format!("{more} --on_nan {policy}")));
        (out, output.status.code(), stderr(&output))
    };
    let (out, code, said) = of("stop");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("training has diverged: step 2") && said.contains("training rows are 3, 4"), "{said}");
    assert!(!out.join("model.safetensors").exists(), "a ruined model is not saved");

    let start = floats(&fs::read(golden("models/llama/model.safetensors")).expect("the model"));
    for (policy, told) in [("skip", "left out: step 2"), ("rewind", "left out, weights as at the start: step 2")] {
        let (out, code, said) = of(policy);
        assert!(code == Some(0) && said.contains(told), "{policy}: {said}");
        let weights = floats(&made(&out)[0].1);
        assert!(weights.iter().all(|w| w.is_finite()), "{policy}: a NaN was saved");
        assert_eq!(weights == start, policy == "rewind", "{policy}");
        let log = fs::read_to_string(out.join("metrics.jsonl")).expect("read");
        assert!(log.lines().last().is_some_and(|line| line.contains("\"skipped_steps\":1")), "{policy}: {log}");
    }
}
