//! Which modules of a model an adapter changes, and with which rank and scale: PEFT 0.21's rules.
//!
//! A module's name is its path without `.weight`: `model.layers.0.self_attn.q_proj`, `model.embed_tokens`, `lm_head`. The rules
//! are those of PEFT's `check_target_module_exists` and `get_pattern_key`; patterns are Python's regular expressions.
use super::adapter_config::{AdapterConfig, TargetModules};
use crate::config::{ModelConfig, Module, Role, Slot};
use crate::error::{Error, Result};
use fancy_regex::Regex;

/// A module that an adapter changes, with the numbers that hold for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The module beside which A and B stand.
    pub module: Module,
    /// R, the rank: A is [r, in], B is [out, r].
    pub r: usize,
    /// The factor on B·A.
    pub scale: f64,
}

impl Target {
    /// Number of weights of A and B.
    pub fn n_weights(&self) -> u64 {
        (self.r * (self.module.n_in + self.module.n_out)) as u64
    }
}

/// Whether `name` is the module's path or the end of it, part by part.
fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A pattern of the option called `option`, as it stands around it in PEFT.
fn compile(option: &str, pattern: &str, around: impl Fn(&str) -> String) -> Result<Regex> {
    Regex::new(&around(&format!("(?:{pattern})")))
        .map_err(|e| Error::Input(format!("{option}: \"{pattern}\" is no regular expression: {e}")))
}

fn matches(regex: &Regex, text: &str) -> bool {
    regex.is_match(text).unwrap_or(false)
}

/// Names or a pattern, ready to be asked about modules.
enum Names<'a> {
    List(&'a [String]),
    Whole(Regex),
    AllLinear,
}

impl<'a> Names<'a> {
    fn new(option: &str, modules: &'a TargetModules) -> Result<Self> {
        Ok(match modules {
            TargetModules::List(list) => Names::List(list),
            TargetModules::AllLinear => Names::AllLinear,
            TargetModules::Pattern(pattern) => Names::Whole(compile(option, pattern, |p| format!(r"\A{p}\z"))?),
        })
    }
    fn name(&self, module: &Module) -> bool {
        match self {
            Names::List(list) => list.iter().any(|name| ends_in(&module.path, name)),
            Names::Whole(regex) => matches(regex, &module.path),
            Names::AllLinear => module.role == Role::Projection,
        }
    }
}

/// The layers of layers_to_transform, and under which names layers stand.
struct Layers<'a> {
    numbers: &'a [usize],
    patterns: Vec<Regex>,
}

impl<'a> Layers<'a> {
    /// None where all layers are meant.
    fn new(config: &'a AdapterConfig) -> Result<Option<Self>> {
        if config.layers_to_transform.is_empty() {
            return Ok(None);
        }
        let around = |p: &str| format!(r"\A(?:.*?\.)?{p}\.(\d+)\.");
        let patterns = match &config.layers_pattern[..] {
            [] => vec![compile("layers_pattern", r"[^.]*", |p| format!(r"\A.*?\.{p}\.(\d+)\."))?],
            names => names.iter().map(|p| compile("layers_pattern", p, around)).collect::<Result<_>>()?,
        };
        Ok(Some(Layers { numbers: &config.layers_to_transform, patterns }))
    }
    fn name(&self, module: &Module) -> bool {
        let number = self.patterns.iter().find_map(|pattern| {
            let found = pattern.captures(&module.path).ok().flatten()?;
            found.get(found.len() - 1)?.as_str().parse().ok()
        });
        number.is_some_and(|number| self.numbers.contains(&number))
    }
}

/// Values by pattern; the first whose pattern is the path, or the end of it, holds.
fn compile_patterns<T: Copy>(option: &str, by_pattern: &[(String, T)]) -> Result<Vec<(Regex, T)>> {
    let around = |p: &str| format!(r"\A(?:.*\.)?{p}\z");
    by_pattern.iter().map(|(pattern, value)| Ok((compile(option, pattern, around)?, *value))).collect()
}

fn first<T: Copy>(by_pattern: &[(Regex, T)], path: &str, otherwise: T) -> T {
    by_pattern.iter().find(|(pattern, _)| matches(pattern, path)).map_or(otherwise, |(_, value)| *value)
}

impl AdapterConfig {
    /// The modules of `model` that are targets, in their order, each with its rank and scale. An error where nothing
    /// fits, naming what there is.
    pub fn targets(&self, model: &ModelConfig) -> Result<Vec<Target>> {
        let modules = model.modules();
        let named = Names::new("target_modules", &self.target_modules)?;
        let excluded = self.exclude_modules.as_ref().map(|e| Names::new("exclude_modules", e)).transpose()?;
        let layers = match self.target_modules {
            // As in PEFT: a pattern says for itself which layers it means.
            TargetModules::Pattern(_) => None,
            _ => Layers::new(self)?,
        };
        let whole = |p: &str| format!(r"\A(?:.*\.)?{p}(?:\..*)?\z");
        let saved = self.modules_to_save.iter().map(|m| compile("modules_to_save", m, whole));
        let saved: Vec<Regex> = saved.collect::<Result<_>>()?;
        let ranks = compile_patterns("rank_pattern", &self.rank_pattern)?;
        let alphas = compile_patterns("alpha_pattern", &self.alpha_pattern)?;
        let is_target = |module: &&Module| {
            named.name(module)
                && !excluded.as_ref().is_some_and(|e| e.name(module))
                && !saved.iter().any(|pattern| matches(pattern, &module.path))
                && layers.as_ref().is_none_or(|l| l.name(module))
        };
        let target = |module: &Module| {
            let (r, alpha) = (first(&ranks, &module.path, self.r), first(&alphas, &module.path, self.lora_alpha));
            let scale = alpha / if self.use_rslora { (r as f64).sqrt() } else { r as f64 };
            Target { module: module.clone(), r, scale }
        };
        let targets: Vec<Target> = modules.iter().filter(is_target).map(target).collect();
        if !targets.is_empty() {
            return Ok(targets);
        }
        let mut names: Vec<&str> = Vec::new();
        for module in modules.iter().filter(|m| m.role == Role::Projection) {
            let name = module.path.rsplit('.').next().unwrap_or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let but = if excluded.is_some() || layers.is_some() { " (less what is excluded)" } else { "" };
        Err(Error::Input(format!(
            "no layer of the model is named by target_modules {:?}{but}; there are {}, and all-linear means all of them",
            self.target_modules,
            names.join(", ")
        )))
    }

    /// The tensors of `model` that are trained and saved whole (`modules_to_save`): those of every module whose path ends
    /// in one of the names, letter by letter, as PEFT takes it. The output layer has one where it is tied, too.
    pub fn trained_whole(&self, model: &ModelConfig) -> Vec<Slot> {
        let is_named = |slot: &&Slot| self.modules_to_save.iter().any(|name| slot.module().ends_with(name.as_str()));
        model.untied().slots().iter().filter(is_named).cloned().collect()
    }
}
