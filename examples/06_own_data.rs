//! 6: data of your own: rows made in code, and which of their tokens are trained on.
//!
//! ```text
//! cargo run --release --example 06_own_data
//! ```
use serde_json::json;
use std::error::Error;
use std::sync::Arc;
use trainers::data::marked::preview;
use trainers::data::tokenize::{TokenizeOptions, tokenize_sft};
use trainers::data::{Example, Row};
use trainers::device::{DeviceChoice, open};
use trainers::job::setup::open_source;
use trainers::small_model::{self, Shape};
use trainers::text::Tokenizer;

/// Trained on are the digits alone: a mask that no option can say.
fn digits_only(text: &str, tokenizer: &Tokenizer) -> Result<Example, Box<dyn Error>> {
    let ids = tokenizer.encode(text)?;
    let is_digit = |id: &u32| tokenizer.token(*id).is_some_and(|token| token.chars().all(|c| c.is_ascii_digit()));
    let trained = ids.iter().map(is_digit).collect();
    Ok(Example { ids, trained })
}

pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    small_model::make(dir.path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;
    let tokenizer = open_source(&dir.path().display().to_string())?.tokenizer;

    // Rows as a file would have them. Where they come from is yours to say: path and line stand in errors about them.
    let row = |i: usize| {
        let fields = json!({"prompt": format!("{i}+{i}="), "completion": (2 * i).to_string()});
        Row { path: Arc::new("made in code".into()), line: i, fields: fields.as_object().cloned().unwrap_or_default() }
    };
    let rows: Vec<Row> = (1..4).map(row).collect();
    let (examples, stats) = tokenize_sft(&rows, &tokenizer, &TokenizeOptions::default())?;
    println!("{}", preview(&examples, &tokenizer, false)?);
    println!("{} tokens in all", stats.n_tokens);
    // The completion and the end of the sequence are trained on.
    assert!(examples.iter().all(|example| example.n_trained() == 2));

    // Or ids and mask by hand.
    let example = digits_only("12 gems for 7 rings", &tokenizer)?;
    println!("{}", preview(std::slice::from_ref(&example), &tokenizer, false)?);
    assert_eq!(example.n_trained(), 3);
    Ok(())
}
