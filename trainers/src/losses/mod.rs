//! Losses: pure functions of log-probabilities, one small function each, with paper and equation.
pub mod sft;
