//! Data sets, losses, training loops and the program.
//!
//! Modules in reading order; each uses only those before it.
pub mod error;
pub mod device;
pub mod text;
pub mod small_model;
pub mod data;
mod named;
pub mod losses;
pub mod advantages;
pub mod options;
pub mod schedule;
pub mod run;
pub mod batch;
pub mod learner;
pub mod setup;
pub mod job;
pub mod answers;
pub mod sft_data;
pub mod reward_model;
pub mod judge;
pub mod speaker;
pub mod sft;
pub mod preference;
pub mod reward;
pub mod dpo;
pub mod orpo;
pub mod cpo;
pub mod kto;
pub mod rl;
pub mod reinforce;
pub mod rloo;
pub mod grpo;
pub mod ppo;
pub mod online_dpo;
pub mod doctor;
pub mod cli;

pub use error::{Error, Result};
