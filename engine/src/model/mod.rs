//! The transformer: one parametric decoder for all families, its LoRA layers, its KV cache.
pub(crate) mod fields;
mod rope_config;
pub mod config;
#[cfg(test)]
mod config_tests;
pub mod rope;
pub mod linear;
pub mod cache;
pub mod decoder;
pub mod lora;
pub mod load;
pub mod memory;
pub mod work;
