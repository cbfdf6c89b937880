//! What a run can be told: each option is declared once, which gives its parser, YAML key, help and docs.
//!
//! Reading order: value, spec and given (together), choices, groups, sft, tools, accepted, file, flags, parse, reference.
pub mod accepted;
pub mod choices;
pub mod file;
pub mod flags;
pub mod given;
pub mod groups;
pub mod parse;
pub mod reference;
pub mod sft;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod tools;
pub mod value;

pub use choices::*;
pub use groups::*;
pub use parse::Parsed;
pub use sft::{SftLossOptions, SftOptions};
pub use spec::{Command, OptionGroup, OptionSpec, fingerprint, resolved};
pub use tools::{
    FoldOptions, GenerateOptions, MergeOptions, PreviewOptions, QuickstartOptions, SamplingOptions, ShownOptions,
    TokenizerOptions, TourOptions,
};
pub use value::Steps;
