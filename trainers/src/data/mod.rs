//! Data sets: rows from files, their formats, tokens with what is trained on, packing, order.
//!
//! Modules in reading order; each uses only those before it.
mod zstd_pages;
mod parquet_rows;
mod csv_rows;
mod parquet_writer;
pub mod read;
pub mod row_reader;
pub mod row_writer;
pub mod splits;
pub mod others;
pub mod load;
pub mod piped;
pub mod interleave;
pub mod mixture;
pub mod stream;
pub mod blocks;
pub mod format;
pub mod order;
pub mod pack;
pub mod tokenize;
pub mod preference_rows;
pub mod answers;
pub mod held_out;
pub mod marked;
pub mod reshape;
pub mod duplicates;
pub mod survey;

pub use answers::{AnswerStats, Labelled, Ranking, Sequence};
pub use format::{Format, SftRow};
pub use load::{DataSet, Loaded, load, load_evaluation};
pub use others::Calls;
pub use read::Row;
pub use tokenize::{Example, Stats, TokenizeOptions, tokenize_sft};
