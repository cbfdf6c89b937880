//! Data sets, losses, training loops and the program.
//!
//! Modules in reading order; each uses only those before it.
pub mod cli;
pub mod data;
pub mod error;
pub mod text;

pub use error::{Error, Result};
