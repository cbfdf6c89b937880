//! What was given, by flag or by file, and where: the input of every option's parser.
use super::refused::refused;
use super::spec::{DefaultValue, OptionSpec};
use super::value::{ANY, OptionValue, Raw};
use crate::error::{Error, Result};
use crate::hub::Hub;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In the config file.
    File {
        /// The file, as `--config` names it.
        path: PathBuf,
        /// The line of its key, counted from 1.
        line: u64,
    },
    /// Nowhere: the value is the option's default.
    Default,
}

/// "--seed" or "run.yaml:3: seed": how a message begins.
struct At<'a>(&'a Origin, &'a str);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Flag => write!(f, "--{}", self.1),
            Origin::File { path, line } => write!(f, "{}:{line}: {}", path.display(), self.1),
            Origin::Default => write!(f, "{}", self.1),
        }
    }
}

/// The options of a command with the values given to them.
#[derive(Debug)]
pub struct Given {
    specs: Vec<&'static OptionSpec>,
    defaults: &'static [(&'static str, &'static str)],
    values: BTreeMap<&'static str, (Raw, Origin)>,
    /// Where names are looked up that are no paths; None where options are only read.
    pub(super) hub: Option<Hub>,
}

impl Given {
    /// `defaults`: those of this command that differ from the declared ones.
    pub fn new(specs: Vec<&'static OptionSpec>, defaults: &'static [(&'static str, &'static str)]) -> Self {
        Given { specs, defaults, values: BTreeMap::new(), hub: None }
    }

    /// The option called `name`, by its own name or another.
    pub fn spec(&self, name: &str) -> Option<&'static OptionSpec> {
        self.specs.iter().copied().find(|spec| spec.is_called(name))
    }

    /// A later value replaces an earlier one: put the file's in first, then the command line's.
    pub fn put(&mut self, spec: &'static OptionSpec, raw: Raw, origin: Origin) {
        self.values.insert(spec.name, (raw, origin));
    }

    /// Whether it was given at all, even if with its default value.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether it was given with another value than its default: what a contradiction takes. (A resolved config file
    /// gives every option.)
    pub fn differs(&self, name: &str) -> bool {
        let Some((spec, (raw, _))) = self.spec(name).zip(self.values.get(name)) else { return false };
        let default = match default_of(spec, self.defaults) {
            DefaultValue::Required | DefaultValue::RequiredUnless(_) => return true,
            DefaultValue::None => (spec.normal)(&Raw::Null, ANY),
            DefaultValue::Written(text) => (spec.normal)(&Raw::Text(text.into()), spec.range),
        };
        (spec.normal)(raw, spec.range) != default
    }

    /// All that is wrong with single values, a line each: those that no option takes, and those that are missing.
    pub fn wrong_values(&self) -> Vec<String> {
        let about = |spec: &&'static OptionSpec| match self.values.get(spec.name) {
            Some((raw, origin)) => (spec.normal)(raw, spec.range).is_none().then(|| wrong_value(spec, raw, origin)),
            None => self.is_missing(spec).then(|| missing(spec)),
        };
        let mut all: Vec<(u64, String)> =
            self.specs.iter().filter_map(|spec| Some((self.line(spec.name), about(spec)?))).collect();
        all.sort_by_key(|(line, _)| *line);
        all.into_iter().map(|(_, text)| text).collect()
    }

    /// Whether an option that is not given must be.
    fn is_missing(&self, spec: &OptionSpec) -> bool {
        match default_of(spec, self.defaults) {
            DefaultValue::Required => true,
            DefaultValue::RequiredUnless(other) => !self.differs(other),
            DefaultValue::None | DefaultValue::Written(_) => false,
        }
    }

    /// The line of the file in which an option is given; behind all lines where it is not.
    fn line(&self, name: &str) -> u64 {
        match self.values.get(name) {
            Some((_, Origin::File { line, .. })) => *line,
            _ => u64::MAX,
        }
    }

    /// What was given to an option, as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&Raw> {
        self.values.get(name).map(|(raw, _)| raw)
    }
    /// Another value in the place of the one that was given.
    pub(super) fn replace(&mut self, name: &str, value: Raw) {
        if let Some((raw, _)) = self.values.get_mut(name) {
            *raw = value;
        }
    }
    /// As if it had not been given.
    pub(super) fn forget(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// The text given to an option, as it was written.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some((Raw::Text(text), _)) => Some(text.trim()),
            _ => None,
        }
    }

    /// The value of an option: as given, else its default.
    pub fn read<T: OptionValue>(&self, name: &'static str) -> Result<T> {
        let spec = self.spec(name).ok_or_else(|| Error::Internal(format!("option {name} is not declared")))?;
        if let Some((raw, origin)) = self.values.get(spec.name) {
            return T::parse(raw, spec.range).ok_or_else(|| Error::Input(wrong_value(spec, raw, origin)));
        }
        let wrong = || Error::Internal(format!("the default of {name} is not {}", spec.accepts()));
        match default_of(spec, self.defaults) {
            DefaultValue::Required => Err(Error::Input(missing(spec))),
            DefaultValue::RequiredUnless(other) if !self.differs(other) => Err(Error::Input(missing(spec))),
            DefaultValue::RequiredUnless(other) => T::parse(&Raw::Text(other.into()), spec.range).ok_or_else(wrong),
            DefaultValue::None => T::parse(&Raw::Null, ANY).ok_or_else(wrong),
            DefaultValue::Written(text) => T::parse(&Raw::Text(text.into()), spec.range).ok_or_else(wrong),
        }
    }

    /// An error about the value of `name`, with the place where it was given.
    pub fn complain<T>(&self, name: &str, detail: impl fmt::Display) -> Result<T> {
        let origin = self.values.get(name).map_or(&Origin::Default, |(_, origin)| origin);
        Err(Error::Input(format!("{}: {detail}", At(origin, name))))
    }
}

/// What is wrong with a value, and what the option takes or why it is refused.
fn wrong_value(spec: &OptionSpec, raw: &Raw, origin: &Origin) -> String {
    let reason = if let Raw::Text(text) = raw { refused(spec.name, text.trim()) } else { None };
    if let Some(detail) = (spec.complaint)(raw) {
        return format!("{}: {detail}", At(origin, spec.name));
    }
    match reason {
        Some(why) => format!("{}: {} is refused: {why}", At(origin, spec.name), raw.show()),
        None => format!("{}: got {}, but it takes {}", At(origin, spec.name), raw.show(), spec.accepts()),
    }
}

/// That a required option is missing, and what it is.
fn missing(spec: &OptionSpec) -> String {
    format!("--{} is missing. {}", spec.name, spec.paragraph())
}

/// The default of an option in a command that may override it.
pub fn default_of(spec: &OptionSpec, overrides: &'static [(&'static str, &'static str)]) -> DefaultValue {
    overrides.iter().find(|(name, _)| *name == spec.name).map_or(spec.default, |(_, text)| DefaultValue::Written(text))
}

/// What other programs call options that have another name here.
const ELSEWHERE: [(&str, &str); 22] = [
    ("lr", "learning_rate"),
    ("epochs", "num_train_epochs"),
    ("num_epochs", "num_train_epochs"),
    ("steps", "max_steps"),
    ("max_iters", "max_steps"),
    ("iters", "max_steps"),
    ("bs", "per_device_train_batch_size"),
    ("batch_size", "per_device_train_batch_size"),
    ("micro_batch_size", "per_device_train_batch_size"),
    ("grad_accum", "gradient_accumulation_steps"),
    ("warmup", "warmup_steps"),
    ("model", "model_name_or_path"),
    ("base_model", "model_name_or_path"),
    ("data", "dataset_name"),
    ("dataset", "dataset_name"),
    ("train_file", "dataset_name"),
    ("adapter", "adapter_name_or_path"),
    ("out", "output_dir"),
    ("output", "output_dir"),
    ("rank", "lora_r"),
    ("lora_rank", "lora_r"),
    ("max_new_tokens", "max_completion_length"),
];

/// The known name that is most like `name`, if one is like it at all, or that means what `name` means elsewhere.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let meant = ELSEWHERE.iter().filter(|(other, _)| *other == name).map(|(_, ours)| *ours);
    if let Some(ours) = meant.into_iter().find_map(|ours| known.iter().find(|k| **k == ours)) {
        return Some(ours);
    }
    let scored = known.into_iter().map(|k| (strsim::jaro_winkler(name, k), k));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    best.filter(|(score, _)| *score > 0.8).map(|(_, k)| k)
}

/// "; did you mean `x`?", or nothing.
pub fn suggestion<'a>(name: &str, prefix: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or(String::new(), |near| format!("; did you mean {prefix}{near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["learning_rate", "lora_r", "logging_steps", "max_length", "max_steps"];
        for (typo, near) in [
            ("learning_rat", Some("learning_rate")),
            ("lerning_rate", Some("learning_rate")),
            ("loging_steps", Some("logging_steps")),
            ("max_lenght", Some("max_length")),
            ("lr", Some("learning_rate")),
            ("epochs", None),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(typo, known), near, "{typo}");
        }
    }
}
