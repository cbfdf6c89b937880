//! Rows as LLaMA-Factory and axolotl have them, made rows of TRL's formats; what that leaves out is told.
//!
//! - ShareGPT: `conversations` of `from` and `value`, with `system` and `tools` beside it; `chosen` and `rejected` as one turn
//!   each, or `kto_tag`, make them preferences
//! - Alpaca: `instruction`, `input`, `output` (or `chosen` and `rejected`, or `kto_tag`) under Stanford's prompt; where a row
//!   of the set has a `system` text or a `history`, all become conversations
use super::read::{Row, kind};
use crate::error::Result;
use crate::text::exact_json;
use serde_json::{Map, Value as Json, json};

/// How a turn that calls a function is told to a chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// As `tool_calls` of a message.
    #[default]
    AsCalls,
    /// As the text it stands in: the template knows no `tool_calls` and would leave them out.
    AsText,
}

/// The rows in TRL's formats, and what a person should know about that.
///
/// Errors name the row and field that is not as its format wants it.
pub fn adopt(mut rows: Vec<Row>, calls: Calls) -> Result<(Vec<Row>, Vec<String>)> {
    let mut told = Told::default();
    let in_turns = are_in_turns(&rows);
    for row in &mut rows {
        adopt_row(row, calls, in_turns, &mut told)?;
    }
    let mut notes = Vec::new();
    if in_turns {
        notes.push("instruction and output became conversations: there are rows with system or history".to_string());
    }
    if told.not_calls > 0 {
        notes.push(format!(
            "{} no JSON with name and arguments, and {} as written",
            if told.not_calls == 1 {
                "1 function call is".into()
            } else {
                format!("{} function calls are", told.not_calls)
            },
            if told.not_calls == 1 { "stays" } else { "stay" }
        ));
    }
    if told.flags > 0 {
        notes.push(format!(
            "{} weight, train or loss, which are not read",
            if told.flags == 1 { "1 message has".into() } else { format!("{} messages have", told.flags) }
        ));
    }
    Ok((rows, notes))
}

/// Whether Alpaca's rows become conversations: one of these has a system text or a history.
pub fn are_in_turns(rows: &[Row]) -> bool {
    rows.iter().any(needs_turns)
}

fn needs_turns(row: &Row) -> bool {
    is_alpaca(row) && (filled(row, "system") || filled(row, "history"))
}

/// One row of a set, of which the first rows have decided what Alpaca's rows become. Errors: those of [`adopt`], and a row
/// that can only become a conversation in a set where they do not.
pub fn adopt_alone(mut row: Row, calls: Calls, in_turns: bool) -> Result<Row> {
    if !in_turns && needs_turns(&row) {
        return Err(row.error(
            "has system or history, which no row at the beginning of the streamed data has; put such a row first, so that \
             all become conversations",
        ));
    }
    adopt_row(&mut row, calls, in_turns, &mut Told::default()).map(|()| row)
}

fn adopt_row(row: &mut Row, calls: Calls, in_turns: bool, told: &mut Told) -> Result<()> {
    turns_of(row, calls, told)?;
    if row.fields.contains_key("conversations") && !row.fields.contains_key("messages") {
        sharegpt(row)?;
    } else if is_alpaca(row) {
        if in_turns { alpaca_in_turns(row)? } else { alpaca(row)? }
    }
    told.flags += row.fields.values().filter_map(Json::as_array).flatten().filter(|m| has_flag(m)).count();
    Ok(())
}

/// What was met on the way.
#[derive(Default)]
struct Told {
    not_calls: usize,
    flags: usize,
}

/// The marks that some tools take for "train on this message, or do not".
const FLAGS: [&str; 4] = ["weight", "train", "training", "loss"];

fn has_flag(message: &Json) -> bool {
    message
        .as_object()
        .is_some_and(|m| m.contains_key("role") && FLAGS.iter().any(|flag| m.get(*flag).is_some_and(|v| !v.is_null())))
}

/// Whether there is a value, and not an empty one.
fn filled(row: &Row, field: &str) -> bool {
    match row.fields.get(field) {
        None | Some(Json::Null) => false,
        Some(Json::String(text)) => !text.is_empty(),
        Some(Json::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

fn take(row: &mut Row, field: &str) -> Option<Json> {
    row.fields.shift_remove(field).filter(|value| !value.is_null())
}

fn text_of(row: &Row, field: &str) -> Result<String> {
    match row.fields.get(field) {
        None | Some(Json::Null) => Ok(String::new()),
        Some(Json::String(text)) => Ok(text.clone()),
        Some(other) => Err(row.error(format!("the field {field:?} must be a string, found {}", kind(other)))),
    }
}

/// Turns of `from` and `value` in any column, and single ones in `chosen` and `rejected`, as messages.
fn turns_of(row: &mut Row, calls: Calls, told: &mut Told) -> Result<()> {
    let is_turn = |value: &Json| value.as_object().is_some_and(|m| m.contains_key("from") && !m.contains_key("role"));
    let mut fields = std::mem::take(&mut row.fields);
    for (name, value) in fields.iter_mut() {
        match value {
            Json::Array(list) if list.iter().any(is_turn) => {
                for (i, turn) in list.iter_mut().enumerate().filter(|(_, turn)| is_turn(turn)) {
                    *turn = message(turn, calls, told).map_err(|detail| row.error(format!("{name}[{i}]{detail}")))?;
                }
            }
            turn if matches!(name.as_str(), "chosen" | "rejected") && is_turn(turn) => {
                let one = message(turn, calls, told).map_err(|detail| row.error(format!("{name}{detail}")))?;
                *turn = json!([one]);
            }
            _ => {}
        }
    }
    row.fields = fields;
    Ok(())
}

/// A turn of ShareGPT as a message: the speakers under the names that chat templates know, any other as it is.
fn message(turn: &Json, calls: Calls, told: &mut Told) -> std::result::Result<Json, String> {
    let mut fields = Map::new();
    for (key, value) in turn.as_object().into_iter().flatten() {
        let name = match key.as_str() {
            "from" => "role",
            "value" => "content",
            other => other,
        };
        fields.insert(name.to_string(), value.clone());
    }
    let role = match fields.get("role") {
        Some(Json::String(from)) => match from.as_str() {
            "human" => "user",
            "gpt" | "chatgpt" | "bing" | "bard" | "model" | "ai" => "assistant",
            "function_response" | "observation" | "function" | "tool_response" => "tool",
            "function_call" | "function-call" | "tool_call" => {
                return Ok(calling(fields, calls, told));
            }
            other => other,
        },
        Some(other) => return Err(format!(": from must be a string, found {}", kind(other))),
        None => "",
    };
    let role = json!(role);
    fields.insert("role".into(), role);
    Ok(Json::Object(fields))
}

/// A turn in which the assistant calls functions: `{"name", "arguments"}` as JSON text, or a list of these.
fn calling(mut fields: Map<String, Json>, calls: Calls, told: &mut Told) -> Json {
    fields.insert("role".into(), json!("assistant"));
    let value = match fields.get("content") {
        Some(Json::String(text)) => exact_json::parse(text).ok(),
        other => other.cloned(),
    };
    let list = match value {
        Some(Json::Array(list)) => list,
        Some(one) => vec![one],
        None => vec![],
    };
    let call = |one: &Json| {
        let one = one.get("function").unwrap_or(one);
        one["name"].is_string().then(|| json!({"type": "function", "function": one}))
    };
    match list.iter().map(call).collect::<Option<Vec<Json>>>().filter(|list| !list.is_empty()) {
        Some(list) if calls == Calls::AsCalls => {
            fields.insert("content".into(), json!(""));
            fields.insert("tool_calls".into(), Json::Array(list));
        }
        Some(_) => {
            if let Some(content) = fields.get_mut("content").filter(|content| !content.is_string()) {
                *content = json!(exact_json::to_text(content));
            }
        }
        None => told.not_calls += 1,
    }
    Json::Object(fields)
}

/// `tools` as the list that chat templates take: LLaMA-Factory has it as JSON text of functions without a type.
fn tools(row: &mut Row) {
    let Some(value) = row.fields.get_mut("tools") else { return };
    let list = match &value {
        Json::String(text) if text.trim().is_empty() => {
            *value = Json::Null;
            return;
        }
        Json::String(text) => exact_json::parse(text).ok(),
        other => Some((*other).clone()),
    };
    let Some(Json::Array(list)) = list else { return };
    let whole =
        |tool: &Json| tool.get("type").is_some() || tool.get("function").is_some() || tool.get("name").is_none();
    let typed = |tool: Json| if whole(&tool) { tool } else { json!({"type": "function", "function": tool}) };
    *value = Json::Array(list.into_iter().map(typed).collect());
}

/// A conversation with its system text before it, as messages or as a preference.
fn sharegpt(row: &mut Row) -> Result<()> {
    tools(row);
    let system = text_of(row, "system")?;
    let value = take(row, "conversations").unwrap_or(Json::Null);
    let Json::Array(mut messages) = value else {
        row.fields.insert("messages".into(), value);
        return Ok(());
    };
    if row.fields.contains_key("system") {
        row.fields.shift_remove("system");
        // As in LLaMA-Factory, a system turn in the conversation goes before one beside it.
        if !system.is_empty() && messages.first().is_none_or(|first| first["role"] != "system") {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
    }
    if row.fields.contains_key("chosen") && row.fields.contains_key("rejected") {
        row.fields.insert("prompt".into(), Json::Array(messages));
        return Ok(());
    }
    if let Some(tag) = take(row, "kto_tag") {
        let last = messages.pop().into_iter().collect();
        row.fields.insert("prompt".into(), Json::Array(messages));
        row.fields.insert("completion".into(), Json::Array(last));
        row.fields.insert("label".into(), tag);
        return Ok(());
    }
    row.fields.insert("messages".into(), Json::Array(messages));
    Ok(())
}

fn is_alpaca(row: &Row) -> bool {
    let has = |name: &str| row.fields.contains_key(name);
    has("instruction") && !has("prompt") && !has("messages") && (has("output") || (has("chosen") && has("rejected")))
}

/// Stanford Alpaca's prompt, with and without input (tatsu-lab/stanford_alpaca, README).
fn alpaca(row: &mut Row) -> Result<()> {
    let (instruction, input) = (text_of(row, "instruction")?, text_of(row, "input")?);
    let prompt = if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Response:\n"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that \
             appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
        )
    };
    asked(row, Json::from(prompt), |answer| answer)
}

/// As LLaMA-Factory has it: system text, earlier questions with their answers, then instruction and input; the output answers.
fn alpaca_in_turns(row: &mut Row) -> Result<()> {
    tools(row);
    let says = |role: &str, text: &str| json!({"role": role, "content": text});
    let mut messages = Vec::new();
    let system = text_of(row, "system")?;
    if !system.is_empty() {
        messages.push(says("system", &system));
    }
    match row.fields.get("history") {
        None | Some(Json::Null) => {}
        Some(Json::Array(history)) => {
            for (i, pair) in history.iter().enumerate() {
                let texts = pair.as_array().map(|pair| pair.iter().filter_map(Json::as_str).collect::<Vec<_>>());
                let Some([question, answer]) = texts.as_deref() else {
                    return Err(row.error(format!(
                        "history[{i}] must be a question and its answer, two texts; found {}",
                        kind(pair)
                    )));
                };
                messages.extend([says("user", question), says("assistant", answer)]);
            }
        }
        Some(other) => return Err(row.error(format!("the field \"history\" must be a list, found {}", kind(other)))),
    }
    let parts = [text_of(row, "instruction")?, text_of(row, "input")?];
    let question: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    messages.push(says("user", &question.join("\n")));
    row.fields.shift_remove("system");
    row.fields.shift_remove("history");
    asked(row, Json::Array(messages), |answer| json!([{"role": "assistant", "content": answer}]))
}

/// Puts the prompt in the place of Alpaca's columns, and the answers, as `shaped`, under TRL's names.
fn asked(row: &mut Row, prompt: Json, shaped: impl Fn(Json) -> Json) -> Result<()> {
    row.fields.shift_remove("instruction");
    row.fields.shift_remove("input");
    row.fields.insert("prompt".into(), prompt);
    let answers = [("output", "completion"), ("chosen", "chosen"), ("rejected", "rejected")];
    for (from, to) in answers {
        if let Some(answer) = row.fields.shift_remove(from) {
            if !(answer.is_string() || answer.is_array() && to != "completion") {
                return Err(row.error(format!("the field {from:?} must be a string, found {}", kind(&answer))));
            }
            let answer = if answer.is_string() { shaped(answer) } else { answer };
            row.fields.insert(to.into(), answer);
        }
    }
    if let Some(tag) = take(row, "kto_tag") {
        row.fields.insert("label".into(), tag);
    }
    Ok(())
}
