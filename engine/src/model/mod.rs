//! The transformer: one parametric decoder for all families, its LoRA layers, its KV cache.
pub mod config;
pub(crate) mod fields;
pub mod rope;
pub mod linear;
pub mod cache;
pub mod decoder;
pub mod lora;
pub mod load;
pub mod memory;
