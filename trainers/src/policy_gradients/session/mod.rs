//! A policy-gradient run around its steps: prompts in order, completions, rewards, reference, and what to do with them.
//!
//! Modules in reading order.
mod turns;
mod judging;
mod opening;
mod kl_reference;
mod logging;

use self::judging::judge;
use self::kl_reference::KlReference;
use self::opening::{check_same_prompts, open_rewards, open_rollouts, reads};
use self::turns::Sizes;
use super::experience::{Experience, Sample};
use super::guard::{Guard, kl_of_completions};
use super::judged::{Prompt, Reward};
use super::measure::{Metrics, Part, log_probabilities};
use super::prompts::{PromptSet, longest, read_prompts};
use super::rewards::{Rewards, Scores};
use super::rollout::{Completion, Rollouts};
use super::samples::SamplesLog;
use crate::data::marked::first_rows;
use crate::data::order::{Sampling, epoch_order};
use crate::error::{Error, Result};
use crate::job::need::Beside;
use crate::job::scoring::score;
use crate::job::{Job, Measured, Step, Summary, Work, setup};
use crate::losses::policy::Sequences;
use crate::losses::weights::Whole;
use crate::options::{PolicyGradient, RolloutOptions, SamplingStrategy};
use engine::dtype::DType;
use engine::model::decoder::Pass;
use engine::tensor::Tensor;
use std::path::Path;
use std::time::Instant;

pub use self::turns::Turns;

/// Completions of one generation with their rewards, group after group.
pub struct Collected {
    /// Rows of the prompts, one a group.
    pub prompts: Vec<usize>,
    /// As many a prompt as a group has.
    pub completions: Vec<Completion>,
    /// The rewards of the completions.
    pub scores: Scores,
}

/// Seconds of one optimiser step by what they went into.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    generation: f64,
    reward: f64,
    began: Option<Instant>,
}

/// A run under way.
pub struct Session {
    /// Model, optimiser, directory and schedule.
    pub job: Job,
    /// What is asked, in training and in evaluation.
    pub prompts: PromptSet,
    /// What completions are judged by; empty where a file brings their rewards.
    pub rewards: Rewards,
    /// What may end the run.
    pub guard: Guard,
    /// What is being learnt from.
    pub experience: Experience,
    rollouts: Rollouts,
    samples: SamplesLog,
    reference: KlReference,
    options: RolloutOptions,
    order: Sampling,
    sizes: Sizes,
    /// Whether training may drop inputs of adapters.
    drops: bool,
    clock: Clock,
    seen: Seen,
}

/// What has been drawn and judged since the run began or was resumed.
#[derive(Clone, Debug, Default)]
struct Seen {
    n_drawn: usize,
    n_judged: usize,
    /// Lines about the best and the worst completion of the last generation.
    shown: Vec<String>,
}

impl Session {
    /// Reads and checks everything, then begins the run's directory. `needs_reference`: a KL is asked for; `critic`: one
    /// with a model of its own is trained; `own`: rewards beside those that the options name.
    pub fn open<C: PolicyGradient>(
        options: &C,
        turns: Turns,
        needs_reference: bool,
        critic: bool,
        own: Vec<Box<dyn Reward>>,
    ) -> Result<Session> {
        let (data, rollout, _) = options.rollout();
        let common = options.common();
        let training = common.training;
        let mut source =
            setup::open_with(&common.model.model_name_or_path, common.lora.adapter_name_or_path.as_deref())?;
        let context = source.files.config.max_position_embeddings.min(options.max_length().unwrap_or(usize::MAX));
        let prompts = read_prompts(data, rollout, &mut source.tokenizer, context, training.seed)?;
        let rollout = &rollout.settled(context, longest(&prompts.train).max(longest(&prompts.eval)));
        let (rewards, gold) = open_rewards(options, rollout, &source, &prompts, own)?;
        let rollouts = open_rollouts(options, rollout, &source, &prompts, rewards.is_empty())?;
        let sizes = Sizes::of(options, turns);
        let needs_reference = needs_reference || options.guard().kl_budget.is_some();
        let adapted = common.lora.use_peft && common.lora.adapter_name_or_path.is_none();
        let freezes = needs_reference && !adapted;
        let keeps = Guard::keeps(options.guard()) && !common.lora.use_peft;
        // A critic's model: its weights, their gradients and two moments.
        let copies = if critic { 16 } else { 0 } + if freezes { 4 } else { 0 } + if keeps { 4 } else { 0 };
        let work = Work {
            n_rows: prompts.train.len(),
            n_tokens: prompts.train.iter().map(|p| p.ids.len()).sum(),
            length: sizes.run_length(options, prompts.train.len())?,
            largest: sizes.largest(&prompts.train, rollout),
            beside: Beside {
                stays: copies * source.files.config.count_parameters().0,
                generation: sizes.generation(&source.files.config, &prompts.train, rollout, &rollouts),
                critic,
                ..Beside::default()
            },
            reads: reads(options, prompts.task.is_some()),
            notes: &prompts.notes,
            shown: first_rows(&prompts.train, 3),
        };
        let mut job = Job::open(options, source, work)?;
        check_same_prompts(&mut job, &prompts)?;
        // The backward reads rows of frozen weights, and those of packed codes are slow to reach: quantised weights are
        // packed for each generation instead. A reference that moves is no frozen one.
        let quantised = job.learner.model.linears().iter().any(|l| matches!(l.weight.dtype(), DType::Quant(_)));
        if !quantised && !options.sync().is_some_and(|sync| sync.sync_ref_model) {
            job.learner.model.pack_frozen()?;
        }
        let reference = KlReference::open(&job, options, needs_reference, freezes)?;
        let mut guard = Guard::new(options.guard(), Some(gold).filter(|gold| !gold.is_empty()));
        let mut experience = Experience::default();
        if let Some(checkpoint) = &job.resumed {
            experience = Experience::load(&checkpoint.path)?.unwrap_or_default();
            guard.restore(&checkpoint.path, &job.learner.model)?;
        }
        let samples = SamplesLog::open(&training.output_dir, job.resumed.as_ref().map(|c| c.step))?;
        let shuffles = data.shuffle_dataset && data.train_sampling_strategy == SamplingStrategy::Random;
        let order = if shuffles { Sampling::Random } else { Sampling::Sequential };
        let drops = !options.disables_dropout();
        let (options, clock) = (rollout.clone(), Clock::default());
        let mut session = Session {
            job,
            prompts,
            rewards,
            guard,
            experience,
            rollouts,
            samples,
            reference,
            options,
            order,
            sizes,
            drops,
            clock,
            seen: Seen::default(),
        };
        if session.job.evaluates_first && !session.prompts.eval.is_empty() {
            session.log_evaluation()?;
        }
        Ok(session)
    }

    /// The next optimiser step; None when the run is complete, or the guard has ended it.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.guard.stop().is_some() {
            return None;
        }
        self.clock = Clock { began: Some(Instant::now()), ..Clock::default() };
        self.job.next_step()
    }

    /// Which generation of its epoch a batch learns from, and which of the generation's turns it is (0: it is drawn).
    pub fn turn(&self, batch: u64) -> (u64, usize) {
        let per_generation = self.sizes.turns.per_generation as u64;
        (batch / per_generation, (batch % per_generation) as usize)
    }

    /// The generation that is to be drawn before micro-batch `i` of a step, unless the one before is still learnt from.
    pub fn due(&self, step: &Step, i: usize) -> Option<u64> {
        let (generation, turn) = self.turn(step.batches.start + i as u64);
        (turn == 0).then_some(generation)
    }

    /// The completions that micro-batch `i` of a step learns from.
    pub fn samples_of(&self, step: &Step, i: usize) -> Vec<Sample> {
        let (_, turn) = self.turn(step.batches.start + i as u64);
        let (all, start) = (&self.experience.samples, turn % self.sizes.cuts * self.sizes.batch);
        all[start.min(all.len())..(start + self.sizes.batch).min(all.len())].to_vec()
    }

    /// Takes up what is learnt from until the next generation.
    pub fn learn_from(&mut self, experience: Experience) {
        self.job.count(0.0, experience.n_tokens());
        self.experience = experience;
    }

    /// Learns from micro-batch `i` of a step, by a loss of its completions; from nothing if no token is trained on.
    pub fn learn(
        &mut self,
        step: &Step,
        i: usize,
        loss: impl FnOnce(&Part) -> Result<(Tensor, Metrics)>,
    ) -> Result<()> {
        let samples = self.samples_of(step, i);
        let batch = self.experience.batch(&samples)?;
        if batch.n_items() == 0 {
            return Ok(self.job.learner.accumulate_nothing()?);
        }
        let n_micro_batches = step.micro_batches().len();
        let n_trained = (self.experience.n_trained() as f64).max(1.0);
        let whole = Whole {
            n_micro_batches,
            n_tokens: n_trained * n_micro_batches as f64 / self.sizes.cuts as f64,
            max_completion_length: self.options.longest_completion(),
        };
        let drops = self.drops;
        self.job.learn(step, i, |model, pass| {
            let pass = Pass { dropout: pass.dropout.filter(|_| drops), ..pass };
            let scored = score(model, &batch, self.options.temperature, pass)?;
            let sequences = Sequences::new(&batch.sequences, samples.len())?;
            let (loss, mut metrics) = loss(&Part { scored, samples: &samples, sequences, whole })?;
            metrics.retain(|(_, value)| !value.is_nan());
            Ok(Measured { loss, metrics, n_tokens: 0 })
        })
    }

    /// The optimiser's step and what is due after it: log, evaluation, and a checkpoint, to which `besides` adds.
    pub fn step(&mut self, besides: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let due = self.job.step()?;
        self.reference.moved(&self.job.learner.model, self.job.state.global_step)?;
        let due = self.after_step(due)?;
        if due.save { self.save(besides) } else { Ok(()) }
    }

    /// Draws and judges the completions of a generation.
    pub fn collect(&mut self, step: &Step, generation: u64) -> Result<Collected> {
        let order = epoch_order(self.prompts.train.len(), self.order, self.job.seed, step.epoch);
        let n = self.sizes.prompts_per_generation;
        let start = generation as usize * n;
        self.collect_of(order[start..start + n].to_vec())
    }

    /// Draws and judges completions of these prompts. Every completion has a stream of random numbers of its own.
    pub fn collect_of(&mut self, prompts: Vec<usize>) -> Result<Collected> {
        let group = self.options.num_generations;
        let asked: Vec<&Prompt> = prompts.iter().map(|&row| &self.prompts.train[row]).collect();
        let drawn = self.job.state.random_counters.entry("completions".into()).or_default();
        let began = Instant::now();
        let tokenizer = &self.job.source.tokenizer;
        let completions = self.rollouts.of(&self.job.learner.model, &asked, group, *drawn, tokenizer)?;
        *drawn += completions.len() as u64;
        self.clock.generation += began.elapsed().as_secs_f64();
        let began = Instant::now();
        let scores = judge(&mut self.rewards, &asked, &completions, group)?;
        self.clock.reward += began.elapsed().as_secs_f64();
        self.seen.n_drawn += completions.len();
        self.seen.n_judged += scores.total.iter().filter(|reward| !reward.is_nan()).count();
        Ok(Collected { prompts, completions, scores })
    }

    /// The samples of a generation, without advantages yet: log-probabilities as they were drawn where `needs_old`,
    /// those of the reference where there is one.
    pub fn experience_of(&mut self, collected: &Collected, needs_old: bool, temperature: f64) -> Result<Experience> {
        let group = self.options.num_generations;
        let masks = self.options.mask_truncated_completions;
        let sample = |(i, c): (usize, &Completion)| Sample {
            prompt: i / group,
            ids: c.ids.clone(),
            masked: masks && !c.ended,
            ..Sample::default()
        };
        let prompts = collected.prompts.iter().map(|&row| self.prompts.train[row].ids.clone()).collect();
        let mut experience =
            Experience { prompts, samples: collected.completions.iter().enumerate().map(sample).collect() };
        if needs_old {
            // The CPU gives a token the same bits in drawing and in scoring; a GPU has other kernels for each.
            let known = self.job.device.is_host() && collected.completions.iter().all(|c| c.logps.is_some());
            let old = match known {
                true => collected.completions.iter().map(|c| c.logps.clone().unwrap_or_default()).collect(),
                false => log_probabilities(&self.job.learner.model, &experience, self.sizes.batch, temperature)?,
            };
            experience.samples.iter_mut().zip(old).for_each(|(s, logp)| s.logp_old = logp);
        }
        if let Some(reference) = self.reference.policy(&self.job.learner.model) {
            let logp_ref = log_probabilities(&reference, &experience, self.sizes.batch, temperature)?;
            experience.samples.iter_mut().zip(logp_ref).for_each(|(s, logp)| s.logp_ref = logp);
            if needs_old {
                self.spent(kl_of_completions(&experience.samples));
            }
        }
        Ok(experience)
    }

    /// Logs the KL from the reference of the policy that drew, and counts it against the budget.
    pub fn spent(&mut self, kl: f64) {
        self.add("objective/kl", kl);
        self.guard.spent(kl, self.job.state.global_step, &self.job.learner.model);
    }

    /// Writes a checkpoint, with the experience if the next step still learns from it, and what `besides` adds.
    fn save(&mut self, besides: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let next = self.job.upcoming();
        let unused = next.is_some_and(|step| self.turn(step.batches.start).1 != 0);
        let Session { job, experience, guard, reference, .. } = self;
        job.save(|checkpoint| {
            reference.save(checkpoint)?;
            guard.save(checkpoint)?;
            if unused {
                experience.save(checkpoint)?;
            }
            besides(checkpoint)
        })
    }

    /// Saves the finished model: the last one, or the one that the guard has kept.
    /// Errors: no completion was judged, so that there is nothing it could have learnt.
    pub fn finish(mut self) -> Result<Summary> {
        if self.job.stops() {
            return self.job.finish();
        }
        if self.job.resumed.is_none() && self.seen.n_drawn > 0 && self.seen.n_judged == 0 {
            return Err(Error::Input(format!(
                "no completion was judged: none of the {} has a reward from {}; nothing was learnt and no model is saved",
                self.seen.n_drawn,
                judging::reward_names(&self.rewards).join(", ")
            )));
        }
        match self.guard.finish() {
            Some((step, model)) => {
                self.job.learner.model = model;
                self.job.progress.say(&format!("the finished model is the policy after step {step}"));
            }
            None if self.guard.stop().is_some() => {
                self.job.progress.say("the finished model is the last: no earlier policy was within the budget");
            }
            None => {}
        }
        self.job.finish()
    }
}
