//! A model that answers many prompts at once: what `generate` does with a data set, and `revise` with its questions.
use crate::error::{Error, Result};
use crate::job::need::{self, Use};
use crate::job::setup::{self, ModelSource};
use crate::options::{DrawingOptions, WeightType};
use crate::text::{RenderInput, Tokenizer};
use engine::backend::Device;
use engine::generate::{GenerationShape, Sampling, generate};
use engine::model::decoder::Decoder;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A model with its tokenizer, ready to answer.
pub struct Speaker {
    model: Decoder,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
}

impl Speaker {
    /// Opens a language model, with an adapter on it if there is one.
    pub fn open(path: &str, adapter: Option<&Path>, dtype: WeightType, device: &Device) -> Result<Self> {
        let source = setup::open_source(path)?;
        let stop_tokens = source.stop_tokens();
        let ModelSource { files, tokenizer } = source;
        let head = files.config.head;
        if head == engine::config::Head::Score {
            return Err(Error::Input(format!("{path}: a reward model, which says nothing; give a language model")));
        }
        let adapter = adapter.map(|path| setup::load_adapter(path, head)).transpose()?;
        need::check_use(&files, dtype.dtype(), adapter.as_ref(), device, Use::Draw(GenerationShape::default()))?;
        let mut model = Decoder::load_to_generate(&files, device, dtype.dtype())?;
        if let Some(adapter) = &adapter {
            model.load_adapter(adapter)?;
        }
        Ok(Speaker { model, tokenizer, stop_tokens })
    }

    /// How the model is drawn from with these options; what its own file decides is told.
    pub fn sampling(&self, options: &DrawingOptions) -> Sampling {
        let (sampling, said) = options.sampling(&self.model.config.generation);
        said.iter().for_each(|said| tell!("note: {said}"));
        sampling
    }

    /// A prompt as tokens: messages through the chat template, a text as it is; with `asks`, a text is what a user says,
    /// where the model has a chat template.
    pub fn tokens(&self, prompt: &Value, asks: bool) -> Result<Vec<u32>> {
        let messages = match prompt {
            Value::Array(messages) => messages.clone(),
            Value::String(text) if asks && self.tokenizer.has_chat_template() => {
                vec![json!({"role": "user", "content": text})]
            }
            Value::String(text) => return self.tokenizer.encode(text),
            _ => return Err(Error::input("the field \"prompt\" must be a text or a list of messages")),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        let input = RenderInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
        self.tokenizer.encode_rendered(&self.tokenizer.chat_templates(now)?.render(&input)?.text)
    }

    /// Whether so many tokens and their completion fit the model's context.
    pub fn fits(&self, n_tokens: usize, sampling: &Sampling) -> bool {
        n_tokens > 0 && n_tokens + sampling.max_new_tokens <= self.model.config.max_position_embeddings
    }

    /// `n` completions of each prompt as texts; none of a prompt that does not fit. Completion i draws from stream i,
    /// whatever fits beside it.
    pub fn answer(&self, prompts: &[Vec<u32>], n: usize, sampling: &Sampling) -> Result<Vec<Vec<String>>> {
        let mut all = vec![Vec::new(); prompts.len()];
        let fitting: Vec<usize> = (0..prompts.len()).filter(|&i| self.fits(prompts[i].len(), sampling)).collect();
        let asked: Vec<Vec<u32>> = fitting.iter().map(|&i| prompts[i].clone()).collect();
        let sampling = Sampling { stop_tokens: self.stop_tokens.clone(), ..sampling.clone() };
        need::check_drawing(&self.model, &asked.iter().map(Vec::len).collect::<Vec<_>>(), n, &sampling)?;
        for completion in generate(&self.model, &asked, n, &sampling, |_, _| true)? {
            let text = self.tokenizer.decode_plain(&completion.tokens)?;
            all[fitting[completion.prompt]].push(text);
        }
        Ok(all)
    }
}
