//! `metrics.jsonl`: one JSON object per logged step, with TRL's names; and what each name means.
use super::durable::{io_error, write_file};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A metric and its meaning, for the report and the docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// "" for plain numbers.
    pub unit: &'static str,
    pub meaning: &'static str,
    /// Also measured on the evaluation rows, then named `eval_<name>`.
    pub is_evaluated: bool,
}

const fn metric(name: &'static str, unit: &'static str, is_evaluated: bool, meaning: &'static str) -> Metric {
    Metric { name, unit, meaning, is_evaluated }
}

/// Every metric that a run may log. A metric of several steps is their mean, unless it says otherwise.
pub const METRICS: &[Metric] = &[
    metric("step", "optimiser steps", false, "Optimiser steps done."),
    metric("epoch", "passes", false, "Passes over the training rows done, with fractions."),
    metric("loss", "nats per token", true, "What is minimised: for nll the mean of −log p over the tokens trained on."),
    metric("grad_norm", "", false, "Euclidean norm of all gradients together, before clipping, of the last step."),
    metric("learning_rate", "", false, "Learning rate of the last step."),
    metric("num_tokens", "tokens", true, "Tokens read since the run began, those that are not trained on included."),
    metric("entropy", "nats", true, "Mean entropy of the model's next-token distribution over the tokens trained on."),
    metric("mean_token_accuracy", "share", true, "Share of the tokens trained on that were the model's likeliest."),
    metric("rewards/chosen", "", true, "Mean reward of chosen (good) answers: β times the log-ratio to the reference."),
    metric("rewards/rejected", "", true, "The same of rejected (bad) answers."),
    metric("rewards/margins", "", true, "rewards/chosen − rewards/rejected."),
    metric("rewards/accuracies", "share", true, "Share of pairs whose chosen answer has the higher reward."),
    metric(
        "logps/chosen",
        "nats",
        true,
        "Mean log-probability of chosen answers (where the loss takes them: per token).",
    ),
    metric("logps/rejected", "nats", true, "The same of rejected answers."),
    metric("logits/chosen", "", true, "Mean logit of the whole vocabulary over the tokens of chosen answers."),
    metric("logits/rejected", "", true, "The same of rejected answers."),
    metric(
        "nll_loss",
        "nats per token",
        true,
        "Negative log-likelihood of the chosen answers (orpo: with their prompts).",
    ),
    metric("log_odds_ratio", "", true, "orpo: mean log σ of the log odds ratio."),
    metric("log_odds_chosen", "", true, "orpo: mean log odds ratio of chosen and rejected answers."),
    metric("kl", "nats", true, "kto: the divergence from the reference, measured on answers to other prompts."),
    metric("delta", "", true, "bco: the mean of all rewards so far."),
    metric("accuracy", "share", true, "Share of pairs of answers whose better one has the higher reward."),
    metric("margin", "", true, "Mean difference of the rewards of better and worse answers."),
    metric("min_reward", "", true, "Lowest reward of a batch."),
    metric("mean_reward", "", true, "Mean reward of a batch."),
    metric("max_reward", "", true, "Highest reward of a batch."),
    metric("runtime", "s", true, "Time the evaluation took."),
    metric("samples_per_second", "rows/s", true, "Rows per second of the evaluation."),
    metric("steps_per_second", "batches/s", true, "Batches per second of the evaluation."),
    metric("tokens_per_second", "tokens/s", false, "Tokens per second of training since the last log line."),
    metric("train_runtime", "s", false, "Time the training took, in the last line of a run."),
    metric("train_samples_per_second", "rows/s", false, "Rows per second of the whole training."),
    metric("train_steps_per_second", "steps/s", false, "Optimiser steps per second of the whole training."),
    metric("train_loss", "nats per token", false, "Mean loss over all steps of the run."),
];

/// The entry of [`METRICS`] for a logged name, `eval_…` included.
pub fn explain(name: &str) -> Option<&'static Metric> {
    let find = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    find(name).or_else(|| name.strip_prefix("eval_").and_then(find).filter(|metric| metric.is_evaluated))
}

/// [`METRICS`] as a Markdown table.
pub fn markdown() -> String {
    let mut table = String::from("| Metric | Unit | Meaning |\n|---|---|---|\n");
    for metric in METRICS {
        let eval = if metric.is_evaluated { format!(", `eval_{}`", metric.name) } else { String::new() };
        table += &format!("| `{}`{eval} | {} | {} |\n", metric.name, metric.unit, metric.meaning);
    }
    table
}

/// The open `metrics.jsonl` of a run.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    pub const FILE_NAME: &str = "metrics.jsonl";

    /// Starts a new log (`resumed_step` None), or goes on with one: entries of later steps than the resumed one are
    /// dropped, as they will be logged again, and so is a last line that a crash cut off.
    pub fn open(directory: &Path, resumed_step: Option<u64>) -> Result<Self> {
        let path = directory.join(Self::FILE_NAME);
        let kept = match resumed_step {
            Some(step) if path.exists() => {
                let text = std::fs::read(&path).map_err(|e| io_error(&path, "read", e))?;
                kept_lines(&String::from_utf8_lossy(&text), step)
            }
            _ => String::new(),
        };
        write_file(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| io_error(&path, "opened", e))?;
        Ok(MetricsLog { path, file })
    }

    /// Adds a line. A value that is no finite number becomes null. Names must be in [`METRICS`].
    pub fn write(&mut self, step: u64, epoch: f64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = Map::new();
        line.insert("step".into(), Value::from(step));
        line.insert("epoch".into(), Value::from(epoch));
        for (name, value) in values {
            if explain(name).is_none() {
                return Err(Error::Internal(format!("the metric {name} is not explained in METRICS")));
            }
            line.insert((*name).into(), number(*value));
        }
        let text = format!("{}\n", Value::Object(line));
        // One write, so that a line is there or not.
        self.file.write_all(text.as_bytes()).map_err(|e| io_error(&self.path, "written", e))
    }
}

/// Whole numbers without a decimal point, as counts are.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 2f64.powi(53) { Value::from(x as i64) } else { Value::from(x) }
}

fn kept_lines(text: &str, last_step: u64) -> String {
    let step_of = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
    text.lines()
        .filter(|line| step_of(line).is_some_and(|step| step <= last_step))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(directory: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(directory.join(MetricsLog::FILE_NAME)).expect("read");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
    }

    #[test]
    fn one_object_a_line() {
        let dir = tempfile::tempdir().expect("directory");
        let mut log = MetricsLog::open(dir.path(), None).expect("opened");
        log.write(10, 0.5, &[("loss", 6.5), ("num_tokens", 71.0), ("grad_norm", f64::NAN)]).expect("written");
        log.write(10, 0.5, &[("eval_loss", 6.25)]).expect("written");
        assert!(log.write(10, 0.5, &[("los", 1.0)]).is_err());
        let got = lines(dir.path());
        assert_eq!(got.len(), 2);
        let expected = r#"{"step":10,"epoch":0.5,"loss":6.5,"num_tokens":71,"grad_norm":null}"#;
        assert_eq!(got[0].to_string(), expected);
    }

    #[test]
    fn resuming_drops_what_will_be_logged_again() {
        let dir = tempfile::tempdir().expect("directory");
        let mut log = MetricsLog::open(dir.path(), None).expect("opened");
        for step in [10, 20, 30] {
            log.write(step, 0.1, &[("loss", step as f64 + 0.25)]).expect("written");
        }
        // A line that a crash cut off.
        log.file.write_all(b"{\"step\": 2").expect("written");
        let mut log = MetricsLog::open(dir.path(), Some(20)).expect("opened");
        log.write(30, 0.1, &[("loss", 1.5)]).expect("written");
        let got = lines(dir.path());
        assert_eq!(got.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [Some(10), Some(20), Some(30)]);
        assert_eq!(got[2]["loss"], 1.5);
        MetricsLog::open(dir.path(), None).expect("opened");
        assert_eq!(lines(dir.path()), Vec::<Value>::new());
    }

    #[test]
    fn names_are_explained() {
        for name in ["loss", "eval_loss", "eval_mean_token_accuracy", "eval_runtime", "num_tokens"] {
            assert!(explain(name).is_some(), "{name}");
        }
        for name in ["eval_grad_norm", "eval_", "lossy"] {
            assert!(explain(name).is_none(), "{name}");
        }
        assert!(markdown().contains("| `entropy`, `eval_entropy` | nats |"));
    }
}
