//! How a run is cut: completions of a generation, micro-batches that learn from it, optimiser steps.
use crate::error::{Error, Result};
use crate::options::{PolicyGradient, RolloutOptions};
use crate::plural::counted;
use crate::policy_gradients::judged::Prompt;
use crate::policy_gradients::prompts::longest;
use crate::policy_gradients::rollout::Rollouts;
use crate::run::schedule::{RunLength, run_length};
use engine::config::ModelConfig;
use engine::generate::GenerationShape;

/// How a run is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Completions of a micro-batch.
    pub(super) batch: usize,
    pub(super) prompts_per_generation: usize,
    /// Batches of completions in one generation.
    pub(super) cuts: usize,
    pub(super) turns: Turns,
}

/// How often a trainer learns from a generation.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Batches (of the run's order) that learn from one generation.
    pub per_generation: usize,
    /// Batches that make one optimiser step.
    pub per_step: usize,
}

impl Turns {
    /// Each batch of completions is gone through `num_iterations` times.
    pub fn of<C: PolicyGradient>(options: &C, num_iterations: usize) -> Self {
        let training = options.common().training;
        let cuts = options.rollout().1.batches_per_generation(training);
        Turns { per_generation: cuts * num_iterations, per_step: training.gradient_accumulation_steps }
    }

    /// Whether every generation is learnt from within one step: then the policy that drew is the policy that learns.
    pub fn within_a_step(self) -> bool {
        self.per_step.is_multiple_of(self.per_generation)
    }
}

impl Sizes {
    pub(super) fn of<C: PolicyGradient>(options: &C, turns: Turns) -> Self {
        let rollout = options.rollout().1;
        let (batch, cuts) =
            (options.completions_per_batch(), rollout.batches_per_generation(options.common().training));
        Sizes { batch, prompts_per_generation: cuts * batch / rollout.num_generations, cuts, turns }
    }

    /// How long a run over `n_prompts` prompts is. Errors: they are too few for one generation.
    pub(super) fn run_length<C: PolicyGradient>(&self, options: &C, n_prompts: usize) -> Result<RunLength> {
        let (data, rollout, _) = options.rollout();
        let (training, group, per_generation) =
            (options.common().training, rollout.num_generations, self.prompts_per_generation);
        let generations = n_prompts / per_generation;
        if generations == 0 {
            return Err(Error::Input(format!(
                "{}: {}, but one generation takes {per_generation} (its {} completions are {group} \
                 each); lower --per_device_train_batch_size or --steps_per_generation, or raise --num_generations",
                data.dataset_name,
                counted(n_prompts, "prompt"),
                per_generation * group
            )));
        }
        let n_batches = generations * self.turns.per_generation;
        Ok(run_length(n_batches, 1, self.turns.per_step, training.num_train_epochs, training.max_steps))
    }

    /// (tokens, predictions) of the largest micro-batch: completions of a group share their prompt.
    pub(super) fn largest(&self, prompts: &[Prompt], rollout: &RolloutOptions) -> (usize, usize) {
        let (group, completions) = (rollout.num_generations, self.batch * rollout.longest_completion());
        let n_roots = self.batch.div_ceil(group) + usize::from(!self.batch.is_multiple_of(group));
        (n_roots * longest(prompts) + completions, completions)
    }

    /// How the completions of a generation are drawn, of the longest prompts; None where a file brings them.
    pub(super) fn generation(
        &self,
        config: &ModelConfig,
        prompts: &[Prompt],
        rollout: &RolloutOptions,
        rollouts: &Rollouts,
    ) -> Option<GenerationShape> {
        let Rollouts::Drawn(drawing) = rollouts else { return None };
        let lengths = vec![longest(prompts); self.prompts_per_generation];
        Some(GenerationShape::of(config, &lengths, rollout.num_generations, &drawing.sampling))
    }
}
