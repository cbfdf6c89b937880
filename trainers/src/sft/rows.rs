//! The data of an SFT run: rows read, tokenised, packed; everything wrong with them is told before training.
use crate::data::held_out::prompts_with_answers;
use crate::data::pack::{best_fit_decreasing, split, wrapped};
use crate::data::tokenize::TokenizeOptions;
use crate::data::{Example, Row, Sequence, Stats, order, tokenize_sft};
use crate::error::Result;
use crate::job::setup;
use crate::options::{PackingStrategy, SftOptions, TextOptions};
use crate::text::Tokenizer;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Rows of a batch. A row is one example, or with packing the examples that share a bin.
pub struct SftData {
    /// Rows that are trained on; of streamed ones the first.
    pub train: Vec<Vec<Example>>,
    /// Rows that evaluations measure; empty without an evaluation set.
    pub eval: Vec<Vec<Example>>,
    /// What became of the training rows, before packing.
    pub stats: Stats,
    /// What a person should know about the rows.
    pub notes: Vec<String>,
    /// Prompts of the evaluation rows with their answers, where samples are asked for.
    pub held_out: Vec<Sequence>,
}

/// Reads the training and evaluation rows that the options name; `tokenizer` takes on the options' template and EOS.
pub fn read_sft_data(options: &SftOptions, tokenizer: &mut Tokenizer) -> Result<SftData> {
    let text = &options.text;
    adjust_tokenizer(text, tokenizer)?;
    let (seed, calls) = (options.training.seed, setup::calls_of(tokenizer));
    let loaded = options.data.load_train(seed, calls)?;
    let (mut examples, stats) = tokenize(&loaded.rows, text, tokenizer)?;
    let mut notes = loaded.notes;
    notes.extend(stats.warnings());
    if options.data.shuffle_dataset {
        let order = order::epoch_order(examples.len(), order::Sampling::Random, seed, u64::MAX);
        examples = order.into_iter().map(|i| examples[i].clone()).collect();
    }
    let train = rows(examples, text, text.packing);
    let (eval, held_out) = evaluation_rows(options, tokenizer, &mut notes)?;
    Ok(SftData { train, eval, stats, notes, held_out })
}

/// The rows that evaluations measure, and the prompts among them that are answered then; none without an evaluation set.
pub(super) fn evaluation_rows(
    options: &SftOptions,
    tokenizer: &Tokenizer,
    notes: &mut Vec<String>,
) -> Result<(Vec<Vec<Example>>, Vec<Sequence>)> {
    let text = &options.text;
    let loaded = options.data.load_evaluation(options.training.seed, setup::calls_of(tokenizer))?;
    let Some(loaded) = loaded else { return Ok((Vec::new(), Vec::new())) };
    let (examples, stats) = tokenize(&loaded.rows, text, tokenizer)?;
    let mut held_out = Vec::new();
    if options.samples.log_completions {
        // Some of them may be the same prompt.
        let n = 16 * options.samples.num_prompts;
        held_out = prompts_with_answers(&loaded.rows, &text.dataset_text_field, tokenizer, now(), n)?;
    }
    notes.extend(loaded.notes.into_iter().chain(stats.warnings()).map(|note| format!("eval_dataset: {note}")));
    Ok((rows(examples, text, text.eval_packing.unwrap_or(text.packing)), held_out))
}

impl SftData {
    /// The first examples with a title each, for the run's report.
    pub fn shown(&self) -> Vec<(String, Example)> {
        let examples = self.train.iter().flatten().take(3).enumerate();
        examples.map(|(i, example)| (format!("example {}", i + 1), example.clone())).collect()
    }

    /// The files a run reads, by role.
    pub fn paths<'a>(&self, options: &'a SftOptions) -> Vec<(&'static str, &'a Path)> {
        let mut all = vec![("model", Path::new(&*options.model.model_name_or_path))];
        all.extend(options.data.reads());
        all.extend(options.lora.adapter_name_or_path.as_deref().map(|p| ("adapter", p)));
        all
    }
}

/// The options' own chat template and end-of-sequence token, where given.
pub fn adjust_tokenizer(text: &TextOptions, tokenizer: &mut Tokenizer) -> Result<()> {
    setup::adjust_tokenizer(text.chat_template_path.as_deref(), text.eos_token.as_deref(), tokenizer)
}

/// Rows as examples.
pub fn tokenize(rows: &[Row], text: &TextOptions, tokenizer: &Tokenizer) -> Result<(Vec<Example>, Stats)> {
    tokenize_sft(rows, tokenizer, &token_options(text))
}

/// How the options want rows made tokens.
pub fn token_options(text: &TextOptions) -> TokenizeOptions {
    TokenizeOptions {
        dataset_text_field: text.dataset_text_field.clone(),
        // Other strategies of packing cut the stream, or take rows apart.
        max_length: text
            .max_length
            .filter(|_| !text.packing || text.packing_strategy == PackingStrategy::BestFitDecreasing),
        truncation_mode: text.truncation_mode,
        completion_only_loss: text.completion_only_loss,
        assistant_only_loss: text.assistant_only_loss,
        now: now(),
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Examples as rows of a batch: one each, or packed into bins of `max_length` tokens.
pub(super) fn rows(examples: Vec<Example>, text: &TextOptions, packing: bool) -> Vec<Vec<Example>> {
    let capacity = text.max_length.filter(|_| packing);
    let Some(capacity) = capacity else {
        return examples.into_iter().map(|e| vec![e]).collect();
    };
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    match text.packing_strategy {
        PackingStrategy::BestFitDecreasing => {
            let bins = best_fit_decreasing(&lengths, capacity);
            bins.iter().map(|bin| bin.iter().map(|&i| examples[i].clone()).collect()).collect()
        }
        PackingStrategy::BestFitSplit => {
            let pieces = split(&lengths, capacity);
            let of_pieces: Vec<usize> = pieces.iter().map(|(_, start, end)| end - start).collect();
            let bins = best_fit_decreasing(&of_pieces, capacity);
            let rows = bins.iter().map(|bin| bin.iter().map(|&i| joined(&examples, &pieces[i..=i])).collect());
            rows.filter(|row: &Vec<Example>| row.iter().any(|piece| piece.n_trained() > 0)).collect()
        }
        PackingStrategy::Wrapped => wrapped(&lengths, capacity)
            .iter()
            .map(|pieces| vec![joined(&examples, pieces)])
            .filter(|row| row[0].n_trained() > 0)
            .collect(),
    }
}

/// One stretch of the wrapped stream, or a piece of a row: its tokens are one sequence, as in TRL.
fn joined(examples: &[Example], pieces: &[(usize, usize, usize)]) -> Example {
    let mut all = Example::default();
    for &(index, start, end) in pieces {
        all.ids.extend(&examples[index].ids[start..end]);
        all.trained.extend(&examples[index].trained[start..end]);
    }
    if let Some(first) = all.trained.first_mut() {
        *first = false;
    }
    all
}
