//! lapidary's engine: tensors, autograd, kernels for CPU and GPU, the transformer, generation and model files.
//!
//! Modules in reading order; each uses only those before it.
pub mod backend;
pub mod buffer;
pub mod cpu;
pub mod dtype;
pub mod error;
pub mod files;
pub mod forest;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod random;
pub mod reference;
pub mod verify;

pub use error::{Error, Result};
