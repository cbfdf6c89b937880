//! What a row is: plain text, messages, prompt and completion (TRL's data-set types).
//!
//! The first row decides for the whole set; a row that does not follow is an error with file, line and field. The formats of
//! other tools have become these before (`others.rs`).
use serde_json::{Map, Value as Json};

use super::read::{Row, kind};
use crate::error::{Error, Result};
use crate::text::exact_json;

/// The format of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text` (or the field of `dataset_text_field`)
    Text,
    /// `messages`
    Messages,
    /// `prompt` and `completion` as text
    PromptCompletion,
    /// `prompt` and `completion` as lists of messages
    PromptCompletionMessages,
}

impl Format {
    /// Whether rows go through the chat template.
    pub fn is_conversational(self) -> bool {
        matches!(self, Format::Messages | Format::PromptCompletionMessages)
    }
    /// Whether rows have a completion apart from their prompt.
    pub fn has_completion(self) -> bool {
        matches!(self, Format::PromptCompletion | Format::PromptCompletionMessages)
    }
}

/// What an SFT row says, in one of four shapes.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text, all of it learnt from.
    Text(String),
    /// A conversation: messages with `role` and `content`.
    Messages(Vec<Json>),
    /// Two texts, the second of which answers or goes on from the first.
    PromptCompletion {
        /// What comes first.
        prompt: String,
        /// What follows it, EOS not yet behind it.
        completion: String,
    },
    /// Two parts of a conversation.
    PromptCompletionMessages {
        /// The messages up to the answer.
        prompt: Vec<Json>,
        /// The messages of the answer.
        completion: Vec<Json>,
    },
}

/// A row for SFT: its content and what the chat template gets besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct SftRow {
    /// What is learnt from.
    pub content: Content,
    /// A list of tools for the template; None where the row has none.
    pub tools: Option<Json>,
    /// Further variables of the template: the row's `chat_template_kwargs`.
    pub template_kwargs: Option<Map<String, Json>>,
}

/// The format of a data set, from its first row.
///
/// Errors: a row that has none of the fields known here, naming those it has.
pub fn recognise(row: &Row, text_field: &str) -> Result<Format> {
    let has = |name: &str| row.fields.contains_key(name);
    let is_list = |name: &str| row.fields.get(name).is_some_and(Json::is_array);
    if has("prompt") && has("completion") {
        let lists = is_list("prompt") || is_list("completion");
        return Ok(if lists { Format::PromptCompletionMessages } else { Format::PromptCompletion });
    }
    if has("messages") {
        return Ok(Format::Messages);
    }
    if has(text_field) {
        return Ok(Format::Text);
    }
    let mut hint = format!(
        "has the fields {:?}, which are no format known for SFT. A row needs {text_field:?}, or messages, or prompt and completion, \
         or conversations (ShareGPT), or instruction and output (Alpaca)",
        row.fields.keys().collect::<Vec<_>>()
    );
    if has("chosen") && has("rejected") {
        hint.push_str(". This is a preference data set: use it with dpo or reward");
    }
    Err(row.error(hint))
}

impl Format {
    /// The columns that are read, `text_field` that of plain text.
    pub fn columns(self, text_field: &str) -> Vec<&str> {
        match self {
            Format::Text => vec![text_field],
            Format::Messages => vec!["messages", "tools", "chat_template_kwargs"],
            Format::PromptCompletion => vec!["prompt", "completion"],
            Format::PromptCompletionMessages => vec!["prompt", "completion", "tools", "chat_template_kwargs"],
        }
    }
}

/// One line about the columns that no option and no format reads, if there are any with something in them.
pub fn columns_not_read(rows: &[Row], read: &[&str]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in rows.iter().flat_map(|row| &row.fields) {
        if !value.is_null() && !read.contains(&name.as_str()) && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| format!("columns that are not read: {}", names.join(", ")))
}

/// A row as its format says.
///
/// Errors name the field that is missing or of another type, and what stands there.
pub fn sft_row(row: &Row, format: Format, text_field: &str) -> Result<SftRow> {
    let content = match format {
        Format::Text => Content::Text(text(row, text_field)?.to_string()),
        Format::Messages => Content::Messages(messages(row, "messages")?),
        Format::PromptCompletion => Content::PromptCompletion {
            prompt: text(row, "prompt")?.into(),
            completion: text(row, "completion")?.into(),
        },
        Format::PromptCompletionMessages => Content::PromptCompletionMessages {
            prompt: messages(row, "prompt")?,
            completion: messages(row, "completion")?,
        },
    };
    Ok(SftRow { content, tools: tools(row)?, template_kwargs: template_kwargs(row)? })
}

fn missing(row: &Row, field: &str) -> Error {
    let fields: Vec<_> = row.fields.keys().collect();
    row.error(format!(
        "the field {field:?} is missing (the row has {fields:?}; the first row of the data set decided its format)"
    ))
}

pub(super) fn text<'a>(row: &'a Row, field: &str) -> Result<&'a str> {
    match row.fields.get(field) {
        Some(Json::String(text)) => Ok(text),
        Some(other) => Err(row.error(format!("the field {field:?} must be a string, found {}", kind(other)))),
        None => Err(missing(row, field)),
    }
}

/// A list of messages, each with a role and something said, thought or called.
pub fn messages(row: &Row, field: &str) -> Result<Vec<Json>> {
    let list = match row.fields.get(field) {
        Some(Json::Array(list)) => list,
        Some(other) => {
            return Err(row.error(format!("the field {field:?} must be a list of messages, found {}", kind(other))));
        }
        None => return Err(missing(row, field)),
    };
    if list.is_empty() {
        return Err(
            row.error(format!("the field {field:?} is an empty list; a conversation needs at least one message"))
        );
    }
    list.iter().enumerate().map(|(index, message)| self::message(row, field, index, message)).collect()
}

fn message(row: &Row, field: &str, index: usize, message: &Json) -> Result<Json> {
    let at = format!("{field}[{index}]");
    let Json::Object(fields) = message else {
        return Err(row.error(format!("{at} must be an object with role and content, found {}", kind(message))));
    };
    match fields.get("role") {
        Some(Json::String(_)) => {}
        Some(other) => return Err(row.error(format!("{at}: role must be a string, found {}", kind(other)))),
        None => {
            let keys: Vec<_> = fields.keys().collect();
            return Err(row.error(format!(
                "{at} has no role; a message is {{\"role\": …, \"content\": …}}, found the keys {keys:?}"
            )));
        }
    }
    let empty = |key: &str| fields.get(key).is_none_or(Json::is_null);
    match fields.get("content") {
        Some(Json::String(_) | Json::Array(_)) => {}
        // A tool's answer as it came: whether it can be shown is the template's to say.
        Some(value @ Json::Object(_)) if exact_json::exact_number(value).is_none() => {}
        None | Some(Json::Null) if !empty("tool_calls") || !empty("reasoning_content") || !empty("thinking") => {}
        None | Some(Json::Null) => return Err(row.error(format!("{at} has no content (and no tool_calls)"))),
        Some(other) => return Err(row.error(format!("{at}: content must be a string, found {}", kind(other)))),
    }
    if let Some(calls) = fields.get("tool_calls").filter(|v| !v.is_array() && !v.is_null()) {
        return Err(row.error(format!("{at}: tool_calls must be a list, found {}", kind(calls))));
    }
    Ok(message.clone())
}

/// `tools` as a list, or as the JSON text of one (as TRL accepts it).
pub(super) fn tools(row: &Row) -> Result<Option<Json>> {
    let value = match row.fields.get("tools") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(text)) => exact_json::parse(text)
            .map_err(|e| row.error(format!("the field \"tools\" is a string that is no JSON: {e}")))?,
        Some(value) => value.clone(),
    };
    match value {
        Json::Null => Ok(None),
        Json::Array(_) => Ok(Some(value)),
        other => Err(row.error(format!("the field \"tools\" must be a list, found {}", kind(&other)))),
    }
}

pub(super) fn template_kwargs(row: &Row) -> Result<Option<Map<String, Json>>> {
    match row.fields.get("chat_template_kwargs") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(map)) => Ok(Some(map.clone())),
        Some(other) => {
            Err(row.error(format!("the field \"chat_template_kwargs\" must be an object, found {}", kind(other))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::others::{Calls, adopt};
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn row(value: Json) -> Row {
        let Json::Object(fields) = value else { unreachable!() };
        Row { path: Arc::new("d.jsonl".into()), line: 3, fields }
    }

    fn read(value: Json) -> Result<SftRow> {
        let (rows, _) = adopt(vec![row(value)], Calls::AsCalls)?;
        sft_row(&rows[0], recognise(&rows[0], "text")?, "text")
    }

    #[test]
    fn formats() {
        assert_eq!(read(json!({"text": "a"})).unwrap().content, Content::Text("a".into()));
        let chat = json!([{"role": "user", "content": "a"}]);
        assert_eq!(recognise(&row(json!({"messages": chat})), "text").unwrap(), Format::Messages);
        assert_eq!(
            recognise(&row(json!({"prompt": "a", "completion": "b"})), "text").unwrap(),
            Format::PromptCompletion
        );
        let both = json!({"prompt": chat, "completion": chat});
        assert_eq!(recognise(&row(both), "text").unwrap(), Format::PromptCompletionMessages);
        assert_eq!(recognise(&row(json!({"story": "a"})), "story").unwrap(), Format::Text);
    }

    #[test]
    fn sharegpt_becomes_messages() {
        let said = json!({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]});
        let Content::Messages(messages) = read(said).unwrap().content else { unreachable!() };
        assert_eq!(messages[1], json!({"role": "user", "content": "h"}));
        assert_eq!(messages[2], json!({"role": "assistant", "content": "g"}));
    }

    #[test]
    fn alpaca_becomes_prompt_and_completion() {
        let Content::PromptCompletion { prompt, completion } =
            read(json!({"instruction": "Add.", "input": "1, 2", "output": "3"})).unwrap().content
        else {
            unreachable!()
        };
        assert!(prompt.ends_with("### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"));
        assert_eq!(completion, "3");
        let Content::PromptCompletion { prompt, .. } =
            read(json!({"instruction": "Sing.", "input": "", "output": "la"})).unwrap().content
        else {
            unreachable!()
        };
        assert!(!prompt.contains("### Input"));
    }

    #[test]
    fn tools_may_be_json_text_and_calls_need_no_content() {
        let call = json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}], "tools": "[{\"name\": \"f\"}]"});
        assert_eq!(read(call).unwrap().tools, Some(json!([{"name": "f"}])));
    }

    #[test]
    fn errors_name_line_field_and_what_was_found() {
        let text = |v: Json| read(v).unwrap_err().to_string();
        assert!(text(json!({"foo": 1})).starts_with("d.jsonl:3: has the fields [\"foo\"]"));
        assert!(text(json!({"chosen": "a", "rejected": "b"})).contains("dpo"));
        assert_eq!(text(json!({"text": 7})), "d.jsonl:3: the field \"text\" must be a string, found a number (7)");
        assert!(
            text(json!({"messages": "hi"}))
                .contains("\"messages\" must be a list of messages, found a string (\"hi\")")
        );
        assert!(text(json!({"messages": []})).contains("empty list"));
        assert!(text(json!({"messages": [{"content": "a"}]})).contains("messages[0] has no role"));
        assert!(text(json!({"messages": [{"role": "user"}]})).contains("messages[0] has no content"));
        assert!(
            text(json!({"messages": [{"role": "user", "content": 1}]}))
                .contains("content must be a string, found a number (1)")
        );
        assert!(
            text(json!({"messages": [{"role": "user", "content": "a"}], "tools": 1}))
                .contains("\"tools\" must be a list")
        );
        let second = sft_row(&row(json!({"prompt": "a"})), Format::PromptCompletion, "text").unwrap_err().to_string();
        assert!(second.contains("\"completion\" is missing"), "{second}");
    }
}
