//! `lapidary dpo|orpo|cpo|kto|bco`: learning from answers that were preferred to others.
use super::choices::*;
use super::evaluation_samples::EvaluationSampleOptions;
use super::given::Given;
use super::groups::*;
use super::lists::List;
use super::shared::{check_shared, training_command};
use super::spec::{Command, option_group, option_set};
use super::sync::SyncOptions;
use super::value::{above, at_least, between};
use crate::error::{Error, Result};
use std::path::PathBuf;

option_group! {
    /// How prompts and answers become tokens.
    pub struct AnswerOptions "Tokens" {
        /// Longest sequence (prompt and answer) in tokens; longer ones are cut, and rows of which no answer is left
        /// are left out. none for no limit.
        max_length: Option<usize> = "1024", Trl, at_least(1.0);
        /// Which end of a sequence that is too long stays.
        truncation_mode: TruncationMode = "keep_start", Trl;
        /// A Jinja file to use as chat template instead of the model's.
        chat_template_path: Option<PathBuf> = none, Trl;
        /// The token that ends a sequence, if not the tokenizer's own.
        eos_token: Option<String> = none, Trl;
        /// Drop nothing at random in training, adapters' inputs included.
        disable_dropout: bool = "true", Trl;
    }
}

option_group! {
    /// The model that the policy is compared with: as it was before training.
    pub struct ReferenceOptions "Reference" {
        /// Compute the reference's log-probabilities of all rows before training; it need not stay in memory then.
        precompute_ref_log_probs: bool = "false", Trl;
        /// Rows that are computed at once for that; none for per_device_train_batch_size.
        precompute_ref_batch_size: Option<usize> = none, Trl, at_least(1.0), free;
    }
}

impl ReferenceOptions {
    fn check(
        &self,
        data: &DataOptions,
        sync: &SyncOptions,
        lora: &LoraOptions,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        if self.precompute_ref_log_probs && data.streams() {
            let detail = "needs all rows before training, and they are streamed; leave out one of the two";
            return given.complain("precompute_ref_log_probs", detail);
        }
        let known = "contradicts precompute_ref_log_probs: the reference would change";
        sync.check(lora, self.precompute_ref_log_probs.then_some(known), given, notes)
    }
}

option_group! {
    /// The loss of a pair.
    pub struct DpoLossOptions "Training" {
        /// The loss, or several that are added up.
        loss_type: List<DpoLoss> = "sigmoid", Trl;
        /// The weight of each loss of loss_type; none for 1 each.
        loss_weights: Option<List<f64>> = none, Trl;
        /// β: how strongly the policy is held to the reference (IPO's τ).
        beta: f64 = "0.1", Trl, above(0.0);
        /// The share of pairs that are taken to be labelled the wrong way round (exo_pair, robust, aot).
        label_smoothing: f64 = "0", Trl, between(0.0, 1.0);
        /// The divergence between policy and reference.
        f_divergence_type: FDivergence = "reverse_kl", Trl;
        /// α of the α-divergence.
        f_alpha_divergence_coef: f64 = "0.5", Trl;
        /// LD-DPO: the weight of an answer's tokens beyond the length of the shorter answer; none for 1.
        ld_alpha: Option<f64> = none, Trl, between(0.0, 1.0);
        /// WPO: weigh each pair by how likely the policy is to say its answers.
        use_weighting: bool = "false", Trl;
        /// τ of the DiscoPOP loss.
        discopop_tau: f64 = "0.05", Trl, above(0.0);
        /// λ of the DPO-Positive loss: how heavily lost likelihood of the chosen answer weighs.
        dpop_lambda: f64 = "50", Lapidary, at_least(0.0);
    }
}

impl DpoLossOptions {
    fn check(&self, given: &Given) -> Result<()> {
        let losses = &self.loss_type.0;
        if let Some(weights) = &self.loss_weights
            && weights.0.len() != losses.len()
        {
            let detail = format!("has {} weights for {} losses in loss_type", weights.0.len(), losses.len());
            return given.complain("loss_weights", detail);
        }
        if losses.contains(&DpoLoss::ExoPair) && self.label_smoothing == 0.0 {
            return given
                .complain("label_smoothing", "must be above 0 for exo_pair, and below 1 (its authors take 1e-3)");
        }
        if losses.contains(&DpoLoss::ExoPair) && self.label_smoothing >= 1.0 {
            return given.complain("label_smoothing", "must be below 1 for exo_pair");
        }
        if losses.contains(&DpoLoss::Robust) && self.label_smoothing >= 0.5 {
            return given.complain("label_smoothing", "must be below 0.5 for robust");
        }
        let scored = |loss: &DpoLoss| {
            use DpoLoss::*;
            matches!(loss, Sigmoid | SigmoidNorm | Hinge | Ipo | ExoPair | Robust | Discopop | Dpop | Sft)
        };
        if self.f_divergence_type != FDivergence::ReverseKl
            && let Some(loss) = losses.iter().find(|loss| !scored(loss))
        {
            let detail = format!("{} is not defined for the loss {}", self.f_divergence_type.name(), loss.name());
            return given.complain("f_divergence_type", detail);
        }
        if self.use_weighting && losses.iter().any(|l| matches!(l, DpoLoss::Aot | DpoLoss::AotUnpaired)) {
            return given.complain("use_weighting", "weighs pairs, which aot and aot_unpaired take apart by sorting");
        }
        Ok(())
    }
}

option_group! {
    /// The loss of a pair: likelihood and odds.
    pub struct OrpoLossOptions "Training" {
        /// λ: the weight of the odds-ratio loss beside the likelihood of the chosen answer.
        beta: f64 = "0.1", Trl, at_least(0.0);
    }
}

option_group! {
    /// The loss of a pair, without a reference.
    pub struct CpoLossOptions "Training" {
        /// The loss.
        loss_type: CpoLoss = "sigmoid", Trl;
        /// β: the scale of log-probabilities.
        beta: f64 = "0.1", Trl, above(0.0);
        /// The share of pairs that are taken to be labelled the wrong way round.
        label_smoothing: f64 = "0", Trl, between(0.0, 1.0);
        /// The weight of the chosen answer's negative log-likelihood.
        cpo_alpha: f64 = "1", Trl, at_least(0.0);
        /// γ: by how much SimPO wants the chosen answer ahead.
        simpo_gamma: f64 = "0.5", Trl;
        /// AlphaPO's α: a probability p counts (1 − p^−α)/α instead of log p; 0 for log p.
        alpha: f64 = "0", Trl;
    }
}

option_group! {
    /// The loss of single answers.
    pub struct KtoLossOptions "Training" {
        /// The loss.
        loss_type: KtoLoss = "kto", Trl;
        /// β: how strongly the policy is held to the reference.
        beta: f64 = "0.1", Trl, above(0.0);
        /// λ_D: the weight of good answers.
        desirable_weight: f64 = "1", Trl, at_least(0.0);
        /// λ_U: the weight of bad answers.
        undesirable_weight: f64 = "1", Trl, at_least(0.0);
    }
}

option_group! {
    /// The loss of single answers.
    pub struct BcoLossOptions "Training" {
        /// β: how strongly the policy is held to the reference.
        beta: f64 = "0.1", Trl, above(0.0);
    }
}

/// Declares the options of a trainer: the shared groups and its own.
macro_rules! trainer {
    ($(#[$meta:meta])* $options:ident $name:literal $about:literal, defaults $defaults:expr,
     $($field:ident: $group:ty),*; check($this:ident, $given:ident, $notes:ident) $check:block) => {
        option_set! {
            $(#[$meta])*
            pub struct $options {
                pub model: ModelOptions,
                pub data: DataOptions,
                pub text: AnswerOptions,
                pub training: TrainingOptions,
                $( pub $field: $group, )*
                pub lora: LoraOptions,
                pub record: RecordOptions,
                pub upload: UploadOptions,
                pub device: DeviceOptions,
            }
        }
        impl Command for $options {
            const NAME: &'static str = $name;
            const ABOUT: &'static str = $about;
            const DEFAULTS: &'static [(&'static str, &'static str)] = $defaults;

            fn check(&mut self, $given: &Given) -> Result<Vec<String>> {
                let mut notes = Vec::new();
                if $given.differs("truncation_mode") && self.text.max_length.is_none() {
                    notes.push("truncation_mode has no effect without max_length".into());
                }
                let settled = (&mut self.training, &mut self.lora, &mut self.record, &mut self.device);
                let shared = check_shared(&mut self.model, &mut self.data, settled, true, $given, &mut notes);
                let pushed = self.upload.check($given, &mut notes);
                Error::all([shared, pushed, self.check_own($given, &mut notes)])?;
                Ok(notes)
            }
        }
        impl $options {
            /// What this trainer's own options contradict.
            fn check_own(&mut self, $given: &Given, $notes: &mut Vec<String>) -> Result<()> {
                let $this = self;
                $check
                Ok(())
            }
        }
        training_command!($options);
    };
}
pub(super) use trainer;

trainer! {
    /// Everything `lapidary dpo` can be told.
    DpoOptions "dpo" "Learn from pairs of answers, one preferred to the other (direct preference optimisation and its kin)",
    defaults &[("learning_rate", "1e-6")],
    loss: DpoLossOptions, reference: ReferenceOptions, sync: SyncOptions, samples: EvaluationSampleOptions;
    check(this, given, notes) {
        this.samples.check(&this.record, given, notes)?;
        this.loss.check(given)?;
        this.reference.check(&this.data, &this.sync, &this.lora, given, notes)?;
    }
}

trainer! {
    /// Everything `lapidary orpo` can be told.
    OrpoOptions "orpo" "Learn from pairs of answers without a reference: likelihood and odds ratio in one loss",
    defaults &[("learning_rate", "1e-6")],
    loss: OrpoLossOptions, samples: EvaluationSampleOptions;
    check(this, given, notes) { this.samples.check(&this.record, given, notes)?; }
}

trainer! {
    /// Everything `lapidary cpo` can be told.
    CpoOptions "cpo" "Learn from pairs of answers without a reference: contrastive preference optimisation, SimPO, AlphaPO",
    defaults &[("learning_rate", "1e-6")],
    loss: CpoLossOptions, samples: EvaluationSampleOptions;
    check(this, given, notes) {
        this.samples.check(&this.record, given, notes)?;
        if this.loss.loss_type == CpoLoss::Alphapo {
            // As in TRL: AlphaPO is SimPO without the likelihood.
            if given.differs("cpo_alpha") {
                notes.push("cpo_alpha has no effect: alphapo has no likelihood term".into());
            }
            (this.loss.loss_type, this.loss.cpo_alpha) = (CpoLoss::Simpo, 0.0);
        }
        if given.differs("simpo_gamma") && this.loss.loss_type != CpoLoss::Simpo {
            notes.push("simpo_gamma has no effect: loss_type is not simpo".into());
        }
    }
}

trainer! {
    /// Everything `lapidary kto` can be told.
    KtoOptions "kto" "Learn from single answers, each good or bad (Kahneman-Tversky optimisation)",
    defaults &[("learning_rate", "1e-6"), ("train_sampling_strategy", "sequential")],
    loss: KtoLossOptions, reference: ReferenceOptions, sync: SyncOptions, samples: EvaluationSampleOptions;
    check(this, given, notes) {
        this.samples.check(&this.record, given, notes)?;
        this.reference.check(&this.data, &this.sync, &this.lora, given, notes)?;
    }
}

trainer! {
    /// Everything `lapidary bco` can be told.
    BcoOptions "bco" "Learn from single answers, each good or bad (binary classifier optimisation)",
    defaults &[("learning_rate", "5e-7")],
    loss: BcoLossOptions, reference: ReferenceOptions, sync: SyncOptions, samples: EvaluationSampleOptions;
    check(this, given, notes) {
        this.samples.check(&this.record, given, notes)?;
        this.reference.check(&this.data, &this.sync, &this.lora, given, notes)?;
    }
}
