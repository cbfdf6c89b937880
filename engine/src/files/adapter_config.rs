//! adapter_config.json of a LoRA adapter, as PEFT 0.21 writes it. What is absent has PEFT's default.
use crate::config::fields::Fields;
use crate::config::{ModelConfig, Module, Role};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Which modules have an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Module names or paths; "q_proj" is every module of this name.
    List(Vec<String>),
    /// Every linear layer but the output layer.
    AllLinear,
    /// A regular expression for whole module paths; only known by the tensors of an adapter that has it.
    Pattern(String),
}

/// A LoRA adapter in numbers: W' = W + scale · B·A with A [r, in], B [out, r].
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    pub base_model_name_or_path: Option<String>,
    /// For instance "CAUSAL_LM" or "SEQ_CLS".
    pub task_type: Option<String>,
    /// R, the rank
    pub r: usize,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    /// Scale by alpha/√r instead of alpha/r (Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
    /// Weight-decomposed: a trained magnitude per output row (Liu et al. 2024, arXiv:2402.09353).
    pub use_dora: bool,
    pub target_modules: TargetModules,
    /// Modules trained whole and saved whole.
    pub modules_to_save: Vec<String>,
    /// How A and B start: true is PEFT's default, Kaiming-uniform A and zero B.
    pub init_lora_weights: Value,
    /// adapter_config.json as it was read; what this struct does not know about is written back.
    pub raw: Map<String, Value>,
}

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

impl Default for AdapterConfig {
    /// PEFT's defaults: rank 8, alpha 8, no dropout; the targets still to be named.
    fn default() -> Self {
        AdapterConfig {
            base_model_name_or_path: None,
            task_type: Some("CAUSAL_LM".to_string()),
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            target_modules: TargetModules::List(Vec::new()),
            modules_to_save: Vec::new(),
            init_lora_weights: json!(true),
            raw: Map::new(),
        }
    }
}

/// Options that change what an adapter computes and are not done here.
const REFUSED: [&str; 12] = [
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
];

impl AdapterConfig {
    /// Parses and checks the object of an adapter_config.json; `source` is the file that errors name.
    pub fn from_json(raw: Map<String, Value>, source: &Path) -> Result<Self> {
        let fields = Fields::new(&raw, source);
        match fields.text("peft_type")? {
            Some("LORA") => {}
            Some(other) => {
                return Err(
                    fields.unsupported(format!("adapters of type \"{other}\" are not supported; supported is LORA"))
                );
            }
            None => return Err(fields.error("`peft_type` is missing; is this the adapter_config.json of PEFT?")),
        }
        refuse_unsupported(&raw, &fields)?;
        let config = AdapterConfig {
            base_model_name_or_path: fields.text("base_model_name_or_path")?.map(str::to_string),
            task_type: fields.text("task_type")?.map(str::to_string),
            r: fields.size_or("r", 1 << 16, 8)?,
            lora_alpha: fields.number("lora_alpha")?.unwrap_or(8.0),
            lora_dropout: fields.number("lora_dropout")?.unwrap_or(0.0),
            use_rslora: fields.flag("use_rslora")?.unwrap_or(false),
            use_dora: fields.flag("use_dora")?.unwrap_or(false),
            target_modules: parse_targets(&raw, &fields)?,
            modules_to_save: owned(fields.texts("modules_to_save")?.unwrap_or_default()),
            init_lora_weights: raw.get("init_lora_weights").filter(|v| !v.is_null()).cloned().unwrap_or(json!(true)),
            raw,
        };
        config.check().map_err(|detail| Error::file(source, detail))?;
        Ok(config)
    }

    /// Whether the numbers are possible; says which is not.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.r == 0 || self.r > 1 << 16 {
            return Err(format!("the LoRA rank r is {}; 1 to 65536 is possible", self.r));
        }
        if !self.lora_alpha.is_finite() {
            return Err(format!("lora_alpha is {}", self.lora_alpha));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(format!("lora_dropout is {}; 0 up to but not including 1 is possible", self.lora_dropout));
        }
        Ok(())
    }

    /// The factor on B·A: alpha/r, or alpha/√r for rsLoRA.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// The modules of `model` that are targets, in their order, each with its rank and scale. An error where nothing
    /// fits, naming what there is.
    pub fn targets(&self, model: &ModelConfig) -> Result<Vec<Target>> {
        let modules: Vec<Module> = model.modules().into_iter().filter(|m| m.role != Role::Embedding).collect();
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
        let mut names_of: Vec<String> = Vec::new();
        for module in modules.iter().filter(|m| m.role == Role::Projection) {
            let name = last(&module.path);
            if !names_of.contains(&name) {
                names_of.push(name);
            }
        }
        let mut targets = Vec::new();
        for module in modules {
            let selected = match &self.target_modules {
                TargetModules::AllLinear => module.role == Role::Projection,
                TargetModules::List(list) => list.iter().any(|target| names(target, &module.path)),
                TargetModules::Pattern(pattern) => {
                    return Err(Error::Unsupported(format!(
                        "target_modules \"{pattern}\": regular expressions are not supported; give a list of module \
                         names, or all-linear"
                    )));
                }
            };
            if selected {
                targets.push(Target { module, r: self.r, scale: self.scale() });
            }
        }
        if targets.is_empty() {
            return Err(Error::Input(format!(
                "no layer of the model is named by target_modules {:?}; there are {}, and all-linear means all of them",
                self.target_modules,
                names_of.join(", ")
            )));
        }
        Ok(targets)
    }

    /// The adapter_config.json to write: `raw`, with every field of this struct on top.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = self.raw.clone();
        let mut set = |key: &str, value: Value| out.insert(key.to_string(), value);
        set("peft_type", json!("LORA"));
        set("base_model_name_or_path", json!(self.base_model_name_or_path));
        set("task_type", json!(self.task_type));
        set("inference_mode", json!(true));
        set("r", json!(self.r));
        // PEFT declares a whole number.
        let whole = self.lora_alpha.fract() == 0.0 && self.lora_alpha.abs() < 1e15;
        set("lora_alpha", if whole { json!(self.lora_alpha as i64) } else { json!(self.lora_alpha) });
        set("lora_dropout", json!(self.lora_dropout));
        set("use_rslora", json!(self.use_rslora));
        set("use_dora", json!(self.use_dora));
        set(
            "target_modules",
            match &self.target_modules {
                TargetModules::List(list) => json!(list),
                TargetModules::AllLinear => json!("all-linear"),
                TargetModules::Pattern(pattern) => json!(pattern),
            },
        );
        let to_save = (!self.modules_to_save.is_empty()).then_some(&self.modules_to_save);
        set("modules_to_save", json!(to_save));
        set("init_lora_weights", self.init_lora_weights.clone());
        set("bias", json!("none"));
        out.entry("fan_in_fan_out").or_insert(json!(false));
        out
    }
}

fn refuse_unsupported(raw: &Map<String, Value>, fields: &Fields) -> Result<()> {
    for key in REFUSED {
        let off = match raw.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(_) => false,
        };
        if !off {
            return Err(fields.unsupported(format!("`{key}` is set; adapters that use it are not supported")));
        }
    }
    if let Some(bias) = fields.text("bias")?.filter(|bias| *bias != "none") {
        return Err(fields.unsupported(format!("bias \"{bias}\" is not supported; supported is none")));
    }
    // These starts change the base weights as well, which an adapter alone cannot say.
    let start = raw.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    if start.starts_with("pissa") || matches!(start, "olora" | "loftq" | "corda" | "lora_ga") {
        return Err(fields.unsupported(format!(
            "init_lora_weights \"{start}\" changes the base weights and is not supported; PEFT can convert such an \
             adapter when saving (path_initial_model_for_weight_conversion)"
        )));
    }
    Ok(())
}

fn parse_targets(raw: &Map<String, Value>, fields: &Fields) -> Result<TargetModules> {
    match raw.get("target_modules") {
        Some(Value::String(s)) if s == "all-linear" => Ok(TargetModules::AllLinear),
        Some(Value::String(s)) => Ok(TargetModules::Pattern(s.clone())),
        _ => match fields.texts("target_modules")? {
            Some(list) => Ok(TargetModules::List(owned(list))),
            None => Err(fields.error("`target_modules` is missing")),
        },
    }
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_string).collect()
}

/// Whether `target` is the module's path or the end of it.
fn names(target: &str, module: &str) -> bool {
    module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
