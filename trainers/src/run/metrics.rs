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
    /// As it stands in metrics.jsonl.
    pub name: &'static str,
    /// "" for plain numbers.
    pub unit: &'static str,
    /// One sentence: what it is, in which unit.
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
    metric(
        "kl",
        "nats",
        true,
        "The divergence from the reference. kto: on answers to other prompts; grpo: mean k3 a token; rloo, reinforce: mean k1 a token.",
    ),
    metric("delta", "", true, "bco: the mean of all rewards so far."),
    metric("accuracy", "share", true, "Share of pairs of answers whose better one has the higher reward."),
    metric("margin", "", true, "Mean difference of the rewards of better and worse answers."),
    metric("min_reward", "", true, "Lowest reward of a batch."),
    metric("mean_reward", "", true, "Mean reward of a batch."),
    metric("max_reward", "", true, "Highest reward of a batch."),
    metric("runtime", "s", true, "Time the evaluation took."),
    metric("samples_per_second", "rows/s", true, "Rows per second of the evaluation."),
    metric("steps_per_second", "batches/s", true, "Batches per second of the evaluation."),
    metric("reward", "", true, "Mean weighted reward of the completions that were judged."),
    metric("reward_std", "", true, "Standard deviation of that reward over the batch."),
    metric("rewards/<name>/mean", "", true, "Mean of one reward function over the completions it judged."),
    metric("rewards/<name>/std", "", true, "Its standard deviation."),
    metric("rewards/<name>/unjudged", "share", true, "Share of completions that the reward function did not judge."),
    metric(
        "frac_reward_zero_std",
        "share",
        true,
        "Share of completions whose group's rewards are all equal: they teach nothing.",
    ),
    metric("completions/mean_length", "tokens", true, "Mean length of the completions."),
    metric("completions/min_length", "tokens", true, "Length of the shortest completion."),
    metric("completions/max_length", "tokens", true, "Length of the longest completion."),
    metric("completions/mean_terminated_length", "tokens", true, "Mean length of the completions that came to an end."),
    metric("completions/min_terminated_length", "tokens", true, "The shortest of them."),
    metric("completions/max_terminated_length", "tokens", true, "The longest of them."),
    metric("completions/clipped_ratio", "share", true, "Share of completions cut off at max_completion_length."),
    metric("clip_ratio/low_mean", "share", false, "Share of tokens (or completions) clipped below 1 − ε."),
    metric("clip_ratio/low_min", "share", false, "The same in the completion where it is smallest."),
    metric("clip_ratio/high_mean", "share", false, "Share of tokens (or completions) clipped above 1 + ε."),
    metric("clip_ratio/high_max", "share", false, "The same in the completion where it is largest."),
    metric("clip_ratio/region_mean", "share", false, "Share clipped on either side."),
    metric("cispo_clip_ratio", "share", false, "Share of tokens whose weight CISPO cut at epsilon_high."),
    metric("vespo/phi_seq_mean", "", false, "Mean of VESPO's weight φ over completions."),
    metric("step_time", "s", false, "Time of an optimiser step, with its generation."),
    metric("time/generation", "share", false, "Share of the step's time that went into drawing completions."),
    metric("time/reward", "share", false, "Share that went into judging them."),
    metric("time/training", "share", false, "Share that went into losses, gradients and the optimiser."),
    metric("baseline", "", false, "The moving average that rewards are compared with."),
    metric("advantage_std", "", false, "Standard deviation of the advantages before they are normalised."),
    metric("skipped_steps", "share", false, "Share of the steps since the last line that --on_nan has left out."),
    metric("resampled_groups", "groups", false, "Groups that dynamic sampling replaced."),
    metric(
        "objective/kl",
        "nats per completion",
        false,
        "Mean over completions of the KL (k1) from the reference policy, summed over tokens.",
    ),
    metric("gold", "", true, "Mean of the gold check, the sum of the rewards that gold_funcs names; never trained on."),
    metric("gold/<name>", "", true, "Mean of one of its rewards."),
    metric("objective/entropy", "nats per completion", false, "Mean over completions of −Σ log π of their tokens."),
    metric("objective/non_score_reward", "", false, "Mean over completions of the reward that comes from the KL."),
    metric("objective/rlhf_reward", "", false, "Score and KL part together."),
    metric("objective/scores", "", false, "Mean weighted reward."),
    metric("objective/scores_margin", "", false, "Mean difference of the scores of chosen and rejected completions."),
    metric(
        "objective/ties",
        "share",
        false,
        "Share of pairs of completions of which none is better; they teach nothing.",
    ),
    metric("val/contain_eos_token", "share", false, "Share of completions that came to an end."),
    metric("beta", "", false, "β of the epoch."),
    metric("policy/approxkl_avg", "nats", false, "½ mean (log π − log π_old)² over the batch's optimiser steps."),
    metric("policy/clipfrac_avg", "share", false, "Share of tokens whose ratio was clipped."),
    metric("policy/entropy_avg", "nats", false, "Mean entropy of the policy."),
    metric("loss/policy_avg", "", false, "Mean of the policy's loss."),
    metric("loss/value_avg", "", false, "Mean of the critic's loss."),
    metric("val/clipfrac_avg", "share", false, "Share of values whose loss is that of the clipped value."),
    metric("val/ratio", "", false, "Mean ratio of the policy to the one that drew."),
    metric("val/ratio_var", "", false, "Variance of that mean over optimiser steps."),
    metric("val/num_eos_tokens", "tokens", false, "End-of-sequence tokens among the completions' tokens."),
    metric(
        "val/explained_variance",
        "share",
        false,
        "How much of the returns' variance the critic explained before it learnt from them.",
    ),
    metric("kl_coef", "", false, "The weight of the KL in the reward, where it is steered."),
];

/// The metrics that say whether a run works, with a short name for the head of a column, in the order in which they are
/// shown. A run shows those of them that it logs.
pub const HEADLINES: &[(&str, &str)] = &[
    ("loss", "loss"),
    ("mean_token_accuracy", "token acc"),
    ("rewards/accuracies", "accuracy"),
    ("rewards/margins", "margin"),
    ("rewards/chosen", "chosen"),
    ("rewards/rejected", "rejected"),
    ("accuracy", "accuracy"),
    ("margin", "margin"),
    ("reward", "reward"),
    ("reward_std", "reward std"),
    ("frac_reward_zero_std", "no spread"),
    ("gold", "gold"),
    ("kl", "kl"),
    ("objective/kl", "kl/answer"),
    ("completions/mean_length", "length"),
    ("completions/clipped_ratio", "cut"),
    ("entropy", "entropy"),
];

/// How a metric's curve looks when a run goes well.
const HEALTHY: &[(&str, &str)] = &[
    ("loss", "it falls, fast at first and then slowly; in policy-gradient runs it hovers around 0 and says little."),
    ("eval_loss", "it falls with the training loss; when it rises again, the run learns its rows by heart."),
    ("grad_norm", "it settles; spikes that grow are a learning rate that is too high."),
    ("learning_rate", "as scheduled: up over the warm-up, then down."),
    ("mean_token_accuracy", "it rises; near 1 on few rows means that they are known by heart."),
    ("rewards/accuracies", "it rises from 0.5 towards 1."),
    ("rewards/margins", "it rises."),
    ("rewards/chosen", "it rises, or falls more slowly than that of rejected answers."),
    ("rewards/rejected", "it falls."),
    ("logps/chosen", "it does not fall far: a model that makes both answers unlikely says something else instead."),
    ("accuracy", "it rises from 0.5 towards 1, and on held-out pairs too."),
    ("reward", "it rises; a jump with shorter or odd completions is a reward that was outwitted."),
    ("reward_std", "above 0: without spread there is nothing to learn."),
    ("frac_reward_zero_std", "well below 1: groups of equal rewards teach nothing."),
    ("kl", "it grows slowly and stays small; below 0.1 nats a token is usual."),
    ("objective/kl", "it grows slowly; tens of nats a completion mean that the policy has left its reference."),
    ("entropy", "in policy-gradient runs it falls slowly; near 0 nothing new is tried any more."),
    ("completions/mean_length", "it moves as the task needs; steady growth towards the limit is a reward for length."),
    ("completions/clipped_ratio", "near 0: completions that are cut cannot end well."),
    ("gold", "it rises with the reward; when it falls while the reward rises, the reward is being outwitted."),
];

/// How the curve of a metric looks in a healthy run, where there is a rule.
pub fn healthy(name: &str) -> Option<&'static str> {
    HEALTHY.iter().find(|(of, _)| *of == name).map(|(_, said)| *said)
}

/// The entry of [`METRICS`] for a logged name, `eval_…` included.
pub fn explain(name: &str) -> Option<&'static Metric> {
    let find = |name: &str| METRICS.iter().find(|metric| metric.name == name || is_one_of(metric.name, name));
    find(name).or_else(|| name.strip_prefix("eval_").and_then(find).filter(|metric| metric.is_evaluated))
}

/// Whether a metric depends on the clock, so that the same run has another value of it the next time.
pub fn is_time(name: &str) -> bool {
    let name = name.strip_prefix("eval_").unwrap_or(name);
    ["runtime", "samples_per_second", "steps_per_second", "step_time"].contains(&name) || name.starts_with("time/")
}

/// Whether `name` is `pattern` with a name in the place of `<name>`.
fn is_one_of(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once("<name>") else { return false };
    name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(|inner| !inner.is_empty())
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
    /// In the run's directory.
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
        // What has a unit of time is known to depend on the clock.
        for metric in METRICS.iter().filter(|metric| metric.unit == "s" || metric.unit.ends_with("/s")) {
            assert!(is_time(metric.name), "{}", metric.name);
        }
        assert!(!is_time("loss") && is_time("time/reward") && is_time("eval_runtime"));
        assert!(markdown().contains("| `entropy`, `eval_entropy` | nats |"));
    }
}
