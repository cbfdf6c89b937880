//! The options that the policy-gradient trainers share: rewards, guards, the clipped ratio, losses; checks of rollouts.
use super::choices::{OnlineDpoLoss, VerdictRule};
use super::drawing::RolloutOptions;
use super::given::Given;
use super::groups::{DataOptions, LoraOptions, RecordOptions, TrainingOptions};
use super::lists::List;
use super::rl_values::*;
use super::spec::option_group;
use super::value::{ANY, Location, above, at_least, between, share, share_above_zero};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// What completions are judged by.
    pub struct JudgingOptions "Rewards" {
        /// Reward functions: exact, numeric, gsm8k, boxed, think_format, json, length, soft_overlong, repetition,
        /// regex:PATTERN, program:COMMAND, model:PATH (a trained reward model), judge:PATH (a language model that
        /// compares the completions of a prompt), judge_score:PATH (one that grades each by itself), TRL's names for
        /// these, or task (a task:… data set's own check, and its default).
        reward_funcs: Items = none, Trl;
        /// A trained reward model that judges besides reward_funcs.
        reward_model_name_or_path | reward_model_path: Option<Location> = none, Trl, ANY, free;
        /// A language model that compares the completions of a prompt besides reward_funcs: judge:PATH.
        judge: Option<Location> = none, Trl, ANY, free;
        /// The principles that judges judge by: a text file.
        judge_constitution: Option<PathBuf> = none, Lapidary;
        /// A Jinja file that makes a judge's question of constitution, prompt, completions and options; none for the
        /// built-in one.
        judge_template: Option<PathBuf> = none, Lapidary;
        /// A judge's verdict on two completions: agree, where both orders must agree, or average, the sign of their mean.
        judge_verdict: VerdictRule = "agree", Lapidary;
        /// The factor on each reward function; none for 1 each.
        reward_weights: Numbers = none, Trl;
        /// Tokens before max_completion_length within which soft_overlong rises from 0 to its full penalty; none for
        /// an eighth of it.
        soft_punish_cache: Option<usize> = none, Lapidary, at_least(1.0);
        /// Length of the word sequences that repetition counts.
        repetition_ngram_size: usize = "3", Lapidary, at_least(1.0);
        /// Seconds that a reward program may take over one batch.
        reward_timeout: f64 = "60", Lapidary, above(0.0), free;
        /// How often a reward program that died or hung is started again for the same batch.
        reward_retries: usize = "2", Lapidary, at_least(0.0), free;
    }
}

option_group! {
    /// What keeps a policy from going where its reward is wrong.
    pub struct GuardOptions "Guards" {
        /// The KL from the reference policy, in nats a completion, that the run may spend: when that of the completions
        /// drawn passes it, the run stops with the last policy within it.
        kl_budget: Option<f64> = none, Lapidary, above(0.0), free;
        /// Reward functions that are measured on the completions but never trained on.
        gold_funcs: Items = none, Lapidary;
        /// Stop when the gold check has not risen for so many evaluations (of eval_dataset, else log lines); the finished
        /// model is the best by it. none for never.
        gold_patience: Option<usize> = none, Lapidary, at_least(1.0);
    }
}

option_group! {
    /// The clipped ratio.
    pub struct RatioOptions "Policy gradient" {
        /// How often each completion is trained on.
        num_iterations: usize = "1", Trl, at_least(1.0);
        /// How far below 1 a ratio counts; above too, if epsilon_high is not given.
        epsilon: f64 = "0.2", Trl, at_least(0.0);
        /// How far above 1 a ratio counts; none for epsilon. (With loss_type cispo: the largest ratio itself.)
        epsilon_high: Option<f64> = none, Trl, at_least(0.0);
        /// Weight of the KL divergence from the reference policy (the model at the start, or with an adapter its
        /// base); 0 for none.
        beta: f64 = "0", Trl, at_least(0.0);
    }
}

option_group! {
    /// GRPO's loss.
    pub struct GrpoLossOptions "Policy gradient" {
        /// What is minimised.
        loss_type: GrpoLoss = "dapo", Trl;
        /// Upper bound of the ratio where the advantage is negative (two-sided clipping); none for no bound.
        delta: Option<f64> = none, Trl, above(0.0);
        /// Whether each token has its ratio, or the completion one (GSPO).
        importance_sampling_level: RatioLevel = "token", Trl;
        /// What advantages are divided by: the deviation of the group, of the batch, or nothing.
        scale_rewards: ScaleRewards = "group", Trl;
        /// With several rewards: their weighted sum is normalised, or each is before they are added (GDPO).
        multi_objective_aggregation: Aggregation = "sum_then_normalize", Trl;
        /// Train on this share of tokens, those with the highest entropy.
        top_entropy_quantile: f64 = "1", Trl, share_above_zero();
        /// Weigh the KL of each token by its ratio, which makes it unbiased off-policy.
        use_bias_correction_kl: bool = "true", Trl;
        /// SAPO's temperature where the advantage is negative.
        sapo_temperature_neg: f64 = "1.05", Trl, above(0.0);
        /// SAPO's temperature where the advantage is positive.
        sapo_temperature_pos: f64 = "1", Trl, above(0.0);
        /// VESPO's k where the advantage is not negative.
        vespo_k_pos: f64 = "2", Trl, at_least(0.0);
        /// VESPO's λ where the advantage is not negative.
        vespo_lambda_pos: f64 = "3", Trl, at_least(0.0);
        /// VESPO's k where the advantage is negative.
        vespo_k_neg: f64 = "3", Trl, at_least(0.0);
        /// VESPO's λ where the advantage is negative.
        vespo_lambda_neg: f64 = "2", Trl, at_least(0.0);
        /// DAPO's dynamic sampling: groups whose rewards are all equal are replaced by those of further prompts, in at
        /// most this many more rounds; 0 for off.
        dynamic_sampling_rounds: usize = "0", Lapidary, at_least(0.0);
    }
}

option_group! {
    /// What is dropped at random.
    pub struct DropoutOptions "Policy gradient" {
        /// Drop nothing at random in training, adapters' inputs included.
        disable_dropout: bool = "false", Trl;
    }
}

option_group! {
    /// RLOO's advantages.
    pub struct RlooLossOptions "Policy gradient" {
        /// Normalise the advantages over the batch.
        normalize_advantages: bool = "false", Trl;
        /// Smallest and largest reward, two numbers; rewards outside count as the nearer one. none for no bounds.
        reward_clip_range: Numbers = none, Trl;
    }
}

option_group! {
    /// REINFORCE's baseline.
    pub struct ReinforceLossOptions "Policy gradient" {
        /// What rewards are compared with: the mean of earlier batches, the mean of this batch, or nothing.
        baseline: Baseline = "moving_average", Lapidary;
        /// How much of the moving average is kept at each batch.
        baseline_decay: f64 = "0.9", Lapidary, share();
        /// REINFORCE++: token advantages (KL in the reward) normalised over the batch, and PPO's clipped ratio.
        plus_plus: bool = "false", Lapidary;
    }
}

option_group! {
    /// The loss of a pair of completions, the better against the worse.
    pub struct OnlineDpoLossOptions "Policy gradient" {
        /// The loss: sigmoid (DPO) or ipo.
        loss_type: OnlineDpoLoss = "sigmoid", Trl;
        /// β: how strongly the policy is held to the reference (IPO's τ); several for one after another, an epoch each.
        beta: List<f64> = "0.1", Trl, above(0.0);
        /// Taken from the reward of completions without an end.
        missing_eos_penalty: Option<f64> = none, Trl, at_least(0.0);
        /// Longest sequence (prompt and completion) in tokens; prompts that leave no room for max_completion_length are
        /// skipped. none for the model's context.
        max_length: Option<usize> = "512", Trl, at_least(2.0);
        /// Drop nothing at random in training, adapters' inputs included.
        disable_dropout: bool = "true", Trl;
    }
}

option_group! {
    /// PPO.
    pub struct PpoLossOptions "Policy gradient" {
        /// How often the completions of a batch are gone through.
        num_ppo_epochs: usize = "4", Trl, at_least(1.0);
        /// Optimiser steps each time.
        num_mini_batches: usize = "1", Trl, at_least(1.0);
        /// Weight of the KL divergence from the reference policy in the reward.
        kl_coef: f64 = "0.05", Trl, at_least(0.0);
        /// k1: log-ratio; k3: unbiased and never negative.
        kl_estimator: KlEstimator = "k1", Trl;
        /// The KL that kl_coef is steered to (in nats a completion); none leaves it as it is.
        kl_target: Option<f64> = none, Lapidary, above(0.0);
        /// Completions over which kl_coef may change by a fifth.
        kl_horizon: f64 = "10000", Lapidary, above(0.0);
        /// How far from 1 a ratio counts.
        cliprange: f64 = "0.2", Trl, at_least(0.0);
        /// How far a value may move in the critic's loss.
        cliprange_value: f64 = "0.2", Trl, at_least(0.0);
        /// Weight of the critic's loss.
        vf_coef: f64 = "0.1", Trl, at_least(0.0);
        /// Discount of later rewards.
        gamma: f64 = "1", Trl, between(0.0, 1.0);
        /// λ of generalised advantage estimation.
        lam: f64 = "0.95", Trl, between(0.0, 1.0);
        /// Whiten the rewards (their mean is kept).
        whiten_rewards: bool = "false", Trl;
        /// The critic: a head on the policy's own hidden states, or a model of its own.
        critic: CriticKind = "model", Lapidary;
        /// The critic's learning rate, if not the policy's.
        critic_learning_rate: Option<f64> = none, Lapidary, at_least(0.0);
        /// Taken from the reward of completions without an end.
        missing_eos_penalty: Option<f64> = none, Trl, at_least(0.0);
    }
}

impl RolloutOptions {
    /// Most tokens of a completion beside prompts of up to `longest_prompt` tokens in a context of `context`.
    pub fn settled(&self, context: usize, longest_prompt: usize) -> RolloutOptions {
        let longest = self.max_completion_length.unwrap_or(context.saturating_sub(longest_prompt)).max(1);
        RolloutOptions { max_completion_length: Some(longest), ..self.clone() }
    }

    /// Most tokens of a completion; 1 at least, until [`Self::settled`] has said what none is.
    pub fn longest_completion(&self) -> usize {
        self.max_completion_length.unwrap_or(1)
    }

    /// Batches of per_device_train_batch_size completions that come from one generation.
    pub fn batches_per_generation(&self, training: &TrainingOptions) -> usize {
        match (self.steps_per_generation, self.generation_batch_size) {
            (Some(steps), _) => steps,
            (None, Some(size)) => size / training.per_device_train_batch_size,
            (None, None) => training.gradient_accumulation_steps,
        }
    }

    /// Contradictions of sizes, and what has no effect.
    pub(super) fn check(
        &self,
        (training, data, lora): (&TrainingOptions, &DataOptions, &LoraOptions),
        batch: usize,
        least: usize,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let group = self.num_generations;
        if group < least {
            let why = "a completion is compared with others of its prompt";
            return given.complain("num_generations", format!("is {group}, but at least {least} are needed: {why}"));
        }
        if self.steps_per_generation.is_some() && self.generation_batch_size.is_some() {
            return given.complain("generation_batch_size", "contradicts steps_per_generation; give one of them");
        }
        if let Some(size) = self.generation_batch_size.filter(|size| !size.is_multiple_of(batch)) {
            let detail = format!("is {size}, which is no multiple of per_device_train_batch_size ({batch})");
            return given.complain("generation_batch_size", detail);
        }
        let size = self.batches_per_generation(training) * batch;
        if !size.is_multiple_of(group) {
            return given.complain(
                "num_generations",
                format!(
                    "is {group}, but {size} completions are drawn at once (per_device_train_batch_size {batch} · \
                     steps_per_generation {}), which is no multiple of it; whole groups are needed",
                    self.batches_per_generation(training)
                ),
            );
        }
        if !data.evaluates() && (given.differs("eval_temperature") || given.differs("num_generations_eval")) {
            notes.push("num_generations_eval and eval_temperature have no effect without eval_dataset".into());
        }
        let drops = lora.use_peft && lora.lora_dropout > 0.0 && lora.adapter_name_or_path.is_none();
        let keeps_all = given.read("disable_dropout").unwrap_or(false);
        if drops && !keeps_all && !given.has("lora_dropout") {
            notes.push(
                "lora_dropout makes the trained policy differ from the one that drew; --lora_dropout 0 avoids it"
                    .into(),
            );
        }
        Ok(())
    }
}

impl JudgingOptions {
    pub(super) fn check(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        let models = usize::from(self.reward_model_name_or_path.is_some()) + usize::from(self.judge.is_some());
        let (n, m) = (self.reward_funcs.0.len() + models, self.reward_weights.0.len());
        if m > 0 && n > 0 && n != m {
            return given.complain("reward_weights", format!("has {m} numbers for {n} reward_funcs"));
        }
        for name in ["reward_timeout", "reward_retries"] {
            if given.differs(name) && !self.reward_funcs.0.iter().any(|f| f.starts_with("program:")) {
                notes.push(format!("{name} has no effect without a program:… among reward_funcs"));
            }
        }
        Ok(())
    }

    /// Every judge has a constitution, and something to compare where it compares.
    pub(super) fn check_judges(
        &self,
        gold: &Items,
        num_generations: usize,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let named = |prefix: &str| self.reward_funcs.0.iter().chain(&gold.0).any(|f| f.starts_with(prefix));
        let compares = self.judge.is_some() || named("judge:");
        if compares && num_generations < 2 {
            let detail = "a judge compares completions of a prompt with each other, so num_generations must be at least 2; \
                          judge_score:PATH grades each by itself";
            return given.complain(if self.judge.is_some() { "judge" } else { "reward_funcs" }, detail);
        }
        let judges = compares || named("judge_score:");
        if judges && self.judge_constitution.is_none() {
            return given.complain("judge_constitution", "is missing: a judge judges by the principles in this file");
        }
        for name in ["judge_constitution", "judge_template", "judge_verdict"] {
            if given.differs(name) && !judges {
                notes.push(format!("{name} has no effect without a judge"));
            }
        }
        Ok(())
    }
}

impl GuardOptions {
    /// A run has one finished model.
    pub(super) fn check_best(&self, record: &RecordOptions, given: &Given) -> Result<()> {
        let keeps = self.kl_budget.is_some() || self.gold_patience.is_some();
        if record.load_best_model_at_end && keeps {
            let detail = "contradicts kl_budget and gold_patience, which keep a policy of their own; give one of them";
            return given.complain("load_best_model_at_end", detail);
        }
        Ok(())
    }

    pub(super) fn check(&self, rollout: &RolloutOptions, given: &Given) -> Result<()> {
        if self.gold_patience.is_some() && self.gold_funcs.0.is_empty() {
            return given.complain("gold_patience", "needs --gold_funcs: what the completions are checked by");
        }
        if self.kl_budget.is_some() && rollout.completions_file.is_some() {
            let detail = "is measured on completions that the policy drew; leave out completions_file";
            return given.complain("kl_budget", detail);
        }
        Ok(())
    }
}
