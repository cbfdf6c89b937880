//! Answers to prompts as tokens, with the semantics of TRL's DPO and KTO trainers (and its older ORPO and CPO ones).
//!
//! An answer begins where the tokens of prompt + answer part from the tokens of the prompt alone; of a pair, where the
//! first of its two answers does. Plain answers end in EOS, conversations as their template ends them. A row whose
//! prompt alone fills `max_length` has nothing left to learn and is left out.
use super::preference_rows::{Extras, LabelledRow, Ranked, Side};
use super::read::Row;
use super::tokenize::{TruncationMode, in_row, with_eos};
use crate::error::{Error, Result};
use crate::plural::{WAS, counted, counted_of};
use crate::text::{ChatTemplates, RenderInput, Tokenizer};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tokens of a prompt and an answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids: the prompt's, then the answer's.
    pub ids: Vec<u32>,
    /// Where the answer begins.
    pub start: usize,
}

impl Sequence {
    /// The tokens before the answer; empty where the two differ from the first token on.
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.start]
    }
    /// The tokens of the answer; its end (EOS) is one of them.
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.start..]
    }
    /// Tokens of the answer that are predicted: all, but for a first token of all.
    pub fn n_predicted(&self) -> usize {
        self.ids.len().saturating_sub(self.start.max(1))
    }
}

/// Answers to one prompt, the best first; of a pair: chosen, rejected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Two or more, each with the whole prompt before it.
    pub answers: Vec<Sequence>,
    /// By how much the first should be ahead of the second.
    pub margin: Option<f32>,
}

impl Ranking {
    /// Tokens, prompts counted with every answer.
    pub fn n_tokens(&self) -> usize {
        self.answers.iter().map(|s| s.ids.len()).sum()
    }
}

/// An answer and whether it is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Prompt and answer.
    pub sequence: Sequence,
    /// True for a good answer.
    pub label: bool,
}

/// Which trainer's rules cut prompt and answer apart, and rows that are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// TRL's DPO and KTO trainers.
    Prefix,
    /// TRL's ORPO and CPO trainers: BOS before every prompt and EOS behind every answer (conversations too); each
    /// answer parts from the prompt by itself.
    BosEos,
    /// TRL's reward trainer: whole sequences; rows with a longer one than `max_length` are left out.
    Whole,
}

/// How answers are made tokens.
#[derive(Clone, Debug)]
pub struct AnswerEncoding {
    /// Where an answer begins, what is put around it, and what becomes of a row that is too long.
    pub rules: Rules,
    /// Most tokens of prompt and answer together, at least 2; None for no limit.
    pub max_length: Option<usize>,
    /// Which end of a longer sequence is kept (under [`Rules::Whole`] none is cut).
    pub truncation_mode: TruncationMode,
    /// What `strftime_now` of a chat template tells, in seconds since 1970 (UTC).
    pub now: i64,
}

impl AnswerEncoding {
    /// These, at the present time; `max_length` is looked at when rows are tokenised.
    pub fn new(rules: Rules, max_length: Option<usize>, truncation_mode: TruncationMode) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        AnswerEncoding { rules, max_length, truncation_mode, now }
    }
}

/// What became of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerStats {
    /// Rows that were read.
    pub n_rows: usize,
    /// Rows that are left to train on.
    pub n_kept: usize,
    /// Rows of which max_length leaves nothing.
    pub n_too_long: usize,
    /// Rows that were cut at max_length.
    pub n_cut: usize,
    /// Rows with an answer without tokens, left out.
    pub n_without_answer: usize,
    /// Rows with an empty answer that is trained on as its end alone.
    pub n_empty: usize,
    /// Pairs of which both answers are the same.
    pub n_equal: usize,
    /// Rows whose prompt's tokens are no prefix of the tokens of prompt + answer; not counted under [`Rules::Whole`].
    pub n_prefix_mismatch: usize,
    /// Tokens of the rows that are left, after cutting; a prompt is counted with every answer.
    pub n_tokens: usize,
    /// Tokens of the longest sequence of all rows, before cutting.
    pub longest: usize,
}

/// The present of "to have".
const HAS: (&str, &str) = ("has", "have");

impl AnswerStats {
    /// What a person should know, a line each.
    pub fn notes(&self) -> Vec<String> {
        let (n, mut lines) = (self.n_rows, Vec::new());
        let mut say = |count: usize, verb: (&str, &str), text: String| {
            if count > 0 {
                lines.push(format!("{} {text}", counted_of(count, n, "row", verb)));
            }
        };
        say(
            self.n_too_long,
            WAS,
            format!(
                "left out: longer than max_length, or it leaves nothing of an answer (the longest row has {})",
                counted(self.longest, "token")
            ),
        );
        say(self.n_cut, WAS, format!("cut at max_length (the longest has {})", counted(self.longest, "token")));
        say(self.n_without_answer, WAS, "left out: an answer has no tokens".into());
        say(self.n_empty, HAS, "an empty answer; the end of the text is all that is learnt from it".into());
        say(self.n_equal, HAS, "the same answer as chosen and rejected; nothing can be preferred in them".into());
        say(
            self.n_prefix_mismatch,
            HAS,
            "a prompt whose tokens are no prefix of the tokens of prompt + answer (tokens merge across the boundary, \
             or the template renders the prompt alone differently); the answer is taken to start where they part"
                .into(),
        );
        lines
    }

    /// Counts other rows, too.
    pub fn add(&mut self, other: &AnswerStats) {
        let sums = [
            (&mut self.n_rows, other.n_rows),
            (&mut self.n_kept, other.n_kept),
            (&mut self.n_too_long, other.n_too_long),
            (&mut self.n_cut, other.n_cut),
            (&mut self.n_without_answer, other.n_without_answer),
            (&mut self.n_empty, other.n_empty),
            (&mut self.n_equal, other.n_equal),
            (&mut self.n_prefix_mismatch, other.n_prefix_mismatch),
            (&mut self.n_tokens, other.n_tokens),
        ];
        sums.into_iter().for_each(|(sum, n)| *sum += n);
        self.longest = self.longest.max(other.longest);
    }

    /// Errors: no row is left; of pairs: none whose answers differ.
    pub fn check(&self, max_length: Option<usize>) -> Result<()> {
        if self.n_kept == 0 {
            return Err(self.nothing_left(max_length));
        }
        if self.n_equal == self.n_rows {
            return Err(Error::input(format!(
                "chosen and rejected are the same in all {} rows: there is nothing to prefer",
                self.n_rows
            )));
        }
        Ok(())
    }

    fn nothing_left(&self, max_length: Option<usize>) -> Error {
        let mut why = format!("nothing is left to train on: all {} rows were left out", self.n_rows);
        if self.n_too_long > 0 {
            let max = max_length.unwrap_or(0);
            why += &format!(
                ", {} because of max_length {max} (the longest row has {} tokens; raise --max_length so that answers fit in)",
                self.n_too_long, self.longest
            );
        }
        if self.n_without_answer > 0 {
            why += &format!(", {} because an answer has no tokens", self.n_without_answer);
        }
        Error::input(why)
    }
}

/// Makes tokens of rows.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    templates: Option<ChatTemplates>,
    options: &'a AnswerEncoding,
    stats: AnswerStats,
}

impl<'a> Encoder<'a> {
    fn new(n_rows: usize, conversational: bool, tokenizer: &'a Tokenizer, options: &'a AnswerEncoding) -> Result<Self> {
        if options.max_length.is_some_and(|max| max < 2) {
            return Err(Error::input("max_length: a sequence needs at least 2 tokens to learn from"));
        }
        let templates = if conversational { Some(tokenizer.chat_templates(options.now)?) } else { None };
        Ok(Encoder { tokenizer, templates, options, stats: AnswerStats { n_rows, ..Default::default() } })
    }

    fn chat(&self, messages: &[serde_json::Value], extras: &Extras, add_generation_prompt: bool) -> Result<String> {
        let templates = self
            .templates
            .as_ref()
            .ok_or_else(|| Error::input("is a conversation, but the first row of the data set is not"))?;
        let input = RenderInput {
            messages,
            tools: extras.tools.as_ref(),
            extra: extras.template_kwargs.as_ref(),
            add_generation_prompt,
            ..Default::default()
        };
        Ok(templates.render(&input)?.text)
    }

    /// Tokens of the prompt alone, and of the prompt with each answer.
    fn encode(&self, prompt: &Side, answers: &[&Side], extras: &Extras) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
        match prompt {
            Side::Text(prompt) => {
                let whole = |answer: &&Side| match answer {
                    Side::Text(answer) if self.options.rules == Rules::BosEos => {
                        self.tokenizer.encode(&format!("{prompt}{answer}"))
                    }
                    Side::Text(answer) => {
                        self.tokenizer.encode(&format!("{prompt}{}", with_eos(answer, self.tokenizer)?))
                    }
                    Side::Messages(_) => Err(Error::input("prompt and answers must both be text, or both be messages")),
                };
                Ok((self.tokenizer.encode(prompt)?, answers.iter().map(whole).collect::<Result<_>>()?))
            }
            Side::Messages(prompt) => {
                let alone = if prompt.is_empty() { String::new() } else { self.chat(prompt, extras, true)? };
                let whole = |answer: &&Side| match answer {
                    Side::Messages(answer) => {
                        let all: Vec<_> = prompt.iter().chain(answer).cloned().collect();
                        self.tokenizer.encode_rendered(&self.chat(&all, extras, false)?)
                    }
                    Side::Text(_) => Err(Error::input("prompt and answers must both be text, or both be messages")),
                };
                let prompt_ids = if alone.is_empty() { Vec::new() } else { self.tokenizer.encode_rendered(&alone)? };
                Ok((prompt_ids, answers.iter().map(whole).collect::<Result<_>>()?))
            }
        }
    }

    /// The sequences of one row; None where nothing is left of it.
    fn sequences(
        &mut self,
        row: &Row,
        prompt: &Side,
        answers: &[&Side],
        extras: &Extras,
    ) -> Result<Option<Vec<Sequence>>> {
        let (prompt_ids, wholes) = self.encode(prompt, answers, extras).map_err(|e| in_row(row, e))?;
        let shared = |ids: &Vec<u32>| prompt_ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let starts: Vec<usize> = wholes.iter().map(shared).collect();
        let first = starts.iter().copied().min().unwrap_or(0);
        let whole = self.options.rules == Rules::Whole;
        self.stats.n_prefix_mismatch += usize::from(!whole && first < prompt_ids.len());
        self.stats.longest = self.stats.longest.max(wholes.iter().map(Vec::len).max().unwrap_or(0));
        let mut all = Vec::new();
        for (ids, start) in wholes.into_iter().zip(starts) {
            all.push(match self.options.rules {
                Rules::Prefix | Rules::Whole => Sequence { ids, start: first },
                Rules::BosEos => self.with_bos_and_eos(ids, start, prompt_ids.len()),
            });
        }
        if all.iter().any(|s| if whole { s.ids.is_empty() } else { s.answer().is_empty() }) {
            self.stats.n_without_answer += 1;
            return Ok(None);
        }
        self.stats.n_empty += usize::from(answers.iter().any(|a| a.is_empty()));
        self.stats.n_equal += usize::from(all.len() == 2 && all[0].ids == all[1].ids);
        let Some(all) = self.cut(all) else {
            self.stats.n_too_long += 1;
            return Ok(None);
        };
        self.stats.n_kept += 1;
        self.stats.n_tokens += all.iter().map(|s| s.ids.len()).sum::<usize>();
        Ok(Some(all))
    }

    /// The prompt ends one token earlier where its last token merges with the answer's first.
    fn with_bos_and_eos(&self, mut ids: Vec<u32>, shared: usize, n_prompt: usize) -> Sequence {
        let mut start = if shared < n_prompt { n_prompt.saturating_sub(1).min(ids.len()) } else { n_prompt };
        if let Some(bos) = self.tokenizer.bos_id().filter(|bos| start == 0 || ids.first() != Some(bos)) {
            ids.insert(0, bos);
            start += 1;
        }
        if let Some(eos) = self.tokenizer.eos_id().filter(|eos| ids.len() == start || ids.last() != Some(eos)) {
            ids.push(eos);
        }
        Sequence { ids, start }
    }

    fn cut(&mut self, mut all: Vec<Sequence>) -> Option<Vec<Sequence>> {
        let Some(max) = self.options.max_length.filter(|&max| all.iter().any(|s| s.ids.len() > max)) else {
            return Some(all);
        };
        if self.options.rules == Rules::Whole {
            return None;
        }
        for sequence in all.iter_mut().filter(|s| s.ids.len() > max) {
            match self.options.truncation_mode {
                TruncationMode::KeepStart => sequence.ids.truncate(max),
                TruncationMode::KeepEnd => {
                    let n = sequence.ids.len() - max;
                    sequence.ids.drain(..n);
                    sequence.start = sequence.start.saturating_sub(n);
                }
            }
        }
        let left = all.iter().all(|s| s.start < s.ids.len() && s.n_predicted() > 0);
        self.stats.n_cut += usize::from(left);
        left.then_some(all)
    }
}

fn is_conversational(prompt: &Side) -> bool {
    matches!(prompt, Side::Messages(_))
}

/// Rankings as tokens. Errors: rows that cannot be rendered, with file and line; and those of [`AnswerStats::check`].
pub fn tokenize_rankings(
    rows: &[Ranked],
    tokenizer: &Tokenizer,
    options: &AnswerEncoding,
) -> Result<(Vec<Ranking>, AnswerStats)> {
    let (all, stats) = encode_rankings(rows, tokenizer, options)?;
    stats.check(options.max_length).map(|()| (all, stats))
}

/// Rankings as tokens, even if none is left. Errors: rows that cannot be rendered, with file and line.
pub fn encode_rankings(
    rows: &[Ranked],
    tokenizer: &Tokenizer,
    options: &AnswerEncoding,
) -> Result<(Vec<Ranking>, AnswerStats)> {
    let conversational = rows.first().is_some_and(|r| is_conversational(&r.prompt));
    let mut encoder = Encoder::new(rows.len(), conversational, tokenizer, options)?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let answers: Vec<&Side> = row.answers.iter().collect();
        if let Some(answers) = encoder.sequences(&row.row, &row.prompt, &answers, &row.extras)? {
            all.push(Ranking { answers, margin: row.margin });
        }
    }
    Ok((all, encoder.stats))
}

/// Single answers as tokens. Errors: as of [`tokenize_rankings`].
pub fn tokenize_labelled(
    rows: &[LabelledRow],
    tokenizer: &Tokenizer,
    options: &AnswerEncoding,
) -> Result<(Vec<Labelled>, AnswerStats)> {
    let (all, stats) = encode_labelled(rows, tokenizer, options)?;
    stats.check(options.max_length).map(|()| (all, stats))
}

/// Single answers as tokens, even if none is left. Errors: rows that cannot be rendered, with file and line.
pub fn encode_labelled(
    rows: &[LabelledRow],
    tokenizer: &Tokenizer,
    options: &AnswerEncoding,
) -> Result<(Vec<Labelled>, AnswerStats)> {
    let conversational = rows.first().is_some_and(|r| is_conversational(&r.prompt));
    let mut encoder = Encoder::new(rows.len(), conversational, tokenizer, options)?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(mut one) = encoder.sequences(&row.row, &row.prompt, &[&row.answer], &row.extras)?
            && let Some(sequence) = one.pop()
        {
            all.push(Labelled { sequence, label: row.label });
        }
    }
    Ok((all, encoder.stats))
}
