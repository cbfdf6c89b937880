//! `lapidary compare`: two models on the same prompts.
use super::choices::VerdictRule;
use super::drawing::DrawingOptions;
use super::given::Given;
use super::groups::*;
use super::leaving::HeldOptions;
use super::rl_values::Paths;
use super::spec::{Command, option_group, option_set};
use super::value::{Location, at_least};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// Who is compared, on what, and where it is written.
    pub struct ContestOptions "Compare" {
        /// The two models: directories in Hugging Face layout, .gguf files, or directories of adapters.
        models: Paths = required, Lapidary;
        /// The model that adapters among them are put on; none for the one that each names.
        model_name_or_path: Option<Location> = none, Trl;
        /// The rows: prompt, a text or messages; where they have answer or solution, exact answers are counted.
        prompts | dataset_name: Location = required, Lapidary;
        /// Take only so many of the rows, the first.
        num_prompts: Option<usize> = none, Trl, at_least(1.0);
        /// Print so many of the prompts with both answers.
        rows: usize = "5", Lapidary, at_least(0.0);
        /// Answers that are scored at once.
        per_device_eval_batch_size: usize = "8", Trl, at_least(1.0);
        /// A file for a line of JSON a prompt: both answers and what was found about them.
        output_file: Option<PathBuf> = none, Lapidary;
        /// A file for the same as an HTML page.
        out: Option<PathBuf> = none, Lapidary;
        /// Write over output_file and out.
        overwrite_output_file: bool = "false", Lapidary;
    }
}

option_group! {
    /// Who says which answer is better.
    pub struct ArbiterOptions "Judges" {
        /// A language model that says by judge_constitution which answer is better.
        judge | judge_model: Option<Location> = none, Trl;
        /// The principles that it judges by: a text file.
        judge_constitution | constitution: Option<PathBuf> = none, Lapidary;
        /// A Jinja file that makes its question of constitution, prompt, completions and options; none for the built-in one.
        judge_template: Option<PathBuf> = none, Lapidary;
        /// Its verdict: agree, where both orders must agree, or average, the sign of their mean.
        judge_verdict: VerdictRule = "agree", Lapidary;
        /// A trained reward model, which gives each answer a number.
        reward_model_name_or_path | reward_model | reward_model_path: Option<Location> = none, Trl;
    }
}

option_set! {
    /// Everything `lapidary compare` can be told.
    pub struct CompareOptions {
        pub contest: ContestOptions,
        pub arbiter: ArbiterOptions,
        pub held: HeldOptions,
        pub drawing: DrawingOptions,
        pub split: SplitOptions,
        pub device: DeviceOptions,
    }
}

impl Command for CompareOptions {
    const NAME: &'static str = "compare";
    const ABOUT: &'static str =
        "Ask two models the same: answers beside each other, likelihoods, lengths, and which is better";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let (contest, arbiter) = (&self.contest, &self.arbiter);
        let n = contest.models.0.len();
        if n != 2 {
            return given.complain("models", format!("names {n} of the two that are compared: lapidary compare A B"));
        }
        let html = |end: &std::ffi::OsStr| end.eq_ignore_ascii_case("html");
        if contest.out.as_ref().is_some_and(|out| !out.extension().is_some_and(html)) {
            return given.complain("out", "must end in .html: it is a page; rows go to --output_file");
        }
        if arbiter.judge.is_some() && arbiter.judge_constitution.is_none() {
            return given.complain("judge_constitution", "is missing: a judge judges by the principles in this file");
        }
        let mut notes = self.drawing.without_effect(given);
        if arbiter.judge.is_none() {
            let names = ["judge_constitution", "judge_template", "judge_verdict"].into_iter();
            notes.extend(
                names.filter(|name| given.differs(name)).map(|name| format!("{name} has no effect without a judge")),
            );
        }
        Ok(notes)
    }
}
