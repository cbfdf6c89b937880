//! A policy-gradient run around its steps: prompts in order, completions, rewards, reference, and what to do with them.
use super::experience::{Experience, Sample};
use super::guard::{Guard, kl_of_completions};
use super::judged::{Judged, Prompt};
use super::measure::{Metrics, Part, log_probabilities, score};
use super::prompts::{PromptSet, longest, read_prompts};
use super::rewards::by_judge::open_model;
use super::rewards::{Rewards, Scores};
use super::rollout::{Completion, Drawing, FixedCompletions, Rollouts};
use super::samples::SamplesLog;
use crate::advantages::{mean, std};
use crate::data::order::{Sampling, epoch_order};
use crate::error::{Error, Result};
use crate::job::setup::{self, ModelSource};
use crate::job::{Job, Measured, Step, Summary, Work};
use crate::losses::policy::Sequences;
use crate::losses::weights::Whole;
use crate::options::{PolicyGradient, RolloutOptions, SamplingStrategy};
use crate::run::Due;
use crate::run::schedule::{RunLength, run_length};
use engine::model::decoder::Decoder;
use engine::tensor::Tensor;
use std::path::Path;
use std::time::Instant;

/// The name under which the rewards of a completions file are logged (TRL's name for an anonymous function of its kind).
const FILE_REWARD: &str = "reward_fn";
/// Separates the random numbers of evaluations from those of training.
const EVALUATION: u64 = 0x6576_616c;

/// Completions of one generation with their rewards, group after group.
pub struct Collected {
    /// Rows of the prompts, one a group.
    pub prompts: Vec<usize>,
    /// `num_generations` of each prompt, neighbours.
    pub completions: Vec<Completion>,
    /// Their rewards, in the same order.
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
    /// Model, optimiser, schedule, directory: what every run has.
    pub job: Job,
    /// What is drawn from.
    pub prompts: PromptSet,
    /// What completions are judged by; empty where a file brings the rewards.
    pub rewards: Rewards,
    /// What may end the run before its last step.
    pub guard: Guard,
    /// What is being learnt from.
    pub experience: Experience,
    rollouts: Rollouts,
    samples: SamplesLog,
    reference: KlReference,
    options: RolloutOptions,
    order: Sampling,
    sizes: Sizes,
    clock: Clock,
}

/// The policy that a KL is measured from.
enum KlReference {
    /// None is asked for.
    Nothing,
    /// The base under a new adapter.
    AdapterOff,
    /// A copy of the start.
    Frozen(Box<Decoder>),
}

/// How a run is cut.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Completions of a micro-batch.
    batch: usize,
    prompts_per_generation: usize,
    /// Batches of completions in one generation.
    cuts: usize,
    turns: Turns,
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
    fn of<C: PolicyGradient>(options: &C, turns: Turns) -> Self {
        let rollout = options.rollout().1;
        let (batch, cuts) =
            (options.completions_per_batch(), rollout.batches_per_generation(options.common().training));
        Sizes { batch, prompts_per_generation: cuts * batch / rollout.num_generations, cuts, turns }
    }

    /// How long a run over `n_prompts` prompts is. Errors: they are too few for one generation.
    fn run_length<C: PolicyGradient>(&self, options: &C, n_prompts: usize) -> Result<RunLength> {
        let (data, rollout, _) = options.rollout();
        let (training, group, per_generation) =
            (options.common().training, rollout.num_generations, self.prompts_per_generation);
        let generations = n_prompts / per_generation;
        if generations == 0 {
            return Err(Error::Input(format!(
                "{}: {n_prompts} prompts, but one generation takes {per_generation} (its {} completions are {group} \
                 each); lower --per_device_train_batch_size or --steps_per_generation, or raise --num_generations",
                data.dataset_name,
                per_generation * group
            )));
        }
        let n_batches = generations * self.turns.per_generation;
        Ok(run_length(n_batches, 1, self.turns.per_step, training.num_train_epochs, training.max_steps))
    }

    /// (tokens, predictions) of the largest micro-batch: completions of a group share their prompt.
    fn largest(&self, prompts: &[Prompt], rollout: &RolloutOptions) -> (usize, usize) {
        let (group, completions) = (rollout.num_generations, self.batch * rollout.max_completion_length);
        let n_roots = self.batch.div_ceil(group) + usize::from(!self.batch.is_multiple_of(group));
        (n_roots * longest(prompts) + completions, completions)
    }
}

impl Session {
    /// Reads and checks everything, then begins the run's directory. `needs_reference`: a KL is asked for;
    /// `bytes_per_weight`: what a trainer keeps besides for each of the model's weights (a critic).
    pub fn open<C: PolicyGradient>(
        options: &C,
        turns: Turns,
        needs_reference: bool,
        bytes_per_weight: u64,
    ) -> Result<Session> {
        let (data, rollout, _) = options.rollout();
        let common = options.common();
        let training = common.training;
        let mut source = setup::open_source(&common.model.model_name_or_path)?;
        let context = source.files.config.max_position_embeddings.min(options.max_length().unwrap_or(usize::MAX));
        let prompts = read_prompts(data, rollout, &mut source.tokenizer, context, training.seed)?;
        let (rewards, gold) = open_rewards(options, &source, &prompts)?;
        let rollouts = open_rollouts(options, &source, &prompts, rewards.is_empty())?;
        let sizes = Sizes::of(options, turns);
        let needs_reference = needs_reference || options.guard().kl_budget.is_some();
        let adapted = common.lora.use_peft && common.lora.adapter_name_or_path.is_none();
        let freezes = needs_reference && !adapted;
        let keeps = Guard::keeps(options.guard()) && !common.lora.use_peft;
        let copies = bytes_per_weight + if freezes { 4 } else { 0 } + if keeps { 4 } else { 0 };
        let work = Work {
            n_rows: prompts.train.len(),
            n_tokens: prompts.train.iter().map(|p| p.ids.len()).sum(),
            length: sizes.run_length(options, prompts.train.len())?,
            largest: sizes.largest(&prompts.train, rollout),
            bytes_beside: copies * source.files.config.count_parameters().0,
            reads: reads(options, prompts.task.is_some()),
            notes: &prompts.notes,
        };
        let mut job = Job::open(options, source, work)?;
        check_same_prompts(&mut job, &prompts)?;
        let reference = match (needs_reference, freezes, &job.resumed) {
            (false, ..) => KlReference::Nothing,
            (true, false, _) => KlReference::AdapterOff,
            // Memory is shared until the optimiser changes the policy's.
            (true, true, None) => KlReference::Frozen(Box::new(job.learner.model.clone())),
            (true, true, Some(_)) => {
                let start = job.policy.learner(&job.device, &job.source, training, None)?.model;
                KlReference::Frozen(Box::new(start))
            }
        };
        let mut guard = Guard::new(options.guard(), Some(gold).filter(|gold| !gold.is_empty()));
        let mut experience = Experience::default();
        if let Some(checkpoint) = &job.resumed {
            experience = Experience::load(&checkpoint.path)?.unwrap_or_default();
            guard.restore(&checkpoint.path, &job.learner.model)?;
        }
        let samples = SamplesLog::open(&training.output_dir, job.resumed.as_ref().map(|c| c.step))?;
        let shuffles = data.shuffle_dataset && data.train_sampling_strategy == SamplingStrategy::Random;
        let order = if shuffles { Sampling::Random } else { Sampling::Sequential };
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
            clock,
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
            max_completion_length: self.options.max_completion_length,
        };
        self.job.learn(step, i, |model, pass| {
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
        if let Some(reference) = self.reference() {
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

    /// The policy that a KL is measured from, if one is asked for.
    fn reference(&self) -> Option<Decoder> {
        match &self.reference {
            KlReference::Nothing => None,
            KlReference::AdapterOff => Some(self.job.learner.model.without_adapter()),
            KlReference::Frozen(start) => Some((**start).clone()),
        }
    }

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
    fn after_step(&mut self, due: Due) -> Result<Due> {
        let due = Due { log: due.log || self.guard.stop().is_some(), ..due };
        let all = self.clock.began.map_or(f64::NAN, |b| b.elapsed().as_secs_f64());
        let (generation, reward) = (self.clock.generation / all, self.clock.reward / all);
        self.add("step_time", all);
        self.add("time/generation", generation);
        self.add("time/reward", reward);
        self.add("time/training", 1.0 - generation - reward);
        if due.log {
            let of = |name: &str| self.job.window.mean(name);
            let kl = if of("kl").is_nan() { String::new() } else { format!("  kl {:.4}", of("kl")) };
            let line = format!(
                "  reward {:.3}  length {:.1}{kl}  ({:.0} % generation, {:.0} % reward, {:.0} % training)",
                of("reward"),
                of("completions/mean_length"),
                100.0 * of("time/generation"),
                100.0 * of("time/reward"),
                100.0 * of("time/training")
            );
            let gold = of("gold");
            self.job.log()?;
            self.job.progress.say(&line);
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
    fn log_evaluation(&mut self) -> Result<()> {
        let values = self.evaluate()?;
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.job.log_evaluation(&values)?;
        let gold = values.iter().find(|(name, _)| *name == "eval_gold").map_or(f64::NAN, |(_, value)| *value);
        self.guard.checked(gold, self.job.state.global_step, &self.job.learner.model);
        Ok(())
    }

    /// Writes a checkpoint, with the experience if the next step still learns from it, and what `besides` adds.
    fn save(&mut self, besides: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let next = self.job.next_step();
        let unused = next.is_some_and(|step| self.turn(step.batches.start).1 != 0);
        let Session { job, experience, guard, .. } = self;
        job.save(|checkpoint| {
            guard.save(checkpoint)?;
            if unused {
                experience.save(checkpoint)?;
            }
            besides(checkpoint)
        })
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

    /// Saves the finished model: the last one, or the one that the guard has kept.
    pub fn finish(mut self) -> Result<Summary> {
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

/// The rewards that a run learns from, and those of the gold check; both are shown the prompts.
fn open_rewards<C: PolicyGradient>(
    options: &C,
    source: &ModelSource,
    prompts: &PromptSet,
) -> Result<(Rewards, Rewards)> {
    let (_, rollout, reward) = options.rollout();
    let open_model = |name: &str| open_model(name, reward, &source.tokenizer, options.common().device);
    let rewards = Rewards::new(reward, rollout, prompts.task.as_ref(), open_model)?;
    let gold_names = &options.guard().gold_funcs.0;
    let gold = Rewards::named(gold_names, vec![], (reward, rollout), prompts.task.as_ref(), open_model)?;
    for rewards in [&rewards, &gold] {
        rewards.check(&prompts.train)?;
        rewards.check(&prompts.eval)?;
    }
    Ok((rewards, gold))
}

/// Where completions come from. `unjudged`: no reward is named, so that a file must bring them.
fn open_rollouts<C: PolicyGradient>(
    options: &C,
    source: &ModelSource,
    prompts: &PromptSet,
    unjudged: bool,
) -> Result<Rollouts> {
    let (rollout, config) = (options.rollout().1, &source.files.config);
    let mut stop_tokens = source.stop_tokens();
    let drawing = config.generation.drawing_fields();
    if !drawing.is_empty() {
        let said =
            "the options say how completions are drawn, as in TRL; of generation_config.json the ends are used, not";
        eprintln!("note: {said} {}", drawing.join(", "));
    }
    let Some(path) = &rollout.completions_file else {
        return Ok(Rollouts::Drawn(Drawing::new(rollout, stop_tokens, options.common().training.seed)));
    };
    stop_tokens.extend(source.tokenizer.pad_id());
    let file = FixedCompletions::read(path, stop_tokens, config.vocab_size)?;
    file.check(&prompts.train, rollout.num_generations, unjudged)?;
    Ok(Rollouts::Fixed(file))
}

/// Questions made on the spot are no file whose hash is kept: their own is.
fn check_same_prompts(job: &mut Job, prompts: &PromptSet) -> Result<()> {
    let fold = |hash: u64, token: &u32| (hash ^ u64::from(*token)).wrapping_mul(0x100_0000_01b3);
    let now = prompts.train.iter().flat_map(|p| &p.ids).fold(0xcbf2_9ce4_8422_2325, fold);
    match job.state.random_counters.insert("prompts".into(), now) {
        Some(then) if then != now => Err(Error::input(
            "resume_from_checkpoint: the prompts are not those that the run began with; give dataset_name as it was, or \
             start anew in another output_dir",
        )),
        _ => Ok(()),
    }
}

/// What a run reads, by role.
fn reads<C: PolicyGradient>(options: &C, is_task: bool) -> Vec<(&'static str, &Path)> {
    let (data, rollout, _) = options.rollout();
    let mut all = vec![("model", Path::new(&*options.common().model.model_name_or_path))];
    if !is_task {
        all.push(("data", Path::new(&*data.dataset_name)));
    }
    let evaluated = data.eval_dataset.as_deref().filter(|p| !p.to_string_lossy().starts_with("task:"));
    all.extend(evaluated.map(|p| ("evaluation data", p)));
    all.extend(rollout.completions_file.as_deref().map(|p| ("completions", p)));
    all.extend(options.common().lora.adapter_name_or_path.as_deref().map(|p| ("adapter", p)));
    all
}

fn reward_names(rewards: &Rewards) -> Vec<String> {
    if rewards.is_empty() { vec![FILE_REWARD.into()] } else { rewards.names.clone() }
}

/// Rewards of completions, or those that they bring with them.
fn judge(rewards: &mut Rewards, asked: &[&Prompt], completions: &[Completion], group: usize) -> Result<Scores> {
    if rewards.is_empty() {
        let given: Vec<f64> = completions.iter().map(|c| c.reward.unwrap_or(f64::NAN)).collect();
        return Ok(Scores { each: vec![given.clone()], total: given });
    }
    let judged = |(i, c): (usize, &'_ Completion)| (asked[i / group], c.clone());
    let pairs: Vec<(&Prompt, Completion)> = completions.iter().enumerate().map(judged).collect();
    let list: Vec<Judged> = pairs.iter().map(|(prompt, c)| Judged { prompt, text: &c.text, ids: &c.ids }).collect();
    rewards.score(&list)
}

/// The gold check: the mean of each of its rewards, and of their sum.
fn gold_metrics(names: &[String], scores: &Scores) -> Vec<(String, f64)> {
    let each = names.iter().zip(&scores.each).map(|(name, rewards)| (format!("gold/{name}"), mean(rewards)));
    std::iter::once(("gold".to_string(), mean(&scores.total))).chain(each).collect()
}

/// Rewards and lengths under TRL's names.
fn metrics_of(names: &[String], completions: &[Completion], scores: &Scores) -> Vec<(String, f64)> {
    let mut all = vec![("reward".to_string(), mean(&scores.total)), ("reward_std".into(), std(&scores.total))];
    for (name, rewards) in names.iter().zip(&scores.each) {
        all.push((format!("rewards/{name}/mean"), mean(rewards)));
        all.push((format!("rewards/{name}/std"), std(rewards)));
        let unjudged = rewards.iter().filter(|r| r.is_nan()).count();
        if unjudged > 0 {
            all.push((format!("rewards/{name}/unjudged"), unjudged as f64 / rewards.len() as f64));
        }
    }
    let lengths = |ended_only: bool| -> Vec<f64> {
        completions.iter().filter(|c| c.ended || !ended_only).map(|c| c.ids.len() as f64).collect()
    };
    let ended = lengths(true);
    for (kind, lengths) in
        [("", lengths(false)), ("terminated_", if ended.is_empty() { vec![0.0] } else { ended.clone() })]
    {
        let (least, most) = lengths.iter().fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(*x), b.max(*x)));
        all.push((format!("completions/mean_{kind}length"), mean(&lengths)));
        all.push((format!("completions/min_{kind}length"), least));
        all.push((format!("completions/max_{kind}length"), most));
    }
    let cut = completions.len() - ended.len();
    all.push(("completions/clipped_ratio".into(), cut as f64 / completions.len().max(1) as f64));
    all
}
