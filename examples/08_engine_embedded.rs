//! 8: the engine in a program of your own that only generates: several prompts at once, tokens as they come.
//!
//! ```text
//! cargo run --release --example 08_engine_embedded
//! ```
//! The engine knows token ids. Text is the tokenizer's affair, here that of the `trainers` crate.
use engine::backend::Device;
use engine::cpu::Cpu;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::generate::{Next, Sampling, generate_with};
use engine::model::decoder::Decoder;
use std::error::Error;
use std::path::Path;
use trainers::small_model::{self, Shape};
use trainers::text::Tokenizer;

/// A model in memory, ready to be asked.
struct Service {
    model: Decoder,
    tokenizer: Tokenizer,
}

impl Service {
    fn open(path: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let files = ModelFiles::open(path)?;
        let tokenizer = match &files.vocabulary {
            Some(vocabulary) => Tokenizer::from_vocabulary(vocabulary, path)?,
            None => Tokenizer::from_directory(path)?,
        };
        Ok(Service { model: Decoder::load(&files, device, DType::F32)?, tokenizer })
    }

    /// `n` completions of each prompt, each cut where `stop` occurs in it.
    fn complete(&self, prompts: &[&str], n: usize, stop: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let ids = prompts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
        let sampling = Sampling {
            max_new_tokens: 16,
            temperature: 0.8,
            stop_tokens: self.tokenizer.eos_id().into_iter().collect(),
            ..Sampling::default()
        };
        // All completions are drawn together. What each draws depends on the seed and its number, not on its neighbours.
        let completions =
            generate_with(&self.model, &ids, n, &sampling, |_, tokens| match self.tokenizer.decode_plain(tokens) {
                Ok(text) if !text.contains(stop) => Next::Continue,
                _ => Next::Stop,
            })?;
        let text = |tokens: &[u32]| Ok(self.tokenizer.decode_plain(tokens)?);
        completions.iter().map(|completion| text(&completion.tokens)).collect()
    }
}

pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let device: Device = Cpu::new(None)?;
    small_model::make(dir.path(), Shape::TINY, &device, 1)?;
    let service = Service::open(dir.path(), &device)?;
    let (prompts, stop) = (["one ", "two "], "e");
    let answers = service.complete(&prompts, 3, stop)?;
    for (i, answer) in answers.iter().enumerate() {
        println!("{:?} → {answer:?}", prompts[i / 3]);
    }
    assert_eq!(answers.len(), 6);
    assert!(answers.iter().all(|answer| answer.matches(stop).count() <= 1));
    // The same seed draws the same.
    assert_eq!(service.complete(&prompts, 3, stop)?, answers);
    Ok(())
}
