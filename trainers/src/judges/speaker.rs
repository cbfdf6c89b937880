//! A model that answers many prompts at once: what `generate` does with a data set, and `revise` with its questions.
use crate::error::{Error, Result};
use crate::job::need::{self, Use};
use crate::job::setup::{self, ModelSource};
use crate::options::{DrawingOptions, WeightType};
use crate::text::{RenderInput, StopStrings, Tokenizer};
use engine::backend::Device;
use engine::generate::{Completion, GenerationShape, Next, Sampling, generate_with};
use engine::model::decoder::Decoder;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// `n_samples` completions of each prompt, which end at the stop strings besides what the sampling says.
pub fn generate_until(
    model: &Decoder,
    prompts: &[Vec<u32>],
    n_samples: usize,
    sampling: &Sampling,
    (stops, tokenizer): (&StopStrings, &Tokenizer),
) -> Result<Vec<Completion>> {
    let mut outcome = Ok(());
    let completions =
        generate_with(model, prompts, n_samples, sampling, |_, tokens| match stops.end(tokens, tokenizer) {
            Ok(true) => Next::Stop,
            Ok(false) => Next::Continue,
            Err(error) => {
                outcome = Err(error);
                Next::Abort
            }
        })?;
    outcome.map(|()| completions)
}

/// A model with its tokenizer, ready to answer.
pub struct Speaker {
    model: Decoder,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    stop_strings: StopStrings,
}

impl Speaker {
    /// Opens a language model, with an adapter on it if there is one.
    pub fn open(path: &str, adapter: Option<&Path>, dtype: WeightType, device: &Device) -> Result<Self> {
        let source = setup::open_with(path, adapter)?;
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
        Ok(Speaker { model, tokenizer, stop_tokens, stop_strings: StopStrings::default() })
    }

    /// How the model is drawn from with these options; what its own file decides is told. Their stop strings end its answers from
    /// here on.
    pub fn sampling(&mut self, options: &DrawingOptions) -> Sampling {
        self.stop_strings = options.stop_strings(&self.model.config.generation);
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
        let text = |one: &Completion| self.tokenizer.decode_plain(&one.tokens);
        let all = self.complete(prompts, n, sampling)?;
        all.iter().map(|some| some.iter().map(text).collect::<Result<Vec<String>>>()).collect()
    }

    /// The same as tokens.
    pub fn complete(&self, prompts: &[Vec<u32>], n: usize, sampling: &Sampling) -> Result<Vec<Vec<Completion>>> {
        let mut all = vec![Vec::new(); prompts.len()];
        let fitting: Vec<usize> = (0..prompts.len()).filter(|&i| self.fits(prompts[i].len(), sampling)).collect();
        let asked: Vec<Vec<u32>> = fitting.iter().map(|&i| prompts[i].clone()).collect();
        let sampling = Sampling { stop_tokens: self.stop_tokens.clone(), ..sampling.clone() };
        need::check_drawing(&self.model, &asked.iter().map(Vec::len).collect::<Vec<_>>(), n, &sampling)?;
        for completion in generate_until(&self.model, &asked, n, &sampling, (&self.stop_strings, &self.tokenizer))? {
            let prompt = fitting[completion.prompt];
            all[prompt].push(completion);
        }
        Ok(all)
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Its weights.
    pub fn model(&self) -> &Decoder {
        &self.model
    }
}
