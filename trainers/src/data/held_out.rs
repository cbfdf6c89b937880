//! Rows of SFT as prompts with the answers they want: what a model is asked at an evaluation.
use super::answers::Sequence;
use super::format::{Content, SftRow, recognise, sft_row};
use super::read::Row;
use super::tokenize::{in_row, tokenize_row};
use crate::error::Result;
use crate::text::Tokenizer;
use serde_json::Value;

/// The first `n` rows that have a prompt: what stands before the completion, or before the assistant's last message. Plain text has
/// none. `now`: what a template that asks for the date is told, in seconds since 1970.
pub fn prompts_with_answers(
    rows: &[Row],
    text_field: &str,
    tokenizer: &Tokenizer,
    now: i64,
    n: usize,
) -> Result<Vec<Sequence>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let format = recognise(first, text_field)?;
    let templates = if format.is_conversational() { Some(tokenizer.chat_templates(now)?) } else { None };
    let mut all = Vec::new();
    for row in rows {
        if all.len() == n {
            break;
        }
        let parsed = sft_row(row, format, text_field)?;
        let Some(content) = parted(&parsed.content) else { continue };
        let parted = SftRow { content, ..parsed };
        let tokens = tokenize_row(&parted, tokenizer, templates.as_ref(), false).map_err(|e| in_row(row, e))?;
        all.push(Sequence { start: tokens.completion_start, ids: tokens.ids });
    }
    Ok(all)
}

/// A row's content as prompt and answer; None where nothing in it answers anything.
fn parted(content: &Content) -> Option<Content> {
    match content {
        Content::Text(_) => None,
        Content::Messages(messages) => {
            let is_answer = |message: &Value| message["role"].as_str() == Some("assistant");
            let at = messages.iter().rposition(is_answer).filter(|at| *at > 0)?;
            let (prompt, completion) = (messages[..at].to_vec(), vec![messages[at].clone()]);
            Some(Content::PromptCompletionMessages { prompt, completion })
        }
        parted => Some(parted.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_conversation_is_parted_at_its_last_answer() {
        let message = |role: &str, text: &str| json!({"role": role, "content": text});
        let talk = [message("user", "a"), message("assistant", "b"), message("user", "c"), message("assistant", "d")];
        let Some(Content::PromptCompletionMessages { prompt, completion }) = parted(&Content::Messages(talk.to_vec()))
        else {
            panic!("it has an answer")
        };
        assert_eq!((&prompt[..], &completion[..]), (&talk[..3], &talk[3..]));
        assert_eq!(parted(&Content::Messages(talk[..1].to_vec())), None);
        assert_eq!(parted(&Content::Messages(talk[1..2].to_vec())), None);
        assert_eq!(parted(&Content::Text("a".into())), None);
    }
}
