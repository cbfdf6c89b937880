//! Which tokens of a rendered chat the assistant wrote, from generation marks or, for known families without them, from their turns.
use std::ops::Range;

use serde_json::Value as Json;

use super::chat_template::{ChatTemplates, RenderInput, Rendered};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// A family of templates: how its assistant turn begins and ends. What stands between, with the end, is what the model must write.
struct Family {
    name: &'static str,
    /// All of these must stand in the template's source, and none of `without`.
    with: &'static [&'static str],
    without: &'static [&'static str],
    header: &'static str,
    /// The first of these that follows ends the turn.
    ends: &'static [&'static str],
    /// What follows the last turn to the end of the text (an EOS) belongs to it.
    to_the_end: bool,
}

/// The spans of Qwen, Phi and Gemma are those of TRL's training templates, which take the line end behind the turn with it.
const FAMILIES: [Family; 9] = [
    Family {
        name: "Qwen3",
        with: &["<|im_start|>", "<think>"],
        without: &[],
        header: "<|im_start|>assistant\n",
        ends: &["<|im_end|>\n"],
        to_the_end: false,
    },
    Family {
        name: "Qwen2.5",
        with: &["<|im_start|>", "You are Qwen, created by Alibaba Cloud"],
        without: &[],
        header: "<|im_start|>assistant",
        ends: &["<|im_end|>\n"],
        to_the_end: false,
    },
    Family {
        name: "ChatML",
        with: &["<|im_start|>", "<|im_end|>"],
        without: &[],
        header: "<|im_start|>assistant\n",
        ends: &["<|im_end|>"],
        to_the_end: false,
    },
    Family {
        name: "Llama 3",
        with: &["<|start_header_id|>", "<|eot_id|>"],
        without: &[],
        header: "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ends: &["<|eot_id|>", "<|eom_id|>"],
        to_the_end: false,
    },
    Family {
        name: "Phi-3",
        with: &["<|assistant|>", "<|end|>"],
        without: &[],
        header: "<|assistant|>\n",
        ends: &["<|end|>\n"],
        to_the_end: true,
    },
    Family {
        name: "Phi-4",
        with: &["<|im_sep|>", "<|im_end|>"],
        without: &[],
        header: "assistant<|im_sep|>",
        ends: &["<|im_end|>"],
        to_the_end: false,
    },
    Family {
        name: "Gemma",
        with: &["<start_of_turn>", "<end_of_turn>"],
        without: &[],
        header: "<start_of_turn>model\n",
        ends: &["<end_of_turn>\n"],
        to_the_end: false,
    },
    Family {
        name: "Zephyr",
        with: &["<|assistant|>", "eos_token"],
        without: &["<|end|>"],
        header: "<|assistant|>\n",
        ends: &["</s>"],
        to_the_end: false,
    },
    Family {
        name: "Mistral",
        with: &["[INST]", "[/INST]", "eos_token"],
        without: &[],
        header: "[/INST]",
        ends: &["</s>"],
        to_the_end: false,
    },
];

impl Family {
    fn of(source: &str) -> Option<&'static Family> {
        let fits =
            |f: &&Family| f.with.iter().all(|s| source.contains(s)) && !f.without.iter().any(|s| source.contains(s));
        // Phi-4 also writes <|im_start|>; its separator tells it from ChatML.
        if source.contains("<|im_sep|>") {
            FAMILIES.iter().find(|f| f.name == "Phi-4" && fits(f))
        } else {
            FAMILIES.iter().find(fits)
        }
    }

    /// The assistant's turns in a rendered text. A header without an end is the generation prompt.
    fn turns(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(self.header) {
            let start = at + found + self.header.len();
            let end = self.ends.iter().filter_map(|e| text[start..].find(e).map(|i| start + i + e.len())).min();
            let Some(end) = end else { break };
            spans.push(start..end);
            at = end;
        }
        if let Some(last) = spans.last_mut().filter(|last| self.to_the_end && !text[last.end..].contains("<|")) {
            last.end = text.len();
        }
        spans
    }
}

/// Renders a conversation with the assistant's spans: the template's own generation marks, else those of its family.
///
/// The text is always the model's own template's. Errors: a template of no known family; a rendering whose turns are not the
/// conversation's assistant messages one by one, so that a mask would be wrong.
pub fn render_with_generation(templates: &ChatTemplates, input: &RenderInput) -> Result<Rendered> {
    let template = templates.select_for(input)?;
    let mut rendered = templates.render(input)?;
    if let Some(line) = rendered.misplaced {
        return Err(Error::input(format!(
            "assistant_only_loss: line {line} of the chat template has a {{% generation %}} mark inside a macro, call, set or filter \
             block, whose text is not printed at once (transformers would mark another place). Put the marks where the template prints"
        )));
    }
    if template.has_generation() {
        return Ok(rendered);
    }
    let Some(family) = Family::of(template.source()) else {
        let known: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
        return Err(Error::input(format!(
            "assistant_only_loss needs a chat template with {{% generation %}} marks. This one has none and is of no family whose \
             marks are known ({}). Put the marks around the assistant's text in chat_template.jinja, or train without assistant_only_loss",
            known.join(", ")
        )));
    };
    let spans = family.turns(&rendered.text);
    let said: Vec<&Json> =
        input.messages.iter().filter(|m| m.get("role").and_then(Json::as_str) == Some("assistant")).collect();
    let fits = spans.len() == said.len()
        && spans.iter().zip(&said).all(|(span, message)| holds(&rendered.text[span.clone()], message));
    if !fits {
        return Err(Error::input(format!(
            "assistant_only_loss: the chat template has no {{% generation %}} marks and was taken for one of the {} family, but the {} \
             assistant turns it renders are not the {} assistant messages of the row. Put the marks into chat_template.jinja, or train without assistant_only_loss",
            family.name,
            spans.len(),
            said.len()
        )));
    }
    rendered.generation = spans;
    Ok(rendered)
}

/// Whether a turn's text holds what the message says (its reasoning aside, which templates may leave out).
fn holds(turn: &str, message: &Json) -> bool {
    match message.get("content").and_then(Json::as_str) {
        Some(text) => turn.contains(text.rsplit("</think>").next().unwrap_or(text).trim()),
        None => true,
    }
}

/// Token ids of a rendered chat and which of them the assistant wrote: every token that overlaps a span, by characters, as
/// transformers' `return_assistant_tokens_mask` has it.
pub fn assistant_mask(tokenizer: &Tokenizer, rendered: &Rendered) -> Result<(Vec<u32>, Vec<bool>)> {
    let encoding = tokenizer.encode_with_offsets(&rendered.text)?;
    let ids = encoding.get_ids().to_vec();
    let mut mask = vec![false; ids.len()];
    let char_at = |byte: usize| rendered.text[..byte].chars().count();
    let spans: Vec<Range<usize>> = rendered.generation.iter().map(|s| char_at(s.start)..char_at(s.end)).collect();
    let mut spans = spans.iter().peekable();
    for (masked, (start, end)) in mask.iter_mut().zip(encoding.get_offsets()) {
        while spans.next_if(|span| *start >= span.end).is_some() {}
        let Some(span) = spans.peek() else { break };
        *masked = *end > span.start;
    }
    Ok((ids, mask))
}
