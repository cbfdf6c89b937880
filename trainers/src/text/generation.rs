//! Which tokens of a rendered chat the assistant wrote, from generation marks or, for known families without them, from their turns.
use std::ops::Range;

use serde_json::Value as Json;

use super::chat_template::{ChatTemplates, RenderInput, Rendered};
use super::template_families::{Family, known};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

impl Family {
    /// The assistant's turns in a rendered text, each with the parts of it that the model writes. A header without an end is the
    /// generation prompt. `eos` is the token that ends a sequence.
    fn turns(&self, text: &str, eos: Option<&str>) -> Vec<Vec<Range<usize>>> {
        let mut turns = Vec::new();
        let mut at = 0;
        let header = |from: usize| {
            let found = self.headers.iter().filter_map(|h| text[from..].find(h).map(|i| (from + i, h.len())));
            found.min_by_key(|(start, _)| *start)
        };
        while let Some((start, length)) = header(at) {
            let inside = start + length;
            let end = self.ends.iter().filter_map(|(end, said)| {
                let found = inside + text[inside..].find(end)?;
                Some((found, if *said { found + end.len() } else { found }))
            });
            let end = end.min_by_key(|(found, _)| *found).map(|(_, end)| end);
            let open_end = Some(text.len()).filter(|end| self.ends_with_text && *end > inside);
            let Some(end) = end.or(open_end) else { break };
            turns.push(self.parts(text, if self.header_is_said { start } else { inside }..end));
            at = end;
        }
        let last = turns.last_mut().and_then(|parts| parts.last_mut());
        if let (true, Some(last), Some(eos)) = (self.takes_eos, last, eos)
            && &text[last.end..] == eos
        {
            last.end = text.len();
        }
        turns
    }

    /// A turn without what is not the model's.
    fn parts(&self, text: &str, turn: Range<usize>) -> Vec<Range<usize>> {
        let Some((open, close)) = self.without else { return vec![turn] };
        let mut parts = Vec::new();
        let mut at = turn.start;
        while let Some(found) = text[at..turn.end].find(open) {
            let start = at + found;
            parts.push(at..start);
            let end = text[start..turn.end].find(close).map_or(turn.end, |i| start + i + close.len());
            at = end;
        }
        parts.push(at..turn.end);
        parts
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
    let Some(family) = template.family() else {
        return Err(Error::input(format!(
            "assistant_only_loss needs a chat template with {{% generation %}} marks. This one has none and is of no family whose \
             marks are known ({}). Put the marks around the assistant's text in chat_template.jinja, or train without assistant_only_loss",
            known()
        )));
    };
    let turns = family.turns(&rendered.text, templates.special_token("eos_token"));
    let said: Vec<&Json> =
        input.messages.iter().filter(|m| m.get("role").and_then(Json::as_str) == Some("assistant")).collect();
    let text_of = |turn: &[Range<usize>]| turn.iter().map(|part| &rendered.text[part.clone()]).collect::<String>();
    let fits = if family.several {
        let all: String = turns.iter().map(|turn| text_of(turn)).collect();
        turns.len() >= said.len() && said.iter().all(|message| holds(&all, message))
    } else {
        turns.len() == said.len() && turns.iter().zip(&said).all(|(turn, message)| holds(&text_of(turn), message))
    };
    if !fits {
        return Err(Error::input(format!(
            "assistant_only_loss: the chat template has no {{% generation %}} marks and was taken for one of the {} family, but the {} \
             assistant turns it renders are not the {} assistant messages of the row. Put the marks into chat_template.jinja, or train without assistant_only_loss",
            family.name,
            turns.len(),
            said.len()
        )));
    }
    rendered.generation = turns.concat();
    Ok(rendered)
}

/// Whether a turn's text holds what the message says (its reasoning aside, which templates may leave out, and what stands beside
/// a tool call, which some do).
fn holds(turn: &str, message: &Json) -> bool {
    let calls = message.get("tool_calls").and_then(Json::as_array).is_some_and(|calls| !calls.is_empty());
    match message.get("content").and_then(Json::as_str) {
        Some(text) if !calls => turn.contains(text.rsplit("</think>").next().unwrap_or(text).trim()),
        _ => true,
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
