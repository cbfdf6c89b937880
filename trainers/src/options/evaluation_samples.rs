//! Answers that a run gives at each evaluation: TRL's LogCompletionsCallback, as options under its names.
use super::choices::Strategy;
use super::given::Given;
use super::groups::RecordOptions;
use super::spec::option_group;
use super::value::{ANY, at_least};
use crate::error::Result;

option_group! {
    /// What the model is asked at each evaluation.
    pub struct EvaluationSampleOptions "Evaluation samples" {
        /// At each evaluation answer prompts of the evaluation rows, always with the likeliest token, and write the answers into
        /// samples.jsonl and the report.
        log_completions: bool = "false", Lapidary, ANY, free;
        /// How many prompts: the first that differ.
        num_prompts: usize = "4", Lapidary, at_least(1.0), free;
        /// Most tokens of such an answer.
        max_new_tokens: usize = "64", Lapidary, at_least(1.0), free;
    }
}

impl EvaluationSampleOptions {
    /// Complains where there is no evaluation to answer at.
    pub(super) fn check(&self, record: &RecordOptions, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        if self.log_completions && record.eval_strategy == Strategy::No && !record.eval_on_start {
            let detail =
                "goes with evaluations: give --eval_dataset, or --eval_strategy and a data set with a test split";
            return given.complain("log_completions", detail);
        }
        if !self.log_completions {
            let names = ["num_prompts", "max_new_tokens"].into_iter().filter(|name| given.differs(name));
            notes.extend(names.map(|name| format!("{name} has no effect without log_completions")));
        }
        Ok(())
    }
}
