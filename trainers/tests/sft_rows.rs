//! Rows to tokens: the semantics of TRL's SFTTrainer, case by case, on the golden tokenizer.
use std::path::PathBuf;

use serde_json::{Value as Json, json};
use trainers::data::marked::preview;
use trainers::data::tokenize::TruncationMode;
use trainers::data::{DataSet, Example, Stats, TokenizeOptions, load, tokenize_sft};
use trainers::text::Tokenizer;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_directory(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer")).unwrap()
}

fn run(rows: &[Json], options: &TokenizeOptions) -> Result<(Vec<Example>, Stats), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    std::fs::write(&path, rows.iter().map(|r| format!("{r}\n")).collect::<String>()).unwrap();
    tokenize_sft(&load(DataSet::of(&path), Default::default()).unwrap().rows, &tokenizer(), options)
        .map_err(|e| e.to_string())
}

/// Each example as text, what is trained on in brackets.
fn shown(rows: &[Json], options: &TokenizeOptions) -> Vec<String> {
    let tokenizer = tokenizer();
    let show = |e: &Example| preview(std::slice::from_ref(e), &tokenizer, false).unwrap();
    run(rows, options)
        .unwrap()
        .0
        .iter()
        .map(|e| show(e).lines().skip(1).collect::<String>().replace("⟧⟦", ""))
        .collect()
}

fn user(text: &str) -> Json {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Json {
    json!({"role": "assistant", "content": text})
}

#[test]
fn text_ends_in_one_eos_and_its_first_token_is_not_trained() {
    let rows = [json!({"text": "abc"}), json!({"text": "abc<|im_end|>"})];
    assert_eq!(shown(&rows, &TokenizeOptions::default()), ["a⟦bc<|im_end|>⟧"; 2]);
}

#[test]
fn prompt_and_completion_train_the_completion() {
    let rows = [json!({"prompt": "Q: ", "completion": "A"})];
    assert_eq!(shown(&rows, &TokenizeOptions::default()), ["Q: ⟦A<|im_end|>⟧"]);
    let all = TokenizeOptions { completion_only_loss: Some(false), ..Default::default() };
    assert_eq!(shown(&rows, &all), ["Q⟦: A<|im_end|>⟧"]);
}

#[test]
fn tokens_that_merge_across_the_boundary_are_counted() {
    // "What is" is one token, "What" + " is" are others.
    let (examples, stats) =
        run(&[json!({"prompt": "Wh", "completion": "at is 1 + 2?"})], &TokenizeOptions::default()).unwrap();
    assert_eq!(stats.n_prefix_mismatch, 1);
    assert!(examples[0].trained[1..].iter().all(|t| *t));
    assert!(stats.warnings()[0].contains("not a prefix"), "{:?}", stats.warnings());
}

#[test]
fn conversations_train_all_the_assistant_or_the_completion() {
    let chat = json!({"messages": [user("a"), assistant("b")]});
    let text = |s: &str| s.replace('\n', "⏎");
    assert_eq!(
        shown(std::slice::from_ref(&chat), &TokenizeOptions::default()),
        [text("<|im_start|>⟦user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n⟧")]
    );
    let only = TokenizeOptions { assistant_only_loss: true, ..Default::default() };
    assert_eq!(shown(&[chat], &only), [text("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n")]);
    let split = json!({"prompt": [user("a")], "completion": [assistant("b")]});
    assert_eq!(
        shown(&[split], &TokenizeOptions::default()),
        [text("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>\n⟧")]
    );
}

#[test]
fn both_masks_hold_together() {
    let turns = json!({"prompt": [user("a")], "completion": [assistant("b"), user("c"), assistant("d")]});
    let only = TokenizeOptions { assistant_only_loss: true, ..Default::default() };
    let shown = shown(&[turns], &only);
    assert_eq!(shown[0].matches('⟦').count(), 2);
    assert!(shown[0].contains("⟦b<|im_end|>⟧") && shown[0].contains("⟦d<|im_end|>⟧"), "{}", shown[0]);
}

#[test]
fn long_rows_are_cut_at_either_end_and_empty_ones_dropped() {
    let rows = [json!({"prompt": "abcdefgh", "completion": "xyz"}), json!({"prompt": "q", "completion": "r"})];
    let cut = |mode| TokenizeOptions { max_length: Some(6), truncation_mode: mode, ..Default::default() };
    let (examples, stats) = run(&rows, &cut(TruncationMode::KeepStart)).unwrap();
    assert_eq!((examples.len(), stats.n_dropped, stats.n_truncated, stats.n_rows), (1, 1, 1, 2));
    assert_eq!(stats.warnings().len(), 2);
    assert_eq!(shown(&rows, &cut(TruncationMode::KeepEnd)), ["gh⟦xyz<|im_end|>⟧", "q⟦r<|im_end|>⟧"]);
}

#[test]
fn nothing_left_explains_itself() {
    let rows = [json!({"prompt": "abcdefgh", "completion": "x"}), json!({"prompt": "abcdefghij", "completion": "x"})];
    let error = run(&rows, &TokenizeOptions { max_length: Some(4), ..Default::default() }).unwrap_err();
    assert!(
        error.contains("all 2 rows") && error.contains("10 to 12 tokens") && error.contains("--max_length"),
        "{error}"
    );
    let only = TokenizeOptions { assistant_only_loss: true, ..Default::default() };
    let error = run(&[json!({"messages": [user("a")]})], &only).unwrap_err();
    assert!(error.contains("token that the assistant wrote"), "{error}");
}

#[test]
fn options_that_contradict_the_rows_are_errors() {
    let text = [json!({"text": "a"})];
    let only = TokenizeOptions { assistant_only_loss: true, ..Default::default() };
    assert!(run(&text, &only).unwrap_err().contains("assistant_only_loss needs conversations"));
    let completion = TokenizeOptions { completion_only_loss: Some(true), ..Default::default() };
    assert!(run(&text, &completion).unwrap_err().contains("completion_only_loss needs rows"));
    let none = TokenizeOptions { max_length: Some(1), ..Default::default() };
    assert!(run(&text, &none).unwrap_err().contains("max_length is 1"));
    let other =
        run(&[json!({"text": "a"}), json!({"messages": [user("b")]})], &TokenizeOptions::default()).unwrap_err();
    assert!(other.contains("rows.jsonl:2: the field \"text\" is missing"), "{other}");
}

#[test]
fn tool_calls_go_through_the_template() {
    let mut tokenizer = tokenizer();
    tokenizer.set_chat_template(
        "{% if tools %}T:{{ tools | tojson }}\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
         {% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}<|im_end|>\n{% endfor %}",
    );
    let row = json!({
        "messages": [user("2*3"), {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "mul", "arguments": {"b": 3, "a": 2}}}]},
                     {"role": "tool", "name": "mul", "content": "6"}, assistant("6")],
        "tools": [{"type": "function", "function": {"name": "mul"}}],
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.json");
    std::fs::write(&path, json!([row]).to_string()).unwrap();
    let options = TokenizeOptions { assistant_only_loss: true, ..Default::default() };
    let (examples, _) =
        tokenize_sft(&load(DataSet::of(&path), Default::default()).unwrap().rows, &tokenizer, &options).unwrap();
    let text = tokenizer.decode(&examples[0].ids).unwrap();
    assert!(
        text.contains("mul({\"b\": 3, \"a\": 2})<|im_end|>") && text.contains("<|im_start|>tool\n6<|im_end|>"),
        "{text}"
    );
    let trained: Vec<u32> =
        examples[0].ids.iter().zip(&examples[0].trained).filter(|(_, t)| **t).map(|(id, _)| *id).collect();
    assert_eq!(tokenizer.decode(&trained).unwrap(), "mul({\"b\": 3, \"a\": 2})<|im_end|>6<|im_end|>");
}

#[test]
fn preview_marks_by_brackets_or_colour_and_shows_control_characters() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("é\x1b[31m🙂\n").unwrap();
    let trained = (0..ids.len()).map(|i| i > 1).collect();
    let example = [Example { ids, trained }];
    let plain = preview(&example, &tokenizer, false).unwrap();
    assert!(!plain.contains('\x1b') && plain.contains('␛') && plain.contains('🙂') && plain.contains("⟦⏎⟧"), "{plain}");
    let colour = preview(&example, &tokenizer, true).unwrap();
    assert!(colour.contains("\x1b[30;42m") && !colour.contains("\x1b[31m"), "{colour}");
}
