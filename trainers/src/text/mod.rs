//! Text and tokens: tokenizers, chat templates, and which tokens of a rendered chat the assistant wrote.
//!
//! In reading order: `exact_json`, what a template may use (`python`, `tojson`, `strftime`, `builtins`), `template_source`, `chat_template`,
//! `gguf_tokenizer`, `tokenizer`, `generation`.
pub mod builtins;
pub mod chat_template;
pub mod exact_json;
pub mod generation;
pub mod gguf_tokenizer;
mod python;
mod strftime;
pub mod template_source;
mod tojson;
pub mod tokenizer;

pub use chat_template::{ChatTemplate, ChatTemplates, RenderInput, Rendered};
pub use tokenizer::Tokenizer;
