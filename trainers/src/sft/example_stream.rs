//! Rows of an SFT run that are read as they are needed: tokenised and packed block by block.
use super::rows::{SftData, adjust_tokenizer, evaluation_rows, rows, token_options};
use crate::data::blocks::{Blocks, MakeRows};
use crate::data::format::columns_not_read;
use crate::data::stream::BLOCK;
use crate::data::tokenize::RowTokenizer;
use crate::data::{Example, Row, Stats};
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::{SftOptions, TextOptions};
use crate::text::Tokenizer;

/// Makes rows of a batch: one example each, or with packing the examples that share a bin.
pub struct ExampleMaker {
    tokenizer: Tokenizer,
    row_tokenizer: RowTokenizer,
    text: TextOptions,
    /// What became of the rows so far, before packing.
    pub stats: Stats,
}

impl ExampleMaker {
    fn examples(&mut self, rows: &[Row]) -> Result<Vec<Example>> {
        let example = |row| self.row_tokenizer.example(row, &self.tokenizer, &mut self.stats).transpose();
        rows.iter().filter_map(example).collect()
    }
}

impl MakeRows for ExampleMaker {
    type Made = Vec<Example>;
    fn make(&mut self, block: Vec<Row>) -> Result<Vec<Vec<Example>>> {
        Ok(rows(self.examples(&block)?, &self.text, self.text.packing))
    }
}

/// The training rows that the options name, to be read as they are needed, and what is read before: the first of them and those
/// that evaluations measure. `tokenizer` takes on the options' template and EOS.
///
/// Errors: what is wrong with one of these, and that nothing in the first rows is trained on.
pub fn stream_sft_data(options: &SftOptions, tokenizer: &mut Tokenizer) -> Result<(SftData, Blocks<ExampleMaker>)> {
    let (seed, text) = (options.training.seed, &options.text);
    adjust_tokenizer(text, tokenizer)?;
    let mut stream = options.data.stream_train(seed, setup::calls_of(tokenizer))?;
    let sample: Vec<Row> = stream.pass()?.take(BLOCK).collect::<Result<_>>()?;
    let row = sample.first().ok_or_else(|| Error::input("the data set has no rows"))?;
    let row_tokenizer = RowTokenizer::new(row, tokenizer, &token_options(text))?;
    let not_read = columns_not_read(&sample, &row_tokenizer.columns());
    let stats = Stats { not_read, ..Stats::default() };
    let mut maker = ExampleMaker { tokenizer: tokenizer.clone(), row_tokenizer, text: text.clone(), stats };
    let train = maker.make(sample)?;
    let stats = std::mem::take(&mut maker.stats);
    if train.is_empty() {
        let n = stats.n_rows;
        return Err(Error::input(format!("nothing is trained on in the first {n} rows; lapidary preview shows them")));
    }
    let mut notes = std::mem::take(&mut stream.notes);
    notes.extend(first_rows_notes(&stats));
    let (eval, held_out) = evaluation_rows(options, tokenizer, &mut notes)?;
    let shuffles = options.data.shuffle_dataset;
    let size = if shuffles || text.packing { BLOCK } else { 1 };
    let blocks = Blocks::new(stream, maker, size, shuffles.then_some(seed))?;
    Ok((SftData { train, eval, stats: Stats::default(), notes, held_out }, blocks))
}

/// What the first rows tell about all.
fn first_rows_notes(stats: &Stats) -> Vec<String> {
    let n = stats.n_rows;
    if n < BLOCK {
        return stats.warnings();
    }
    let mut notes: Vec<String> = stats.warnings().iter().map(|said| format!("of the first {n} rows: {said}")).collect();
    notes.push(format!("memory is estimated from the first {n} rows; longer ones take more"));
    notes
}
