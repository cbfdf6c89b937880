//! Data sets: rows from files, their formats, tokens with what is trained on, packing, order.
//!
//! Modules in reading order; each uses only those before it.
pub mod format;
pub mod order;
pub mod pack;
pub mod preview;
pub mod read;
pub mod tokenize;
pub mod preference;
pub mod answers;

pub use answers::{AnswerStats, Labelled, Ranking, Sequence};
pub use format::{Format, SftRow};
pub use read::{Row, read_rows};
pub use tokenize::{Example, Stats, TokenizeOptions, tokenize_sft};
