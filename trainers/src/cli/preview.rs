//! `lapidary preview`: the first rows of a data set as the trainer sees them.
use crate::data::answers::{AnswerEncoding, AnswerStats, Rules, tokenize_labelled, tokenize_rankings};
use crate::data::marked::{first_rows, preview, preview_titled};
use crate::data::preference_rows::{judged_rows, ranked_rows};
use crate::data::tokenize::Example;
use crate::data::{Row, load};
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::PreviewOptions;
use crate::plural::{counted, counted_of};
use crate::policy_gradients::prompts::tokenise;
use crate::policy_gradients::tasks;
use crate::sft::rows;
use crate::text::Tokenizer;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

/// The questions of a task are shown as a run with the default seed makes them.
const TASK_SEED: u64 = 42;

/// Prints the rows token by token, with those that are trained on marked, and what became of the whole data set.
pub fn run(options: &PreviewOptions) -> Result<()> {
    let mut source =
        setup::open_with(&options.model.model_name_or_path, options.model.adapter_name_or_path.as_deref())?;
    rows::adjust_tokenizer(&options.text, &mut source.tokenizer)?;
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let plain = is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let colour = options.shown.color.unwrap_or_else(|| std::io::stdout().is_terminal() && !plain);
    if let Some(text) = task_prompts(options, &source.tokenizer, colour)? {
        return print(&text);
    }
    let loaded = load(options.split.of(&options.shown.dataset_name), setup::calls_of(&source.tokenizer))?;
    let rows = loaded.rows;
    if let Some(text) = preferences(&rows, options, &source.tokenizer, colour)? {
        return print(&text);
    }
    if rows.first().is_some_and(is_prompt_only) {
        return print(&prompts(&rows, options, &source.tokenizer, colour)?);
    }
    let (examples, stats) = rows::tokenize(&rows, &options.text, &source.tokenizer)?;
    let shown = &examples[..options.shown.rows.min(examples.len())];
    let mut text = preview(shown, &source.tokenizer, colour)?;
    text += &format!(
        "{}, {}, {} of them trained on; the shortest row has {}, the longest {}\n",
        counted(stats.n_rows, "row"),
        counted(stats.n_tokens, "token"),
        stats.n_trained,
        counted(stats.shortest, "token"),
        stats.longest
    );
    let spoken = rows.iter().any(|row| row.fields.get("messages").is_some_and(|m| !m.is_null()));
    let hint = (spoken && !options.text.assistant_only_loss).then(|| {
        "what the system and the user say is trained on too, as in TRL; --assistant_only_loss trains on the assistant's \
         words alone"
            .to_string()
    });
    for warning in loaded.notes.into_iter().chain(stats.warnings()).chain(hint) {
        text += &format!("note: {warning}\n");
    }
    print(&text)
}

/// Whether a row is one to draw completions for: a prompt, and no answer.
fn is_prompt_only(row: &Row) -> bool {
    let has = |name: &str| row.fields.get(name).is_some_and(|value| !value.is_null());
    has("prompt") && !["completion", "chosen", "rejected", "completions"].into_iter().any(has)
}

/// The questions of a task (`task:addition?digits=2`), made on the spot; None where the data set is none.
fn task_prompts(options: &PreviewOptions, tokenizer: &Tokenizer, colour: bool) -> Result<Option<String>> {
    let Some(task) = tasks::parse(&options.shown.dataset_name)? else { return Ok(None) };
    let made = task.rows(tasks::Split::Train, TASK_SEED, tokenizer.has_chat_template())?;
    prompts(&made.rows, options, tokenizer, colour).map(Some)
}

/// Prompts as the model is given them: no token is trained on, completions are drawn behind them.
fn prompts(rows: &[Row], options: &PreviewOptions, tokenizer: &Tokenizer, colour: bool) -> Result<String> {
    let all = tokenise(rows, tokenizer)?;
    let shown = first_rows(&all, options.shown.rows);
    let titled: Vec<(String, &Example)> = shown.iter().map(|(title, example)| (title.clone(), example)).collect();
    let mut text = preview_titled(&titled, tokenizer, colour)?;
    let lengths = || all.iter().map(|p| p.ids.len());
    text += &format!(
        "{}, {}; the shortest has {}, the longest {}\n",
        counted(all.len(), "prompt"),
        counted(lengths().sum::<usize>(), "token"),
        lengths().min().unwrap_or(0),
        lengths().max().unwrap_or(0)
    );
    let columns: Vec<&str> =
        rows.iter().flat_map(|r| r.fields.keys()).map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
    text +=
        &format!("note: completions are drawn behind these prompts; rewards see the columns {}\n", columns.join(", "));
    Ok(text)
}

fn print(text: &str) -> Result<()> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(Error::output)
}

/// Rows of preferences as `dpo` and `kto` take them; None where the rows are of another kind.
fn preferences(rows: &[Row], options: &PreviewOptions, tokenizer: &Tokenizer, colour: bool) -> Result<Option<String>> {
    let has = |name: &str| rows.first().is_some_and(|row| row.fields.get(name).is_some_and(|value| !value.is_null()));
    let encoding = AnswerEncoding::new(Rules::Prefix, options.text.max_length, options.text.truncation_mode);
    let n = options.shown.rows;
    let (titled, notes, stats): (Vec<(String, Example)>, Vec<String>, AnswerStats) =
        if has("rejected") || has("completions") {
            let (ranked, notes) = ranked_rows(rows, true)?;
            let (rankings, stats) = tokenize_rankings(&ranked, tokenizer, &encoding)?;
            (first_rows(&rankings, n), notes, stats)
        } else if has("completion") && has("label") {
            let (judged, notes) = judged_rows(rows)?;
            let (labelled, stats) = tokenize_labelled(&judged, tokenizer, &encoding)?;
            (first_rows(&labelled, n), notes, stats)
        } else {
            return Ok(None);
        };
    let shown: Vec<(String, &Example)> = titled.iter().map(|(title, example)| (title.clone(), example)).collect();
    let mut text = preview_titled(&shown, tokenizer, colour)?;
    text += &format!(
        "{} kept, {} with every prompt counted for each of its answers; the longest has {}\n",
        counted_of(stats.n_kept, stats.n_rows, "row", ("is", "are")),
        counted(stats.n_tokens, "token"),
        stats.longest
    );
    for note in notes.into_iter().chain(stats.notes()) {
        text += &format!("note: {note}\n");
    }
    Ok(Some(text))
}
