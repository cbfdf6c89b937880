//! Prompts: rows with `prompt` (a text or messages) and columns for the rewards, from a file or made on the spot.
use super::judged::Prompt;
use super::tasks::{self, Task};
use crate::data::{Row, format};
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::{DataOptions, RolloutOptions};
use crate::plural::{counted, counted_of};
use crate::text::{RenderInput, Tokenizer};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The prompts of a run.
#[derive(Debug)]
pub struct PromptSet {
    /// What the policy learns on.
    pub train: Vec<Prompt>,
    /// What evaluations draw from; empty without an evaluation set.
    pub eval: Vec<Prompt>,
    /// What a person should know about them.
    pub notes: Vec<String>,
    /// The made-up task that the training prompts come from.
    pub task: Option<Task>,
}

/// Reads the prompts that the options name, as tokens. `context` is the model's; `seed` that of made-up tasks.
///
/// Errors: a row without a prompt, a conversation where the model has no chat template, no prompt that fits.
pub fn read_prompts(
    data: &DataOptions,
    rollout: &RolloutOptions,
    tokenizer: &mut Tokenizer,
    context: usize,
    seed: u64,
) -> Result<PromptSet> {
    if let Some(path) = &rollout.chat_template_path {
        let file = if path.is_dir() { path.join("chat_template.jinja") } else { PathBuf::from(path) };
        let source =
            std::fs::read_to_string(&file).map_err(|e| Error::file(&file, format!("chat_template_path: {e}")))?;
        tokenizer.set_chat_template(&source);
    }
    let room = context.checked_sub(rollout.longest_completion()).filter(|room| *room > 0).ok_or_else(|| {
        Error::Input(format!(
            "max_completion_length is {}, but the model's context is {context}: no prompt fits beside it",
            rollout.longest_completion()
        ))
    })?;
    let mut notes = Vec::new();
    let task = tasks::parse(&data.dataset_name)?;
    let mut read = |name: &str, split: tasks::Split| -> Result<Vec<Prompt>> {
        let rows = match tasks::parse(name)? {
            Some(task) => {
                let made = task.rows(split, seed, tokenizer.has_chat_template())?;
                notes.extend(made.note);
                made.rows
            }
            None => {
                let calls = setup::calls_of(tokenizer);
                let loaded = match split {
                    tasks::Split::Train => Some(data.load_train(seed, calls)?),
                    _ => data.load_evaluation(seed, calls)?,
                };
                let loaded = loaded.ok_or_else(|| Error::internal("prompts without a data set"))?;
                notes.extend(loaded.notes);
                loaded.rows
            }
        };
        let prompts = tokenise(&rows, tokenizer)?;
        let (fit, longest): (Vec<Prompt>, usize) =
            (prompts.iter().filter(|p| p.ids.len() <= room).cloned().collect(), longest(&prompts));
        if fit.is_empty() {
            return Err(Error::Input(format!(
                "{name}: no prompt fits: they have up to {}, and the model's context of {context} less \
                 max_completion_length leaves {room}",
                counted(longest, "token")
            )));
        }
        if fit.len() < prompts.len() {
            notes.push(format!(
                "{name}: {} skipped: longer than the context of {context} with max_completion_length",
                counted_of(prompts.len() - fit.len(), prompts.len(), "prompt", ("is", "are"))
            ));
        }
        Ok(fit)
    };
    let train = read(&data.dataset_name, tasks::Split::Train)?;
    let eval = match (&data.eval_dataset, data.evaluates()) {
        (Some(path), _) => read(&path.to_string_lossy(), tasks::Split::Test)?,
        (None, true) => read("test_split_size", tasks::Split::Test)?,
        (None, false) => vec![],
    };
    Ok(PromptSet { train, eval, notes, task })
}

/// Tokens of the longest prompt.
pub fn longest(prompts: &[Prompt]) -> usize {
    prompts.iter().map(|p| p.ids.len()).max().unwrap_or(0)
}

/// A text with the tokenizer's special tokens; messages through the chat template, up to where the assistant speaks.
pub fn tokenise(rows: &[Row], tokenizer: &Tokenizer) -> Result<Vec<Prompt>> {
    let conversational = |row: &Row| matches!(row.fields.get("prompt"), Some(Value::Array(_)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let templates = if rows.iter().any(conversational) { Some(tokenizer.chat_templates(now)?) } else { None };
    let ids = |row: &Row| match (row.fields.get("prompt"), &templates) {
        (Some(Value::String(text)), _) => tokenizer.encode(text),
        (Some(Value::Array(_)), Some(templates)) => {
            let messages = format::messages(row, "prompt")?;
            let tools = row.fields.get("tools");
            let input = RenderInput { messages: &messages, tools, add_generation_prompt: true, ..Default::default() };
            tokenizer.encode_rendered(&templates.render(&input)?.text)
        }
        (Some(_), _) => Err(row.error("the field \"prompt\" must be a text or a list of messages")),
        (None, _) => Err(row.error(format!(
            "the field \"prompt\" is missing (the row has {:?})",
            row.fields.keys().collect::<Vec<_>>()
        ))),
    };
    let prompt = |row: &Row| {
        let ids = ids(row).map_err(|e| match e {
            Error::Input(detail) => row.error(detail),
            other => other,
        })?;
        if ids.is_empty() { Err(row.error("the prompt has no tokens")) } else { Ok(Prompt { ids, row: row.clone() }) }
    };
    rows.iter().map(prompt).collect()
}
