//! The transformer: one parametric decoder for all families, its LoRA layers, and its KV cache.
pub mod cache;
pub mod config;
pub mod decoder;
pub mod linear;
pub mod load;
pub mod memory;
pub mod lora;
pub mod rope;
