//! What a model is asked, and its answers: the log-probability of a continuation or of a whole text, or a text of its own.
use super::task_file::{EvalTask, OutputType};
use crate::data::Sequence;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::scoring::score;
use crate::job::setup::ModelSource;
use crate::text::Tokenizer;
use engine::generate::{Sampling, generate};
use engine::model::decoder::{Decoder, Pass};
use serde_json::{Value, json};

/// One question to the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// log p(continuation | context).
    Likelihood {
        /// What stands before; may be empty.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// log p of a text from its beginning.
    Rolling {
        /// The text.
        text: String,
    },
    /// An answer.
    Generate {
        /// What stands before.
        context: String,
    },
}

impl Request {
    /// For a file of samples.
    pub fn to_json(&self) -> Value {
        match self {
            Request::Likelihood { context, continuation } => json!([context, continuation]),
            Request::Rolling { text } => json!([text]),
            Request::Generate { context } => json!([context]),
        }
    }
}

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// log p in nats, and whether every token was the likeliest.
    Likelihood(f64, bool),
    /// Texts, cut at what ends them: as many as the task has repeats.
    Texts(Vec<String>),
}

impl Response {
    /// For a file of samples.
    pub fn to_json(&self) -> Value {
        match self {
            Response::Likelihood(logp, greedy) => json!([logp, greedy]),
            Response::Texts(texts) => json!(texts),
        }
    }
}

/// A model that is asked.
pub struct Model {
    decoder: Decoder,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    /// BOS, or EOS where there is none: what stands before a text that has nothing before it.
    prefix: u32,
    /// Requests that are computed at once; no number depends on it.
    batch_size: usize,
    seed: u64,
}

impl Model {
    /// A loaded model with its tokenizer. Errors: it has neither a BOS nor an EOS token.
    pub fn new(decoder: Decoder, source: ModelSource, batch_size: usize, seed: u64) -> Result<Self> {
        let stop_tokens = source.stop_tokens();
        let tokenizer = source.tokenizer;
        let prefix = tokenizer.bos_id().or(tokenizer.eos_id());
        let prefix = prefix.ok_or_else(|| Error::input("the tokenizer has neither a BOS nor an EOS token"))?;
        Ok(Model { decoder, tokenizer, stop_tokens, prefix, batch_size: batch_size.max(1), seed })
    }

    fn max_length(&self) -> usize {
        self.decoder.config.max_position_embeddings
    }

    /// Ids of a text; the tokenizer's BOS is not put before one that has it.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.tokenizer.token(self.prefix).is_some_and(|bos| text.starts_with(&bos)) {
            true => self.tokenizer.encode_rendered(text),
            false => self.tokenizer.encode(text),
        }
    }

    /// The answers to requests of one kind, in their order.
    pub fn answer(&self, requests: &[&Request], task: &EvalTask) -> Result<Vec<Response>> {
        if task.output_type == OutputType::GenerateUntil {
            return self.texts(requests, task);
        }
        // A request is one sequence or, where a text is longer than the model's context, several.
        let mut sequences: Vec<(usize, Sequence)> = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            let parts = match request {
                Request::Likelihood { context, continuation } => vec![self.pair(context, continuation)?],
                Request::Rolling { text } => windows(&self.encode(text)?, self.prefix, self.max_length()),
                Request::Generate { .. } => return Err(Error::internal("a text is asked for among likelihoods")),
            };
            sequences.extend(parts.into_iter().map(|(before, scored)| (i, self.sequence(before, scored))));
        }
        let mut answers = vec![(0.0, true); requests.len()];
        for chunk in sequences.chunks(self.batch_size) {
            let all: Vec<&Sequence> = chunk.iter().map(|(_, sequence)| sequence).collect();
            for ((i, _), (logp, greedy)) in chunk.iter().zip(self.likelihoods(&all)?) {
                answers[*i].0 += logp;
                answers[*i].1 &= greedy;
            }
        }
        Ok(answers.into_iter().map(|(logp, greedy)| Response::Likelihood(logp, greedy)).collect())
    }

    /// Tokens of context and continuation; blanks at the end of the context belong to the continuation.
    fn pair(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        if context.is_empty() {
            let scored = self.tokenizer.encode_rendered(continuation)?;
            return Ok(match scored.first() {
                Some(first) if *first == self.prefix => (vec![self.prefix], scored[1..].to_vec()),
                _ => (vec![self.prefix], scored),
            });
        }
        let bare = context.trim_end();
        let whole = self.encode(&format!("{context}{continuation}"))?;
        let before = self.encode(bare)?;
        let cut = before.len().min(whole.len());
        Ok((before, whole[cut..].to_vec()))
    }

    /// A sequence that fits the context: its beginning is left out where it does not.
    fn sequence(&self, before: Vec<u32>, scored: Vec<u32>) -> Sequence {
        let n = before.len() + scored.len();
        // The last token is predicted, but predicts nothing.
        let left_out = n.saturating_sub(self.max_length() + 1).min(before.len().saturating_sub(1));
        let start = before.len() - left_out;
        Sequence { ids: before.into_iter().chain(scored).skip(left_out).collect(), start }
    }

    fn likelihoods(&self, sequences: &[&Sequence]) -> Result<Vec<(f64, bool)>> {
        let batch = Batch::from_answers(sequences, true, false)?;
        let mut found = vec![(0.0, true); sequences.len()];
        if batch.n_items() == 0 {
            return Ok(found);
        }
        let scored = score(&self.decoder, &batch, 1.0, Pass::default())?;
        let (logp, correct) = (scored.logp.to_vec()?, scored.correct(&batch)?);
        for ((sequence, logp), correct) in batch.sequences.iter().zip(logp).zip(correct) {
            let of = &mut found[*sequence as usize];
            of.0 += f64::from(logp);
            of.1 &= correct;
        }
        Ok(found)
    }

    fn texts(&self, requests: &[&Request], task: &EvalTask) -> Result<Vec<Response>> {
        let rules = &task.answers;
        let room = self.max_length().checked_sub(rules.max_tokens).filter(|&room| room > 0);
        let room = room.ok_or_else(|| {
            Error::input(format!(
                "{}: {} new tokens leave no room in a context of {}",
                task.name,
                rules.max_tokens,
                self.max_length()
            ))
        })?;
        let prompt = |request: &&Request| match request {
            Request::Generate { context } => {
                self.encode(context).map(|ids| ids[ids.len().saturating_sub(room)..].to_vec())
            }
            _ => Err(Error::internal("a likelihood is asked for among texts")),
        };
        let prompts = requests.iter().map(prompt).collect::<Result<Vec<_>>>()?;
        let mut answers = Vec::with_capacity(prompts.len());
        for (chunk, i) in prompts.chunks(self.batch_size).zip((0..).step_by(self.batch_size)) {
            let sampling = Sampling {
                max_new_tokens: rules.max_tokens,
                temperature: rules.temperature as f32,
                top_p: rules.top_p as f32,
                stop_tokens: self.stop_tokens.clone(),
                seed: self.seed,
                first_stream: (i * task.repeats) as u64,
                ..Sampling::default()
            };
            let mut texts = vec![Vec::new(); chunk.len()];
            for completion in generate(&self.decoder, chunk, task.repeats, &sampling, |_, _| true)? {
                texts[completion.prompt].push(cut(&self.tokenizer.decode_plain(&completion.tokens)?, &rules.until));
            }
            answers.extend(texts.into_iter().map(Response::Texts));
        }
        Ok(answers)
    }
}

/// A text up to the first of each of these, one after the other.
fn cut(text: &str, until: &[String]) -> String {
    let ends = until.iter().filter(|end| !end.is_empty());
    ends.fold(text, |text, end| text.split(end.as_str()).next().unwrap_or(text)).to_string()
}

/// A text in parts that fit a context of `max` tokens: every token is predicted once, from as many tokens before it as fit
/// into its part. (tokens before, tokens scored) of each.
fn windows(ids: &[u32], prefix: u32, max: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut parts = Vec::new();
    let first = ids.len().min(max);
    if first > 0 {
        parts.push((vec![prefix], ids[..first].to_vec()));
    }
    let mut done = first;
    while done < ids.len() {
        let n = (ids.len() - done).min(max);
        let end = done + n;
        // The part's inputs are the `max` tokens before its last; those before its first target are its context.
        parts.push((ids[end - max - 1..end - n].to_vec(), ids[end - n..end].to_vec()));
        done = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of lm-eval's documentation: tokens 0 to 9 in a context of 4.
    #[test]
    fn every_token_is_predicted_once() {
        let ids: Vec<u32> = (0..10).collect();
        let expected = vec![(vec![99], vec![0, 1, 2, 3]), (vec![3], vec![4, 5, 6, 7]), (vec![5, 6, 7], vec![8, 9])];
        assert_eq!(windows(&ids, 99, 4), expected);
        assert_eq!(windows(&ids[..3], 99, 4), [(vec![99], vec![0, 1, 2])]);
        assert!(windows(&[], 99, 4).is_empty());
    }

    #[test]
    fn answers_end_at_the_first_of_their_ends() {
        let until = ["\n\n".to_string(), "Q:".to_string(), String::new()];
        assert_eq!(cut("a Q: b\n\nc", &until), "a ");
        assert_eq!(cut("a b", &until), "a b");
    }
}
