//! Data sets, losses, training loops and the program.
//!
//! Reading order: error, device, options, schedule, run, cli. Each uses only those before it.
pub mod cli;
pub mod device;
pub mod error;
pub mod options;
pub mod run;
pub mod schedule;

pub use error::{Error, Result};
