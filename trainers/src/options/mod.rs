//! What a run can be told: each option is declared once, which gives its parser, YAML key, help and docs.
//!
//! Modules in reading order; each uses only those before it (`spec` and `given` read together).
pub mod value;
pub mod refused;
pub mod spec;
pub mod given;
pub mod lists;
pub mod datasets;
pub mod choices;
pub mod groups;
pub mod hub_names;
pub mod adapted;
pub mod shared;
pub mod evaluation_samples;
pub mod sync;
pub mod sft;
pub mod rl_values;
pub mod drawing;
pub mod rl;
pub mod policy_gradient;
pub mod preference;
pub mod reward;
pub mod principles;
pub mod tools;
pub mod data_tools;
pub mod leaving;
pub mod again;
pub mod evaluation;
pub mod comparing;
pub mod accepted;
pub mod file;
pub mod flags;
pub mod parse;
pub mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trl_tests;

pub use adapted::base_of;
pub use again::{DiffOptions, DifferOptions, ReproduceOptions, ReproducedOptions, VerifiedOptions, VerifyOptions};
pub use choices::*;
pub use comparing::{ArbiterOptions, CompareOptions, ContestOptions};
pub use data_tools::{
    ConvertedOptions, DataConvertOptions, DataDedupOptions, DataStatsOptions, DeduplicatedOptions, SurveyedOptions,
};
pub use datasets::Datasets;
pub use drawing::{DrawingOptions, RolloutOptions, own_stop_strings};
pub use evaluation::{EvalOptions, EvaluatedOptions};
pub use evaluation_samples::EvaluationSampleOptions;
pub use groups::*;
pub use leaving::{
    ChatOptions, ExportOptions, HeldOptions, PushOptions, PushedOptions, SourceOptions, TalkOptions, TargetOptions,
};
pub use lists::{List, Mapping};
pub use parse::{Parsed, options_of};
pub use policy_gradient::{
    GrpoOptions, OnlineDpoOptions, PolicyGradient, PpoOptions, RaftOptions, ReinforceOptions, RlooOptions,
};
pub use preference::*;
pub use principles::{
    AboutOptions, JudgeOptions, PictureOptions, PlotOptions, ReportOptions, ReviseOptions, RevisionOptions,
    VerdictOptions, WatchOptions,
};
pub use reward::{RewardLossOptions, RewardOptions, ScoreOptions, ScoredOptions};
pub use rl::*;
pub use rl_values::*;
pub use sft::{SftLossOptions, SftOptions};
pub use shared::{Common, TrainingCommand};
pub use spec::{Command, OptionGroup, OptionSpec, fingerprint, resolved};
pub use sync::SyncOptions;
pub use tools::{
    CheckOptions, CompletedOptions, CompletionsOptions, DoctorOptions, DoctorStepOptions, EnvOptions, ExerciseOptions,
    FoldOptions, FormatOptions, GenerateOptions, LearningOptions, MergeOptions, PreviewOptions, QuickstartOptions,
    SamplingOptions, ShownOptions, TokenizerOptions, TourOptions,
};
pub use value::Steps;
