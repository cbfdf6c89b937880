//! `lapidary data stats`: what is in a file of rows.
use crate::data::answers::{AnswerEncoding, Rules, encode_labelled, encode_rankings};
use crate::data::others::{Calls, adopt_alone, are_in_turns};
use crate::data::preference_rows::{RowKind, judged_rows, ranked_rows};
use crate::data::stream::{BLOCK, RowStream};
use crate::data::survey::{Survey, format_in_words};
use crate::data::tokenize::{RowTokenizer, TokenizeOptions, TruncationMode};
use crate::data::{Row, Stats};
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::DataStatsOptions;
use crate::policy_gradients::prompts::tokenise;
use crate::text::Tokenizer;
use std::io::Write;

/// Prints what was counted; rows are read one at a time.
pub fn run(options: &DataStatsOptions) -> Result<()> {
    let asked = &options.surveyed;
    let tokenizer = asked.model_name_or_path.as_ref().map(|path| setup::open_source(path)).transpose()?;
    let tokenizer = tokenizer.map(|source| source.tokenizer);
    let stream = RowStream::as_they_stand(options.split.of(&asked.dataset_name))?;
    stream.notes.iter().for_each(|note| tell!("note: {note}"));
    let first: Vec<Row> = stream.pass()?.take(BLOCK).collect::<Result<_>>()?;
    let in_turns = are_in_turns(&first);
    let (mut survey, text_field) = (Survey::default(), asked.dataset_text_field.as_str());
    let mut counter = tokenizer.map(|tokenizer| TokenCounter { tokenizer, text_field, kept: None });
    for row in stream.pass()? {
        let row = row?;
        let calls = counter.as_ref().map_or(Calls::AsCalls, |counter| setup::calls_of(&counter.tokenizer));
        let adopted = adopt_alone(row.clone(), calls, in_turns)?;
        let tokens = counter.as_mut().map(|counter| counter.count(&adopted)).transpose()?.flatten();
        survey.add(&row, &adopted, text_field, tokens);
    }
    let text = match counter {
        Some(_) => survey.report("tokens", asked.max_length),
        None => survey.report("characters", None),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)
}

/// Counts tokens as the trainer of a row's format does, before anything is cut.
struct TokenCounter<'a> {
    tokenizer: Tokenizer,
    text_field: &'a str,
    /// What makes tokens of rows of one format.
    kept: Option<(String, RowTokenizer)>,
}

impl TokenCounter<'_> {
    /// Tokens of the longest sequence that a row makes; None of one that no trainer takes.
    fn count(&mut self, row: &Row) -> Result<Option<usize>> {
        let Some(format) = format_in_words(row, self.text_field) else { return Ok(None) };
        let (rows, rules) =
            (std::slice::from_ref(row), AnswerEncoding::new(Rules::Prefix, None, TruncationMode::KeepStart));
        match RowKind::of(row) {
            Some(RowKind::Pair | RowKind::Ranking) => {
                let (_, stats) = encode_rankings(&ranked_rows(rows, true)?.0, &self.tokenizer, &rules)?;
                return Ok(Some(stats.longest));
            }
            Some(RowKind::Labelled) => {
                let (_, stats) = encode_labelled(&judged_rows(rows)?.0, &self.tokenizer, &rules)?;
                return Ok(Some(stats.longest));
            }
            None if format.starts_with("prompt only") => {
                return Ok(tokenise(rows, &self.tokenizer)?.first().map(|prompt| prompt.ids.len()));
            }
            None => {}
        }
        if self.kept.as_ref().is_none_or(|(known, _)| *known != format) {
            let options = TokenizeOptions {
                dataset_text_field: self.text_field.into(),
                max_length: None,
                ..TokenizeOptions::default()
            };
            self.kept = Some((format, RowTokenizer::new(row, &self.tokenizer, &options)?));
        }
        let mut stats = Stats::default();
        let Some((_, maker)) = &self.kept else { return Ok(None) };
        maker.example(row, &self.tokenizer, &mut stats)?;
        Ok(Some(stats.longest))
    }
}
