//! The commands around training: `generate`, `merge`, `preview`, `quickstart`, `exercise`, `doctor`.
use super::adapted::{find_base, take_base};
use super::choices::{Messages, Shell, TargetModules, WeightType};
use super::drawing::DrawingOptions;
use super::given::Given;
use super::groups::*;
use super::spec::{Command, option_group, option_set};
use super::value::{ANY, Location, at_least};
use crate::error::Result;
use std::path::PathBuf;

option_group! {
    /// What is asked, and how the answer is drawn.
    pub struct SamplingOptions "Generation" {
        /// A PEFT adapter to put on the model.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary;
        /// The text to answer; without it and other questions, what is piped in.
        prompt: Option<String> = none, Lapidary;
        /// A conversation to go on with: a JSON file, or JSON itself.
        messages: Option<Messages> = none, Lapidary;
        /// A system message to put before the prompt.
        system: Option<String> = none, Lapidary;
        /// Rows with prompt, each of which is answered: prints them with completion, or with completions where
        /// num_generations is above 1. A file called .txt has a prompt a line; - is standard input, JSON lines or text.
        dataset_name | prompts: Option<Location> = none, Trl;
        /// Completions drawn of each prompt of dataset_name.
        num_generations: usize = "1", Trl, at_least(1.0);
        /// The file to write the rows of dataset_name to; none for standard output.
        output_file: Option<PathBuf> = none, Lapidary;
        /// Write over output_file.
        overwrite_output_file: bool = "false", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary generate` can be told.
    pub struct GenerateOptions {
        pub model: ModelOptions,
        pub sampling: SamplingOptions,
        pub drawing: DrawingOptions,
        pub split: SplitOptions,
        pub device: DeviceOptions,
    }
}

impl Command for GenerateOptions {
    const NAME: &'static str = "generate";
    const ABOUT: &'static str = "Answer a prompt or go on with a conversation; prints the completion alone";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let asked = &self.sampling;
        if asked.dataset_name.is_some() {
            if let Some(name) = ["prompt", "messages", "system"].into_iter().find(|name| given.differs(name)) {
                return given.complain(name, "contradicts dataset_name, whose rows are the prompts; give one of them");
            }
        } else if let Some(name) =
            ["num_generations", "output_file", "overwrite_output_file"].into_iter().find(|name| given.differs(name))
        {
            return given.complain(name, "goes with --dataset_name, a file of prompts");
        }
        match (&asked.prompt, &asked.messages) {
            (Some(_), Some(_)) => return given.complain("messages", "contradicts prompt; give one of them"),
            (None, Some(_)) if asked.system.is_some() => {
                return given.complain("system", "goes with --prompt; with --messages, put it into the conversation");
            }
            _ => {}
        }
        let mut notes = Vec::new();
        self.model.find_base(&mut self.sampling.adapter_name_or_path, given, &mut notes)?;
        notes.extend(self.drawing.without_effect(given));
        Ok(notes)
    }
}

option_group! {
    /// What goes together, and where to.
    pub struct FoldOptions "Merge" {
        /// The PEFT adapter to fold in.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary;
        /// Directory for the merged model.
        output_dir: PathBuf = required, Lapidary;
        /// Write over a model in output_dir. A run's directory is not written over.
        overwrite_output_dir: bool = "false", Transformers;
    }
}

option_set! {
    /// Everything `lapidary merge` can be told. `dtype` is that of the merged weights.
    pub struct MergeOptions {
        pub model: ModelOptions,
        pub fold: FoldOptions,
    }
}

impl Command for MergeOptions {
    const NAME: &'static str = "merge";
    const ABOUT: &'static str = "Fold an adapter into its base model and save the result as one model";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let name = self.fold.output_dir.to_string_lossy();
        if [".gguf", ".safetensors", ".bin"].iter().any(|end| name.ends_with(end)) {
            let detail = "is a directory in Hugging Face layout, and this is the name of a file; give a directory";
            return given.complain("output_dir", detail);
        }
        let mut notes = Vec::new();
        self.model.find_base(&mut self.fold.adapter_name_or_path, given, &mut notes)?;
        if self.fold.adapter_name_or_path.is_none() {
            return given.complain("adapter_name_or_path", "is needed: the adapter to fold into the model");
        }
        Ok(notes)
    }
}

option_group! {
    /// What is completed.
    pub struct CompletedOptions "Completions" {
        /// The shell; `man` for the manual page.
        shell: Shell = required, Lapidary;
    }
}

option_set! {
    /// Everything `lapidary completions` can be told.
    pub struct CompletionsOptions {
        pub target: CompletedOptions,
    }
}

impl Command for CompletionsOptions {
    const NAME: &'static str = "completions";
    const ABOUT: &'static str = "Print the completions of a shell, or the manual page";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// How it is printed.
    pub struct FormatOptions "Output" {
        /// Print JSON.
        json: bool = "false", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary env` can be told.
    pub struct EnvOptions {
        pub format: FormatOptions,
    }
}

impl Command for EnvOptions {
    const NAME: &'static str = "env";
    const ABOUT: &'static str = "Print what a bug report should say about program and machine";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// What is shown.
    pub struct ShownOptions "Preview" {
        /// The data set: a file of rows (.jsonl, .json, .csv, .tsv, .parquet), a directory of them, or a name on the hub.
        dataset_name: Location = required, Trl;
        /// How many rows to show.
        rows: usize = "3", Lapidary, at_least(1.0);
        /// Mark the tokens that are trained on by colour; none for yes on a terminal, brackets elsewhere.
        color: Option<bool> = none, Lapidary;
    }
}

option_group! {
    /// Whose tokenizer and chat template.
    pub struct TokenizerOptions "Model" {
        /// The model whose tokenizer and chat template are used: a directory in Hugging Face layout, a .gguf file, or a
        /// name on the hub (org/name). An adapter names its own, and its directory stands for both.
        model_name_or_path: Location = (required unless adapter_name_or_path), Trl, ANY, free;
        /// A branch, tag or commit of a model from the hub.
        model_revision: String = "main", Trl, ANY, free;
        /// A PEFT adapter, whose own tokenizer is used where its directory has one.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary, ANY, free;
    }
}

option_set! {
    /// Everything `lapidary preview` can be told.
    pub struct PreviewOptions {
        pub model: TokenizerOptions,
        pub shown: ShownOptions,
        pub split: SplitOptions,
        pub text: TextOptions,
    }
}

impl Command for PreviewOptions {
    const NAME: &'static str = "preview";
    const ABOUT: &'static str = "Show rows token by token, with those that are trained on marked";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let TokenizerOptions { model_name_or_path, adapter_name_or_path, .. } = &mut self.model;
        find_base(model_name_or_path, adapter_name_or_path, given, &mut notes)?;
        self.text.check(given, &mut notes)?;
        Ok(notes)
    }
}

option_group! {
    /// Where to, and from which seed.
    pub struct TourOptions "Quickstart" {
        /// Directory to keep the trained model in; none keeps nothing.
        output_dir: Option<PathBuf> = none, Lapidary;
        /// Seed of the model, the task and the training.
        seed: u64 = "42", Trl;
    }
}

option_set! {
    /// Everything `lapidary quickstart` can be told.
    pub struct QuickstartOptions {
        pub tour: TourOptions,
        pub device: DeviceOptions,
    }
}

impl Command for QuickstartOptions {
    const NAME: &'static str = "quickstart";
    const ABOUT: &'static str = "Make a small model and a task, train, and show before and after; needs no files";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// Which bug, and what about it.
    pub struct LearningOptions "Exercise" {
        /// The exercise, as the list has it; none for the list.
        number: Option<usize> = none, Lapidary, at_least(1.0);
        /// Directory for the copy of the sources; none for exercises/work/NUMBER in the clone.
        output_dir: Option<PathBuf> = none, Lapidary;
        /// Copy anew over what was changed in the copy.
        overwrite_output_dir | overwrite: bool = "false", Lapidary;
        /// Give the next hint.
        hint: bool = "false", Lapidary;
        /// Run the test that must pass again.
        check: bool = "false", Lapidary;
        /// Show the bug, and why it matters.
        answer: bool = "false", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary exercise` can be told.
    pub struct ExerciseOptions {
        pub learning: LearningOptions,
    }
}

impl Command for ExerciseOptions {
    const NAME: &'static str = "exercise";
    const ABOUT: &'static str = "Copy the sources with a bug to find in them; hints, a check and the answer";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let all = ["hint", "check", "answer", "output_dir", "overwrite_output_dir"];
        let asked: Vec<&str> = all.into_iter().filter(|name| given.differs(name)).collect();
        match asked.as_slice() {
            [first, ..] if self.learning.number.is_none() => {
                given.complain(first, "needs the number of an exercise; lapidary exercise lists them")
            }
            [first, second, ..] if all[..3].contains(first) => {
                given.complain(second, format_args!("does not go with {first}; give one of them"))
            }
            _ => Ok(Vec::new()),
        }
    }
}

option_group! {
    /// The training step whose cost is told.
    pub struct DoctorStepOptions "Training step" {
        /// The model that is to be trained: a directory in Hugging Face layout, a .gguf file, or a name on the hub; none
        /// for no prediction.
        model_name_or_path: Option<Location> = none, Trl;
        /// A branch, tag or commit of a model from the hub.
        model_revision: String = "main", Trl;
        /// Type of the weights that are not trained; auto keeps what the file has.
        dtype | torch_dtype: WeightType = "float32", Trl;
        /// Train a LoRA adapter; the model's own weights stay as they are.
        use_peft: bool = "false", Trl;
        /// Rank of the adapter.
        lora_r: usize = "16", Trl, at_least(1.0);
        /// Layers that get an adapter: names such as q_proj,v_proj, or all-linear; none for q_proj and v_proj.
        lora_target_modules: Option<TargetModules> = none, Trl;
        /// Rows that are computed at once.
        per_device_train_batch_size: usize = "8", Trl, at_least(1.0);
        /// Tokens of a row.
        max_length: usize = "1024", Trl, at_least(2.0);
        /// Compute activations again in the backward pass instead of keeping them.
        gradient_checkpointing: bool = "true", Trl;
    }
}

option_group! {
    /// What is examined.
    pub struct CheckOptions "Checks" {
        /// Compare every kernel's values with the reference.
        check_kernels: bool = "true", Lapidary;
    }
}

option_set! {
    /// Everything `lapidary doctor` can be told. With device auto every device is examined.
    pub struct DoctorOptions {
        pub step: DoctorStepOptions,
        pub checks: CheckOptions,
        pub device: DeviceOptions,
    }
}

impl Command for DoctorOptions {
    const NAME: &'static str = "doctor";
    const ABOUT: &'static str =
        "Show devices, check their kernels, measure their speed, and say what a training step will cost";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if let Some(path) = &mut self.step.model_name_or_path {
            take_base(path, given, &mut notes)?;
        }
        let step = ["dtype", "use_peft", "lora_r", "lora_target_modules", "per_device_train_batch_size", "max_length"];
        if self.step.model_name_or_path.is_none() {
            for name in step.into_iter().filter(|name| given.differs(name)) {
                notes.push(format!("{name} has no effect without model_name_or_path"));
            }
        }
        Ok(notes)
    }
}
