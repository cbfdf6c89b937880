//! Rewards: a function of prompt, completion and the data set's columns that gives a number, or nothing.
//!
//! Built in (`builtin.rs`), an external program (`program.rs`), a trained reward model (`by_model.rs`), a language model as
//! judge (`by_judge.rs`), a made-up task's own check, or any closure ([`super::FunctionReward`]).
pub mod builtin;
pub mod program;
pub mod by_model;
pub mod by_judge;

use super::judged::{Judged, Prompt, Reward};
use super::tasks::Task;
use crate::advantages::weighted_sum;
use crate::error::{Error, Result};
use crate::options::{JudgingOptions, RolloutOptions};
use program::ProgramReward;

/// The rewards of a run with their weights.
pub struct Rewards {
    functions: Vec<Box<dyn Reward>>,
    /// What each function's rewards are multiplied by in the sum.
    pub weights: Vec<f64>,
    /// Names in metrics; those that occur twice are numbered.
    pub names: Vec<String>,
}

/// A batch's rewards: of each function, and weighted. NaN: not judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// `each[k][i]`: what function k says of completion i.
    pub each: Vec<Vec<f64>>,
    /// `total[i]`: the weighted sum over the functions that judged completion i; NaN where none did.
    pub total: Vec<f64>,
}

impl Rewards {
    /// Those that the options name, and `own` with weight 1 each. `open_model` opens what is a model (model:…, judge:…) and
    /// None else. A task's own check judges where nothing else does.
    pub fn new(
        options: &JudgingOptions,
        rollout: &RolloutOptions,
        task: Option<&Task>,
        own: Vec<Box<dyn Reward>>,
        open_model: impl Fn(&str) -> Result<Option<Box<dyn Reward>>>,
    ) -> Result<Self> {
        let mut wanted = options.reward_funcs.0.clone();
        wanted.extend(options.reward_model_name_or_path.iter().map(|path| format!("model:{path}")));
        wanted.extend(options.judge.iter().map(|path| format!("judge:{path}")));
        if wanted.is_empty() && own.is_empty() {
            match task {
                Some(_) => wanted.push("task".into()),
                None if rollout.completions_file.is_some() => {}
                None => {
                    return Err(Error::input(
                        "--reward_funcs is missing: what completions are judged by, for instance exact (the column \
                         answer), or program:COMMAND; a task:… data set brings its own",
                    ));
                }
            }
        }
        let named = Self::named(&wanted, options.reward_weights.0.clone(), (options, rollout), task, open_model)?;
        Ok(named.and(own))
    }

    /// These and others behind them, whose weight is 1.
    fn and(self, others: Vec<Box<dyn Reward>>) -> Self {
        let (mut functions, mut weights) = (self.functions, self.weights);
        weights.extend(vec![1.0; others.len()]);
        functions.extend(others);
        Self::of(functions, weights)
    }

    /// Those with these names.
    pub fn named(
        wanted: &[String],
        weights: Vec<f64>,
        (options, rollout): (&JudgingOptions, &RolloutOptions),
        task: Option<&Task>,
        open_model: impl Fn(&str) -> Result<Option<Box<dyn Reward>>>,
    ) -> Result<Self> {
        let functions: Vec<Box<dyn Reward>> = wanted
            .iter()
            .map(|name| -> Result<Box<dyn Reward>> {
                if let Some(model) = open_model(name)? {
                    return Ok(model);
                }
                Ok(match (name.strip_prefix("program:"), name.as_str(), task) {
                    (Some(command), _, _) => {
                        Box::new(ProgramReward::new(command, options.reward_timeout, options.reward_retries)?)
                    }
                    (None, "task", Some(task)) => Box::new(task.clone()),
                    (None, "task", None) => {
                        return Err(Error::input(
                            "reward_funcs: task needs a task:… data set, which checks its answers",
                        ));
                    }
                    _ => builtin::by_name(name, options, rollout)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self::of(functions, weights))
    }

    /// These; no weights means 1 each.
    pub fn of(functions: Vec<Box<dyn Reward>>, weights: Vec<f64>) -> Self {
        let weights = if weights.is_empty() { vec![1.0; functions.len()] } else { weights };
        let mut names: Vec<String> = Vec::new();
        for function in &functions {
            let name = function.name().to_string();
            let again = names.iter().filter(|n| **n == name || n.starts_with(&format!("{name}_"))).count();
            names.push(if again > 0 { format!("{name}_{}", again + 1) } else { name });
        }
        Rewards { functions, weights, names }
    }

    /// No function: the completions bring their rewards.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Lets every function look at the prompts before anything is drawn; the first error, such as a missing column.
    pub fn check(&self, prompts: &[Prompt]) -> Result<()> {
        self.functions.iter().try_for_each(|f| f.check(prompts))
    }

    /// Judges a batch. Errors: a reward of the wrong count, or one that is no number.
    pub fn score(&mut self, completions: &[Judged]) -> Result<Scores> {
        let mut each = Vec::with_capacity(self.functions.len());
        for (function, name) in self.functions.iter_mut().zip(&self.names) {
            let rewards = function.score(completions)?;
            if rewards.len() != completions.len() {
                return Err(Error::Input(format!(
                    "the reward {name} gave {} rewards for {} completions; it must give one each (or null)",
                    rewards.len(),
                    completions.len()
                )));
            }
            if let Some(i) = rewards.iter().position(|r| r.is_some_and(|r| !r.is_finite())) {
                return Err(Error::Input(format!(
                    "the reward {name} gave {} for the completion {:?}; a reward is a finite number, or null for no opinion",
                    rewards[i].unwrap_or(f64::NAN),
                    shortened(completions[i].text)
                )));
            }
            each.push(rewards.into_iter().map(|r| r.unwrap_or(f64::NAN)).collect::<Vec<f64>>());
        }
        let total = weighted_sum(&each, &self.weights);
        Ok(Scores { each, total })
    }
}

/// The beginning of a text, for messages.
pub fn shortened(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_gradients::judged::{FunctionReward, test_prompt as prompt};

    fn function(name: &str, values: Vec<Option<f64>>) -> Box<dyn Reward> {
        Box::new(FunctionReward { name: name.into(), function: move |_: &[Judged]| Ok(values.clone()) })
    }

    #[test]
    fn weighted_and_named() {
        let mut rewards = Rewards::of(
            vec![function("a", vec![Some(1.0), None]), function("a", vec![Some(2.0), Some(4.0)])],
            vec![1.0, 0.5],
        );
        assert_eq!(rewards.names, ["a", "a_2"]);
        let prompt = prompt(&[]);
        let judged = Judged { prompt: &prompt, text: "x", ids: &[1] };
        let scores = rewards.score(&[judged, judged]).unwrap();
        assert_eq!(scores.total, [2.0, 2.0]);
        assert!(scores.each[0][1].is_nan());
    }

    #[test]
    fn others_count_once_behind_the_named() {
        let named = Rewards::of(vec![function("a", vec![Some(2.0)])], vec![0.5]);
        let mut rewards = named.and(vec![function("a", vec![Some(3.0)])]);
        let prompt = prompt(&[]);
        let scores = rewards.score(&[Judged { prompt: &prompt, text: "x", ids: &[1] }]).unwrap();
        assert_eq!((rewards.names, scores.total), (vec!["a".to_string(), "a_2".into()], vec![4.0]));
    }

    #[test]
    fn what_is_wrong_with_a_reward_is_said() {
        let prompt = prompt(&[]);
        let judged = Judged { prompt: &prompt, text: "hello", ids: &[1] };
        let told = |values| Rewards::of(vec![function("f", values)], vec![]).score(&[judged]).unwrap_err().to_string();
        assert!(told(vec![]).contains("f gave 0 rewards for 1 completions"));
        let nan = told(vec![Some(f64::NAN)]);
        assert!(nan.contains("gave NaN") && nan.contains("hello"), "{nan}");
    }
}
