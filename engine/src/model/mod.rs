//! The transformer: what a model is made of, and how it runs.
pub(crate) mod fields;
mod rope_config;

pub mod config;
#[cfg(test)]
mod config_tests;
