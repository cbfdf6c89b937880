//! Option values that are one of a few names, and those with a small language of their own.
use super::value::{Kind, OptionValue, Range, Raw, with_home};
pub use crate::curves::Scheduler;
pub use crate::data::interleave::StoppingStrategy;
pub use crate::data::reshape::RowFormat;
pub use crate::data::tokenize::TruncationMode;
use crate::device::DeviceChoice;
pub use crate::losses::cpo::CpoLoss;
pub use crate::losses::divergence::FDivergence;
pub use crate::losses::dpo::{DpoLoss, OnlineDpoLoss};
pub use crate::losses::kto::KtoLoss;
pub use crate::losses::sft::SftLoss;
use crate::named::{Named, named};
use engine::dtype::{DType, Quant};
use serde_json::Value;
use std::path::PathBuf;

impl<T: Named> OptionValue for T {
    const KIND: Kind = Kind::Choice(T::NAMES);
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        let Raw::Text(text) = raw else { return None };
        T::from_name(text.trim())
    }
    fn write(&self) -> Value {
        Value::from(self.name())
    }
}

named! {
    /// Type of the weights that are not trained.
    pub enum WeightType {
        /// Four bytes a weight.
        Float32 = "float32" | "fp32",
        /// Two bytes a weight: the range of float32, 8 significant bits.
        Bfloat16 = "bfloat16" | "bf16",
        /// Two bytes a weight: 11 significant bits, values up to 65504.
        Float16 = "float16" | "fp16",
        /// As the model's file has them.
        Auto = "auto",
    }
}

impl WeightType {
    /// None: as in the file.
    pub fn dtype(self) -> Option<DType> {
        match self {
            WeightType::Float32 => Some(DType::F32),
            WeightType::Bfloat16 => Some(DType::BF16),
            WeightType::Float16 => Some(DType::F16),
            WeightType::Auto => None,
        }
    }
}

named! {
    /// Who completes command lines.
    pub enum Shell {
        /// GNU Bash.
        Bash = "bash",
        /// Zsh.
        Zsh = "zsh",
        /// Fish.
        Fish = "fish",
        /// PowerShell.
        PowerShell = "powershell",
        /// Elvish.
        Elvish = "elvish",
        /// No shell, but man(1): the manual page.
        Man = "man",
    }
}

named! {
    /// Type of the matrices in a file that is exported.
    pub enum OutType: DType {
        /// Four bytes a weight.
        F32 = "f32" => DType::F32,
        /// Two bytes a weight: 11 significant bits, values up to 65504.
        F16 = "f16" => DType::F16,
        /// Two bytes a weight: the range of float32, 8 significant bits.
        Bf16 = "bf16" => DType::BF16,
        /// 34 bytes for 32 weights: whole numbers up to 127 and a scale.
        Q8_0 = "q8_0" => DType::Quant(Quant::Q8_0),
    }
}

named! {
    /// Who answers in a chat besides the model with its adapter.
    pub enum BesideParty {
        /// The model without its adapter.
        Base = "base",
    }
}

named! {
    /// transformers names one optimiser after each of PyTorch's implementations of it.
    pub enum OptimizerName {
        /// AdamW with decoupled weight decay; see [`engine::backend::AdamWStep`].
        AdamW = "adamw" | "adamw_torch" | "adamw_torch_fused" | "adamw_hf" | "adamw_anyprecision" | "adamw_torch_xla" | "adamw_torch_npu_fused"
            | "adamw_8bit" | "adamw_bnb_8bit" | "adamw_torch_8bit" | "adamw_torch_4bit" | "paged_adamw_8bit"
            | "paged_adamw_32bit" | "paged_adamw",
        /// Plain gradient descent with weight decay: no momentum, no state.
        Sgd = "sgd",
    }
}

named! {
    /// When something happens. "no" may come as YAML 1.1's false.
    pub enum Strategy {
        /// Never.
        No = "no" | "false" | "False",
        /// Every so many optimiser steps.
        Steps = "steps",
        /// At the end of each pass over the data.
        Epoch = "epoch",
    }
}

named! {
    /// What becomes of an optimiser step whose loss or gradients are no finite numbers.
    pub enum OnNan {
        /// The run ends with an error; its checkpoints stay.
        Stop = "stop",
        /// The step is left out, the data go on.
        Skip = "skip",
        /// Weights and optimiser become those of the last good checkpoint (or of the start) again, the data go on.
        Rewind = "rewind",
    }
}

named! {
    /// The order of the rows within an epoch.
    pub enum SamplingStrategy {
        /// Shuffled anew each epoch, by the seed.
        Random = "random",
        /// As the data set has them.
        Sequential = "sequential",
    }
}

named! {
    /// When what a run makes is pushed to the hub.
    pub enum HubStrategy {
        /// With each checkpoint, and at the end.
        EverySave = "every_save",
        /// At the end.
        End = "end",
    }
}

named! {
    /// How rows are put together into sequences of max_length tokens.
    pub enum PackingStrategy {
        /// Best fit, longest first.
        BestFitDecreasing = "bfd",
        /// The same, with longer rows taken apart instead of cut.
        BestFitSplit = "bfd_split" | "bfd-requeue",
        /// One stream, cut every max_length tokens.
        Wrapped = "wrapped",
    }
}

named! {
    /// What a judge's two answers about a pair, one in either order, come to; see [`crate::judges::constitutional::Verdict`].
    pub enum VerdictRule {
        /// A verdict if both orders agree, else a tie (L. Zheng et al., "Judging LLM-as-a-judge", 2023, §3.4).
        Agree = "agree",
        /// The sign of the mean log-odds: a liking for one place cancels, and a tie is rare (H. Lee et al., "RLAIF",
        /// 2023, §3.1).
        Average = "average",
    }
}

/// Which linear layers get an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear layer but the output layer.
    AllLinear,
    /// Layers whose path is, or ends in, one of these names.
    Named(Vec<String>),
    /// Layers whose whole path it matches.
    Pattern(String),
}

impl OptionValue for TargetModules {
    const KIND: Kind = Kind::Form(
        "module names such as q_proj,v_proj (lm_head and embed_tokens too), one regular expression for whole paths, or \
         all-linear",
    );
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        let is_pattern = |text: &str| text.contains(|c| "*+?()[]{}|\\^$".contains(c));
        match raw {
            Raw::Text(text) if is_pattern(text) => return Some(TargetModules::Pattern(text.trim().to_string())),
            Raw::List(items) if items.len() == 1 && is_pattern(&items[0]) => {
                return Some(TargetModules::Pattern(items[0].clone()));
            }
            _ => {}
        }
        let names = Vec::<String>::parse(raw, range)?;
        if names.iter().any(|name| matches!(name.as_str(), "all-linear" | "all_linear")) {
            return (names.len() == 1).then_some(TargetModules::AllLinear);
        }
        let is_name = |name: &String| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        names.iter().all(is_name).then_some(TargetModules::Named(names))
    }
    fn write(&self) -> Value {
        match self {
            TargetModules::AllLinear => Value::from("all-linear"),
            TargetModules::Named(names) => Value::from(names.clone()),
            TargetModules::Pattern(pattern) => Value::from(pattern.as_str()),
        }
    }
}

/// Which checkpoint a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// The newest good one in the output directory, where a run of it has not come to its end; else none.
    Auto,
    /// None: the run begins at step 0.
    Nothing,
    /// The last complete one in the output directory.
    Last,
    /// The checkpoint in this directory.
    Path(PathBuf),
}

impl OptionValue for ResumeFrom {
    const KIND: Kind = Kind::Form("auto, last (or true), never (or false), or a checkpoint's directory");
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        match raw {
            Raw::Null => Some(ResumeFrom::Auto),
            Raw::Text(text) => match text.as_str() {
                "" => None,
                "auto" => Some(ResumeFrom::Auto),
                "true" | "True" | "last" => Some(ResumeFrom::Last),
                "false" | "False" | "never" => Some(ResumeFrom::Nothing),
                path => Some(ResumeFrom::Path(with_home(path).into())),
            },
            _ => None,
        }
    }
    fn write(&self) -> Value {
        match self {
            ResumeFrom::Auto => Value::from("auto"),
            ResumeFrom::Nothing => Value::from("never"),
            ResumeFrom::Last => Value::from("last"),
            ResumeFrom::Path(path) => Value::from(path.to_string_lossy()),
        }
    }
}

/// A conversation: in a file, or written out on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Messages {
    /// A JSON file.
    File(PathBuf),
    /// JSON text.
    Inline(String),
}

impl OptionValue for Messages {
    const KIND: Kind = Kind::Form("a JSON file, or JSON such as [{\"role\": \"user\", \"content\": \"Hello\"}]");
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        let text = match raw {
            Raw::Other(json) => json.clone(),
            _ => String::parse(raw, range)?,
        };
        let is_json = text.trim_start().starts_with(['[', '{']);
        Some(if is_json { Messages::Inline(text) } else { Messages::File(with_home(&text).into()) })
    }
    fn write(&self) -> Value {
        match self {
            Messages::File(path) => Value::from(path.to_string_lossy()),
            Messages::Inline(json) => Value::from(json.as_str()),
        }
    }
}

impl OptionValue for DeviceChoice {
    const KIND: Kind = Kind::Form(DeviceChoice::ACCEPTS);
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        match raw {
            Raw::Text(text) => DeviceChoice::parse(text),
            _ => None,
        }
    }
    fn write(&self) -> Value {
        Value::from(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::ANY;
    use super::*;

    fn text(s: &str) -> Raw {
        Raw::Text(s.into())
    }

    #[test]
    fn other_spellings() {
        assert_eq!(OptimizerName::parse(&text("adamw_torch_fused"), ANY), Some(OptimizerName::AdamW));
        assert_eq!(OptimizerName::parse(&text("adafactor"), ANY), None);
        assert_eq!(SftLoss::parse(&text("chunked_nll"), ANY), Some(SftLoss::Nll));
        assert_eq!(Strategy::parse(&text("false"), ANY), Some(Strategy::No));
        assert_eq!(WeightType::parse(&text("bf16"), ANY).and_then(WeightType::dtype), Some(DType::BF16));
    }

    #[test]
    fn target_modules() {
        let named = |names: &[&str]| Some(TargetModules::Named(names.iter().map(|n| n.to_string()).collect()));
        assert_eq!(TargetModules::parse(&text("all-linear"), ANY), Some(TargetModules::AllLinear));
        assert_eq!(TargetModules::parse(&Raw::List(vec!["all-linear".into()]), ANY), Some(TargetModules::AllLinear));
        assert_eq!(TargetModules::parse(&text("q_proj v_proj"), ANY), named(&["q_proj", "v_proj"]));
        assert_eq!(
            TargetModules::parse(&text("model.layers.0.mlp.up_proj"), ANY),
            named(&["model.layers.0.mlp.up_proj"])
        );
        assert_eq!(TargetModules::parse(&text("q_proj,lm_head"), ANY), named(&["q_proj", "lm_head"]));
        let pattern = r".*\.(q|v)_proj";
        assert_eq!(TargetModules::parse(&text(pattern), ANY), Some(TargetModules::Pattern(pattern.into())));
        for wrong in ["all-linear,q_proj", "q/proj", ""] {
            assert_eq!(TargetModules::parse(&text(wrong), ANY), None, "{wrong}");
        }
    }

    #[test]
    fn resume_from() {
        for (raw, value) in [
            (text("true"), Some(ResumeFrom::Last)),
            (text("last"), Some(ResumeFrom::Last)),
            (text("false"), Some(ResumeFrom::Nothing)),
            (text("never"), Some(ResumeFrom::Nothing)),
            (text("auto"), Some(ResumeFrom::Auto)),
            (Raw::Null, Some(ResumeFrom::Auto)),
            (text("run/checkpoint-5"), Some(ResumeFrom::Path("run/checkpoint-5".into()))),
            (text(""), None),
        ] {
            assert_eq!(ResumeFrom::parse(&raw, ANY), value);
        }
    }

    #[test]
    fn messages() {
        assert_eq!(Messages::parse(&text(" [{}]"), ANY), Some(Messages::Inline(" [{}]".into())));
        assert_eq!(Messages::parse(&text("chat.json"), ANY), Some(Messages::File("chat.json".into())));
    }
}
