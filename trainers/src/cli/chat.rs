//! `lapidary chat`: a conversation on standard input and output, each line a turn; with an adapter beside its base, if asked.
use super::generate::{Printed, within_context};
use crate::device;
use crate::error::{Error, Result};
use crate::job::need::{self, Use};
use crate::job::setup::{self, ModelSource};
use crate::options::ChatOptions;
use crate::plural::counted;
use crate::text::{ChatTemplates, RenderInput, StopStrings};
use engine::generate::{GenerationShape, Sampling};
use engine::model::decoder::Decoder;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// One who answers, with the conversation as it is for them.
struct Party {
    /// Printed before each answer, where several answer.
    label: &'static str,
    model: Decoder,
    messages: Vec<Value>,
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Line<'a> {
    Turn(&'a str),
    Nothing,
    Reset,
    Quit,
    Unknown(&'a str),
}

/// Answers go to standard output, all else to standard error. The end of standard input ends the conversation.
pub fn run(options: &ChatOptions) -> Result<()> {
    let (talk, asked) = (&options.talk, &options.source);
    let sources = setup::model_and_adapter(asked.model_name_or_path.as_deref(), asked.adapter_name_or_path.as_deref())?;
    if talk.beside.is_some() && sources.adapter.is_none() {
        return Err(Error::input(
            "beside: base is the model without its adapter; give one with --adapter_name_or_path",
        ));
    }
    let source = sources.open()?;
    let head = source.files.config.head;
    let adapter = sources.adapter.as_deref().map(|path| setup::load_adapter(path, head)).transpose()?;
    let templates = templates(&source, talk.system.as_deref())?;
    let (drawn, said) = options.drawing.sampling(&source.files.config.generation);
    said.iter().for_each(|said| tell!("note: {said}"));
    let sampling = Sampling { stop_tokens: source.stop_tokens(), ..drawn };
    let device = device::open(options.device.device, options.device.threads)?;
    let held = options.held.dtype.dtype();
    need::check_use(&source.files, held, adapter.as_ref(), &device, Use::Draw(GenerationShape::default()))?;
    let mut model = Decoder::load_to_generate(&source.files, &device, held)?;
    if let Some(adapter) = &adapter {
        model.load_adapter(adapter)?;
    }
    let party = |label, model| Party { label, model, messages: Vec::new() };
    let mut parties = match talk.beside {
        None => vec![party("", model)],
        Some(_) => {
            let base = model.without_adapter();
            vec![party("base: ", base), party("tuned: ", model)]
        }
    };
    let stop_strings = options.drawing.stop_strings(&source.files.config.generation);
    let talk = Talk { source, templates, sampling, stop_strings, system: talk.system.clone() };
    parties.iter_mut().for_each(|party| talk.begin(party));
    if parties.len() > 1 {
        tell!("each goes on with its own answers");
    }
    talk.listen(&mut parties)
}

/// The model's chat templates; None where it has none, and then no system message has a place.
fn templates(source: &ModelSource, system: Option<&str>) -> Result<Option<ChatTemplates>> {
    if source.tokenizer.has_chat_template() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        return source.tokenizer.chat_templates(now).map(Some);
    }
    if system.is_some() {
        return Err(Error::input("system: the model has no chat template to put a system message into"));
    }
    tell!("note: the model has no chat template; it goes on with your text as it stands");
    Ok(None)
}

/// What all who answer share.
struct Talk {
    source: ModelSource,
    templates: Option<ChatTemplates>,
    sampling: Sampling,
    stop_strings: StopStrings,
    system: Option<String>,
}

impl Talk {
    fn begin(&self, party: &mut Party) {
        party.messages = self.system.iter().map(|text| json!({"role": "system", "content": text})).collect();
    }

    fn listen(&self, parties: &mut [Party]) -> Result<()> {
        let stdin = std::io::stdin();
        let (watched, mut text, mut turn) = (stdin.is_terminal(), String::new(), 0);
        if watched {
            tell!("/reset begins anew, /quit ends");
        }
        loop {
            if watched {
                eprint!("> ");
            }
            text.clear();
            let read = stdin.lock().read_line(&mut text);
            if read.map_err(|e| Error::input(format!("standard input cannot be read: {e}")))? == 0 {
                return Ok(());
            }
            match line(&text) {
                Line::Nothing => {}
                Line::Quit => return Ok(()),
                Line::Reset => {
                    parties.iter_mut().for_each(|party| self.begin(party));
                    tell!("the conversation begins anew");
                }
                Line::Unknown(word) => {
                    tell!("there is no {word}; there are /reset and /quit. Text that begins so needs a blank in front");
                }
                Line::Turn(text) => {
                    for party in parties.iter_mut() {
                        self.answer(party, text, turn)?;
                    }
                    turn += 1;
                }
            }
        }
    }

    /// Draws the answer to `text` and prints it as it comes. Each turn draws from a stream of its own.
    fn answer(&self, party: &mut Party, text: &str, turn: u64) -> Result<()> {
        party.messages.push(json!({"role": "user", "content": text}));
        let prompt = self.tokens(&party.messages)?;
        let sampling = Sampling { first_stream: turn, ..self.sampling.clone() };
        let Some(sampling) = within_context(sampling, prompt.len(), &self.source) else {
            let context = self.source.files.config.max_position_embeddings;
            let tokens = counted(prompt.len(), "token");
            tell!("the conversation has {tokens}, the model's context is {context}; /reset begins anew");
            party.messages.pop();
            return Ok(());
        };
        need::check_drawing(&party.model, &[prompt.len()], 1, &sampling)?;
        let mut stdout = std::io::stdout();
        stdout.write_all(party.label.as_bytes()).map_err(Error::output)?;
        let mut printed = Printed::default();
        printed.hear(&party.model, prompt, &sampling, (&self.stop_strings, &self.source.tokenizer))?;
        let answer = printed.finish(&self.source.tokenizer)?;
        party.messages.push(json!({"role": "assistant", "content": answer}));
        Ok(())
    }

    /// The conversation as the model sees it. Without a chat template the texts follow each other on lines of their own.
    fn tokens(&self, messages: &[Value]) -> Result<Vec<u32>> {
        let tokenizer = &self.source.tokenizer;
        match &self.templates {
            Some(templates) => {
                let input = RenderInput { messages, add_generation_prompt: true, ..Default::default() };
                tokenizer.encode_rendered(&templates.render(&input)?.text)
            }
            None => {
                let texts: Vec<&str> = messages.iter().filter_map(|message| message["content"].as_str()).collect();
                tokenizer.encode(&texts.join("\n"))
            }
        }
    }
}

fn line(text: &str) -> Line<'_> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        _ if text.trim().is_empty() => Line::Nothing,
        "/quit" | "/exit" | "/bye" => Line::Quit,
        "/reset" | "/clear" => Line::Reset,
        _ if text.strip_prefix('/').is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase())) => {
            Line::Unknown(text)
        }
        _ => Line::Turn(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_turns_or_commands() {
        for (text, wanted) in [
            ("hello\n", Line::Turn("hello")),
            (" /quit\r\n", Line::Turn(" /quit")),
            ("/etc/passwd?", Line::Turn("/etc/passwd?")),
            ("/quit\n", Line::Quit),
            ("/reset", Line::Reset),
            ("/help\n", Line::Unknown("/help")),
            ("  \n", Line::Nothing),
        ] {
            assert_eq!(line(text), wanted);
        }
    }
}
