//! What keeps a policy from going where its reward is wrong: a budget of KL from the reference, and a gold check, rewards
//! that are measured but never trained on.
//!
//! Either may end a run. What it then leaves is the last policy within the budget, or the best one by the gold check.
use super::experience::Sample;
use super::rewards::Rewards;
use crate::error::Result;
use crate::losses::kl::k1;
use crate::options::GuardOptions;
use crate::run::side_files::{CANDIDATE, GUARD, KEPT, find_json, read_weights, write_json, write_weights};
use engine::buffer::Host;
use engine::model::decoder::Decoder;
use engine::model::parameter::Parameter;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The guard of a run.
pub struct Guard {
    options: GuardOptions,
    /// What the completions are checked by; None for nothing.
    pub gold: Option<Rewards>,
    state: State,
    kept: Option<Decoder>,
    /// Kept once its KL is known to be within the budget.
    candidate: Option<(u64, Decoder)>,
    stop: Option<String>,
}

/// What a checkpoint keeps besides the kept weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// The best gold mean so far.
    best: Option<f64>,
    /// Checks since then.
    without_rise: usize,
    /// Optimiser steps of the policy that is kept.
    kept_step: Option<u64>,
    candidate_step: Option<u64>,
}

/// Mean over completions of Σₜ k1ₜ, in nats a completion; those that are not trained on take no part.
pub fn kl_of_completions(samples: &[Sample]) -> f64 {
    let of = |s: &Sample| s.logp_old.iter().zip(&s.logp_ref).map(|(p, q)| k1(f64::from(*p), f64::from(*q))).sum();
    let each: Vec<f64> = samples.iter().filter(|s| s.n_trained() > 0).map(of).collect();
    crate::statistics::mean(&each)
}

impl Guard {
    /// A guard that has seen nothing yet. `gold`: the rewards that `checked` hears the mean of.
    pub fn new(options: &GuardOptions, gold: Option<Rewards>) -> Self {
        Guard { options: options.clone(), gold, state: State::default(), kept: None, candidate: None, stop: None }
    }

    /// Whether the KL from the reference must be known.
    pub fn has_budget(&self) -> bool {
        self.options.kl_budget.is_some()
    }

    /// Whether weights besides those that are trained are held.
    pub fn keeps(options: &GuardOptions) -> bool {
        options.kl_budget.is_some() || options.gold_patience.is_some()
    }

    /// The policy after `step` optimiser steps, `model`, drew completions with this KL from the reference.
    pub fn spent(&mut self, kl: f64, step: u64, model: &Decoder) {
        let Some(budget) = self.options.kl_budget else { return };
        if kl > budget {
            self.candidate = None;
            self.stop = Some(format!("the KL from the reference is {kl:.3} nats a completion, kl_budget is {budget}"));
        } else if self.options.gold_patience.is_none() {
            self.keep(step, model.clone());
        } else if let Some((step, model)) = self.candidate.take() {
            self.keep(step, model);
        }
    }

    /// The gold check of the policy after `step` optimiser steps found `mean`.
    pub fn checked(&mut self, mean: f64, step: u64, model: &Decoder) {
        let Some(patience) = self.options.gold_patience.filter(|_| !mean.is_nan()) else { return };
        if self.state.best.is_none_or(|best| mean > best) {
            (self.state.best, self.state.without_rise) = (Some(mean), 0);
            match self.has_budget() {
                true => self.candidate = Some((step, model.clone())),
                false => self.keep(step, model.clone()),
            }
            return;
        }
        self.state.without_rise += 1;
        if self.state.without_rise >= patience {
            let (best, n) = (self.state.best.unwrap_or(f64::NAN), self.state.without_rise);
            self.stop = Some(format!("the gold check is {mean:.4}, in {n} checks not above its best of {best:.4}"));
        }
    }

    fn keep(&mut self, step: u64, model: Decoder) {
        (self.kept, self.state.kept_step) = (Some(model), Some(step));
    }

    /// Why the run ends here, if it does.
    pub fn stop(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    /// The policy to finish with and the steps it has taken, where it is another than the last.
    pub fn finish(&mut self) -> Option<(u64, Decoder)> {
        let stopped_in_time = self.candidate.take().or_else(|| self.state.kept_step.zip(self.kept.take()));
        stopped_in_time.filter(|_| self.stop.is_some() || self.options.gold_patience.is_some())
    }

    /// Keeps itself in a checkpoint.
    pub fn save(&mut self, checkpoint: &Path) -> Result<()> {
        if !Self::keeps(&self.options) {
            return Ok(());
        }
        self.state.candidate_step = self.candidate.as_ref().map(|(step, _)| *step);
        write_json(checkpoint, GUARD, &self.state)?;
        let candidate = self.candidate.as_ref().map(|(_, model)| model);
        for (name, model) in [(KEPT, self.kept.as_ref()), (CANDIDATE, candidate)] {
            if let Some(model) = model {
                write_weights(checkpoint, name, &trained_values(model)?)?;
            }
        }
        Ok(())
    }

    /// Takes up what a checkpoint keeps; `model` is the policy as it is there.
    pub fn restore(&mut self, checkpoint: &Path, model: &Decoder) -> Result<()> {
        if !Self::keeps(&self.options) {
            return Ok(());
        }
        let Some(state) = find_json(checkpoint, GUARD)? else { return Ok(()) };
        self.state = state;
        let of_file = |name: &str| {
            let mut kept = model.clone();
            read_weights(checkpoint, name, kept.trained_mut())?;
            Ok::<Decoder, crate::Error>(kept)
        };
        if self.state.kept_step.is_some() {
            self.kept = Some(of_file(KEPT)?);
        }
        if let Some(step) = self.state.candidate_step {
            self.candidate = Some((step, of_file(CANDIDATE)?));
        }
        Ok(())
    }
}

/// The weights that training changes: path, shape, values.
fn trained_values(model: &Decoder) -> Result<Vec<(String, Vec<usize>, Host)>> {
    let of = |p: &Parameter| Ok((p.path().to_string(), p.shape().to_vec(), model.device.download(p.buffer())?));
    model.trained().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::backend::Device;
    use engine::config::ModelConfig;
    use serde_json::json;

    fn model(seed: u64) -> Decoder {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8, "hidden_size": 4,
            "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
            "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": true,
        });
        let serde_json::Value::Object(config) = config else { unreachable!() };
        let device: Device = std::sync::Arc::new(engine::reference::Reference);
        Decoder::random(ModelConfig::from_json(config, Path::new("c")).unwrap(), &device, 0.1, seed).unwrap()
    }

    fn first_weight(model: &Decoder) -> f32 {
        model.trained()[0].to_vec().unwrap()[0]
    }

    fn guard(kl_budget: Option<f64>, gold_patience: Option<usize>) -> Guard {
        Guard::new(&GuardOptions { kl_budget, gold_funcs: Default::default(), gold_patience }, None)
    }

    #[test]
    fn kl_by_hand() {
        let sample = |logp_old: &[f32], logp_ref: &[f32]| Sample {
            ids: vec![1; logp_old.len()],
            logp_old: logp_old.to_vec(),
            logp_ref: logp_ref.to_vec(),
            ..Sample::default()
        };
        // ½ − 1 and 2: mean ¾; a masked completion takes no part.
        let masked = Sample { masked: true, ..sample(&[], &[]) };
        let samples = [sample(&[-1.0, -2.0], &[-1.5, -1.0]), sample(&[-1.0], &[-3.0]), masked];
        assert_eq!(kl_of_completions(&samples), 0.75);
    }

    #[test]
    fn a_budget_ends_the_run_with_the_last_policy_within_it() {
        let mut guard = guard(Some(2.0), None);
        for (step, kl) in [(0, 0.0), (1, 1.5), (2, 2.0)] {
            guard.spent(kl, step, &model(step));
            assert_eq!(guard.stop(), None);
        }
        guard.spent(2.1, 3, &model(3));
        assert!(guard.stop().is_some_and(|why| why.contains("2.100") && why.contains("kl_budget is 2")));
        let (step, kept) = guard.finish().unwrap();
        assert_eq!((step, first_weight(&kept)), (2, first_weight(&model(2))));
    }

    #[test]
    fn patience_ends_the_run_with_the_best_policy() {
        let mut guard = guard(None, Some(2));
        for (step, gold) in [(1, 0.5), (2, 0.7), (3, 0.7), (4, f64::NAN)] {
            guard.checked(gold, step, &model(step));
            assert_eq!(guard.stop(), None, "step {step}");
        }
        guard.checked(0.6, 5, &model(5));
        assert!(guard.stop().is_some_and(|why| why.contains("0.6000") && why.contains("0.7000")));
        assert_eq!(guard.finish().unwrap().0, 2);
    }

    /// The best policy is finished with only if its KL was within the budget.
    #[test]
    fn the_best_policy_must_be_within_the_budget() {
        let mut guard = guard(Some(1.0), Some(9));
        guard.checked(0.5, 1, &model(1));
        guard.spent(0.9, 1, &model(1));
        guard.checked(0.8, 2, &model(2));
        guard.spent(1.1, 2, &model(2));
        assert_eq!(guard.finish().unwrap().0, 1);
    }

    #[test]
    fn a_checkpoint_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = guard(Some(1.0), Some(3));
        before.checked(0.5, 1, &model(1));
        before.spent(0.5, 1, &model(1));
        before.checked(0.4, 2, &model(2));
        before.checked(0.6, 3, &model(3));
        before.save(dir.path()).unwrap();
        let mut after = guard(Some(1.0), Some(3));
        after.restore(dir.path(), &model(4)).unwrap();
        assert_eq!(after.state, before.state);
        let (step, best) = after.candidate.take().unwrap();
        assert_eq!((step, first_weight(&best)), (3, first_weight(&model(3))));
        assert_eq!(first_weight(&after.kept.unwrap()), first_weight(&model(1)));
    }
}
