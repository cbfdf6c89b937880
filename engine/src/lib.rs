//! lapidary's engine: tensors, autograd, kernels for CPU and GPU, the transformer, generation and model files.
//!
//! A small network learns exclusive or:
//!
//! ```
//! use engine::{backend::Device, cpu::Cpu, ops, optim::AdamW, random::Stream, tape::Tape, tensor::Tensor};
//!
//! # fn main() -> engine::Result<()> {
//! let device: Device = Cpu::new(None)?;
//! let x = Tensor::from_f32(&device, vec![0., 0., 0., 1., 1., 0., 1., 1.], &[4, 2])?;
//! let target = Tensor::from_f32(&device, vec![0., 1., 1., 0.], &[4, 1])?;
//! let random = |n: u64, stream| (0..n).map(|i| Stream::new(1, stream).normal(i)).collect();
//! let mut weights = [
//!     Tensor::from_f32(&device, random(16, 0), &[8, 2])?, // hidden layer, [out, in]
//!     Tensor::zeros(&device, &[8])?,                      // its bias
//!     Tensor::from_f32(&device, random(8, 1), &[1, 8])?,  // output layer
//! ];
//! let mut adamw = AdamW::new(0.9, 0.999, 1e-8);
//! let mut last = f32::INFINITY;
//! for _ in 0..300 {
//!     let tape = Tape::new();
//!     let [w, b, o] = [0, 1, 2].map(|i| tape.watch(&weights[i]));
//!     let hidden = ops::relu(&ops::linear(&x, &w, Some(&b))?)?;
//!     let error = ops::sub(&ops::linear(&hidden, &o, None)?, &target)?;
//!     let loss = ops::sum(&ops::square(&error)?)?;
//!     let mut gradients = tape.backward([(&loss, Tensor::scalar(&device, 1.0)?)])?;
//!     let of = [&w, &b, &o].into_iter().filter_map(|leaf| gradients.take(leaf)).collect();
//!     drop((w, b, o));
//!     let named = weights.iter_mut().enumerate().map(|(i, t)| (i.to_string(), t, 0.0)).collect();
//!     adamw.step(named, of, 0.03, 1.0)?;
//!     last = loss.item()?;
//! }
//! assert!(last < 1e-2, "the loss is still {last}");
//! # Ok(())
//! # }
//! ```
//!
//! Modules in reading order; each uses only those before it (a tensor and its tape know each other).
#![warn(missing_docs)]

pub mod error;
pub mod dtype;
pub mod portable;
pub mod random;
pub mod likelihood;
pub mod quant;
mod codes;
pub mod forest;
pub mod buffer;
pub mod backend;
pub mod reference;
pub mod verify;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod tensor;
pub mod tape;
pub mod ops;
pub mod optim;
pub mod config;
pub mod files;
pub mod model;
pub mod generate;

pub use error::{Error, Result};
