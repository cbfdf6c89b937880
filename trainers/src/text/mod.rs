//! Text and tokens: tokenizers, chat templates, and which tokens of a rendered chat the assistant wrote.
pub mod builtins;
pub mod chat_template;
pub mod generation;
pub mod gguf_tokenizer;
pub mod template_source;
pub mod tokenizer;

pub use chat_template::{ChatTemplate, ChatTemplates, RenderInput, Rendered};
pub use tokenizer::Tokenizer;
