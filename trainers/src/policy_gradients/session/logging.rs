//! What a session writes down: metrics of a generation and of a step, completions, evaluations.
use super::judging::{gold_metrics, judge, metrics_of, reward_names};
use super::{Collected, Session};
use crate::error::{Error, Result};
use crate::judges::constitutional::readable;
use crate::policy_gradients::judged::Prompt;
use crate::policy_gradients::rollout::{Completion, Rollouts};
use crate::run::Due;
use crate::run::progress::short_value;
use std::time::Instant;

/// Separates the random numbers of evaluations from those of training.
const EVALUATION: u64 = 0x6576_616c;

/// Characters of a text that are shown while a run goes on.
const SHOWN: usize = 60;

/// The completion with the highest reward, and the one with the lowest if that is another, each in a line with its prompt.
fn best_and_worst(drawn: &[(&Prompt, &Completion)], rewards: &[f64]) -> Vec<String> {
    let judged = || (0..drawn.len()).filter(|&i| !rewards[i].is_nan());
    let of = |i: &usize, j: &usize| rewards[*i].total_cmp(&rewards[*j]);
    // The first of several that are equal.
    let best = judged().min_by(|i, j| of(j, i));
    let worst = judged().min_by(of).filter(|worst| best.is_some_and(|best| rewards[best] > rewards[*worst]));
    let line = |i: usize| {
        let (prompt, completion) = drawn[i];
        let (asked, answered) = (end_of(&readable(prompt.value()), SHOWN), start_of(&completion.text, SHOWN));
        format!("      reward {}: {asked} → {answered}", short_value(rewards[i]))
    };
    best.into_iter().chain(worst).map(line).collect()
}

/// The last characters of a text in one line, in quotes; what a prompt asks stands at its end.
fn end_of(text: &str, n: usize) -> String {
    let (text, count) = (text.trim_end(), text.trim_end().chars().count());
    let end: String = text.chars().skip(count.saturating_sub(n)).collect();
    format!("{}{end:?}", if count > n { "…" } else { "" })
}

/// The first characters of a text in one line, in quotes.
fn start_of(text: &str, n: usize) -> String {
    let start: String = text.chars().take(n).collect();
    format!("{start:?}{}", if start.len() < text.len() { "…" } else { "" })
}

impl Session {
    /// Logs what a generation's rewards and lengths are, and writes its completions down. `without_spread`: share of
    /// completions that are compared with rewards which are all equal to theirs, where they are compared with others.
    pub fn record(&mut self, collected: &Collected, without_spread: Option<f64>) -> Result<()> {
        let Collected { prompts, completions, scores } = collected;
        let names = reward_names(&self.rewards);
        for (name, value) in metrics_of(&names, completions, scores) {
            self.add(&name, value);
        }
        self.add("frac_reward_zero_std", without_spread.unwrap_or(f64::NAN));
        let group = self.options.num_generations;
        let of = |i: usize| (&self.prompts.train[prompts[i / group]], &completions[i]);
        let drawn: Vec<_> = (0..completions.len()).map(of).collect();
        let step = self.job.state.global_step + 1;
        let (mut names, mut each) = (names, scores.each.clone());
        let mut measured = Vec::new();
        if let Some(gold) = &mut self.guard.gold {
            let asked: Vec<&Prompt> = prompts.iter().map(|&row| &self.prompts.train[row]).collect();
            let found = judge(gold, &asked, completions, group)?;
            measured = gold_metrics(&gold.names, &found);
            names.extend(gold.names.iter().map(|name| format!("gold/{name}")));
            each.extend(found.each);
        }
        self.seen.shown = best_and_worst(&drawn, &scores.total);
        self.samples.write(step, &drawn, &names, &each, &scores.total)?;
        measured.into_iter().for_each(|(name, value)| self.add(&name, value));
        if without_spread == Some(1.0) {
            let said = "all rewards of each group are equal: this batch teaches nothing";
            self.job.progress.say(&format!("step {}: {said}", self.job.state.global_step + 1));
        }
        Ok(())
    }

    /// Adds to a metric, unless there is nothing to add.
    pub fn add(&mut self, name: &str, value: f64) {
        if !value.is_nan() {
            self.job.window.add(name, value);
        }
    }

    /// Logs and evaluates when due; what is still due then. A run that the guard ends is logged and saved.
    pub(super) fn after_step(&mut self, due: Due) -> Result<Due> {
        let due = Due { log: due.log || self.guard.stop().is_some(), ..due };
        let all = self.clock.began.map_or(f64::NAN, |b| b.elapsed().as_secs_f64());
        let (generation, reward) = (self.clock.generation / all, self.clock.reward / all);
        self.add("step_time", all);
        self.add("time/generation", generation);
        self.add("time/reward", reward);
        self.add("time/training", 1.0 - generation - reward);
        if due.log {
            let gold = self.job.window.mean("gold");
            self.job.log()?;
            self.seen.shown.drain(..).for_each(|line| self.job.progress.say(&line));
            if self.prompts.eval.is_empty() {
                self.guard.checked(gold, self.job.state.global_step, &self.job.learner.model);
            }
        }
        if due.evaluate && !self.prompts.eval.is_empty() {
            self.log_evaluation()?;
        }
        let stop = self.guard.stop().map(|why| format!("step {}: {why}: the run stops", self.job.state.global_step));
        if let Some(said) = &stop {
            self.job.progress.say(said);
        }
        Ok(Due { save: due.save || (stop.is_some() && self.job.saves), ..due })
    }

    /// Evaluates, and shows the guard what the gold check found.
    pub(super) fn log_evaluation(&mut self) -> Result<()> {
        let values = self.evaluate()?;
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.job.log_evaluation(&values)?;
        let gold = values.iter().find(|(name, _)| *name == "eval_gold").map_or(f64::NAN, |(_, value)| *value);
        self.guard.checked(gold, self.job.state.global_step, &self.job.learner.model);
        Ok(())
    }

    /// Draws and judges completions of the evaluation's prompts, the same random numbers each time.
    pub fn evaluate(&mut self) -> Result<Vec<(String, f64)>> {
        let began = Instant::now();
        let n = self.options.num_generations_eval.unwrap_or(self.options.num_generations);
        let asked: Vec<&Prompt> = self.prompts.eval.iter().collect();
        let Rollouts::Drawn(drawing) = &self.rollouts else {
            return Err(Error::input("eval_dataset: completions are drawn for it, which --completions_file forbids"));
        };
        let mut drawing = drawing.clone();
        drawing.sampling.seed = self.job.seed ^ EVALUATION;
        if let Some(temperature) = self.options.eval_temperature {
            drawing.sampling.temperature = temperature as f32;
        }
        let completions = drawing.draw(&self.job.learner.model, &asked, n, 0, &self.job.source.tokenizer)?;
        let scores = judge(&mut self.rewards, &asked, &completions, n)?;
        let names = reward_names(&self.rewards);
        let metrics = metrics_of(&names, &completions, &scores);
        let mut all: Vec<(String, f64)> = metrics.into_iter().map(|(n, v)| (format!("eval_{n}"), v)).collect();
        if let Some(gold) = &mut self.guard.gold {
            let found = judge(gold, &asked, &completions, n)?;
            all.extend(gold_metrics(&gold.names, &found).into_iter().map(|(n, v)| (format!("eval_{n}"), v)));
        }
        all.push(("eval_runtime".into(), began.elapsed().as_secs_f64()));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Row;
    use std::sync::Arc;

    #[test]
    fn the_best_and_the_worst_are_shown() {
        let row = serde_json::json!({"prompt": "3 + 4 ="});
        let fields = row.as_object().unwrap().clone();
        let prompt = Prompt { ids: vec![], row: Row { path: Arc::new("a.jsonl".into()), line: 1, fields } };
        let completions = ["7", "8\n", "9"].map(|text| Completion {
            ids: vec![],
            text: text.into(),
            logps: None,
            ended: true,
            reward: None,
        });
        let drawn: Vec<_> = completions.iter().map(|c| (&prompt, c)).collect();
        let lines = best_and_worst(&drawn, &[1.0, 0.0, f64::NAN]);
        assert_eq!(lines[0].trim(), "reward 1.0000: \"3 + 4 =\" → \"7\"");
        assert_eq!(lines[1].trim(), "reward 0: \"3 + 4 =\" → \"8\\n\"");
        assert_eq!(best_and_worst(&drawn, &[0.5, 0.5, f64::NAN]).len(), 1);
        assert!(best_and_worst(&drawn, &[f64::NAN; 3]).is_empty());
        assert_eq!((end_of("abcd", 2), start_of("abcd", 2)), ("…\"cd\"".into(), "\"ab\"…".into()));
    }
}
