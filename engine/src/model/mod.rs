//! The transformer: one parametric decoder for all families, its LoRA layers, its KV cache.
pub mod parameter;
pub mod rope;
pub mod linear;
pub mod neftune;
pub mod cache;
pub mod block;
pub mod token_rows;
pub mod decoder;
mod dora;
mod head;
pub mod lora;
pub mod load;
pub mod memory;
pub mod work;
#[cfg(test)]
mod tests;
