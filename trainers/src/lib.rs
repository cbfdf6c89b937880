//! Data sets, losses, training loops and the program.
//!
//! Modules in reading order; each uses only those before it.
#![warn(missing_docs)]

/// A line on standard error. What cannot be written there is lost: a terminal that was closed must not end a run.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod error;
pub mod plural;
pub mod device;
pub mod hub;
pub mod text;
pub mod small_model;
mod named;
pub mod data;
pub mod statistics;
pub mod curves;
pub mod losses;
pub mod advantages;
pub mod options;
pub mod run;
pub mod report;
pub mod job;
pub mod judges;
pub mod sft;
pub mod preferences;
pub mod policy_gradients;
pub mod evaluate;
pub mod doctor;
pub mod exercises;
pub mod comparison;
pub mod cli;

pub use error::{Error, Result};
