//! Chat templates: messages to text, with the spans that `{% generation %}` marks as the assistant's own.
//!
//! Jinja as transformers runs it (trim_blocks, lstrip_blocks, loop controls, Python's methods on strings and mappings,
//! `raise_exception`, `strftime_now`, `tojson`), bounded in instructions, memory and output: a template comes from whoever
//! made the model.
use std::io;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::builtins;
use super::template_source::{END, START, prepare};
use crate::error::{Error, Result};

/// Bytes that one rendering may put out.
const MAX_OUTPUT: usize = 64 << 20;
const MAX_SOURCE: usize = 1 << 20;

/// One compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    name: String,
    source: String,
    has_generation: bool,
}

/// The templates of a model: one, or several by name ("default", "tool_use", …), with the special tokens they may print.
#[derive(Debug)]
pub struct ChatTemplates {
    templates: Vec<ChatTemplate>,
    special: Vec<(String, String)>,
}

/// What a template sees. `messages` are objects with at least `role`; `extra` are the row's `chat_template_kwargs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderInput<'a> {
    pub messages: &'a [Json],
    pub tools: Option<&'a Json>,
    pub documents: Option<&'a Json>,
    pub add_generation_prompt: bool,
    pub extra: Option<&'a Map<String, Json>>,
}

/// Rendered text, and the byte ranges of it that stood between generation marks, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    pub generation: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles `source`. `now` is the time that `strftime_now` tells, in seconds since 1970 (UTC).
    pub fn new(name: &str, source: &str, now: i64) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let detail =
                format!("chat template {name:?} has {} bytes; at most {MAX_SOURCE} are accepted", source.len());
            return Err(Error::input(detail));
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(Error::internal)?);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        builtins::register(&mut env, now);
        let prepared = prepare(&source);
        env.add_template_owned(name.to_string(), prepared.source).map_err(|e| template_error(name, &e))?;
        Ok(ChatTemplate { env, name: name.to_string(), source, has_generation: prepared.has_generation })
    }

    /// The template as its model wrote it (line ends as `\n`).
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it marks the assistant's text with `{% generation %}`.
    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    fn render(&self, input: &RenderInput, special: &[(String, String)]) -> Result<Rendered> {
        if input.messages.is_empty() {
            return Err(Error::input("a conversation without messages cannot be rendered; it needs at least one"));
        }
        let mut context = Map::new();
        for (name, token) in special {
            context.insert(name.clone(), Json::String(token.clone()));
        }
        for (key, value) in input.extra.into_iter().flatten() {
            context.insert(key.clone(), value.clone());
        }
        let messages = input.messages.iter().map(normalise_message).collect::<Result<Vec<Json>>>()?;
        context.insert("messages".into(), Json::Array(messages));
        context.insert("tools".into(), input.tools.cloned().unwrap_or(Json::Null));
        context.insert("documents".into(), input.documents.cloned().unwrap_or(Json::Null));
        context.insert("add_generation_prompt".into(), Json::Bool(input.add_generation_prompt));
        let context = Json::Object(context);
        if self.has_generation && contains_marker(&context) {
            return Err(Error::input("the messages contain U+10FFFE, which is not a character; remove it"));
        }
        let template = self.env.get_template(&self.name).map_err(|e| template_error(&self.name, &e))?;
        let mut out = Bounded::default();
        template
            .render_captured_to(Value::from(minijinja::value::Serde(&context)), &mut out)
            .map_err(|e| template_error(&self.name, &e))?;
        let text = String::from_utf8(out.bytes).map_err(Error::internal)?;
        if self.has_generation { strip_marks(&text) } else { Ok(Rendered { text, generation: Vec::new() }) }
    }
}

impl ChatTemplates {
    /// Compiles the templates a tokenizer brings, as (name, source); `special` are variables such as `bos_token`.
    pub fn new(sources: &[(String, String)], special: Vec<(String, String)>, now: i64) -> Result<Self> {
        let templates =
            sources.iter().map(|(name, source)| ChatTemplate::new(name, source, now)).collect::<Result<_>>()?;
        Ok(ChatTemplates { templates, special })
    }

    /// The template for a conversation: "tool_use" when there are tools and such a template, else "default".
    pub fn select(&self, with_tools: bool) -> Result<&ChatTemplate> {
        let by_name = |name: &str| self.templates.iter().find(|t| t.name == name);
        if let Some(template) = by_name("tool_use").filter(|_| with_tools) {
            return Ok(template);
        }
        by_name("default").ok_or_else(|| {
            let names: Vec<&str> = self.templates.iter().map(|t| t.name.as_str()).collect();
            Error::input(format!(
                "the model has no default chat template (it has {names:?}); add chat_template.jinja to its directory"
            ))
        })
    }

    /// Renders a conversation.
    ///
    /// Errors: no message, a message that is no object, and whatever the template raises (with its line).
    pub fn render(&self, input: &RenderInput) -> Result<Rendered> {
        self.select(input.tools.is_some_and(|t| !t.is_null()))?.render(input, &self.special)
    }

    /// The text of a special token as templates see it, for instance of "eos_token".
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.special.iter().find(|(n, _)| n == name).map(|(_, token)| token.as_str())
    }
}

/// As transformers prepares a message: keys without a value go, reasoning is found under each of its names.
fn normalise_message(message: &Json) -> Result<Json> {
    let Json::Object(fields) = message else {
        return Err(Error::input(format!("a message must be an object with role and content, found {message}")));
    };
    let mut out: Map<String, Json> =
        fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let reasoning = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|key| out.get(*key)).cloned();
    if let Some(text) = reasoning {
        out.entry("thinking").or_insert_with(|| text.clone());
        out.insert("reasoning_content".into(), text);
    }
    Ok(Json::Object(out))
}

fn contains_marker(value: &Json) -> bool {
    match value {
        Json::String(s) => s.contains('\u{10FFFE}'),
        Json::Array(items) => items.iter().any(contains_marker),
        Json::Object(fields) => fields.iter().any(|(k, v)| k.contains('\u{10FFFE}') || contains_marker(v)),
        _ => false,
    }
}

/// Takes the marker text out and keeps where it stood.
fn strip_marks(marked: &str) -> Result<Rendered> {
    let mut rendered = Rendered { text: String::with_capacity(marked.len()), generation: Vec::new() };
    let mut open: Vec<usize> = Vec::new();
    let mut rest = marked;
    while let Some(at) = rest.find('\u{10FFFE}') {
        rendered.text.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix(START) {
            open.push(rendered.text.len());
            rest = after;
        } else if let Some(after) = tail.strip_prefix(END) {
            let start = open.pop().ok_or_else(broken_marks)?;
            rendered.generation.push(start..rendered.text.len());
            rest = after;
        } else {
            return Err(broken_marks());
        }
    }
    if !open.is_empty() {
        return Err(broken_marks());
    }
    rendered.text.push_str(rest);
    Ok(rendered)
}

fn broken_marks() -> Error {
    Error::input("the chat template's {% generation %} and {% endgeneration %} do not pair up in what it renders")
}

/// The template's own message (`raise_exception`, a type error …) with its line and the bound it ran into.
fn template_error(name: &str, error: &minijinja::Error) -> Error {
    let line = error.line().map_or(String::new(), |line| format!(", line {line}"));
    let mut detail = match error.kind() {
        ErrorKind::OutOfFuel => format!("runs for more than {} instructions", builtins::FUEL),
        _ => error.detail().map_or_else(|| error.to_string(), |text| format!("{}: {text}", error.kind())),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        detail.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    Error::input(format!("chat template {name:?}{line}: {detail}"))
}

/// Output that stops at [`MAX_OUTPUT`] bytes.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + buf.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("puts out more than {} MiB", MAX_OUTPUT >> 20)));
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
