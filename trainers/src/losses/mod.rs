//! Losses: pure functions of log-probabilities, one small function each, with paper and equation.
pub mod sft;
pub mod policy;
pub mod weights;
pub mod clipping;
pub mod kl;
pub mod value;
