//! lapidary's engine: tensors, autograd, kernels for CPU and GPU, the transformer, generation and model files.
//!
//! Modules in reading order; each uses only those before it (a tensor and its tape know each other, and so do a
//! model's configuration and the files it is read from).
pub mod error;
pub mod dtype;
pub mod random;
pub mod quant;
pub mod forest;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod buffer;
pub mod backend;
pub mod reference;
pub mod verify;
pub mod cpu;
pub mod tensor;
pub mod tape;
pub mod ops;
pub mod optim;
pub mod files;
pub mod model;
pub mod generate;

pub use error::{Error, Result};
