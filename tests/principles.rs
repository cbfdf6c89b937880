//! Judges and revision as a whole: verdicts that are data, trained on at once; and what is said when something is wrong.
mod common;
#[path = "../examples/rlhf_data.rs"]
#[allow(dead_code)]
mod rlhf_data;

use common::{golden, run};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn lapidary(arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary")).args(arguments).output().expect("the program runs")
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with principles and rows of every kind; `{}` in a command line stands for it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Desk(tempfile::tempdir().expect("a directory"));
        desk.write("principles.txt", "The answer is short.\nThe answer is a word.\n");
        desk.write("number.txt", "The right answer is the number alone.\n");
        desk.write("empty.txt", " \n\n");
        let answers = ["Oslo", "in a day", "12", "the line is longer", "no", "It is Monday"];
        let row = |i: usize| json!({"prompt": format!("Which {i}?"), "completions": [answers[i % 6], answers[(i + 1) % 6], answers[(i + 3) % 6]]});
        desk.write("answers.jsonl", &(0..8).map(|i| format!("{}\n", row(i))).collect::<String>());
        desk.write("same.jsonl", "{\"prompt\": \"a\", \"completions\": [\"b\", \"b\"]}\n");
        desk.write(
            "prompts.jsonl",
            "{\"prompt\": \"Is it?\"}\n{\"prompt\": \"What day?\", \"completion\": \"Monday\"}\n",
        );
        desk.write("chats.jsonl", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Is it?\"}]}\n");
        desk.write("texts.jsonl", "{\"text\": \"a\"}\n");
        desk
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("written");
    }
    fn arguments(&self, line: &str) -> Vec<String> {
        let line = line.replace("{}", &self.0.path().display().to_string());
        words(&line.replace("MODELS", &golden("models").display().to_string()))
    }
    fn does(&self, line: &str) -> String {
        let output = lapidary(&self.arguments(line));
        assert!(output.status.success(), "{line}: {}", said(&output));
        said(&output)
    }
    fn rows(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(name)).expect("written");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
    /// Exit code 2, one line that has all of `told`, and no file `out` or directory `run`.
    fn refused(&self, line: &str, told: &[&str]) {
        let output = lapidary(&self.arguments(line));
        let said = said(&output);
        let errors: Vec<&str> = said.lines().filter(|l| !l.starts_with("note:")).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{line}: {said}");
        told.iter().for_each(|word| assert!(said.contains(word), "{line}: {word:?} is not in {said}"));
        assert!(!self.at("out").exists() && !self.at("run").exists(), "{line}: something was written");
    }
}

const JUDGE: &str = "judge --device cpu --model_name_or_path MODELS/llama --constitution {}/principles.txt";

#[test]
fn verdicts_are_pairs_that_can_be_trained_on() {
    let desk = Desk::new();
    let told = desk.does(&format!(
        "{JUDGE} --dataset_name {{}}/answers.jsonl --output_file {{}}/pairs.jsonl --ties_file {{}}/ties.jsonl"
    ));
    let (pairs, ties) = (desk.rows("pairs.jsonl"), desk.rows("ties.jsonl"));
    assert_eq!(pairs.len() + ties.len(), 24, "each two of three answers to eight prompts");
    assert!(told.contains("24 pairs compared") && told.contains(&format!("{} ties", ties.len())), "{told}");
    assert!(
        !pairs.is_empty() && !ties.is_empty(),
        "{} verdicts, {} ties: one kind is not tested",
        pairs.len(),
        ties.len()
    );
    for pair in &pairs {
        let judge = &pair["judge"];
        let odds = |name: &str| judge[name].as_f64().expect("a number");
        // Seen by the chosen answer both orders speak for it.
        assert!(odds("log_odds_given") > 0.0 && odds("log_odds_swapped") > 0.0, "{pair}");
        assert!((odds("log_odds") - 0.5 * (odds("log_odds_given") + odds("log_odds_swapped"))).abs() < 1e-12);
        assert_eq!(judge["constitution_sha256"].as_str().map(str::len), Some(64));
    }
    for tie in &ties {
        assert!(
            tie["judge"]["log_odds_given"].as_f64().unwrap() * tie["judge"]["log_odds_swapped"].as_f64().unwrap()
                <= 0.0
        );
    }
    // Judging again, one at a time, changes no byte: nothing is drawn.
    desk.does(&format!("{JUDGE} --dataset_name {{}}/answers.jsonl --output_file {{}}/again.jsonl --per_device_eval_batch_size 1 --threads 1"));
    assert_eq!(fs::read(desk.at("pairs.jsonl")).unwrap(), fs::read(desk.at("again.jsonl")).unwrap());
    // The verdicts on the verdicts agree with them all.
    let told = desk.does(&format!("{JUDGE} --dataset_name {{}}/pairs.jsonl --output_file {{}}/verdicts.jsonl"));
    assert!(told.contains(&format!("{0} of {0} chose what the data chose", pairs.len())), "{told}");
    for command in ["dpo", "reward"] {
        desk.does(&format!(
            "{command} --device cpu --model_name_or_path MODELS/llama --dataset_name {{}}/pairs.jsonl --output_dir {{}}/{command} \
             --max_steps 1 --per_device_train_batch_size 2 --save_strategy no"
        ));
    }
    // One answer is graded: rows for kto and bco.
    desk.write(
        "single.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": \"Oslo\"}\n",
    );
    desk.does(&format!("{JUDGE} --dataset_name {{}}/single.jsonl --output_file {{}}/graded.jsonl"));
    for row in desk.rows("graded.jsonl") {
        assert_eq!(row["label"].as_bool(), Some(row["judge"]["log_odds"].as_f64().unwrap() > 0.0), "{row}");
    }
}

#[test]
fn conversations_stay_conversations() {
    let desk = Desk::new();
    let row =
        json!({"prompt": [{"role": "user", "content": "Is it?"}], "chosen": "yes", "rejected": "In a day or two"});
    desk.write("chat.jsonl", &format!("{row}\n"));
    let output = lapidary(&desk.arguments(&format!(
        "{JUDGE} --dataset_name {{}}/chat.jsonl --ties_file {{}}/ties.jsonl --output_file {{}}/out.jsonl"
    )));
    if output.status.success() {
        for row in desk.rows("out.jsonl") {
            assert_eq!(row["chosen"][0]["role"], "assistant", "{row}");
        }
    } else {
        assert!(said(&output).contains("no verdict is left"), "{}", said(&output));
    }
}

#[test]
fn revision_makes_rows_for_sft() {
    let desk = Desk::new();
    let revise =
        "revise --device cpu --model_name_or_path MODELS/llama --constitution {}/principles.txt --max_new_tokens 12";
    let told = desk.does(&format!(
        "{revise} --dataset_name {{}}/prompts.jsonl --output_file {{}}/revised.jsonl --num_revisions 2"
    ));
    let rows = desk.rows("revised.jsonl");
    assert!(told.contains("2 of 2 rows revised"), "{told}");
    assert_eq!(rows[1]["first_answer"], "Monday");
    for row in &rows {
        assert_eq!(row["critique"].as_array().map(Vec::len), Some(2), "{row}");
        assert!(row["completion"].as_str().is_some_and(|text| !text.is_empty()), "{row}");
    }
    // The same again, whatever the threads.
    desk.does(&format!(
        "{revise} --dataset_name {{}}/prompts.jsonl --output_file {{}}/again.jsonl --num_revisions 2 --threads 1"
    ));
    assert_eq!(fs::read(desk.at("revised.jsonl")).unwrap(), fs::read(desk.at("again.jsonl")).unwrap());
    desk.does(&format!("{revise} --dataset_name {{}}/chats.jsonl --output_file {{}}/chat.jsonl"));
    assert_eq!(desk.rows("chat.jsonl")[0]["completion"][0]["role"], "assistant");
    for data in ["revised", "chat"] {
        desk.does(&format!(
            "sft --device cpu --model_name_or_path MODELS/llama --dataset_name {{}}/{data}.jsonl --output_dir {{}}/sft-{data} --max_steps 1 \
             --save_strategy no"
        ));
    }
}

#[test]
fn a_data_set_is_answered_row_by_row() {
    let desk = Desk::new();
    let generate = "generate --device cpu --model_name_or_path MODELS/llama --max_new_tokens 6 --seed 3";
    desk.does(&format!(
        "{generate} --dataset_name {{}}/prompts.jsonl --num_generations 2 --output_file {{}}/two.jsonl"
    ));
    for row in desk.rows("two.jsonl") {
        assert_eq!(row["completions"].as_array().map(Vec::len), Some(2), "{row}");
    }
    desk.does(&format!("{generate} --dataset_name {{}}/chats.jsonl --output_file {{}}/one.jsonl"));
    assert_eq!(desk.rows("one.jsonl")[0]["completion"][0]["role"], "assistant");
    desk.refused(&format!("{generate} --dataset_name {{}}/chats.jsonl --prompt a"), &["contradicts dataset_name"]);
    desk.refused(&format!("{generate} --prompt a --num_generations 2"), &["goes with --dataset_name"]);
    desk.refused(
        &format!("{generate} --dataset_name {{}}/texts.jsonl --output_file {{}}/out"),
        &["texts.jsonl:1", "prompt"],
    );
}

#[test]
fn wrong_input_is_told() {
    let desk = Desk::new();
    let judge = |more: &str| format!("{JUDGE} --output_file {{}}/out {more}");
    desk.refused(
        &judge("--dataset_name {}/same.jsonl"),
        &["no verdict is left", "all 1 comparisons", "the same answer twice"],
    );
    desk.refused(&judge("--dataset_name {}/texts.jsonl"), &["texts.jsonl:1", "\"prompt\" is missing"]);
    desk.refused(&judge("--dataset_name {}/prompts.jsonl"), &["prompts.jsonl:1", "completions"]);
    desk.refused(&judge("--dataset_name {}/answers.jsonl --judge_template {}/nowhere"), &["nowhere"]);
    let other = "judge --device cpu --output_file {}/out --dataset_name {}/answers.jsonl";
    desk.refused(
        &format!("{other} --constitution {{}}/empty.txt --model_name_or_path MODELS/llama"),
        &["empty.txt", "the constitution is empty"],
    );
    desk.refused(
        &format!("{other} --constitution {{}}/principles.txt --model_name_or_path MODELS/llama-reward"),
        &["a reward model"],
    );
    desk.refused(&format!("{other} --model_name_or_path MODELS/llama"), &["--constitution is missing"]);
    let revise = "revise --device cpu --model_name_or_path MODELS/llama --output_file {}/out --dataset_name";
    desk.refused(&format!("{revise} {{}}/prompts.jsonl --constitution {{}}/empty.txt"), &["the constitution is empty"]);
    desk.refused(
        &format!("{revise} {{}}/texts.jsonl --constitution {{}}/principles.txt"),
        &["texts.jsonl:1", "prompt"],
    );
    desk.refused(
        &format!("{revise} {{}}/prompts.jsonl --constitution {{}}/principles.txt --max_new_tokens 100000"),
        &["nothing is left of 2 rows", "longer than the model's context"],
    );
    desk.refused(
        &format!(
            "{revise} {{}}/prompts.jsonl --constitution {{}}/principles.txt --critique_template {{}}/principles.txt"
        ),
        &["principles.txt", "does not show"],
    );
}

fn online(desk: &Desk, more: &str) -> Vec<String> {
    desk.arguments(&format!(
        "--model_name_or_path MODELS/llama --dataset_name task:addition?digits=2&rows=24 --output_dir {{}}/run --device cpu \
         --learning_rate 1e-3 --max_new_tokens 8 --per_device_train_batch_size 4 --max_steps 3 --logging_steps 1 {more}"
    ))
}

#[test]
fn online_dpo_learns_from_a_judge() {
    let desk = Desk::new();
    // By these principles the tiny judge likes an answer more than a place, now and then.
    let more = "--judge MODELS/llama --judge_constitution {}/number.txt";
    let metrics = run("online-dpo", &online(&desk, more), &desk.at("run"));
    assert_eq!(metrics.len(), 3);
    for line in &metrics {
        let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} is not in {line}"));
        // Of a pair one has 1 and the other 0, of a tie both have one half.
        assert_eq!(number("objective/scores"), 0.5);
        assert!((number("objective/scores_margin") + number("objective/ties") - 1.0).abs() < 1e-12, "{line}");
        for name in
            ["objective/kl", "objective/entropy", "rewards/margins", "logps/chosen", "val/contain_eos_token", "beta"]
        {
            number(name);
        }
    }
    assert_eq!(metrics[0]["objective/kl"].as_f64(), Some(0.0));
    assert!(metrics.iter().any(|line| line["grad_norm"].as_f64() > Some(0.0)), "nothing was learnt: {metrics:?}");
}

#[test]
fn wrong_input_of_online_dpo_is_told() {
    let desk = Desk::new();
    let refused = |more: &str, told: &[&str]| {
        let all: Vec<String> = std::iter::once("online-dpo".to_string()).chain(online(&desk, more)).collect();
        desk.refused(&all.join(" "), told);
    };
    refused("--judge MODELS/llama", &["judge_constitution", "is missing"]);
    refused("--judge MODELS/llama --judge_constitution {}/empty.txt", &["the constitution is empty"]);
    refused("--judge MODELS/llama-reward --judge_constitution {}/principles.txt", &["a reward model", "model:"]);
    refused("--num_generations 4", &["num_generations", "two completions"]);
    refused("--max_length 8", &["max_length", "no room"]);
    refused("--beta 0", &["beta"]);
    refused("--kl_budget 0", &["kl_budget", "above 0"]);
    refused("--kl_budget -1", &["kl_budget", "above 0"]);
    refused("--gold_patience 3", &["gold_patience", "--gold_funcs"]);
    refused("--gold_funcs exakt", &["exakt is not known"]);
    refused("--mask_truncated_completions", &["mask_truncated_completions", "missing_eos_penalty"]);
    let all =
        online(&desk, "--reward_funcs judge:MODELS/llama --judge_constitution {}/principles.txt --num_generations 1");
    desk.refused(&format!("reinforce {}", all.join(" ")), &["at least 2", "judge_score"]);
}

fn rewarded(desk: &Desk, model: &Path, reward_model: &str) -> String {
    let arguments = online(desk, &format!("--reward_model_path {reward_model}"));
    let line = arguments.join(" ");
    line.replace(&golden("models/llama").display().to_string(), &model.display().to_string())
}

/// The judge reads text, so its tokenizer may be another; a reward model reads tokens, so its may not.
#[test]
fn a_reward_model_with_another_tokenizer_is_refused() {
    let desk = Desk::new();
    rlhf_data::make(&desk.at("other"), 1).expect("a model with a token per letter");
    let copy = desk.at("other").join("model");
    let reward_model = golden("models/llama-reward").display().to_string();
    desk.refused(&format!("online-dpo {}", rewarded(&desk, &copy, &reward_model)), &["tokenizer"]);
    desk.does(&format!("online-dpo {}", rewarded(&desk, &golden("models/llama"), &reward_model)));
}
