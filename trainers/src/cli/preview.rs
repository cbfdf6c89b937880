//! `lapidary preview`: the first rows of a data set as the trainer sees them.
use crate::data::preview::preview;
use crate::error::{Error, Result};
use crate::options::PreviewOptions;
use crate::{setup, sft_data};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Prints the rows token by token, with those that are trained on marked, and what became of the whole data set.
pub fn run(options: &PreviewOptions) -> Result<()> {
    let mut source = setup::open_source(&options.model.model_name_or_path)?;
    sft_data::adjust_tokenizer(&options.text, &mut source.tokenizer)?;
    let path = Path::new(&options.shown.dataset_name);
    let (examples, stats) = sft_data::tokenize(path, &options.text, &source.tokenizer)?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let colour = options.shown.color.unwrap_or_else(|| std::io::stdout().is_terminal() && !plain);
    let shown = &examples[..options.shown.rows.min(examples.len())];
    let mut text = preview(shown, &source.tokenizer, colour)?;
    text += &format!(
        "{} rows, {} tokens, {} of them trained on; the shortest row has {} tokens, the longest {}\n",
        stats.n_rows, stats.n_tokens, stats.n_trained, stats.shortest, stats.longest
    );
    for warning in stats.warnings() {
        text += &format!("note: {warning}\n");
    }
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|e| Error::input(format!("cannot write to standard output: {e}")))
}
