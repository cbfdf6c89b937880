//! `lapidary grpo`, `rloo`, `raft`, `reinforce`, `ppo` and `online-dpo`: what each can be told.
use super::drawing::RolloutOptions;
use super::given::Given;
use super::groups::*;
use super::rl::*;
use super::rl_values::{CriticKind, GrpoLoss};
use super::shared::{TrainingCommand, check_shared, training_command};
use super::spec::{Command, option_set};
use super::sync::SyncOptions;
use crate::error::{Error, Result};

/// Declares a policy-gradient command: the groups they all have, and its own.
macro_rules! policy_gradient {
    ($(#[$meta:meta])* pub struct $set:ident { $( $(#[$field_meta:meta])* pub $field:ident: $group:ty, )* }
     $($own:tt)*) => {
        option_set! {
            $(#[$meta])*
            pub struct $set {
                pub model: ModelOptions,
                pub data: DataOptions,
                pub rollout: RolloutOptions,
                pub reward: JudgingOptions,
                pub guard: GuardOptions,
                $( $(#[$field_meta])* pub $field: $group, )*
                pub training: TrainingOptions,
                pub lora: LoraOptions,
                pub record: RecordOptions,
                pub upload: UploadOptions,
                pub device: DeviceOptions,
            }
        }

        training_command!($set);

        impl PolicyGradient for $set {
            fn rollout(&self) -> (&DataOptions, &RolloutOptions, &JudgingOptions) {
                (&self.data, &self.rollout, &self.reward)
            }
            fn guard(&self) -> &GuardOptions {
                &self.guard
            }
            $($own)*
        }

        impl $set {
            /// What every policy-gradient command checks; a prompt needs at least `least` completions.
            fn check_common(&mut self, least: usize, given: &Given) -> Result<Vec<String>> {
                let mut notes = Vec::new();
                let settled = (&mut self.training, &mut self.lora, &mut self.record, &mut self.device);
                let shared = check_shared(&mut self.model, &mut self.data, settled, false, given, &mut notes);
                let batch = self.completions_per_batch();
                let (gold, group) = (&self.guard.gold_funcs, self.rollout.num_generations);
                Error::all([
                    shared,
                    self.rollout.check((&self.training, &self.data, &self.lora), batch, least, given, &mut notes),
                    self.reward.check(given, &mut notes),
                    self.reward.check_judges(gold, group, given, &mut notes),
                    self.guard.check(&self.rollout, given),
                    self.guard.check_best(&self.record, given),
                    self.upload.check(given, &mut notes),
                ])?;
                Ok(notes)
            }
        }
    };
}

/// A command that learns from completions and their rewards.
pub trait PolicyGradient: TrainingCommand {
    /// Data, how completions are drawn, and by what they are judged.
    fn rollout(&self) -> (&DataOptions, &RolloutOptions, &JudgingOptions);
    /// What may end the run: the budget of KL and the gold check.
    fn guard(&self) -> &GuardOptions;
    /// Completions that are computed at once.
    fn completions_per_batch(&self) -> usize {
        self.common().training.per_device_train_batch_size
    }
    /// How the reference moves, where it may.
    fn sync(&self) -> Option<&SyncOptions> {
        None
    }
    /// Whether nothing is dropped in training.
    fn disables_dropout(&self) -> bool {
        false
    }
    /// Most tokens of a prompt and its completion, if not the model's context.
    fn max_length(&self) -> Option<usize> {
        None
    }
}

policy_gradient! {
    /// Everything `lapidary grpo` can be told.
    pub struct GrpoOptions {
        pub ratio: RatioOptions,
        pub loss: GrpoLossOptions,
        pub dropout: DropoutOptions,
        pub sync: SyncOptions,
    }
    fn sync(&self) -> Option<&SyncOptions> {
        Some(&self.sync)
    }
    fn disables_dropout(&self) -> bool {
        self.dropout.disable_dropout
    }
}

impl Command for GrpoOptions {
    const NAME: &'static str = "grpo";
    const ABOUT: &'static str = "Learn from rewards: completions of a prompt are compared with each other (GRPO)";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("learning_rate", "1e-6"), ("shuffle_dataset", "true")];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = self.check_common(2, given)?;
        self.sync.check(&self.lora, no_reference(&self.ratio, &self.guard), given, &mut notes)?;
        let loss = self.loss.loss_type;
        for (name, of) in [("sapo_temperature_neg", GrpoLoss::Sapo), ("sapo_temperature_pos", GrpoLoss::Sapo)] {
            if given.differs(name) && loss != of {
                notes.push(format!("{name} has no effect: loss_type is {}", loss.name()));
            }
        }
        if given.differs("delta")
            && !matches!(loss, GrpoLoss::Dapo | GrpoLoss::Grpo | GrpoLoss::DrGrpo | GrpoLoss::Bnpo | GrpoLoss::Luspo)
        {
            notes.push(format!("delta has no effect: loss_type is {}", loss.name()));
        }
        if self.loss.dynamic_sampling_rounds > 0 && self.rollout.completions_file.is_some() {
            return given
                .complain("dynamic_sampling_rounds", "needs completions to be drawn; leave out completions_file");
        }
        Ok(notes)
    }
}

/// Why there is no reference that could move.
fn no_reference(ratio: &RatioOptions, guard: &GuardOptions) -> Option<&'static str> {
    match (ratio.beta == 0.0, guard.kl_budget.is_some()) {
        (true, _) => Some("moves the reference, and with beta 0 there is none"),
        (false, true) => Some("contradicts kl_budget, which is measured from the start of the run"),
        (false, false) => None,
    }
}

policy_gradient! {
    /// Everything `lapidary rloo` can be told.
    pub struct RlooOptions {
        pub ratio: RatioOptions,
        pub loss: RlooLossOptions,
        pub dropout: DropoutOptions,
        pub sync: SyncOptions,
    }
    fn sync(&self) -> Option<&SyncOptions> {
        Some(&self.sync)
    }
    fn disables_dropout(&self) -> bool {
        self.dropout.disable_dropout
    }
}

impl Command for RlooOptions {
    const NAME: &'static str = "rloo";
    const ABOUT: &'static str = "Learn from rewards: each completion against the mean of its prompt's others (RLOO)";
    const DEFAULTS: &'static [(&'static str, &'static str)] =
        &[("learning_rate", "1e-6"), ("shuffle_dataset", "true"), ("num_generations", "2"), ("beta", "0.05")];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = self.check_common(2, given)?;
        self.sync.check(&self.lora, no_reference(&self.ratio, &self.guard), given, &mut notes)?;
        match self.loss.reward_clip_range.0[..] {
            [] => {}
            [low, high] if low < high => {}
            _ => return given.complain("reward_clip_range", "takes two numbers, the smaller first"),
        }
        Ok(notes)
    }
}

policy_gradient! {
    /// Everything `lapidary raft` can be told.
    pub struct RaftOptions {}
}

impl Command for RaftOptions {
    const NAME: &'static str = "raft";
    const ABOUT: &'static str =
        "Learn from rewards: fine-tune on the best of several completions of each prompt (RAFT)";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("learning_rate", "2e-5"), ("shuffle_dataset", "true")];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        self.check_common(2, given)
    }
}

policy_gradient! {
    /// Everything `lapidary reinforce` can be told.
    pub struct ReinforceOptions {
        pub ratio: RatioOptions,
        pub loss: ReinforceLossOptions,
    }
}

impl Command for ReinforceOptions {
    const NAME: &'static str = "reinforce";
    const ABOUT: &'static str = "Learn from rewards: completions better than a baseline become likelier (REINFORCE)";
    const DEFAULTS: &'static [(&'static str, &'static str)] =
        &[("learning_rate", "1e-6"), ("shuffle_dataset", "true"), ("num_generations", "1")];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = self.check_common(1, given)?;
        if !self.loss.plus_plus {
            if self.ratio.num_iterations > 1 {
                let detail =
                    "REINFORCE learns from each completion once; --plus_plus (a clipped ratio) may do so more often";
                return given.complain("num_iterations", detail);
            }
            for name in ["epsilon", "epsilon_high"].into_iter().filter(|name| given.differs(name)) {
                notes.push(format!("{name} has no effect without plus_plus: there is no ratio to clip"));
            }
        }
        if given.differs("baseline_decay") && self.loss.baseline != super::rl_values::Baseline::MovingAverage {
            notes.push("baseline_decay has no effect: baseline is not moving_average".into());
        }
        Ok(notes)
    }
}

policy_gradient! {
    /// Everything `lapidary ppo` can be told.
    pub struct PpoOptions {
        pub loss: PpoLossOptions,
    }
}

impl Command for PpoOptions {
    const NAME: &'static str = "ppo";
    const ABOUT: &'static str = "Learn from rewards: a critic says how good each token was (PPO)";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[
        ("learning_rate", "3e-6"),
        ("shuffle_dataset", "true"),
        ("num_generations", "1"),
        ("temperature", "0.7"),
        ("max_completion_length", "53"),
    ];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = self.check_common(1, given)?;
        let completions =
            self.rollout.batches_per_generation(&self.training) * self.training.per_device_train_batch_size;
        let parts = self.loss.num_mini_batches;
        if !completions.is_multiple_of(parts) || completions < parts {
            let detail = format!("is {parts}, which does not divide the {completions} completions of a batch");
            return given.complain("num_mini_batches", detail);
        }
        if self.lora.use_peft && self.loss.critic == CriticKind::Model {
            notes.push(
                "the critic is a copy of the model with all its weights trained; --critic head is lighter".into(),
            );
        }
        for name in ["kl_horizon"].into_iter().filter(|name| given.differs(name) && self.loss.kl_target.is_none()) {
            notes.push(format!("{name} has no effect without kl_target"));
        }
        Ok(notes)
    }
}

policy_gradient! {
    /// Everything `lapidary online-dpo` can be told.
    pub struct OnlineDpoOptions {
        pub loss: OnlineDpoLossOptions,
    }
    // As in TRL a batch counts prompts.
    fn completions_per_batch(&self) -> usize {
        self.training.per_device_train_batch_size * self.rollout.num_generations
    }
    fn max_length(&self) -> Option<usize> {
        self.loss.max_length
    }
}

impl Command for OnlineDpoOptions {
    const NAME: &'static str = "online-dpo";
    const ABOUT: &'static str =
        "Learn from pairs of the policy's own completions, compared by a judge or by rewards (online DPO)";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[
        ("learning_rate", "5e-7"),
        ("shuffle_dataset", "true"),
        ("num_generations", "2"),
        ("temperature", "0.9"),
        ("max_completion_length", "64"),
    ];

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        if self.rollout.num_generations != 2 {
            return given.complain("num_generations", "a pair has two completions; leave it out");
        }
        if self.rollout.generation_batch_size.is_some() {
            return given.complain("generation_batch_size", "give --steps_per_generation instead");
        }
        if self.rollout.mask_truncated_completions {
            let detail = "a pair needs both of its completions; --missing_eos_penalty makes those without an end lose";
            return given.complain("mask_truncated_completions", detail);
        }
        if let (Some(max), Some(longest)) = (self.loss.max_length, self.rollout.max_completion_length)
            && longest >= max
        {
            let detail = format!("is {max}, which leaves no room for a prompt beside {longest} new tokens");
            return given.complain("max_length", detail);
        }
        self.check_common(2, given)
    }
}
