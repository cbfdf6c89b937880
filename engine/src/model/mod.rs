//! The transformer: what a model is made of, and how it runs.
pub mod config;
pub(crate) mod fields;
