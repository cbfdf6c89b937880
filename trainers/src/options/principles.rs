//! `lapidary judge` and `lapidary revise`: a model that judges, or improves, by the principles of a constitution.
use super::choices::VerdictRule;
use super::drawing::DrawingOptions;
use super::given::Given;
use super::groups::*;
use super::rl_values::{Paths, Texts};
use super::spec::{Command, option_group, option_set};
use super::value::{ANY, Location, at_least};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// What is judged, by what, and where the verdicts go.
    pub struct VerdictOptions "Judge" {
        /// The rows: prompt and completions (each two are compared), chosen and rejected, or prompt and completion
        /// (graded by itself).
        dataset_name: Location = required, Trl;
        /// The principles to judge by: a text file.
        constitution | judge_constitution: PathBuf = required, Lapidary;
        /// A Jinja file that makes the question of constitution, prompt, completions and options; none for the built-in
        /// one.
        judge_template: Option<PathBuf> = none, Lapidary;
        /// A pair's verdict: agree, where both orders must agree, or average, the sign of their mean.
        judge_verdict: VerdictRule = "agree", Lapidary;
        /// The file to write; none for standard output.
        output_file: Option<PathBuf> = none, Lapidary;
        /// A file for the pairs without a verdict: ties.
        ties_file: Option<PathBuf> = none, Lapidary;
        /// Write over output_file and ties_file.
        overwrite_output_file: bool = "false", Lapidary;
        /// Pairs or answers that are judged at once.
        per_device_eval_batch_size: usize = "8", Trl, at_least(1.0), free;
        /// A PEFT adapter to put on the judge.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
    }
}

option_set! {
    /// Everything `lapidary judge` can be told.
    pub struct JudgeOptions {
        pub model: ModelOptions,
        pub verdict: VerdictOptions,
        pub split: SplitOptions,
        pub device: DeviceOptions,
    }
}

impl Command for JudgeOptions {
    const NAME: &'static str = "judge";
    const ABOUT: &'static str =
        "Compare (or grade) the answers of a file by a constitution; writes pairs that dpo and reward train on";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        self.model.find_base(&mut self.verdict.adapter_name_or_path, given, &mut notes)?;
        Ok(notes)
    }
}

option_group! {
    /// What is answered and improved, by what, and where it goes.
    pub struct RevisionOptions "Revise" {
        /// The rows: prompt, and completion where there is a first answer already.
        dataset_name: Location = required, Trl;
        /// The principles to improve by: a text file.
        constitution: PathBuf = required, Lapidary;
        /// A Jinja file that asks for a critique of constitution, prompt and completion; none for the built-in one.
        critique_template: Option<PathBuf> = none, Lapidary;
        /// A Jinja file that asks for a better answer of constitution, prompt, completion and critique; none for the
        /// built-in one.
        revision_template: Option<PathBuf> = none, Lapidary;
        /// How often each answer is criticised and rewritten.
        num_revisions: usize = "1", Lapidary, at_least(1.0);
        /// The file to write.
        output_file: PathBuf = required, Lapidary;
        /// Write over output_file.
        overwrite_output_file: bool = "false", Lapidary;
        /// A PEFT adapter to put on the model.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
    }
}

option_set! {
    /// Everything `lapidary revise` can be told.
    pub struct ReviseOptions {
        pub model: ModelOptions,
        pub revision: RevisionOptions,
        pub drawing: DrawingOptions,
        pub split: SplitOptions,
        pub device: DeviceOptions,
    }
}

impl Command for ReviseOptions {
    const NAME: &'static str = "revise";
    const ABOUT: &'static str =
        "Answer prompts, criticise the answers by a constitution and rewrite them; writes rows that sft trains on";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        self.model.find_base(&mut self.revision.adapter_name_or_path, given, &mut notes)?;
        Ok(notes)
    }
}

option_group! {
    /// What is drawn, and where to.
    pub struct PictureOptions "Plot" {
        /// Directories of runs, or metrics.jsonl files: a line each in every panel.
        run_dirs: Paths = required, Lapidary;
        /// The metrics: a panel each.
        metrics: Vec<String> = "loss", Lapidary;
        /// What the runs are called in the picture; none for their directories' names.
        labels: Texts = none, Lapidary;
        /// The heading.
        title: Option<String> = none, Lapidary;
        /// Average each metric over so many logged values.
        smooth: usize = "1", Lapidary, at_least(1.0);
        /// The SVG file to write.
        out: PathBuf = required, Lapidary;
        /// Write over it.
        overwrite_output_file: bool = "false", Lapidary;
    }
}

option_group! {
    /// Which runs a report is about.
    pub struct AboutOptions "Report" {
        /// Directories of runs; several are laid over each other.
        run_dirs: Paths = required, Lapidary;
        /// The HTML file to write; none for report.html in the run's own directory.
        out: Option<PathBuf> = none, Lapidary;
        /// Write over it.
        overwrite_output_file: bool = "false", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary report` can be told.
    pub struct ReportOptions {
        pub about: AboutOptions,
    }
}

impl Command for ReportOptions {
    const NAME: &'static str = "report";
    const ABOUT: &'static str =
        "Write the report of one or several runs: curves, completions, warnings, in one HTML file";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let html = |end: &std::ffi::OsStr| end.eq_ignore_ascii_case("html");
        if self.about.out.as_ref().is_some_and(|out| !out.extension().is_some_and(html)) {
            return given.complain("out", "must end in .html: the report is a page");
        }
        Ok(Vec::new())
    }
}

option_group! {
    /// Which runs are watched, and where.
    pub struct WatchedOptions "Watch" {
        /// Directories of runs; several are laid over each other.
        run_dirs: Paths = required, Lapidary;
        /// The address that is listened to; 0.0.0.0 lets other machines look, too.
        host: String = "127.0.0.1", Lapidary;
        /// The port; 0 takes a free one.
        port: usize = "8642", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary watch` can be told.
    pub struct WatchOptions {
        pub watched: WatchedOptions,
    }
}

impl Command for WatchOptions {
    const NAME: &'static str = "watch";
    const ABOUT: &'static str = "Serve the report of a run while it goes on, to a browser on this machine";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        if self.watched.port > usize::from(u16::MAX) {
            return given.complain("port", "is no port: they go up to 65535");
        }
        Ok(Vec::new())
    }
}

option_set! {
    /// Everything `lapidary plot` can be told.
    pub struct PlotOptions {
        pub picture: PictureOptions,
    }
}

impl Command for PlotOptions {
    const NAME: &'static str = "plot";
    const ABOUT: &'static str = "Draw metrics of one or several runs against their steps as an SVG picture";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let picture = &self.picture;
        let (runs, labels) = (picture.run_dirs.0.len(), picture.labels.0.len());
        if given.differs("labels") && labels != runs {
            return given.complain("labels", format!("has {labels} names for {runs} runs"));
        }
        if picture.out.extension().is_none_or(|end| !end.eq_ignore_ascii_case("svg")) {
            return given.complain("out", "must end in .svg: the picture is an SVG, which browsers and editors open");
        }
        Ok(Vec::new())
    }
}
