//! Policy-gradient runs as a whole: the same bits again, after an interruption and on any number of threads; ratios of
//! exactly 1; and what is said when something is wrong.
mod common;

use common::{golden, run};
use engine::cpu::Cpu;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::forest::Forest;
use engine::generate::{Sampling, generate};
use engine::model::decoder::{Decoder, Pass};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of a short run on the tiny llama; `more` wins over them.
fn arguments(out: &Path, more: &str) -> Vec<String> {
    let mut all = vec!["--model_name_or_path".to_string(), golden("models/llama").display().to_string()];
    all.extend(["--output_dir".into(), out.display().to_string()]);
    let usual = [
        ("--dataset_name", "task:addition?digits=2&rows=24"),
        ("--device", "cpu"),
        ("--learning_rate", "1e-3"),
        ("--logging_steps", "1"),
        ("--max_completion_length", "8"),
        ("--per_device_train_batch_size", "4"),
    ];
    let given: Vec<&str> = more.split_whitespace().collect();
    for (flag, value) in usual.into_iter().filter(|(flag, _)| !given.contains(flag)) {
        all.extend([flag.to_string(), value.to_string()]);
    }
    all.extend(given.into_iter().map(String::from));
    all
}

/// A reward that some of the tiny llama's random completions get.
const SOME: &str = "--reward_funcs regex:[ae]";

/// The weights and samples a run leaves.
fn left(out: &Path) -> (Vec<u8>, String) {
    let names = ["model.safetensors", "adapter_model.safetensors"];
    let file = names.iter().map(|n| out.join(n)).find(|p| p.exists()).expect("weights");
    (fs::read(file).expect("read"), fs::read_to_string(out.join("samples.jsonl")).expect("samples"))
}

/// The numbers of each step that do not depend on the time it took.
fn numbers(metrics: &[Value]) -> Vec<Value> {
    let is_timed = |name: &str| name.starts_with("time/") || name == "step_time";
    let strip = |line: &Value| {
        let fields = line.as_object().expect("an object").iter();
        Value::Object(fields.filter(|(n, _)| !is_timed(n)).map(|(n, v)| (n.clone(), v.clone())).collect())
    };
    metrics.iter().map(strip).collect()
}

/// (command, options): every trainer; GRPO and RLOO learn twice from each generation, PPO and GRPO are interrupted
/// while completions are still unused.
const RUNS: [(&str, &str); 9] = [
    ("reinforce", "--num_generations 2 --beta 0.1"),
    ("reinforce", "--plus_plus --num_generations 2 --beta 0.1 --num_iterations 2 --use_peft --lora_r 4"),
    ("rloo", "--num_iterations 2"),
    ("grpo", "--num_generations 2 --num_iterations 3 --beta 0.1"),
    ("grpo", "--num_generations 2 --use_peft --lora_r 4 --steps_per_generation 3 --beta 0.1"),
    ("ppo", "--num_ppo_epochs 3 --kl_target 1"),
    ("ppo", "--num_ppo_epochs 3 --num_mini_batches 2 --critic head --use_peft --lora_r 4"),
    ("rloo", "--disable_dropout --use_peft --lora_r 4"),
    ("grpo", "--num_generations 2 --beta 0.1 --sync_ref_model --ref_model_sync_steps 1"),
];

#[test]
fn a_resumed_run_ends_in_the_bits_of_an_uninterrupted_one() {
    for (command, options) in RUNS {
        let dir = tempfile::tempdir().unwrap();
        let (whole, halves) = (dir.path().join("whole"), dir.path().join("halves"));
        let options = format!("{options} {SOME} --max_steps 4 --save_steps 2");
        let straight = run(command, &arguments(&whole, &options), &whole);
        // The state after two steps, as if the run had been interrupted there.
        copy_dir(&whole, &halves);
        fs::remove_dir_all(halves.join("checkpoint-4")).unwrap();
        for file in ["model.safetensors", "adapter_model.safetensors"].map(|f| halves.join(f)) {
            let _ = fs::remove_file(file);
        }
        let again = run(command, &arguments(&halves, &format!("{options} --resume_from_checkpoint last")), &halves);
        let ((weights, samples), (weights_again, samples_again)) = (left(&whole), left(&halves));
        assert!(weights == weights_again, "{command} {options}: other weights after resuming");
        assert_eq!(samples, samples_again, "{command} {options}");
        let learns = |line: &Value| line["grad_norm"].as_f64().is_some_and(|g| g > 0.0);
        assert!(straight.iter().any(learns), "{command} {options}: nothing was learnt, so nothing was tested");
        assert_eq!(numbers(&straight), numbers(&again), "{command} {options}");
    }
}

/// Without a limit a completion is as long as the context lets it be beside the longest prompt.
#[test]
fn completions_up_to_the_context() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let options = "--max_completion_length none --max_steps 1 --num_generations 2 --reward_funcs length";
    let metrics = run("grpo", &arguments(&out, options), &out);
    let longest = metrics[0]["completions/max_length"].as_f64().expect("a number");
    assert!((100.0..256.0).contains(&longest), "{longest}");
}

#[test]
fn any_number_of_threads_gives_the_same_completions_and_weights() {
    for (command, options) in [RUNS[3], RUNS[6]] {
        let of = |threads: usize| {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("out");
            let options = format!("{options} {SOME} --max_steps 2 --threads {threads}");
            run(command, &arguments(&out, &options), &out);
            left(&out)
        };
        let one = of(1);
        assert!(one.1.lines().count() >= 4, "{} completions", one.1.lines().count());
        for threads in [2, 5] {
            assert!(of(threads) == one, "{command}: {threads} threads gave other bits than one");
        }
    }
}

fn llama() -> (Decoder, Vec<Vec<u32>>) {
    let device: engine::backend::Device = Cpu::new(Some(2)).unwrap();
    let model = Decoder::load(&ModelFiles::open(golden("models/llama")).unwrap(), &device, DType::F32).unwrap();
    let prompts = (0..5u32).map(|i| (0..3 + 7 * i).map(|t| (t * 31 + i * 17) % 500 + 3).collect()).collect();
    (model, prompts)
}

/// Scoring drawn tokens as training does (one forest, prompts shared) gives the bits that they were drawn with, so that the
/// ratio of the first inner step is exactly 1.
#[test]
fn drawn_tokens_are_scored_to_the_same_bits() {
    let (model, prompts) = llama();
    for temperature in [1.0, 0.7] {
        let sampling = Sampling { max_new_tokens: 12, temperature, stop_tokens: vec![7, 8], ..Sampling::default() };
        let drawn = generate(&model, &prompts, 3, &sampling, |_, _| true).unwrap();
        let (mut forest, mut rows, mut targets) = (Forest::new(), vec![], vec![]);
        for (p, prompt) in prompts.iter().enumerate() {
            let root = forest.push(None, prompt).unwrap();
            for c in &drawn[3 * p..3 * p + 3] {
                let (last, start) = (forest.segments[root].start + prompt.len() - 1, forest.n_tokens());
                if c.tokens.len() > 1 {
                    forest.push(Some(root), &c.tokens[..c.tokens.len() - 1]).unwrap();
                }
                rows.push(last as u32);
                rows.extend((start..start + c.tokens.len() - 1).map(|r| r as u32));
                targets.extend(&c.tokens);
            }
        }
        let hidden = model.hidden(&forest, Pass::default()).unwrap();
        let scored = model.score(&hidden, &rows, &targets, temperature).unwrap().logp.to_vec().unwrap();
        let drawn: Vec<f32> = drawn.iter().flat_map(|c| c.logps.clone()).collect();
        let (scored, drawn): (Vec<u32>, Vec<u32>) =
            (scored.iter().map(|x| x.to_bits()).collect(), drawn.iter().map(|x| x.to_bits()).collect());
        assert!(scored == drawn, "temperature {temperature}: other bits");
    }
}

/// A completion depends on its prompt, the seed and its own stream: not on its neighbours, nor on when it entered.
#[test]
fn completions_do_not_depend_on_the_batch() {
    let (model, prompts) = llama();
    let sampling = Sampling { max_new_tokens: 9, top_p: 0.95, stop_tokens: (10..40).collect(), ..Sampling::default() };
    let all = generate(&model, &prompts, 4, &sampling, |_, _| true).unwrap();
    assert!(all.iter().any(|c| c.stopped) && all.iter().any(|c| !c.stopped), "some stop, some do not");
    // Room for the largest prompt's group alone: the others wait until it has left.
    let tight = Sampling { cache_rows: Some(0), ..sampling.clone() };
    assert_eq!(generate(&model, &prompts, 4, &tight, |_, _| true).unwrap(), all);
    for (p, prompt) in prompts.iter().enumerate() {
        let alone = Sampling { first_stream: 4 * p as u64, ..sampling.clone() };
        let alone = generate(&model, std::slice::from_ref(prompt), 4, &alone, |_, _| true).unwrap();
        for (a, b) in alone.iter().zip(&all[4 * p..]) {
            assert_eq!((&a.tokens, &a.logps), (&b.tokens, &b.logps), "prompt {p}");
        }
    }
}

#[test]
fn the_first_inner_step_clips_nothing_and_the_metrics_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let options = format!("{SOME} --num_generations 4 --num_iterations 2 --max_steps 4 --epsilon 0 --beta 0.1");
    let metrics = run("grpo", &arguments(&out, &options), &out);
    // With ε = 0 every ratio but exactly 1 is clipped (on the side that gains).
    for step in [0, 2] {
        assert_eq!(metrics[step]["clip_ratio/region_mean"].as_f64(), Some(0.0), "step {}", step + 1);
    }
    assert!(metrics[1]["clip_ratio/region_mean"].as_f64().unwrap() > 0.0);
    assert_eq!(metrics[0]["kl"].as_f64(), Some(0.0));
    for name in
        ["reward", "reward_std", "rewards/regex/mean", "completions/mean_length", "step_time", "time/generation"]
    {
        assert!(metrics[0][name].is_number(), "{name}");
    }
    let sample: Value = serde_json::from_str(left(&out).1.lines().next().unwrap()).unwrap();
    for name in ["step", "prompt", "completion", "rewards", "reward", "length", "ended"] {
        assert!(sample.get(name).is_some(), "{name}");
    }
}

#[test]
fn equal_rewards_teach_nothing_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let options = "--num_generations 2 --max_steps 2 --reward_funcs exact";
    let metrics = run("grpo", &arguments(&out, options), &out);
    for line in &metrics {
        assert_eq!(line["frac_reward_zero_std"].as_f64(), Some(1.0));
        assert_eq!((line["loss"].as_f64(), line["grad_norm"].as_f64()), (Some(0.0), Some(0.0)));
    }
}

#[test]
fn dynamic_sampling_replaces_groups() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // A reward that half of the completions get: some groups of two are equal, some are not.
    let options = "--num_generations 2 --max_steps 3 --reward_funcs regex:[aeiou] --dynamic_sampling_rounds 3 --max_completion_length 3";
    let metrics = run("grpo", &arguments(&out, options), &out);
    assert!(metrics.iter().any(|line| line.get("resampled_groups").is_some()), "no group was replaced");
}

#[test]
fn evaluation_draws_from_held_out_questions() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let options = "--num_generations 2 --max_steps 2 --eval_dataset task:addition?digits=2&rows=5 --eval_strategy steps \
                   --eval_steps 1 --num_generations_eval 1 --eval_temperature 0";
    let metrics = run("grpo", &arguments(&out, options), &out);
    let evaluated: Vec<&Value> = metrics.iter().filter(|l| l.get("eval_reward").is_some()).collect();
    assert_eq!(evaluated.len(), 2);
    assert!(evaluated[0]["eval_rewards/task/mean"].is_number());
}

/// Exit code 2, one line on standard error that has all of `words`, nothing written.
fn refused(command: &str, more: &str, words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let out: PathBuf = dir.path().join("out");
    let output = Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .arg(command)
        .args(arguments(&out, more))
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(output.status.code(), Some(2), "{more}: {said}");
    assert_eq!(errors.len(), 1, "{more}: {said}");
    words.iter().for_each(|w| assert!(errors[0].contains(w), "{more}: {w:?} is not in {:?}", errors[0]));
    assert!(!out.exists(), "{more}: something was written");
}

#[test]
fn wrong_input_is_told_before_anything_is_written() {
    refused("grpo", "--num_generations 3", &["--num_generations", "no multiple"]);
    refused("grpo", "--num_generations 1", &["at least 2"]);
    refused("rloo", "--reward_funcs exakt", &["exakt is not known", "did you mean exact?"]);
    refused("grpo", "--num_generations 2 --reward_funcs program:/no/such/judge", &["cannot be started"]);
    refused("ppo", "--max_completion_length 100000", &["context"]);
    refused("ppo", "--num_mini_batches 3", &["num_mini_batches", "does not divide"]);
    refused("grpo", "--num_generations 2 --reward_weights 1,2 --reward_funcs length", &["2 numbers for 1"]);
    refused("reinforce", "--num_iterations 2", &["once"]);
    let data = golden("data/messages.jsonl").display().to_string();
    refused(
        "grpo",
        &format!("--num_generations 2 --dataset_name {data} --reward_funcs length"),
        &["messages.jsonl:1", "prompt"],
    );
    let prompts = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(prompts.path(), "{\"prompt\": \"a\", \"answer\": 1}\n{\"prompt\": \"b\"}\n").unwrap();
    let file = prompts.path().display();
    let two = "--num_generations 4 --per_device_train_batch_size 4";
    refused("grpo", &format!("{two} --dataset_name {file} --reward_funcs exact"), &[":2:", "answer"]);
    refused("grpo", &format!("{two} --dataset_name {file}"), &["--reward_funcs is missing"]);
    refused(
        "grpo",
        &format!("--num_generations 2 --per_device_train_batch_size 16 --dataset_name {file} --reward_funcs length"),
        &["2 prompts", "takes 8"],
    );
}

/// A reward that gives nonsense ends the run with one line; what was done so far is kept.
#[test]
fn a_reward_that_answers_nonsense_ends_the_run() {
    for (answer, words) in [
        ("[1]", "gave 1 rewards for 4"),
        ("[1, 2, NaN, 4]", "not JSON"),
        ("[1, 2, \\\"good\\\", 4]", "a reward is a number"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let judge = dir.path().join("judge.sh");
        fs::write(&judge, format!("while read line; do echo \"{answer}\"; done\n")).unwrap();
        let mut all = arguments(&dir.path().join("out"), "--num_generations 2 --max_steps 2");
        all.extend(["--reward_funcs".into(), format!("program:sh {}", judge.display())]);
        let output = Command::new(env!("CARGO_BIN_EXE_lapidary")).arg("grpo").args(all).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.lines().any(|l| l.starts_with("error:") && l.contains(words)), "{said}");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}
