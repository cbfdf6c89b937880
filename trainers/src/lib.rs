//! Data sets, losses, training loops and the program.
//!
//! Modules in reading order; each uses only those before it.
#![warn(missing_docs)]

pub mod error;
pub mod device;
pub mod text;
pub mod small_model;
pub mod data;
mod named;
pub mod statistics;
pub mod curves;
pub mod losses;
pub mod advantages;
pub mod options;
pub mod run;
pub mod job;
pub mod judges;
pub mod sft;
pub mod preferences;
pub mod policy_gradients;
pub mod doctor;
pub mod cli;

pub use error::{Error, Result};
