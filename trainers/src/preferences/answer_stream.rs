//! Rows of preferences that are read as they are needed: sorted and tokenised block by block.
use crate::data::Row;
use crate::data::answers::{AnswerEncoding as Encoding, AnswerStats};
use crate::data::blocks::{Blocks, MakeRows, Reached};
use crate::data::format::columns_not_read;
use crate::data::preference_rows::{COLUMNS, RowKind};
use crate::data::stream::BLOCK;
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::{DataOptions, TrainingOptions};
use crate::preferences::Rows;
use crate::text::Tokenizer;

/// Makes tokens of rows of the kind that the first one is.
pub struct AnswerMaker<R> {
    kind: RowKind,
    tokens: Box<dyn Fn(&[Row]) -> Result<(Vec<R>, AnswerStats)>>,
    /// What became of the rows so far.
    pub stats: AnswerStats,
}

impl<R> MakeRows for AnswerMaker<R> {
    type Made = R;
    fn make(&mut self, block: Vec<Row>) -> Result<Vec<R>> {
        if let Some(other) = block.iter().find(|row| RowKind::of(row) != Some(self.kind)) {
            let found = other.fields.keys().collect::<Vec<_>>();
            return Err(
                other.error(format!("is no {} as the first row is; it has the fields {found:?}", self.kind.name()))
            );
        }
        let (made, stats) = (self.tokens)(&block)?;
        self.stats.add(&stats);
        Ok(made)
    }
}

/// Opens the training rows that the options name, and looks at the first of them; returns these with what became of them and
/// what a person should know.
///
/// Errors: what is wrong with one of these, nothing left of them, single answers where pairs are wanted.
pub(super) fn open<S: 'static, R: 'static>(
    (data, seed): (&DataOptions, u64),
    tokenizer: &Tokenizer,
    encoding: &Encoding,
    sort: fn(&[Row]) -> Result<(Vec<S>, Vec<String>)>,
    tokenize: fn(&[S], &Tokenizer, &Encoding) -> Result<(Vec<R>, AnswerStats)>,
) -> Result<(Vec<R>, AnswerStats, Vec<String>, Option<Box<Blocks<AnswerMaker<R>>>>)> {
    let mut stream = data.stream_train(seed, setup::calls_of(tokenizer))?;
    let sample: Vec<Row> = stream.pass()?.take(BLOCK).collect::<Result<_>>()?;
    let first = sample.first().ok_or_else(|| Error::input("the data set has no rows"))?;
    let Some(kind) = RowKind::of(first) else {
        return Err(sort(&sample).err().unwrap_or_else(|| Error::internal("rows of no kind that were sorted")));
    };
    if kind == RowKind::Labelled && sort(&sample[..1]).is_err() {
        return Err(first.error(
            "is a single answer with a label; streamed rows are not put together into pairs: kto and bco learn from them as \
             they are, and without streaming pairs are made of all rows",
        ));
    }
    let mut notes = std::mem::take(&mut stream.notes);
    notes.extend(columns_not_read(&sample, &COLUMNS));
    notes.extend(sort(&sample)?.1.into_iter().map(|said| of_the_first(said, sample.len())));
    let (tokenizer, encoding) = (tokenizer.clone(), encoding.clone());
    let max_length = encoding.max_length;
    let tokens = Box::new(move |rows: &[Row]| tokenize(&sort(rows)?.0, &tokenizer, &encoding));
    let n = sample.len();
    let mut maker = AnswerMaker { kind, tokens, stats: AnswerStats::default() };
    let train = maker.make(sample)?;
    let stats = std::mem::take(&mut maker.stats);
    stats.check(max_length)?;
    notes.extend(stats.notes().into_iter().map(|said| of_the_first(said, n)));
    if n == BLOCK {
        notes.push(format!("memory is estimated from the first {n} rows; longer ones take more"));
    }
    let blocks = Blocks::new(stream, maker, BLOCK, data.shuffle_dataset.then_some(seed))?;
    Ok((train, stats, notes, Some(Box::new(blocks))))
}

/// What is said about the first rows, where there may be more.
fn of_the_first(said: String, n: usize) -> String {
    if n < BLOCK { said } else { format!("of the first {n} rows: {said}") }
}

impl<R> Rows<R> {
    /// Makes the training rows those of the next step, and returns its micro-batches and where they lead; None where all
    /// rows are in memory.
    pub(super) fn next_step(&mut self, training: &TrainingOptions) -> Result<Option<(Vec<Vec<usize>>, Reached)>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let (batches, reached) =
            stream.step(training.gradient_accumulation_steps, training.per_device_train_batch_size)?;
        self.train.clear();
        let mut indices = Vec::with_capacity(batches.len());
        for batch in batches {
            let start = self.train.len();
            self.train.extend(batch);
            indices.push((start..self.train.len()).collect());
        }
        Ok(Some((indices, reached)))
    }
}
