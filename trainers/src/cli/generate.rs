//! `lapidary generate`: the completion of a prompt or conversation, alone on standard output; or of every row of a file.
use crate::data::others::{Calls, adopt};
use crate::data::piped::{load_or_read, piped_text};
use crate::error::{Error, Result};
use crate::job::need;
use crate::job::setup::{self, ModelSource};
use crate::judges::speaker::Speaker;
use crate::options::{GenerateOptions, Messages, SamplingOptions};
use crate::plural::{WAS, counted, counted_of};
use crate::text::{RenderInput, StopStrings, Tokenizer, exact_json};
use crate::{data, device};
use engine::generate::{Next, Sampling, generate_with};
use engine::model::decoder::Decoder;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers on standard output as tokens come; everything else goes to standard error.
pub fn run(options: &GenerateOptions) -> Result<()> {
    let asked = &options.sampling;
    if let Some(path) = &asked.dataset_name {
        return answer_rows(options, path);
    }
    let asked = &with_piped_prompt(asked)?;
    let source = setup::open_with(&options.model.model_name_or_path, asked.adapter_name_or_path.as_deref())?;
    let head = source.files.config.head;
    let adapter = asked.adapter_name_or_path.as_deref().map(|path| setup::load_adapter(path, head)).transpose()?;
    let prompt = prompt_tokens(asked, &source.tokenizer)?;
    let sampling = sampling(options, &source, prompt.len())?;
    let device = device::open(options.device.device, options.device.threads)?;
    let used = need::drawing(&source, &[prompt.len()], 1, &sampling);
    need::check_use(&source.files, options.model.dtype.dtype(), adapter.as_ref(), &device, used)?;
    let mut model = Decoder::load_to_generate(&source.files, &device, options.model.dtype.dtype())?;
    if let Some(adapter) = &adapter {
        model.load_adapter(adapter)?;
    }
    let mut printed = Printed::default();
    let stops = options.drawing.stop_strings(&source.files.config.generation);
    printed.hear(&model, prompt, &sampling, (&stops, &source.tokenizer))?;
    printed.finish(&source.tokenizer).map(drop)
}

/// With what is piped in for a prompt, where nothing else is asked. Errors: nothing is piped in.
fn with_piped_prompt(asked: &SamplingOptions) -> Result<SamplingOptions> {
    let mut asked = asked.clone();
    if asked.prompt.is_none() && asked.messages.is_none() {
        let piped = piped_text()?.ok_or_else(|| {
            Error::input(
                "prompt: give --prompt with a text (or pipe one in), --messages with a conversation, or --dataset_name with a file",
            )
        })?;
        asked.prompt = Some(piped);
    }
    Ok(asked)
}

/// Writes the rows of a file again with their completions. Row i draws from streams of its own.
fn answer_rows(options: &GenerateOptions, path: &str) -> Result<()> {
    let asked = &options.sampling;
    if let Some(file) = asked.output_file.as_deref().filter(|file| file.exists() && !asked.overwrite_output_file) {
        return Err(Error::file(file, "is there already; --overwrite_output_file writes over it"));
    }
    let loaded = load_or_read(options.split.of(path), Some("prompt"), Calls::AsCalls)?;
    loaded.notes.iter().for_each(|note| tell!("note: {note}"));
    let rows = loaded.rows;
    let device = device::open(options.device.device, options.device.threads)?;
    let (model, adapter) = (&options.model.model_name_or_path, asked.adapter_name_or_path.as_deref());
    let mut speaker = Speaker::open(model, adapter, options.model.dtype, &device)?;
    let prompt = |row: &data::Row| match row.fields.get("prompt") {
        Some(prompt @ (Value::String(_) | Value::Array(_))) => speaker.tokens(prompt, false),
        _ => Err(row.error("the field \"prompt\" must be a text or a list of messages")),
    };
    let prompts = rows.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let sampling = speaker.sampling(&options.drawing);
    let answers = speaker.answer(&prompts, asked.num_generations, &sampling)?;
    let (mut text, mut too_long) = (String::new(), 0);
    for (row, answers) in rows.iter().zip(answers) {
        let mut fields = row.fields.clone();
        let is_chat = matches!(fields["prompt"], Value::Array(_));
        let shaped =
            |text: &String| if is_chat { json!([{"role": "assistant", "content": text}]) } else { json!(text) };
        let mut all: Vec<Value> = answers.iter().map(shaped).collect();
        match all.len() {
            0 => {
                too_long += 1;
                continue;
            }
            1 => fields.insert("completion".into(), all.remove(0)),
            _ => fields.insert("completions".into(), Value::Array(all)),
        };
        text += &(exact_json::to_text(&Value::Object(fields)) + "\n");
    }
    if text.is_empty() {
        let detail = "no prompt fits the model's context beside max_new_tokens";
        return Err(Error::input(format!("{path}: {detail} {}", sampling.max_new_tokens)));
    }
    if too_long > 0 {
        let left = counted_of(too_long, rows.len(), "prompt", WAS);
        tell!("note: {left} left out: too long for the model's context");
    }
    match &asked.output_file {
        Some(file) => crate::run::durable::write_file(file, text.as_bytes()),
        None => {
            let written = std::io::stdout().write_all(text.as_bytes());
            written.map_err(Error::output)
        }
    }
}

/// The tokens to go on from: through the chat template where the model has one, else the prompt as it is.
fn prompt_tokens(asked: &SamplingOptions, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let messages = match (&asked.prompt, &asked.messages) {
        (_, Some(messages)) => read_messages(messages)?,
        (Some(prompt), None) => {
            if !tokenizer.has_chat_template() {
                if asked.system.is_some() {
                    return Err(Error::input("system: the model has no chat template to put a system message into"));
                }
                return tokenizer.encode(prompt);
            }
            let system = asked.system.iter().map(|text| json!({"role": "system", "content": text}));
            system.chain([json!({"role": "user", "content": prompt})]).collect()
        }
        (None, None) => return Err(Error::input("give --prompt with a text, or --messages with a conversation")),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let input = RenderInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
    tokenizer.encode_rendered(&tokenizer.chat_templates(now)?.render(&input)?.text)
}

/// A list of messages, or an object with one under `messages`.
fn read_messages(given: &Messages) -> Result<Vec<Value>> {
    let (text, origin) = match given {
        Messages::Inline(text) => (text.clone(), "messages".to_string()),
        Messages::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, format!("messages: {e}")))?;
            (text, path.display().to_string())
        }
    };
    let value = exact_json::parse(&text).map_err(|e| Error::input(format!("{origin}: is not JSON: {e}")))?;
    let fields = match value {
        Value::Object(fields) => fields,
        list => Map::from_iter([("messages".to_string(), list)]),
    };
    let row = data::Row { path: std::sync::Arc::new(origin.into()), line: 1, fields };
    let (rows, _) = adopt(vec![row], Calls::AsCalls)?;
    data::format::messages(&rows[0], "messages")
}

/// How the answer to a prompt of so many tokens is drawn.
fn sampling(options: &GenerateOptions, source: &ModelSource, n_prompt: usize) -> Result<Sampling> {
    let (drawn, said) = options.drawing.sampling(&source.files.config.generation);
    let sampling = Sampling { stop_tokens: source.stop_tokens(), ..drawn };
    let sampling = within_context(sampling, n_prompt, source).ok_or_else(|| {
        let context = source.files.config.max_position_embeddings;
        Error::input(format!("the prompt has {}, the model's context is {context}", counted(n_prompt, "token")))
    })?;
    said.iter().for_each(|said| tell!("note: {said}"));
    Ok(sampling)
}

/// No more new tokens than the context has room for behind `n_prompt`; None where there is none.
pub(super) fn within_context(sampling: Sampling, n_prompt: usize, source: &ModelSource) -> Option<Sampling> {
    let room = source.files.config.max_position_embeddings.saturating_sub(n_prompt);
    let max_new_tokens = sampling.max_new_tokens.min(room);
    (room > 0).then_some(Sampling { max_new_tokens, ..sampling })
}

/// What has been printed: a character may need several tokens, so text is held back until it is whole.
#[derive(Default)]
pub(super) struct Printed {
    tokens: Vec<u32>,
    bytes: usize,
}

impl Printed {
    /// Draws the answer to a prompt and prints it as it comes. An end that is a special token shows no text; one that is an ordinary
    /// token, or a stop string, is part of the answer, as in transformers.
    pub(super) fn hear(
        &mut self,
        model: &Decoder,
        prompt: Vec<u32>,
        sampling: &Sampling,
        (stops, tokenizer): (&StopStrings, &Tokenizer),
    ) -> Result<()> {
        let mut outcome = Ok(());
        generate_with(model, &[prompt], 1, sampling, |_, tokens| {
            let stopped = self.push(tokens, tokenizer).and_then(|()| stops.end(tokens, tokenizer));
            let next = match &stopped {
                Ok(true) => Next::Stop,
                Ok(false) => Next::Continue,
                Err(_) => Next::Abort,
            };
            outcome = stopped.map(drop);
            next
        })?;
        outcome
    }

    /// Takes the tokens so far, the last of which is new.
    fn push(&mut self, tokens: &[u32], tokenizer: &Tokenizer) -> Result<()> {
        self.tokens = tokens.to_vec();
        let text = tokenizer.decode_plain(&self.tokens)?;
        // On a terminal a person watches it come; elsewhere the whole is written at the end.
        if std::io::stdout().is_terminal() && !text.ends_with('\u{FFFD}') { self.print(&text) } else { Ok(()) }
    }

    /// Prints what is left and a line's end; gives the whole text.
    pub(super) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode_plain(&self.tokens)?;
        self.print(&text)?;
        self.print(&format!("{text}\n"))?;
        Ok(text)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        let new = text.get(self.bytes..).unwrap_or_default();
        self.bytes = text.len();
        let mut stdout = std::io::stdout();
        let written = stdout.write_all(new.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(Error::output)
    }
}
