//! Text and tokens: tokenizers, chat templates, and which tokens of a rendered chat the assistant wrote.
//!
//! In reading order: `exact_json`, `jinja`, `template_families`, `chat_template`, `gguf_tokenizer`, `tokenizer`,
//! `stop_strings`, `tokenizer_as_gguf`, `go_template`, `generation`.
pub mod chat_template;
pub mod exact_json;
mod template_families;
pub mod generation;
pub mod gguf_tokenizer;
pub mod go_template;
pub mod jinja;
pub mod stop_strings;
pub mod tokenizer;
pub mod tokenizer_as_gguf;

pub use chat_template::{ChatTemplate, ChatTemplates, RenderInput, Rendered};
pub use stop_strings::StopStrings;
pub use tokenizer::Tokenizer;
