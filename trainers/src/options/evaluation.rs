//! `lapidary eval`: a model on task files.
use super::given::Given;
use super::groups::{DeviceOptions, ModelOptions};
use super::rl_values::Paths;
use super::spec::{Command, option_group, option_set};
use super::value::{ANY, at_least};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// What is asked, and where the results go.
    pub struct EvaluatedOptions "Evaluation" {
        /// Task files of lm-evaluation-harness (.yaml).
        tasks: Paths = required, Lapidary;
        /// A PEFT adapter to put on the model.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
        /// Examples in each prompt; none for what the task says.
        num_fewshot: Option<usize> = none, Lapidary;
        /// Only the first rows of each task; none for all.
        limit: Option<usize> = none, Lapidary, at_least(1.0);
        /// Sequences that are computed at once. No number depends on it.
        batch_size: usize = "8", Lapidary, at_least(1.0);
        /// Seed of answers that are drawn (tasks with a temperature).
        seed: u64 = "42", Trl;
        /// Directory for results.json and samples_TASK.jsonl; none prints the table alone.
        output_dir: Option<PathBuf> = none, Lapidary;
        /// Write over results in output_dir.
        overwrite_output_dir: bool = "false", Transformers;
    }
}

option_set! {
    /// Everything `lapidary eval` can be told.
    pub struct EvalOptions {
        pub model: ModelOptions,
        pub evaluated: EvaluatedOptions,
        pub device: DeviceOptions,
    }
}

impl Command for EvalOptions {
    const NAME: &'static str = "eval";
    const ABOUT: &'static str =
        "Ask a model the task files of lm-evaluation-harness; prints metrics with standard errors";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        self.model.find_base(&mut self.evaluated.adapter_name_or_path, given, &mut notes)?;
        Ok(notes)
    }
}
