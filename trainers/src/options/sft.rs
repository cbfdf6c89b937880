//! `lapidary sft`: supervised fine-tuning.
use super::choices::*;
use super::evaluation_samples::EvaluationSampleOptions;
use super::given::Given;
use super::groups::*;
use super::shared::{check_shared, training_command};
use super::spec::{Command, option_group, option_set};
use crate::error::{Error, Result};

option_group! {
    /// The loss.
    pub struct SftLossOptions "Training" {
        /// nll: negative log-likelihood; dft: each token's weighted by the probability the model gives it.
        loss_type: SftLoss = "nll", Trl;
    }
}

option_set! {
    /// Everything `lapidary sft` can be told.
    pub struct SftOptions {
        pub model: ModelOptions,
        pub data: DataOptions,
        pub text: TextOptions,
        pub training: TrainingOptions,
        pub loss: SftLossOptions,
        pub lora: LoraOptions,
        pub record: RecordOptions,
        pub upload: UploadOptions,
        pub samples: EvaluationSampleOptions,
        pub device: DeviceOptions,
    }
}

impl Command for SftOptions {
    const NAME: &'static str = "sft";
    const ABOUT: &'static str = "Fine-tune a model on texts, prompts with completions, or conversations";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let text = self.text.check(given, &mut notes);
        let settled = (&mut self.training, &mut self.lora, &mut self.record, &mut self.device);
        let shared = check_shared(&mut self.model, &mut self.data, settled, true, given, &mut notes);
        Error::all([text, shared, self.upload.check(given, &mut notes)])?;
        self.samples.check(&self.record, given, &mut notes)?;
        Ok(notes)
    }
}

training_command!(SftOptions);
