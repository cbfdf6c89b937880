//! Data sets, losses, training loops and the program.
//!
//! Modules in reading order; each uses only those before it.
pub mod error;
pub mod text;
pub mod data;
pub mod losses;
pub mod learner;
pub mod cli;

pub use error::{Error, Result};
