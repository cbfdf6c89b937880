//! The commands with which a trained model is used: `export`, `push` and `chat`.
use super::choices::{BesideParty, OutType, WeightType};
use super::drawing::DrawingOptions;
use super::given::Given;
use super::groups::DeviceOptions;
use super::spec::{Command, option_group, option_set};
use super::value::Location;
use crate::error::Result;
use std::path::{Path, PathBuf};

option_group! {
    /// Which model.
    pub struct SourceOptions "Model" {
        /// The model: a directory in Hugging Face layout, a .gguf file, or a name on the hub; none for the one that the
        /// adapter names. An adapter's directory or name stands for both.
        model_name_or_path: Option<Location> = none, Trl;
        /// A branch, tag or commit of a model from the hub.
        model_revision: String = "main", Trl;
        /// A PEFT adapter to put on the model.
        adapter_name_or_path: Option<PathBuf> = none, Lapidary;
    }
}

option_group! {
    /// Where to, and in which form.
    pub struct TargetOptions "Export" {
        /// The GGUF file to write, whose name ends in .gguf; NAME.Modelfile goes beside NAME.gguf.
        output_file: Option<PathBuf> = none, Lapidary;
        /// Type of the matrices, under the names of llama.cpp's convert_hf_to_gguf.py; none for f16 in a GGUF file, and for
        /// what the model's file has in a directory.
        outtype: Option<OutType> = none, Lapidary;
        /// Write a Modelfile for `ollama create` beside output_file.
        modelfile: bool = "true", Lapidary;
        /// Write over output_file and its Modelfile.
        overwrite_output_file: bool = "false", Lapidary;
        /// Directory to write in Hugging Face layout, in the place of output_file.
        output_dir: Option<PathBuf> = none, Lapidary;
        /// Write over a model in output_dir. A run's directory is not written over.
        overwrite_output_dir: bool = "false", Transformers;
    }
}

option_set! {
    /// Everything `lapidary export` can be told.
    pub struct ExportOptions {
        pub source: SourceOptions,
        pub target: TargetOptions,
    }
}

/// Complains where neither a model nor an adapter is given.
fn check_source(source: &SourceOptions, given: &Given) -> Result<()> {
    match (&source.model_name_or_path, &source.adapter_name_or_path) {
        (None, None) => {
            given.complain("model_name_or_path", "is missing; give a model, or an adapter with --adapter_name_or_path")
        }
        _ => Ok(()),
    }
}

impl Command for ExportOptions {
    const NAME: &'static str = "export";
    const ABOUT: &'static str = "Write a model as a GGUF file for llama.cpp and Ollama, or as a Hugging Face directory";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        check_source(&self.source, given)?;
        let target = &self.target;
        match (&target.output_file, &target.output_dir) {
            (None, None) => {
                let detail = "is missing; give a file whose name ends in .gguf, or a directory with --output_dir";
                return given.complain("output_file", detail);
            }
            (Some(_), Some(_)) => return given.complain("output_dir", "contradicts output_file; give one of them"),
            (Some(file), None) => {
                if let Some(detail) = misnamed(file, target.outtype.unwrap_or(OutType::F16)) {
                    return given.complain("output_file", &detail);
                }
            }
            (None, Some(_)) => {}
        }
        let of_the_other: &[&str] = match target.output_file {
            Some(_) => &["overwrite_output_dir"],
            None => &["overwrite_output_file", "modelfile"],
        };
        let goes_with = if target.output_file.is_some() { "output_dir" } else { "output_file" };
        match of_the_other.iter().find(|name| given.differs(name)) {
            Some(name) => given.complain(name, format!("goes with --{goes_with}")),
            None => Ok(Vec::new()),
        }
    }
}

/// What is wrong with a file's name: its end, or a type in it that is not the one that is written (`m-Q8_0.gguf`).
fn misnamed(file: &Path, outtype: OutType) -> Option<String> {
    if file.extension().is_none_or(|end| end != "gguf") {
        return Some("is a GGUF file, so its name must end in .gguf; for a directory give --output_dir".into());
    }
    let stem = file.file_stem()?.to_str()?.to_lowercase();
    let told = OutType::NAMES
        .iter()
        .find(|name| stem.ends_with(&format!("-{name}")) || stem.ends_with(&format!(".{name}")))?;
    let own = outtype.name();
    (*told != own).then(|| format!("says {told}, but its type is {own}; give --outtype {told}, or another name"))
}

option_group! {
    /// What is pushed, and where to.
    pub struct PushedOptions "Push" {
        /// The model's directory: a finished run, a checkpoint, what merge or export has written.
        model_dir: PathBuf = required, Lapidary;
        /// The repository: org/name, or a name of your own account.
        hub_model_id: String = required, Transformers;
        /// Whether a repository that is made is private; none for what the account has as its default.
        hub_private_repo: Option<bool> = none, Transformers;
        /// The token that may write there; none for HF_TOKEN, or what hf auth login has left.
        hub_token: Option<String> = none, Transformers;
        /// What the commit is called.
        commit_message: String = "Upload by lapidary", Transformers;
    }
}

option_set! {
    /// Everything `lapidary push` can be told.
    pub struct PushOptions {
        pub pushed: PushedOptions,
    }
}

impl Command for PushOptions {
    const NAME: &'static str = "push";
    const ABOUT: &'static str = "Push a model or an adapter to the hub, in one commit";

    fn check(&mut self, _: &Given) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

option_group! {
    /// Who answers.
    pub struct TalkOptions "Chat" {
        /// A system message to begin each conversation with.
        system: Option<String> = none, Lapidary;
        /// Who answers besides: base, the model without its adapter. none for nobody.
        beside: Option<BesideParty> = none, Lapidary;
        /// An adapter to compare the model with: the same as adapter_name_or_path with beside base.
        compare: Option<PathBuf> = none, Lapidary;
    }
}

option_group! {
    /// How the weights are held.
    pub struct HeldOptions "Weights" {
        /// Type of the weights; auto keeps what the file has. All arithmetic is float32.
        dtype | torch_dtype: WeightType = "float32", Trl;
    }
}

option_set! {
    /// Everything `lapidary chat` can be told.
    pub struct ChatOptions {
        pub source: SourceOptions,
        pub held: HeldOptions,
        pub talk: TalkOptions,
        pub drawing: DrawingOptions,
        pub device: DeviceOptions,
    }
}

impl Command for ChatOptions {
    const NAME: &'static str = "chat";
    const ABOUT: &'static str =
        "Talk with a model: each line of standard input is a turn; /reset begins anew, /quit ends";

    fn check(&mut self, given: &Given) -> Result<Vec<String>> {
        if let Some(tuned) = self.talk.compare.take() {
            if self.source.adapter_name_or_path.is_some() {
                return given.complain("compare", "contradicts adapter_name_or_path; give one of them");
            }
            self.source.adapter_name_or_path = Some(tuned);
            self.talk.beside = Some(BesideParty::Base);
        }
        check_source(&self.source, given)?;
        Ok(self.drawing.without_effect(given))
    }
}
