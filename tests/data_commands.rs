//! `lapidary data stats`, `convert` and `dedup` on rows with planted faults; prompts and rows that are piped in.
mod common;

use common::golden;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of this test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a directory"))
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, rows: &[Value]) {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(self.at(name), lines).expect("written");
    }
    fn rows(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(name)).expect("rows");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
    /// The words of a command line, in this directory; `piped` goes to standard input.
    fn run(&self, line: &str, piped: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lapidary"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that does not read it may have ended.
        let _ = stdin.write_all(piped.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("the program ends")
    }
    fn done(&self, line: &str) -> (String, String) {
        let output = self.run(line, "");
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }
    /// Exit code 2 and one line on standard error.
    fn refused(&self, line: &str, words: &[&str]) {
        let output = self.run(line, "");
        let said = text(&output.stderr);
        let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("note:")).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(2), 1), "{line}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{word} is not in: {said}"));
    }
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn model() -> String {
    golden("models/llama").display().to_string()
}

#[test]
fn stats_tell_what_is_there() {
    let place = Place::new();
    let chat = |question: &str, answer: &str| {
        json!({"conversations": [
        {"from": "human", "value": question}, {"from": "gpt", "value": answer}], "id": question.len()})
    };
    place.write("chats.jsonl", &[chat("What is 2 + 3?", "5"), chat("Who?", "  "), chat("What is 2 + 3?", "5")]);
    let (told, _) = place.done("data stats chats.jsonl");
    for said in [
        "3 rows\nformat: conversations (messages), as ShareGPT has them",
        "conversations  list 3",
        "roles: assistant 3, user 3",
        "1 rows are the same as an earlier one, the first in line 3",
        "characters of a row",
    ] {
        assert!(told.contains(said), "{said}\n{told}");
    }
    // In tokens, as preview counts them.
    let rows = golden("data/messages.jsonl").display().to_string();
    let (told, _) = place.done(&format!("data stats {rows} --model_name_or_path {} --max_length 60", model()));
    let (seen, _) =
        place.done(&format!("preview --dataset_name {rows} --model_name_or_path {} --max_length none", model()));
    let ends = seen.lines().find(|line| line.contains("the shortest row has")).expect("preview's last line");
    let words: Vec<&str> = ends.split_whitespace().collect();
    let (shortest, longest) = (words[words.len() - 5], words[words.len() - 1]);
    let whole = told.lines().find(|line| line.contains("whole row, tokens")).expect("a row of lengths");
    let numbers: Vec<&str> = whole.split_whitespace().skip(3).collect();
    assert_eq!((numbers[0], numbers[3]), (shortest, longest), "{told}\n{ends}");
    assert!(told.contains("are longer than max_length 60"), "{told}");
    for name in ["preference", "unpaired_preference", "prompts", "text", "prompt_completion", "preference_implicit"] {
        let rows = golden(&format!("data/{name}.jsonl")).display().to_string();
        let (told, _) = place.done(&format!("data stats {rows} --model_name_or_path {}", model()));
        assert!(told.contains("whole row, tokens") && !told.contains("format: none"), "{name}\n{told}");
    }
    place.refused("data stats nothing.jsonl", &["nothing.jsonl", "no such file"]);
}

/// The page on data shows what is printed about the two conversations of the first steps.
#[test]
fn the_book_shows_what_stats_prints() {
    let place = Place::new();
    let page = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src").join(name)).expect("a page")
    };
    let steps = page("first-steps.md");
    let rows: Vec<&str> = steps.lines().filter(|line| line.starts_with("{\"messages\"")).collect();
    fs::write(place.at("chats.jsonl"), rows.join("\n")).expect("written");
    let data = page("data.md");
    let (_, shown) = data.split_once("$ lapidary data stats chats.jsonl\n").expect("the command");
    let (shown, _) = shown.split_once("$ lapidary").expect("the next command");
    assert_eq!(place.done("data stats chats.jsonl").0, shown);
}

#[test]
fn files_become_each_other() {
    let place = Place::new();
    let rows = [
        json!({"messages": [turn("user", "é, \"q\""), turn("assistant", "a")], "id": 1, "tags": ["x"], "score": 0.5}),
        json!({"messages": [turn("user", "r")], "id": 2, "tags": [], "score": null}),
    ];
    place.write("a.jsonl", &rows);
    for name in ["b.parquet", "b.jsonl.gz"] {
        place.done(&format!("data convert a.jsonl {name}"));
        let (_, said) = place.done(&format!("data convert {name} back.jsonl --overwrite_output_file"));
        assert_eq!(place.rows("back.jsonl"), rows, "{name}");
        assert!(said.contains("2 rows read, 2 written"), "{said}");
    }
    let (_, said) = place.done("data convert a.jsonl b.csv");
    assert!(
        said.contains(
            "note: lists and objects are written as their JSON text, which is read back as text: messages, tags"
        ),
        "{said}"
    );
    assert!(fs::read_to_string(place.at("b.csv")).expect("a table").starts_with("messages,id,tags,score\n"));
    place.refused("data convert a.jsonl b.csv", &["b.csv", "--overwrite_output_file"]);
    place.refused("data convert a.jsonl b.txt", &["b.txt", ".jsonl, .csv"]);
    place.refused("data convert a.jsonl c.jsonl --to poems", &["--to: got \"poems\""]);
    assert!(!place.at("c.jsonl").exists());
}

/// Each conversion, with what it loses.
#[test]
fn formats_become_each_other() {
    let place = Place::new();
    place.write(
        "alpaca.jsonl",
        &[json!({"instruction": "Add.", "input": "1, 2", "output": "3"}), json!({"text": "no conversation"})],
    );
    let (_, said) = place.done("data convert alpaca.jsonl chats.jsonl --to messages");
    let chat = json!({"messages": [turn("user", "Add.\n1, 2"), turn("assistant", "3")]});
    assert_eq!(place.rows("chats.jsonl"), [chat]);
    assert!(said.contains("note: dropped: 1 rows have no conversation") && said.contains("line 2)"), "{said}");
    place.done("data convert chats.jsonl split.jsonl --to prompt-completion");
    let split = json!({"prompt": [turn("user", "Add.\n1, 2")], "completion": [turn("assistant", "3")]});
    assert_eq!(place.rows("split.jsonl"), [split]);
    place.write("pairs.jsonl", &[json!({"chosen": "The sky is blue", "rejected": "The sky is red", "id": 1})]);
    place.done("data convert pairs.jsonl explicit.jsonl --to preference");
    assert_eq!(
        place.rows("explicit.jsonl"),
        [json!({"id": 1, "prompt": "The sky is", "chosen": " blue", "rejected": " red"})]
    );
    place.done("data convert pairs.jsonl single.jsonl --to unpaired-preference");
    let one = |text: &str, label: bool| json!({"id": 1, "prompt": "The sky is", "completion": text, "label": label});
    assert_eq!(place.rows("single.jsonl"), [one(" blue", true), one(" red", false)]);
    place.refused("data convert single.jsonl x.jsonl --to preference", &["none of its 2 rows", "single answers"]);
    assert!(!place.at("x.jsonl").exists());
}

#[test]
fn duplicates_go_and_are_named() {
    let place = Place::new();
    let row = |text: &str, id: u32| json!({"text": text, "id": id});
    let long = "one two three four five six seven eight nine ten";
    place.write(
        "a.jsonl",
        &[
            row(long, 1),
            row("other", 2),
            row(long, 1),
            row("one two  three four five six seven eight nine ten", 1),
            row(&format!("{long} eleven"), 3),
        ],
    );
    let ids = |name: &str| -> Vec<u64> { place.rows(name).iter().filter_map(|row| row["id"].as_u64()).collect() };
    let (_, said) = place.done("data dedup a.jsonl b.jsonl");
    assert_eq!(ids("b.jsonl"), [1, 2, 1, 3]);
    assert!(said.contains("removed: line 3: the same as line 1\n5 rows read, 1 removed, 4 written"), "{said}");
    place.done("data dedup a.jsonl c.jsonl --normalize_whitespace");
    assert_eq!(ids("c.jsonl"), [1, 2, 3]);
    let (_, said) = place.done("data dedup a.jsonl d.parquet --columns text --near 0.8 --removed_file gone.jsonl");
    assert!(said.contains("line 5: near (similarity 0.889) to line 1"), "{said}");
    place.done("data convert d.parquet d.jsonl");
    assert_eq!(ids("d.jsonl"), [1, 2]);
    let gone = place.rows("gone.jsonl");
    assert_eq!(gone.iter().map(|row| row["line"].as_u64()).collect::<Vec<_>>(), [Some(3), Some(4), Some(5)]);
    assert_eq!((&gone[2]["duplicate_of"]["line"], &gone[2]["row"]["id"]), (&json!(1), &json!(3)));
    place.refused("data dedup a.jsonl e.jsonl --columns txt", &["a.jsonl:1: columns: there is no column \"txt\""]);
    place.refused("data dedup a.jsonl gone.jsonl", &["gone.jsonl", "is there already"]);
    place.refused("data dedup a.jsonl e.jsonl --removed_file e.jsonl", &["--removed_file: is output_file, too"]);
    assert!(!place.at("e.jsonl").exists());
}

#[test]
fn the_family_is_told() {
    let place = Place::new();
    let (told, _) = place.done("data --help");
    ["stats", "convert", "dedup"].iter().for_each(|name| assert!(told.contains(name), "{name}: {told}"));
    let (told, _) = place.done("data dedup --help");
    assert!(
        told.contains("lapidary data dedup [OPTIONS]") && told.contains("Example:\n  lapidary data dedup"),
        "{told}"
    );
    place.refused("data stat rows.jsonl", &["unknown command", "data stats"]);
    let (told, _) = place.done("completions bash");
    assert!(
        told.contains("lapidary__data__dedup") || told.contains("lapidary__subcmd__data__subcmd__dedup"),
        "no completion"
    );
    assert!(place.done("completions man").0.contains("normalize_whitespace"));
}

#[test]
fn prompts_are_piped_in() {
    let place = Place::new();
    let common = format!("--model_name_or_path {} --max_new_tokens 4 --temperature 0 --device cpu", model());
    let answer = |line: &str, piped: &str| {
        let output = place.run(line, piped);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let asked = place.run(&format!("generate {common} --prompt hello"), "");
    assert_eq!(answer(&format!("generate {common}"), "hello\n"), text(&asked.stdout));
    let lines = answer(&format!("generate {common} --prompts -"), "hello\n\nWho are you?\n");
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        rows.iter().map(|row| row["prompt"].as_str()).collect::<Vec<_>>(),
        [Some("hello"), Some("Who are you?")]
    );
    let json =
        answer(&format!("generate {common} --prompts -"), "{\"prompt\": \"hello\"}\n{\"prompt\": \"Who are you?\"}\n");
    assert_eq!(json, lines);
    fs::write(place.at("asked.txt"), "hello\nWho are you?\n").expect("written");
    assert_eq!(answer(&format!("generate {common} --prompts asked.txt"), ""), lines);
    place.refused(&format!("generate {common}"), &["give --prompt with a text (or pipe one in)"]);
    place.refused(&format!("generate {common} --prompts -"), &["standard input has no rows"]);
}

/// Rows that are piped into `score` get the rewards that they have in a file.
#[test]
fn rows_are_piped_into_score() {
    let place = Place::new();
    let pairs = golden("data/preference.jsonl");
    let judge = place.at("judge").display().to_string();
    let line = format!(
        "reward --model_name_or_path {} --dataset_name {} --max_steps 1 --device cpu",
        model(),
        pairs.display()
    );
    place.done(&format!("{line} --max_length 128 --output_dir {judge}"));
    let rows: String =
        fs::read_to_string(&pairs).expect("pairs").lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(place.at("three.jsonl"), &rows).expect("written");
    let line = format!("--model_name_or_path {judge} --device cpu");
    let of_file = place.done(&format!("score --dataset_name three.jsonl {line}")).0;
    let piped = place.run(&format!("score - {line}"), &rows);
    assert_eq!(text(&piped.stdout), of_file, "{}", text(&piped.stderr));
    assert!(of_file.lines().count() == 3 && of_file.contains("rewards"), "{of_file}");
    let wrong = place.run(&format!("score - {line}"), "no JSON\n");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("standard input:1: bad JSON"), "{}", text(&wrong.stderr));
}

/// Paths are names of this test's own files only.
#[test]
fn a_directory_with_splits_is_surveyed() {
    let place = Place::new();
    fs::create_dir(place.at("rows")).expect("made");
    place.write("rows/train.jsonl", &[json!({"text": "a"})]);
    place.write("rows/test.jsonl", &[json!({"text": "b"}), json!({"text": "c"})]);
    let (told, said) = place.done("data stats rows --dataset_split test");
    assert!(told.starts_with("2 rows\nformat: text") && said.contains("split test is read"), "{told}{said}");
    assert!(Path::new(&place.at("rows")).is_dir());
}
