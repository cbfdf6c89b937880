//! What every training command's options have in common, and how those contradict each other.
use super::choices::*;
use super::given::Given;
use super::groups::*;
use super::lists::List;
use super::spec::Command;
use crate::curves::Curve;
use crate::data::interleave::Interleaving;
use crate::data::mixture::{MixturePart, hold_out, load_mixture};
use crate::data::stream::RowStream;
use crate::data::{Calls, DataSet, Loaded, load, load_evaluation};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The groups that every training command has.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// Which model.
    pub model: &'a ModelOptions,
    /// The run and its optimiser steps.
    pub training: &'a TrainingOptions,
    /// An adapter instead of all weights.
    pub lora: &'a LoraOptions,
    /// When it logs, evaluates and saves.
    pub record: &'a RecordOptions,
    /// Whether the hub gets what it makes.
    pub upload: &'a UploadOptions,
    /// What computes.
    pub device: &'a DeviceOptions,
}

/// A command that trains a model.
pub trait TrainingCommand: Command {
    /// The groups that every such command has.
    fn common(&self) -> Common<'_>;
}

/// Says of a struct of options with these fields that it is a training command's.
macro_rules! training_command {
    ($set:ident) => {
        impl $crate::options::shared::TrainingCommand for $set {
            fn common(&self) -> $crate::options::shared::Common<'_> {
                $crate::options::shared::Common {
                    model: &self.model,
                    training: &self.training,
                    lora: &self.lora,
                    record: &self.record,
                    upload: &self.upload,
                    device: &self.device,
                }
            }
        }
    };
}
pub(super) use training_command;

/// The groups of [`Common`] that settle each other's values.
type Settled<'a> = (&'a mut TrainingOptions, &'a mut LoraOptions, &'a mut RecordOptions, &'a mut DeviceOptions);

/// Contradictions among the groups that every training command has are an error, what has no effect is a note.
/// `can_stream`: the command can read its rows as they are needed.
pub(super) fn check_shared(
    model: &mut ModelOptions,
    data: &mut DataOptions,
    (training, lora, record, device): Settled,
    can_stream: bool,
    given: &Given,
    notes: &mut Vec<String>,
) -> Result<()> {
    Error::all([
        data.check_streaming(can_stream, training.max_steps, given, notes),
        model.find_base(&mut lora.adapter_name_or_path, given, notes),
        data.check(given, notes),
        training.check(given, notes),
        lora.check(given),
        record.check(data, given, notes),
        device.settle(training.use_cpu, given),
        match matches!(record.resume_from_checkpoint, ResumeFrom::Last | ResumeFrom::Path(_))
            && training.overwrite_output_dir
        {
            true => given.complain("overwrite_output_dir", "contradicts resume_from_checkpoint; give one of them"),
            false => Ok(()),
        },
    ])?;
    if training.fp16 && (!lora.is_used() || !matches!(model.dtype, WeightType::Float16 | WeightType::Auto)) {
        notes.push("fp16 has no effect: it is for frozen weights of dtype float16 (with use_peft)".into());
    } else if training.fp16 && device.device == DeviceChoice::Cpu {
        notes.push("fp16 has no effect: on the CPU all arithmetic is float32".into());
    }
    if !lora.is_used() && matches!(model.dtype, WeightType::Bfloat16 | WeightType::Float16) {
        notes.push(format!(
            "dtype {} has no effect: it is the type of frozen weights, and without use_peft all weights are trained, in float32",
            model.dtype.name()
        ));
    }
    Ok(())
}

/// Why a run is not reported to a tracker, and what to do instead.
fn not_written(name: &str) -> String {
    let instead = "give tensorboard, or none (metrics are in output_dir/metrics.jsonl in any case)";
    match name {
        "wandb" => format!(
            "wandb is not written: its files are its own program's, for which there is no finished Rust library; {instead}. \
             `wandb sync` uploads TensorBoard's event files"
        ),
        "mlflow" | "comet_ml" | "trackio" | "clearml" | "neptune" | "dvclive" | "swanlab" | "azure_ml"
        | "codecarbon" | "dagshub" | "flyte" => {
            format!("{name} is not written: it is a Python library's; {instead}")
        }
        _ => format!("{name} is no tracker that is known; {instead}"),
    }
}

impl DeviceOptions {
    /// `use_cpu` is `--device cpu`.
    fn settle(&mut self, use_cpu: bool, given: &Given) -> Result<()> {
        if use_cpu && given.has("device") && self.device != DeviceChoice::Cpu {
            return given.complain("use_cpu", format!("contradicts --device {}", self.device));
        }
        if use_cpu {
            self.device = DeviceChoice::Cpu;
        }
        Ok(())
    }
}

impl DataOptions {
    /// The rows that are trained on. `calls`: what the model's chat template does with calls of functions.
    pub fn load_train(&self, seed: u64, calls: Calls) -> Result<Loaded> {
        if self.datasets.0.is_empty() {
            let (config, split) = (self.dataset_config.as_deref(), self.dataset_train_split.as_str());
            return load(DataSet { path: Path::new(&*self.dataset_name), config, split }, calls);
        }
        let mut all = load_mixture(&self.datasets.0, self.interleaving(seed).as_ref(), calls)?;
        if let Some(size) = self.test_split_size {
            all.rows = hold_out(all.rows, size, seed)?.0;
        }
        Ok(all)
    }

    /// The rows that are evaluated on, if there are any. Another data set than the one that is trained on has
    /// configurations of its own.
    pub fn load_evaluation(&self, seed: u64, calls: Calls) -> Result<Option<Loaded>> {
        if let Some(path) = self.eval_dataset.as_deref() {
            let config = self.dataset_config.as_deref().filter(|_| path == Path::new(&*self.dataset_name));
            return load_evaluation(DataSet { path, config, split: &self.dataset_test_split }, calls).map(Some);
        }
        let Some(size) = self.test_split_size else { return Ok(None) };
        let all = load_mixture(&self.datasets.0, self.interleaving(seed).as_ref(), calls)?;
        let rows = hold_out(all.rows, size, seed)?.1;
        Ok(Some(Loaded { rows, ..Loaded::default() }))
    }

    /// Whether rows are read as they are needed.
    pub fn streams(&self) -> bool {
        self.dataset_streaming || self.streaming
    }

    /// The rows that are trained on, to be read as they are needed.
    pub fn stream_train(&self, seed: u64, calls: Calls) -> Result<RowStream> {
        let (config, split) = (self.dataset_config.clone(), self.dataset_train_split.clone());
        let alone = [MixturePart {
            paths: vec![PathBuf::from(&*self.dataset_name)],
            config,
            split,
            columns: None,
            fraction: None,
        }];
        let parts = if self.datasets.0.is_empty() { &alone } else { &self.datasets.0[..] };
        RowStream::open(parts, self.interleaving(seed), calls)
    }

    /// How rows are drawn from several data sets, if they are.
    fn interleaving(&self, seed: u64) -> Option<Interleaving> {
        let probabilities = self.interleave_probabilities.as_ref()?.0.clone();
        Some(Interleaving { probabilities, stopping: self.interleave_stopping_strategy, seed })
    }

    /// Whether there are rows to evaluate on.
    pub fn evaluates(&self) -> bool {
        self.eval_dataset.is_some() || self.test_split_size.is_some()
    }

    /// The files that are read, by role.
    pub fn reads(&self) -> Vec<(&'static str, &Path)> {
        let mut all: Vec<(&str, &Path)> = match &self.datasets.0[..] {
            [] => vec![("data", Path::new(&*self.dataset_name))],
            parts => parts.iter().flat_map(|part| &part.paths).map(|path| ("data", path.as_path())).collect(),
        };
        all.extend(self.eval_dataset.as_deref().map(|path| ("evaluation data", path)));
        all
    }

    /// As TRL: datasets stand in the place of dataset_name.
    fn check(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        if self.test_split_size.is_some() && self.datasets.0.is_empty() {
            return given
                .complain("test_split_size", "holds out rows of datasets; with dataset_name give eval_dataset");
        }
        if self.test_split_size.is_some() && self.eval_dataset.is_some() {
            return given.complain("test_split_size", "contradicts eval_dataset; give one of them");
        }
        if let Some(size) = self.test_split_size.filter(|size| *size >= 1.0 && size.fract() != 0.0) {
            return given.complain("test_split_size", format!("is {size}: a whole number of rows, or below 1 a share"));
        }
        self.check_interleaving(given, notes)?;
        for name in ["dataset_name", "dataset_config"] {
            let is_default = name == "dataset_name" && *self.dataset_name == *"datasets";
            if given.differs(name) && !is_default && !self.datasets.0.is_empty() {
                notes.push(format!("{name} has no effect: datasets is given"));
            }
        }
        Ok(())
    }
}

impl DataOptions {
    /// There is a probability for each data set, and nothing else says how many rows it gives.
    fn check_interleaving(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        let Some(List(probabilities)) = &self.interleave_probabilities else {
            if given.differs("interleave_stopping_strategy") {
                notes.push("interleave_stopping_strategy has no effect without interleave_probabilities".into());
            }
            return Ok(());
        };
        let complain = |detail: String| given.complain("interleave_probabilities", detail);
        // Several files of one entry are a data set each.
        let n: usize = self.datasets.0.iter().map(|part| part.paths.len()).sum();
        if self.datasets.0.is_empty() {
            return complain("draws from the data sets of datasets; with dataset_name there is only one".into());
        }
        if n != self.datasets.0.len() {
            return complain("needs an entry of datasets for each file, not several data_files in one".into());
        }
        if probabilities.len() != n {
            return complain(format!("has {} numbers for {n} data sets in datasets", probabilities.len()));
        }
        if let Some(p) = probabilities.iter().find(|p| **p <= 0.0) {
            return complain(format!("has {p}: a data set that is never drawn from is to be left out"));
        }
        if self.datasets.0.iter().any(|part| part.fraction.is_some()) {
            return complain("contradicts fraction in datasets; give one of them".into());
        }
        Ok(())
    }

    /// What streaming needs, and what it cannot do; what a trainer that does not stream makes of it.
    pub(super) fn check_streaming(
        &self,
        can_stream: bool,
        max_steps: Option<u64>,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let name = if self.streaming { "streaming" } else { "dataset_streaming" };
        if !self.streams() {
            return Ok(());
        }
        if !can_stream {
            notes.push(format!("{name} has no effect: prompts are read before training"));
            return Ok(());
        }
        if max_steps.is_none() {
            let detail = "nobody knows how many rows there are, so the number of training steps cannot be inferred: max_steps \
                          has to be specified";
            return given.complain(name, detail);
        }
        if self.test_split_size.is_some() {
            return given.complain(
                "test_split_size",
                "holds out rows of data that is read whole; with streaming give eval_dataset",
            );
        }
        if self.datasets.0.iter().any(|part| part.fraction.is_some()) {
            let detail = "a fraction in datasets is a share of rows that were counted, which streamed ones are not; \
                          interleave_probabilities are shares of what is drawn";
            return given.complain(name, detail);
        }
        if given.has("train_sampling_strategy") && self.train_sampling_strategy == SamplingStrategy::Random {
            notes.push(
                "train_sampling_strategy has no effect: streamed rows come as they are read; shuffle_dataset shuffles each 1000 \
                 of them"
                    .into(),
            );
        }
        Ok(())
    }
}

impl SplitOptions {
    /// The rows of `dataset_name` that are read.
    pub fn of<'a>(&'a self, dataset_name: &'a str) -> DataSet<'a> {
        DataSet { path: Path::new(dataset_name), config: self.dataset_config.as_deref(), split: &self.dataset_split }
    }
}

impl UploadOptions {
    /// What has no effect without push_to_hub.
    pub(super) fn check(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        for name in ["hub_model_id", "hub_strategy", "hub_private_repo", "hub_token"] {
            if given.differs(name) && !self.push_to_hub {
                notes.push(format!("{name} has no effect without push_to_hub"));
            }
        }
        Ok(())
    }
}

impl TextOptions {
    /// As TRL: packing needs a length to pack to.
    pub(super) fn check(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        let packs = self.packing || self.eval_packing == Some(true);
        if packs && self.max_length.is_none() {
            return given.complain("max_length", "packing needs it: sequences are packed to this many tokens");
        }
        if given.differs("packing_strategy") && !packs {
            notes.push("packing_strategy has no effect without packing".into());
        }
        if given.differs("truncation_mode") && self.max_length.is_none() {
            notes.push("truncation_mode has no effect without max_length".into());
        }
        Ok(())
    }
}

impl TrainingOptions {
    /// The warm-up and the length of the run may each be given in two ways; one of them wins, as in transformers.
    pub(super) fn check(&mut self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        if self.warmup_steps >= 1.0 && self.warmup_steps.fract() != 0.0 {
            return given.complain("warmup_steps", "is a whole number of steps, or below 1 a share of all steps");
        }
        if self.warmup_ratio.is_some() && self.warmup_steps > 0.0 {
            notes.push("warmup_ratio has no effect: warmup_steps is given".into());
            self.warmup_ratio = None;
        }
        if let Err(detail) = Curve::new(self.lr_scheduler_type, &self.lr_scheduler_kwargs.0, self.learning_rate) {
            return given.complain("lr_scheduler_kwargs", detail);
        }
        let warms_up = self.warmup_steps > 0.0 || self.warmup_ratio.is_some_and(|ratio| ratio > 0.0);
        if warms_up && self.lr_scheduler_type == Scheduler::Constant {
            notes.push("lr_scheduler_type constant has no warm-up; constant_with_warmup has".into());
        }
        if self.max_steps.is_some() && given.differs("num_train_epochs") {
            notes.push("num_train_epochs has no effect: max_steps is given".into());
        }
        if let Some(name) = given.text("optim").filter(|name| name.ends_with("bit") || name.starts_with("paged")) {
            notes.push(format!("optim {name} is adamw here: its moments stay float32, in the device's memory"));
        }
        if self.optim == OptimizerName::Sgd {
            for name in ["adam_beta1", "adam_beta2", "adam_epsilon"] {
                if given.differs(name) {
                    notes.push(format!("{name} has no effect: the optimiser is sgd"));
                }
            }
        }
        Ok(())
    }
}

impl LoraOptions {
    /// Whether an adapter is trained: a new one or one that exists.
    pub fn is_used(&self) -> bool {
        self.use_peft || self.adapter_name_or_path.is_some()
    }

    pub(super) fn check(&mut self, given: &Given) -> Result<()> {
        if self.load_in_4bit {
            let advice = "not supported yet; --dtype bfloat16 halves the frozen weights";
            return given.complain("load_in_4bit", advice);
        }
        if given.has("use_peft") && !self.use_peft && self.adapter_name_or_path.is_some() {
            return given.complain("use_peft", "is false, but adapter_name_or_path names an adapter to train");
        }
        for name in [
            "lora_r",
            "lora_alpha",
            "lora_dropout",
            "lora_target_modules",
            "lora_modules_to_save",
            "lora_trainable_token_indices",
            "use_rslora",
            "use_dora",
        ] {
            if given.differs(name) && self.adapter_name_or_path.is_some() {
                return given.complain(name, "is the adapter's own where adapter_name_or_path is given; leave it out");
            }
            if given.differs(name) && !self.is_used() {
                return given.complain(name, "needs --use_peft");
            }
        }
        self.use_peft = self.is_used();
        Ok(())
    }
}

impl RecordOptions {
    /// Whether TensorBoard's event files are written.
    pub fn reports_to_tensorboard(&self) -> bool {
        self.report_to.iter().flatten().any(|name| name == "tensorboard" || name == "all")
    }

    /// Evaluation needs rows to evaluate on; rows to evaluate on mean evaluation.
    pub(super) fn check(&mut self, data: &mut DataOptions, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        match (data.evaluates(), self.eval_strategy) {
            // As in TRL, the data set's own split.
            (false, Strategy::Steps | Strategy::Epoch)
                if data.datasets.0.is_empty() && Path::new(&*data.dataset_name).is_dir() =>
            {
                data.eval_dataset = Some(PathBuf::from(&*data.dataset_name));
            }
            (false, Strategy::Steps | Strategy::Epoch) => {
                let detail = format!(
                    "{} needs rows to evaluate on: --eval_dataset, or a directory with splits as dataset_name",
                    self.eval_strategy.name()
                );
                return given.complain("eval_strategy", detail);
            }
            (false, Strategy::No) if given.differs("eval_steps") => {
                notes.push("eval_steps has no effect without eval_dataset".into());
            }
            (true, Strategy::No) if given.has("eval_strategy") => {
                notes.push(match data.eval_dataset {
                    Some(_) => "eval_dataset has no effect: eval_strategy is no".into(),
                    None => "the rows of test_split_size are not used: eval_strategy is no".into(),
                });
            }
            (true, Strategy::No) => {
                self.eval_strategy = if given.differs("eval_steps") { Strategy::Steps } else { Strategy::Epoch };
            }
            _ => {}
        }
        for name in self.report_to.iter().flatten().filter(|name| !["none", "tensorboard"].contains(&name.as_str())) {
            notes.push(match name.as_str() {
                "all" => {
                    "report_to: of all, tensorboard is written; metrics are in output_dir/metrics.jsonl, too".into()
                }
                _ => return given.complain("report_to", not_written(name)),
            });
        }
        self.check_best(given, notes)?;
        if given.differs("save_steps") && self.save_strategy != Strategy::Steps {
            notes.push(format!("save_steps has no effect: save_strategy is {}", self.save_strategy.name()));
        }
        if given.differs("logging_steps") && self.logging_strategy != Strategy::Steps {
            notes.push(format!("logging_steps has no effect: logging_strategy is {}", self.logging_strategy.name()));
        }
        Ok(())
    }

    /// The best model is one of those that have been evaluated and saved.
    fn check_best(&self, given: &Given, notes: &mut Vec<String>) -> Result<()> {
        let (loads, stops) = (self.load_best_model_at_end, self.early_stopping_patience.is_some());
        let asked = if loads { "load_best_model_at_end" } else { "early_stopping_patience" };
        if (loads || stops) && self.eval_strategy == Strategy::No {
            return given.complain(asked, "needs evaluations: rows to evaluate on (eval_dataset) and an eval_strategy");
        }
        if loads && self.save_strategy != self.eval_strategy {
            let detail = format!(
                "needs a checkpoint of each evaluation: save_strategy is {}, but eval_strategy {}",
                self.save_strategy.name(),
                self.eval_strategy.name()
            );
            return given.complain(asked, detail);
        }
        let (every, evaluated) = (self.save_steps, self.eval_steps.unwrap_or(self.logging_steps));
        if loads && self.eval_strategy == Strategy::Steps && !every.is_multiple_of(evaluated) {
            return given.complain(
                asked,
                "needs an evaluation before each checkpoint: save_steps must be a multiple of eval_steps",
            );
        }
        for name in ["metric_for_best_model", "greater_is_better", "early_stopping_threshold"] {
            if given.differs(name) && !loads && !stops {
                notes.push(format!("{name} has no effect without load_best_model_at_end or early_stopping_patience"));
            }
        }
        Ok(())
    }
}
