//! Which evaluation was the best so far, and whether enough have followed that were not: transformers' rules
//! (`Trainer._determine_best_metric`, `EarlyStoppingCallback`).
use crate::error::{Error, Result};
use crate::options::RecordOptions;
use serde::{Deserialize, Serialize};

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BestSoFar {
    /// Optimiser steps that were done then.
    pub step: Option<u64>,
    /// What was measured then.
    pub value: Option<f64>,
    /// Evaluations since the last that was better by more than the threshold.
    pub since: u64,
}

/// What makes an evaluation the best.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// The metric, `eval_…`.
    pub metric: String,
    /// Whether more is better.
    greater: bool,
    /// By how much an evaluation must be better to count for the patience.
    threshold: f64,
    /// Evaluations without a better one that end the run.
    patience: Option<u64>,
    /// Whether the finished model is that of the best evaluation.
    pub loads: bool,
}

impl Watch {
    /// None: nobody asks which evaluation was the best.
    pub fn new(options: &RecordOptions) -> Option<Self> {
        if !options.load_best_model_at_end && options.early_stopping_patience.is_none() {
            return None;
        }
        let name = options.metric_for_best_model.as_deref().unwrap_or("loss");
        let metric = if name.starts_with("eval_") { name.to_string() } else { format!("eval_{name}") };
        Some(Watch {
            greater: options.greater_is_better.unwrap_or(!metric.ends_with("loss")),
            metric,
            threshold: options.early_stopping_threshold,
            patience: options.early_stopping_patience,
            loads: options.load_best_model_at_end,
        })
    }

    /// Looks at what the evaluation after `step` steps measured. Errors: the metric is not among it.
    pub fn see(&self, best: &mut BestSoFar, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let Some((_, value)) = values.iter().find(|(name, _)| *name == self.metric) else {
            let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            return Err(Error::Input(format!(
                "metric_for_best_model: {} is not measured; evaluations here have {}",
                self.metric,
                names.join(", ")
            )));
        };
        let by = best.value.map(|old| if self.greater { value - old } else { old - value });
        best.since = if by.is_none_or(|by| by > 0.0 && by > self.threshold) { 0 } else { best.since + 1 };
        if by.map_or(value.is_finite(), |by| by > 0.0) {
            (best.step, best.value) = (Some(step), Some(*value));
        }
        Ok(())
    }

    /// Whether the patience is at its end.
    pub fn is_over(&self, best: &BestSoFar) -> bool {
        self.patience.is_some_and(|patience| best.since >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(watch: &Watch, values: &[f64]) -> BestSoFar {
        let mut best = BestSoFar::default();
        for (step, value) in (1..).zip(values) {
            watch.see(&mut best, step, &[("eval_loss", 0.0), (&watch.metric, *value)]).expect("measured");
        }
        best
    }

    #[test]
    fn the_best_and_the_patience() {
        let less = Watch { metric: "eval_x".into(), greater: false, threshold: 0.0, patience: Some(2), loads: true };
        assert_eq!(after(&less, &[3.0, 2.0, 2.5]), BestSoFar { step: Some(2), value: Some(2.0), since: 1 });
        assert!(!less.is_over(&after(&less, &[3.0, 2.0, 2.5])) && less.is_over(&after(&less, &[3.0, 2.0, 2.5, 2.0])));
        let greater = Watch { greater: true, ..less.clone() };
        assert_eq!(after(&greater, &[3.0, 2.0, 4.0]).step, Some(3));
        // Better, but not by enough for the patience.
        let choosy = Watch { threshold: 0.5, ..less.clone() };
        assert_eq!(after(&choosy, &[3.0, 2.75, 2.625]), BestSoFar { step: Some(3), value: Some(2.625), since: 2 });
        assert_eq!(after(&less, &[f64::NAN, 1.0]), BestSoFar { step: Some(2), value: Some(1.0), since: 0 });
        let told = less.see(&mut BestSoFar::default(), 1, &[("eval_loss", 1.0)]).expect_err("is missing").to_string();
        assert_eq!(told, "metric_for_best_model: eval_x is not measured; evaluations here have eval_loss");
    }
}
