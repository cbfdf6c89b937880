//! Chat templates: messages to text as transformers' `apply_chat_template` renders them, with the spans that
//! `{% generation %}` marks as the assistant's own.
use std::ops::Range;
use std::sync::OnceLock;

use serde_json::{Map, Value as Json};

use super::exact_json::to_text;
use super::jinja::{LocalTime, Template, TemplateError};
use super::template_families::{Family, recognise};
use crate::error::{Error, Result};

const MAX_SOURCE: usize = 1 << 20;

/// Names that `apply_chat_template` takes for itself: in a row's `chat_template_kwargs` they would not reach the template.
const RESERVED: [&str; 14] = [
    "conversation",
    "messages",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "sanitize_control_tokens",
];

/// One parsed template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    template: Template,
    name: String,
    source: String,
    has_generation: bool,
    family: OnceLock<Option<&'static Family>>,
}

/// The templates of a model: one, or several by name ("default", "tool_use", …), with the special tokens they may print.
#[derive(Clone, Debug)]
pub struct ChatTemplates {
    templates: Vec<ChatTemplate>,
    special: Vec<(String, String)>,
    clock: LocalTime,
}

/// What a template sees. `messages` are objects with at least `role`; `extra` are the row's `chat_template_kwargs`, where `tools`
/// and `documents` may stand too.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderInput<'a> {
    /// The conversation so far, the oldest message first; at least one.
    pub messages: &'a [Json],
    /// Objects that describe the tools the assistant may call.
    pub tools: Option<&'a Json>,
    /// Objects with texts that the answer may rest on.
    pub documents: Option<&'a Json>,
    /// Whether the text ends where the assistant is to begin.
    pub add_generation_prompt: bool,
    /// Further variables by name.
    pub extra: Option<&'a Map<String, Json>>,
}

/// Rendered text, and the byte ranges of it that stood between generation marks, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What the template printed.
    pub text: String,
    /// Bytes of `text` between `{% generation %}` and `{% endgeneration %}`.
    pub generation: Vec<Range<usize>>,
    /// The line of a generation mark whose place in the text is not known: inside a macro, or in text that is set aside.
    pub misplaced: Option<usize>,
}

impl ChatTemplate {
    /// Parses `source`.
    ///
    /// Errors: more than a MiB, what Jinja2 refuses, tags that would need other files.
    pub fn new(name: &str, source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let detail =
                format!("chat template {name:?} has {} bytes; at most {MAX_SOURCE} are accepted", source.len());
            return Err(Error::input(detail));
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let template = Template::chat(&source).map_err(|e| template_error(name, &e))?;
        let has_generation = template.has_generation();
        Ok(ChatTemplate { template, name: name.to_string(), source, has_generation, family: OnceLock::new() })
    }

    /// The template as its model wrote it (line ends as `\n`).
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it marks the assistant's text with `{% generation %}`.
    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// How the assistant's turns stand in what it prints, if that is known. Worked out at the first question.
    pub(super) fn family(&self) -> Option<&'static Family> {
        *self.family.get_or_init(|| recognise(&self.template, &self.source))
    }

    fn render(&self, input: &RenderInput, special: &[(String, String)], clock: LocalTime) -> Result<Rendered> {
        if input.messages.is_empty() {
            return Err(Error::input("a conversation without messages cannot be rendered; it needs at least one"));
        }
        let mut names = Map::new();
        for (name, token) in special {
            names.insert(name.clone(), Json::String(token.clone()));
        }
        for (key, value) in input.extra.into_iter().flatten() {
            if RESERVED.contains(&key.as_str()) {
                return Err(Error::input(format!(
                    "chat_template_kwargs has {key:?}, which is not a template's to take; leave it out"
                )));
            }
            names.insert(key.clone(), value.clone());
        }
        names.insert("messages".into(), Json::Array(normalised(input.messages)?));
        names.insert("tools".into(), objects(input, "tools", input.tools)?);
        names.insert("documents".into(), objects(input, "documents", input.documents)?);
        names.insert("add_generation_prompt".into(), Json::Bool(input.add_generation_prompt));
        let printed = self.template.render(names.iter().map(|(name, value)| (name.as_str(), value)), clock, false);
        let printed = printed.map_err(|e| template_error(&self.name, &e))?;
        Ok(Rendered { text: printed.text, generation: printed.generation, misplaced: printed.misplaced })
    }
}

impl RenderInput<'_> {
    /// The value that is given as `given`, or else in the row's `chat_template_kwargs`.
    fn given<'a>(&'a self, name: &str, given: Option<&'a Json>) -> Option<&'a Json> {
        let in_row = || self.extra.and_then(|extra| extra.get(name)).filter(|v| !v.is_null());
        given.filter(|v| !v.is_null()).or_else(in_row)
    }
}

/// `tools` or `documents`: none, or a list of objects.
fn objects(input: &RenderInput, name: &str, given: Option<&Json>) -> Result<Json> {
    let value = input.given(name, given).cloned().unwrap_or(Json::Null);
    let fits = match &value {
        Json::Null => true,
        Json::Array(list) => list.iter().all(Json::is_object),
        _ => false,
    };
    if !fits {
        return Err(Error::input(format!("{name} must be a list of objects, found {}", to_text(&value))));
    }
    Ok(value)
}

impl ChatTemplates {
    /// Parses the templates a tokenizer brings, as (name, source); `special` are variables such as `bos_token`; `now` is the time
    /// that `strftime_now` tells, in seconds since 1970 (UTC; a template sees local time).
    pub fn new(sources: &[(String, String)], special: Vec<(String, String)>, now: i64) -> Result<Self> {
        let templates = sources.iter().map(|(name, source)| ChatTemplate::new(name, source)).collect::<Result<_>>()?;
        Ok(ChatTemplates { templates, special, clock: local(now) })
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

    /// The template that renders this conversation.
    pub fn select_for(&self, input: &RenderInput) -> Result<&ChatTemplate> {
        self.select(input.given("tools", input.tools).is_some())
    }

    /// Renders a conversation.
    ///
    /// Errors: no message, a message that is no object, and whatever the template raises (with its line).
    pub fn render(&self, input: &RenderInput) -> Result<Rendered> {
        self.select_for(input)?.render(input, &self.special, self.clock)
    }

    /// The text of a special token as templates see it, for instance of "eos_token".
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.special.iter().find(|(n, _)| n == name).map(|(_, token)| token.as_str())
    }
}

/// An instant with this machine's offset from UTC at that time.
fn local(seconds: i64) -> LocalTime {
    let offset =
        jiff::Timestamp::from_second(seconds).map_or(0, |t| jiff::tz::TimeZone::system().to_offset(t).seconds());
    LocalTime { seconds, offset: offset.into() }
}

/// Messages as a template gets them. Errors: one that is no object.
pub(super) fn normalised(messages: &[Json]) -> Result<Vec<Json>> {
    messages.iter().map(normalise_message).collect()
}

/// As transformers prepares a message: keys without a value go, reasoning is found under each of its names.
fn normalise_message(message: &Json) -> Result<Json> {
    let Json::Object(fields) = message else {
        return Err(Error::input(format!(
            "a message must be an object with role and content, found {}",
            to_text(message)
        )));
    };
    let given: Map<String, Json> =
        fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let reasoning = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|key| given.get(*key)).cloned();
    let Some(text) = reasoning else { return Ok(Json::Object(given)) };
    // In transformers' order, which a template that walks over a message's keys can see.
    let mut out = Map::new();
    out.insert("thinking".into(), text.clone());
    out.extend(given);
    out.insert("reasoning_content".into(), text);
    Ok(Json::Object(out))
}

/// The template's own message (`raise_exception`, a type error …) with its line and the bound it ran into.
fn template_error(name: &str, error: &TemplateError) -> Error {
    let line = error.line.map_or(String::new(), |line| format!(", line {line}"));
    Error::input(format!("chat template {name:?}{line}: {}", error.message.replace('\n', " ")))
}
