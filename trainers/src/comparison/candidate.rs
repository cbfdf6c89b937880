//! A model that is compared: it answers prompts, and says how likely any answer is.
use crate::data::Sequence;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::scoring::log_probabilities;
use crate::judges::speaker::Speaker;
use crate::options::{DrawingOptions, WeightType, base_of};
use engine::backend::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model, an adapter on it or none, ready to answer.
pub struct Candidate {
    /// What tables call it.
    pub label: String,
    /// The model's path.
    pub model: String,
    /// The adapter's.
    pub adapter: Option<PathBuf>,
    speaker: Speaker,
}

/// What a candidate answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Without special tokens.
    pub text: String,
    /// The tokens that were drawn, the end among them.
    pub tokens: Vec<u32>,
    /// Whether it came to an end, rather than to the greatest length.
    pub ended: bool,
}

/// The log-probability of an answer, and how many tokens it is the sum over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerLogp {
    /// Σ log p, in nats.
    pub sum: f64,
    /// Its tokens, as the model that is asked cuts them.
    pub tokens: usize,
}

impl AnswerLogp {
    /// In nats a token; NaN of none.
    pub fn per_token(self) -> f64 {
        self.sum / self.tokens as f64
    }
}

impl Candidate {
    /// Opens a model directory, a .gguf file, or an adapter's directory: on `base`, or on the model that it names.
    pub fn open(path: &Path, base: Option<&str>, dtype: WeightType, device: &Device) -> Result<Candidate> {
        let shown = path.display().to_string();
        let is_adapter = path.join("adapter_config.json").is_file() && !path.join("config.json").exists();
        let (model, adapter) = match (is_adapter, base) {
            (true, Some(base)) => (base.to_string(), Some(path.to_path_buf())),
            (true, None) => (base_of(&shown)?.unwrap_or_default(), Some(path.to_path_buf())),
            (false, _) => (shown.clone(), None),
        };
        let speaker = Speaker::open(&model, adapter.as_deref(), dtype, device)?;
        let label = path.file_name().map_or(shown, |name| name.to_string_lossy().into_owned());
        Ok(Candidate { label, model, adapter, speaker })
    }

    /// A prompt as this model's tokens: messages through its chat template, a text as it is.
    pub fn prompt(&self, prompt: &Value) -> Result<Vec<u32>> {
        self.speaker.tokens(prompt, false)
    }

    /// How many tokens a prompt and its answer may have.
    pub fn context(&self) -> usize {
        self.speaker.model().config.max_position_embeddings
    }

    /// The answer to each prompt; None where it leaves no room for one. Answer i draws from stream i.
    pub fn answers(&mut self, prompts: &[Vec<u32>], drawing: &DrawingOptions) -> Result<Vec<Option<Answer>>> {
        let sampling = self.speaker.sampling(drawing);
        let drawn = self.speaker.complete(prompts, 1, &sampling)?;
        let one = |mut all: Vec<engine::generate::Completion>| -> Result<Option<Answer>> {
            let Some(one) = all.pop() else { return Ok(None) };
            let text = self.speaker.tokenizer().decode_plain(&one.tokens)?;
            Ok(Some(Answer { text, tokens: one.tokens, ended: one.stopped }))
        };
        drawn.into_iter().map(one).collect()
    }

    /// Whether these options draw from the model as it is: temperature 1, no filter, no penalty.
    pub fn draws_unfiltered(&self, drawing: &DrawingOptions) -> bool {
        let (s, _) = drawing.sampling(&self.speaker.model().config.generation);
        s.temperature == 1.0 && s.top_k == 0 && s.top_p == 1.0 && s.min_p == 0.0 && s.repetition_penalty == 1.0
    }

    /// Whether a token id means the same to both.
    pub fn shares_tokens_with(&self, other: &Candidate) -> bool {
        let (ours, theirs) = (self.speaker.tokenizer(), other.speaker.tokenizer());
        ours.vocab_size() == theirs.vocab_size()
            && (0..ours.vocab_size() as u32).all(|id| ours.token(id) == theirs.token(id))
    }

    /// An answer as this model's tokens: as it was drawn where tokens mean the same, else its text.
    pub fn tokens_of(&self, answer: &Answer, same_tokens: bool) -> Result<Vec<u32>> {
        if same_tokens { Ok(answer.tokens.clone()) } else { self.speaker.tokenizer().encode_rendered(&answer.text) }
    }

    /// log p of the answers to their prompts at temperature 1, a few at once; None where there is no answer, or no room for it.
    pub fn log_probabilities(
        &self,
        asked: &[Option<(Vec<u32>, Vec<u32>)>],
        at_once: usize,
    ) -> Result<Vec<Option<AnswerLogp>>> {
        let mut found = vec![None; asked.len()];
        let fits = |prompt: &Vec<u32>, answer: &Vec<u32>| {
            !prompt.is_empty() && !answer.is_empty() && prompt.len() + answer.len() <= self.context()
        };
        let sequence = |(i, one): (usize, &Option<(Vec<u32>, Vec<u32>)>)| {
            let (prompt, answer) = one.as_ref().filter(|(prompt, answer)| fits(prompt, answer))?;
            Some((i, Sequence { ids: [&prompt[..], answer].concat(), start: prompt.len() }))
        };
        let all: Vec<(usize, Sequence)> = asked.iter().enumerate().filter_map(sequence).collect();
        for some in all.chunks(at_once.max(1)) {
            let sequences: Vec<&Sequence> = some.iter().map(|(_, sequence)| sequence).collect();
            let batch = Batch::from_answers(&sequences, true, false)?;
            let logp = log_probabilities(self.speaker.model(), &batch, 1.0)?.to_vec()?;
            let mut sums = vec![AnswerLogp { sum: 0.0, tokens: 0 }; some.len()];
            for (p, sequence) in logp.iter().zip(&batch.sequences) {
                let sum =
                    sums.get_mut(*sequence as usize).ok_or_else(|| Error::internal("a prediction of no answer"))?;
                *sum = AnswerLogp { sum: sum.sum + f64::from(*p), tokens: sum.tokens + 1 };
            }
            some.iter().zip(sums).for_each(|((i, _), sum)| found[*i] = Some(sum));
        }
        Ok(found)
    }
}
