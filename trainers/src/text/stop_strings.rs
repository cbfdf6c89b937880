//! Texts that end a completion, as transformers' `stop_strings` do: with the token that completes one it ends, and holds it.
use super::tokenizer::Tokenizer;
use crate::error::Result;

/// The texts; none where nothing but the model's own tokens ends a completion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStrings(pub Vec<String>);

impl StopStrings {
    /// Whether the last of a completion's tokens completes one of the texts.
    pub fn end(&self, tokens: &[u32], tokenizer: &Tokenizer) -> Result<bool> {
        let Some(longest) = self.0.iter().map(String::len).max() else { return Ok(false) };
        // A token may be as little as a byte of text; looking further back would find texts that were there before.
        let text = tokenizer.decode_plain(&tokens[tokens.len().saturating_sub(longest + 8)..])?;
        Ok(self.0.iter().any(|stop| text.contains(stop.as_str())))
    }
}
