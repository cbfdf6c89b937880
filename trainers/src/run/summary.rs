//! How a run ends: what it learnt, how long it took, where it lies, what to look at, and what to type next.
use super::health::warnings;
use super::metrics::HEADLINES;
use super::progress::{Progress, duration, short_number, short_value};
use super::series::MetricsFile;
use crate::plural::counted;
use std::path::Path;
use std::time::Duration;

/// What the lines about a finished run are made from.
#[derive(Clone, Debug)]
pub struct Ending<'a> {
    /// The run's directory.
    pub directory: &'a Path,
    /// Its logged metrics.
    pub metrics: &'a MetricsFile,
    /// Optimiser steps of the whole run.
    pub steps: u64,
    /// Whether any of them were taken since it was resumed.
    pub trained: bool,
    /// Since it began or was resumed.
    pub elapsed: Duration,
    /// Tokens a second in that time.
    pub tokens_per_second: f64,
    /// What lies in the directory: "an adapter of rank 8".
    pub saved: &'a str,
    /// The run's report.
    pub report: &'a Path,
    /// The command that uses what was made.
    pub next: &'a str,
}

impl<'a> Ending<'a> {
    /// The ending of a run whose progress was shown.
    pub fn of(directory: &'a Path, metrics: &'a MetricsFile, steps: u64, progress: &Progress) -> Self {
        let (elapsed, tokens_per_second) = (progress.elapsed(), progress.tokens_per_second());
        Ending {
            directory,
            metrics,
            steps,
            trained: true,
            elapsed,
            tokens_per_second,
            saved: "",
            report: directory,
            next: "",
        }
    }

    /// The lines: first and last value of each metric that says whether it worked, held-out ones below the others.
    pub fn text(&self) -> String {
        let (time, speed) = (duration(self.elapsed.as_secs_f64()), short_number(self.tokens_per_second));
        let steps = counted(self.steps, "step");
        let mut text = match self.trained {
            true => format!("done: {steps} in {time}, {speed} tokens/s\n"),
            false => format!("done before: {steps}\n"),
        };
        let held_out = HEADLINES.iter().map(|(name, head)| (format!("eval_{name}"), format!("held-out {head}")));
        let all = HEADLINES.iter().map(|(name, head)| (name.to_string(), head.to_string())).chain(held_out);
        for (name, head) in all {
            let series = self.metrics.series(&name);
            match (series.first(), series.last()) {
                (Some((_, first)), Some((_, last))) if series.len() > 1 => {
                    text += &format!("  {head:<20} {} → {}\n", short_value(*first), short_value(*last));
                }
                (Some((_, only)), _) => text += &format!("  {head:<20} {}\n", short_value(*only)),
                _ => {}
            }
        }
        for warning in warnings(self.metrics) {
            text += &format!("warning: {warning}\n");
        }
        let (directory, report) = (self.directory.display(), self.report.display());
        text + &format!("saved: {directory} ({})\nreport: {report}\nnext: {}", self.saved, self.next)
    }
}

/// A path as a shell takes it: in quotes where it has a character that a shell reads otherwise.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=~".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_what_it_learnt() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            r#"{"step": 1, "loss": 0.6931, "rewards/accuracies": 0.0}"#,
            r#"{"step": 3, "loss": 0.25, "rewards/accuracies": 1.0}"#,
            r#"{"step": 3, "eval_loss": 0.5}"#,
        ];
        std::fs::write(dir.path().join("metrics.jsonl"), lines.join("\n")).unwrap();
        let metrics = MetricsFile::open(dir.path()).unwrap();
        let ending = Ending {
            directory: Path::new("out"),
            metrics: &metrics,
            steps: 3,
            trained: true,
            elapsed: Duration::from_secs(200),
            tokens_per_second: 1234.0,
            saved: "all weights",
            report: Path::new("out/report.html"),
            next: "lapidary generate",
        };
        let expected = "done: 3 steps in 3 min 20 s, 1.2k tokens/s\n  loss                 0.6931 → 0.2500\n  \
                        accuracy             0 → 1.0000\n  held-out loss        0.5000\nsaved: out (all weights)\nreport: \
                        out/report.html\nnext: lapidary generate";
        assert_eq!(ending.text(), expected);
        assert!(Ending { steps: 1, trained: true, ..ending.clone() }.text().starts_with("done: 1 step in 3 min"));
        assert!(Ending { trained: false, ..ending }.text().starts_with("done before: 3 steps\n  loss"));
    }

    #[test]
    fn paths_for_a_shell() {
        assert_eq!(quoted("a/b-1.gguf"), "a/b-1.gguf");
        assert_eq!(quoted("my model"), "'my model'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
