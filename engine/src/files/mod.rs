//! Model files: Hugging Face directories, GGUF, PEFT adapters.
pub mod vocabulary;
