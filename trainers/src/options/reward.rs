//! `lapidary reward` and `lapidary score`: models that say how good an answer is.
use super::given::Given;
use super::groups::*;
use super::preference::{AnswerOptions, trainer};
use super::shared::{check_shared, training_command};
use super::spec::{Command, option_group, option_set};
use super::value::{ANY, Location, at_least};
use crate::error::{Error, Result};
use std::path::PathBuf;

option_group! {
    /// The loss of a pair or ranking.
    pub struct RewardLossOptions "Training" {
        /// Weight of the loss that keeps rewards near zero; none for none.
        center_rewards_coefficient: Option<f64> = none, Trl, at_least(0.0);
    }
}

trainer! {
    /// Everything `lapidary reward` can be told.
    RewardOptions "reward" "Train a reward model on pairs or rankings of answers",
    defaults &[("learning_rate", "1e-4")],
    loss: RewardLossOptions;
    check(this, given, notes) {
        if given.differs("truncation_mode") {
            notes.push("truncation_mode has no effect: rows that are longer than max_length are left out".into());
        }
        let _ = this;
    }
}

option_group! {
    /// What is scored.
    pub struct ScoredOptions "Score" {
        /// The rows: prompt and completion, or chosen and rejected, or prompt and completions.
        dataset_name: Location = required, Trl;
        /// The file to write; none for standard output.
        output_file: Option<PathBuf> = none, Lapidary;
        /// Rows that are computed at once.
        per_device_eval_batch_size: usize = "8", Trl, at_least(1.0), free;
        /// Write over output_file.
        overwrite_output_file: bool = "false", Lapidary;
        /// A PEFT adapter of a reward model to put on the model.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
    }
}

option_set! {
    /// Everything `lapidary score` can be told.
    pub struct ScoreOptions {
        pub model: ModelOptions,
        pub scored: ScoredOptions,
        pub split: SplitOptions,
        pub device: DeviceOptions,
    }
}

impl Command for ScoreOptions {
    const NAME: &'static str = "score";
    const ABOUT: &'static str = "Score the answers of a file with a reward model; prints each row with its rewards";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        self.model.find_base(&mut self.scored.adapter_name_or_path, given, &mut notes)?;
        Ok(notes)
    }
}
