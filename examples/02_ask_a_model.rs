//! 2: a model is loaded and asked.
//!
//! ```text
//! cargo run --release --example 02_ask_a_model [MODEL [PROMPT]]
//! ```
//! MODEL is a directory in Hugging Face layout or a .gguf file; without one a small model with random weights is made.
use engine::dtype::DType;
use engine::generate::{Sampling, generate};
use engine::model::decoder::Decoder;
use serde_json::json;
use std::error::Error;
use trainers::device::{DeviceChoice, open};
use trainers::job::setup::open_source;
use trainers::small_model::{self, Shape};
use trainers::text::RenderInput;

/// Asks `model` and gives its answer.
pub fn ask(model: &str, prompt: &str, max_new_tokens: usize) -> Result<String, Box<dyn Error>> {
    // The files are opened and checked: configuration, weights, tokenizer. Nothing is loaded yet.
    let source = open_source(model)?;
    // A model that was made for chats wants its chat template around the text.
    let tokens = if source.tokenizer.has_chat_template() {
        let messages = [json!({"role": "user", "content": prompt})];
        let input = RenderInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
        source.tokenizer.encode_rendered(&source.tokenizer.chat_templates(0)?.render(&input)?.text)?
    } else {
        source.tokenizer.encode(prompt)?
    };
    let device = open(DeviceChoice::Cpu, None)?;
    let decoder = Decoder::load(&source.files, &device, DType::F32)?;
    let sampling =
        Sampling { max_new_tokens, temperature: 0.0, stop_tokens: source.stop_tokens(), ..Sampling::default() };
    // The closure hears every token as it comes; false would end the answer.
    let completions = generate(&decoder, &[tokens], 1, &sampling, |_, _| true)?;
    Ok(source.tokenizer.decode_plain(&completions[0].tokens)?)
}

pub fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let dir = tempfile::tempdir()?;
    let model = match arguments.next().filter(|path| std::path::Path::new(path).exists()) {
        Some(path) => path,
        None => {
            small_model::make(dir.path(), Shape::TINY, &open(DeviceChoice::Cpu, None)?, 1)?;
            dir.path().display().to_string()
        }
    };
    let prompt = arguments.next().unwrap_or_else(|| "What is a lapidary?".into());
    println!("{}", ask(&model, &prompt, 32)?);
    Ok(())
}
