//! Which modules of a model an adapter changes, and with which rank and scale: PEFT 0.21's rules.
//!
//! A module's name is its path without `.weight`: `model.layers.0.self_attn.q_proj`, `model.embed_tokens`, `lm_head`. The rules
//! are those of PEFT's `check_target_module_exists` and `get_pattern_key`; patterns are Python's regular expressions.
use super::adapter_config::{AdapterConfig, TargetModules, TokenIndices};
use crate::config::{Head, ModelConfig, Module, Role, Slot};
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
    /// Whether it has DoRA's magnitudes.
    pub dora: bool,
    /// Whether B has a bias.
    pub bias: bool,
}

impl Target {
    /// Number of weights of A and B, of B's bias and of DoRA's magnitudes.
    pub fn n_weights(&self) -> u64 {
        let bias = if self.bias { self.module.n_out } else { 0 };
        (self.r * (self.module.n_in + self.module.n_out) + bias + self.n_magnitudes()) as u64
    }

    /// Number of DoRA's magnitudes: one for each row, of an embedding for each column.
    pub fn n_magnitudes(&self) -> usize {
        match (self.dora, self.module.role) {
            (false, _) => 0,
            (true, Role::Embedding) => self.module.n_in,
            (true, _) => self.module.n_out,
        }
    }
}

/// The rows of the embedding and of the output layer that are trained by themselves, as token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTargets {
    /// Those of the embedding.
    pub embedding: Vec<u32>,
    /// Those of the output layer, where it has rows of its own.
    pub output: Vec<u32>,
    /// Whether the output layer has the embedding's.
    pub shared: bool,
}

impl TokenTargets {
    /// Number of weights that are trained.
    pub fn n_weights(&self, model: &ModelConfig) -> u64 {
        ((self.embedding.len() + self.output.len()) * model.hidden_size) as u64
    }
}

/// What stands before the model's own paths in PEFT, whose names are compared with ends of the whole.
const WRAPPED: &str = "base_model.model.";

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
            Target { module: module.clone(), r, scale, dora: self.use_dora, bias: self.lora_bias }
        };
        let targets: Vec<Target> = modules.iter().filter(is_target).map(target).collect();
        if let Some(embedding) = targets.iter().find(|t| self.lora_bias && t.module.role == Role::Embedding) {
            let path = &embedding.module.path;
            return Err(Error::Unsupported(format!("lora_bias beside the embedding {path}, which PEFT refuses too")));
        }
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

    /// The rows that `trainable_token_indices` names in `model`, by PEFT's rules: those of the embedding are those of a tied
    /// output layer too, unless it is given others.
    pub fn token_targets(&self, model: &ModelConfig) -> Result<TokenTargets> {
        let wrong = |detail: String| Err(Error::Input(format!("trainable_token_indices: {detail}")));
        let mut found = TokenTargets::default();
        let tied = model.head == Head::LanguageModel && model.tie_word_embeddings;
        match &self.trainable_token_indices {
            None => return Ok(found),
            Some(TokenIndices::OfEmbedding(ids)) => found.embedding = ids.clone(),
            Some(TokenIndices::ByModule(all)) => {
                for (name, ids) in all {
                    let is_named = |m: &Module| !name.is_empty() && format!("{WRAPPED}{}", m.path).ends_with(name);
                    let modules = model.modules();
                    let named: Vec<&Module> = modules.iter().filter(|m| is_named(m)).collect();
                    let rows = match named[..] {
                        [Module { role: Role::Embedding, .. }] => &mut found.embedding,
                        [Module { role: Role::Output, .. }] => &mut found.output,
                        _ => {
                            return wrong(format!(
                                "\"{name}\" is neither embed_tokens nor lm_head; only their rows are"
                            ));
                        }
                    };
                    if !rows.is_empty() {
                        return wrong(format!("\"{name}\" is named twice"));
                    }
                    rows.clone_from(ids);
                }
            }
        }
        for ids in [&found.embedding, &found.output] {
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                return wrong(format!("token {} is there twice", pair[0]));
            }
            if let Some(id) = sorted.last().filter(|&&id| id as usize >= model.vocab_size) {
                return wrong(format!("token {id} is not in the model's vocabulary of {}", model.vocab_size));
            }
        }
        if found.embedding.is_empty() && found.output.is_empty() {
            return wrong("names no token".to_string());
        }
        found.shared = tied && !found.embedding.is_empty() && [&found.embedding, &Vec::new()].contains(&&found.output);
        if found.shared {
            found.output.clear();
        } else if self.ensure_weight_tying && tied && !found.embedding.is_empty() {
            return wrong("other rows of lm_head than of embed_tokens, with ensure_weight_tying".to_string());
        }
        self.check_token_targets(model, &found)?;
        Ok(found)
    }

    /// What PEFT refuses too: an adapter beside a module, or the whole of it trained, and rows of the same module.
    fn check_token_targets(&self, model: &ModelConfig, tokens: &TokenTargets) -> Result<()> {
        let whole: Vec<Role> = self.trained_whole(model).iter().map(|slot| slot.role).collect();
        let beside: Vec<Role> = self.targets(model)?.iter().map(|target| target.module.role).collect();
        let clash = |role: Role, rows: &[u32], other: &[Role]| !rows.is_empty() && other.contains(&role);
        let (embedding, output) = (Role::Embedding, Role::Output);
        let module = if clash(embedding, &tokens.embedding, &whole) || clash(embedding, &tokens.embedding, &beside) {
            "embed_tokens"
        } else if clash(output, &tokens.output, &whole)
            || clash(output, &tokens.output, &beside)
            || (tokens.shared && whole.contains(&output))
        {
            "lm_head"
        } else if tokens.shared && self.use_dora && beside.contains(&output) {
            let detail = "rows of a tied lm_head that has an adapter with use_dora, which PEFT cannot compute either";
            return Err(Error::Input(format!("trainable_token_indices: {detail}")));
        } else {
            return Ok(());
        };
        Err(Error::Input(format!(
            "trainable_token_indices: {module} has an adapter or is trained whole besides, which PEFT refuses too; name one \
             of them"
        )))
    }
}
