//! Rows to tokens: ids of each example and which of them are trained on, with the semantics of TRL's SFTTrainer.
//!
//! - plain text: EOS is appended unless the text ends in it
//! - messages: through the chat template; every token, or with `assistant_only_loss` those the assistant wrote
//! - prompt and completion: the tokens of prompt + completion; the completion begins where they part from the tokens of the
//!   prompt alone (of a conversational prompt: rendered with the generation prompt)
//!
//! The first token of a sequence is never trained on: nothing predicts it.
use serde_json::Value as Json;

use super::format::{Content, Format, SftRow, columns_not_read, recognise, sft_row};
use super::read::Row;
use crate::error::{Error, Result};
use crate::named::named;
use crate::plural::{WAS, counted, counted_of};
use crate::text::generation::{assistant_mask, render_with_generation};
use crate::text::{ChatTemplates, RenderInput, Tokenizer};

/// One training sequence. `trained[i]`: the loss has a term for predicting `ids[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids in order.
    pub ids: Vec<u32>,
    /// One for each of `ids`; the first has no term, as nothing predicts it.
    pub trained: Vec<bool>,
}

impl Example {
    /// Terms of the loss: how many of `trained` are true.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|t| **t).count()
    }
}

named! {
    /// Which end of a row that is too long is kept.
    pub enum TruncationMode {
        /// Cut behind: the first `max_length` tokens stay.
        KeepStart = "keep_start",
        /// Cut in front: the last `max_length` tokens stay.
        KeepEnd = "keep_end",
    }
}

/// TRL's options that concern tokenising, under TRL's names, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Field of plain text.
    pub dataset_text_field: String,
    /// Longest sequence in tokens; none: no limit.
    pub max_length: Option<usize>,
    /// Which end of a longer sequence is kept.
    pub truncation_mode: TruncationMode,
    /// Train on completions only; none: on exactly for prompt-completion sets.
    pub completion_only_loss: Option<bool>,
    /// Train only on what the assistant wrote; needs messages.
    pub assistant_only_loss: bool,
    /// What `strftime_now` of a chat template tells, in seconds since 1970 (UTC).
    pub now: i64,
}

impl Default for TokenizeOptions {
    fn default() -> Self {
        TokenizeOptions {
            dataset_text_field: "text".into(),
            max_length: Some(1024),
            truncation_mode: TruncationMode::KeepStart,
            completion_only_loss: None,
            assistant_only_loss: false,
            now: 0,
        }
    }
}

/// What became of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows that were read.
    pub n_rows: usize,
    /// Rows that are left to train on.
    pub n_examples: usize,
    /// Rows cut at `max_length`.
    pub n_truncated: usize,
    /// Rows with nothing left to learn.
    pub n_dropped: usize,
    /// Rows whose prompt's tokens are no prefix of the tokens of prompt + completion.
    pub n_prefix_mismatch: usize,
    /// Tokens of the rows that are left, after cutting.
    pub n_tokens: usize,
    /// Of these, those that the loss has a term for.
    pub n_trained: usize,
    /// Tokens of the shortest row, before cutting.
    pub shortest: usize,
    /// Tokens of the longest row, before cutting.
    pub longest: usize,
    /// One line about the columns that are not read.
    pub not_read: Option<String>,
}

impl Stats {
    /// What a person should know, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.not_read.iter().cloned().collect();
        if self.n_truncated > 0 {
            let longest = self.longest;
            lines.push(format!(
                "{} cut at max_length (the longest has {})",
                counted_of(self.n_truncated, self.n_rows, "row", WAS),
                counted(longest, "token")
            ));
        }
        if self.n_dropped > 0 {
            lines.push(format!(
                "{} dropped: nothing in {} is trained on",
                counted_of(self.n_dropped, self.n_rows, "row", WAS),
                if self.n_dropped == 1 { "it" } else { "them" }
            ));
        }
        if self.n_prefix_mismatch > 0 {
            lines.push(format!(
                "in {} of {} rows the tokens of the prompt are not a prefix of the tokens of prompt + completion (tokens merge across the \
                 boundary, or the template renders the prompt alone differently); the completion is taken to start where they part",
                self.n_prefix_mismatch, self.n_rows
            ));
        }
        lines
    }
}

/// Makes tokens of one row after another, in the format of the first.
pub struct RowTokenizer {
    format: Format,
    completion_only: bool,
    templates: Option<ChatTemplates>,
    max_length: usize,
    options: TokenizeOptions,
}

impl RowTokenizer {
    /// Errors: a row of no format known here, a missing chat template, options that contradict the format.
    pub fn new(first: &Row, tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<Self> {
        let format = recognise(first, &options.dataset_text_field)?;
        let completion_only = completion_only(format, options)?;
        let templates = if format.is_conversational() { Some(tokenizer.chat_templates(options.now)?) } else { None };
        let max_length = options.max_length.unwrap_or(usize::MAX);
        if max_length < 2 {
            return Err(Error::input(format!(
                "max_length is {max_length}; a sequence needs at least 2 tokens to learn from"
            )));
        }
        Ok(RowTokenizer { format, completion_only, templates, max_length, options: options.clone() })
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<&str> {
        self.format.columns(&self.options.dataset_text_field)
    }

    /// A row's tokens, counted in `stats`; None where nothing in it is trained on.
    ///
    /// Errors: a row that does not follow the format (file, line, field), a missing EOS.
    pub fn example(&self, row: &Row, tokenizer: &Tokenizer, stats: &mut Stats) -> Result<Option<Example>> {
        let parsed = sft_row(row, self.format, &self.options.dataset_text_field)?;
        let sequence = tokenize_row(&parsed, tokenizer, self.templates.as_ref(), self.options.assistant_only_loss)
            .map_err(|e| in_row(row, e))?;
        let n_tokens = sequence.ids.len();
        stats.shortest = if stats.n_rows == 0 { n_tokens } else { stats.shortest.min(n_tokens) };
        stats.n_rows += 1;
        stats.n_prefix_mismatch += usize::from(sequence.prefix_mismatch);
        stats.longest = stats.longest.max(n_tokens);
        stats.n_truncated += usize::from(n_tokens > self.max_length);
        let example = example(sequence, self.completion_only, self.max_length, self.options.truncation_mode);
        if example.n_trained() == 0 {
            stats.n_dropped += 1;
            return Ok(None);
        }
        stats.n_examples += 1;
        stats.n_tokens += example.ids.len();
        stats.n_trained += example.n_trained();
        Ok(Some(example))
    }
}

/// Tokenises a data set for SFT. The first row decides the format.
///
/// Errors: those of [`RowTokenizer`], and a data set of which nothing is left.
pub fn tokenize_sft(rows: &[Row], tokenizer: &Tokenizer, options: &TokenizeOptions) -> Result<(Vec<Example>, Stats)> {
    let Some(first) = rows.first() else { return Err(Error::input("the data set has no rows")) };
    let maker = RowTokenizer::new(first, tokenizer, options)?;
    let mut stats = Stats { not_read: columns_not_read(rows, &maker.columns()), ..Default::default() };
    let mut examples = Vec::with_capacity(rows.len());
    for row in rows {
        examples.extend(maker.example(row, tokenizer, &mut stats)?);
    }
    if examples.is_empty() {
        return Err(nothing_left(&stats, options, maker.completion_only));
    }
    Ok((examples, stats))
}

fn completion_only(format: Format, options: &TokenizeOptions) -> Result<bool> {
    if options.assistant_only_loss && !format.is_conversational() {
        let need = "assistant_only_loss needs conversations (messages, or prompt and completion as lists of messages)";
        return Err(Error::input(format!(
            "{need}; this data set is plain text. Leave it off, or use completion_only_loss with prompt and completion"
        )));
    }
    match options.completion_only_loss {
        Some(true) if !format.has_completion() => Err(Error::input(
            "completion_only_loss needs rows with prompt and completion; this data set has none. Leave it off",
        )),
        Some(on) => Ok(on),
        None => Ok(format.has_completion()),
    }
}

/// A row's place on an error that does not name one.
pub(super) fn in_row(row: &Row, error: Error) -> Error {
    match error {
        Error::Input(detail) => row.error(detail),
        other => other,
    }
}

fn nothing_left(stats: &Stats, options: &TokenizeOptions, completion_only: bool) -> Error {
    let mut why = vec![format!("nothing is left to train on: all {} rows were dropped", stats.n_rows)];
    why.push(format!("they have {} to {} tokens", stats.shortest, stats.longest));
    if let Some(max) = options.max_length.filter(|max| stats.longest > *max) {
        why.push(format!("and are cut at max_length {max}; raise --max_length so that what is trained on fits in"));
    } else if options.assistant_only_loss {
        why.push("and none has a token that the assistant wrote; check the messages' roles and the template's {% generation %} marks".into());
    } else if completion_only {
        why.push("and their completions are empty".into());
    } else {
        why.push("and a sequence needs at least 2".into());
    }
    Error::input(why.join(", "))
}

/// Tokens of a row before cutting.
pub(super) struct TokenizedRow {
    pub(super) ids: Vec<u32>,
    /// Where the completion begins; 0 for language modelling.
    pub(super) completion_start: usize,
    assistant: Option<Vec<bool>>,
    prefix_mismatch: bool,
}

pub(super) fn tokenize_row(
    row: &SftRow,
    tokenizer: &Tokenizer,
    templates: Option<&ChatTemplates>,
    assistant_only: bool,
) -> Result<TokenizedRow> {
    let whole = |ids, assistant| TokenizedRow { ids, completion_start: 0, assistant, prefix_mismatch: false };
    match &row.content {
        Content::Text(text) => Ok(whole(tokenizer.encode(&with_eos(text, tokenizer)?)?, None)),
        Content::PromptCompletion { prompt, completion } => {
            let completion = with_eos(completion, tokenizer)?;
            let prompt_ids = tokenizer.encode(prompt)?;
            let ids = tokenizer.encode(&format!("{prompt}{completion}"))?;
            Ok(after_prompt(&prompt_ids, ids, None))
        }
        Content::Messages(messages) => {
            let (ids, assistant) = chat(row, messages, tokenizer, templates, assistant_only)?;
            Ok(whole(ids, assistant))
        }
        Content::PromptCompletionMessages { prompt, completion } => {
            let input = RenderInput { add_generation_prompt: true, ..render_input(row, prompt) };
            let prompt_ids = tokenizer.encode_rendered(&needed(templates)?.render(&input)?.text)?;
            let all: Vec<Json> = prompt.iter().chain(completion).cloned().collect();
            let (ids, assistant) = chat(row, &all, tokenizer, templates, assistant_only)?;
            Ok(after_prompt(&prompt_ids, ids, assistant))
        }
    }
}

fn render_input<'a>(row: &'a SftRow, messages: &'a [Json]) -> RenderInput<'a> {
    RenderInput { messages, tools: row.tools.as_ref(), extra: row.template_kwargs.as_ref(), ..Default::default() }
}

fn needed(templates: Option<&ChatTemplates>) -> Result<&ChatTemplates> {
    templates.ok_or_else(|| Error::internal("a conversational row without chat templates"))
}

fn chat(
    row: &SftRow,
    messages: &[Json],
    tokenizer: &Tokenizer,
    templates: Option<&ChatTemplates>,
    assistant_only: bool,
) -> Result<(Vec<u32>, Option<Vec<bool>>)> {
    let input = render_input(row, messages);
    if assistant_only {
        let (ids, mask) = assistant_mask(tokenizer, &render_with_generation(needed(templates)?, &input)?)?;
        return Ok((ids, Some(mask)));
    }
    Ok((tokenizer.encode_rendered(&needed(templates)?.render(&input)?.text)?, None))
}

/// The text with the EOS token's text behind it, unless it ends in it.
pub(super) fn with_eos(text: &str, tokenizer: &Tokenizer) -> Result<String> {
    let eos = tokenizer.special_token("eos_token").ok_or_else(|| {
        Error::input(
            "the tokenizer names no eos_token, with which plain text must end; add it to tokenizer_config.json",
        )
    })?;
    Ok(if text.ends_with(eos) { text.to_string() } else { format!("{text}{eos}") })
}

fn after_prompt(prompt: &[u32], ids: Vec<u32>, assistant: Option<Vec<bool>>) -> TokenizedRow {
    let completion_start = prompt.iter().zip(&ids).take_while(|(a, b)| a == b).count();
    TokenizedRow { prefix_mismatch: completion_start < prompt.len(), completion_start, ids, assistant }
}

/// Masks applied, then cut.
fn example(sequence: TokenizedRow, completion_only: bool, max_length: usize, mode: TruncationMode) -> Example {
    let TokenizedRow { mut ids, completion_start, assistant, .. } = sequence;
    let start = if completion_only { completion_start } else { 0 };
    let mut trained: Vec<bool> =
        (0..ids.len()).map(|i| i >= start && assistant.as_ref().is_none_or(|mask| mask[i])).collect();
    if ids.len() > max_length {
        match mode {
            TruncationMode::KeepStart => {
                ids.truncate(max_length);
                trained.truncate(max_length);
            }
            TruncationMode::KeepEnd => {
                let cut = ids.len() - max_length;
                ids.drain(..cut);
                trained.drain(..cut);
            }
        }
    }
    if let Some(first) = trained.first_mut() {
        *first = false;
    }
    Example { ids, trained }
}
