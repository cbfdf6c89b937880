//! adapter_config.json of a LoRA adapter, as PEFT 0.21 writes it. What is absent has PEFT's default.
use crate::config::fields::Fields;
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
    /// A regular expression for whole module paths.
    Pattern(String),
}

impl TargetModules {
    fn to_json(&self) -> Value {
        match self {
            TargetModules::List(list) => json!(list),
            TargetModules::AllLinear => json!("all-linear"),
            TargetModules::Pattern(pattern) => json!(pattern),
        }
    }
}

/// Rows of the embedding, or of the output layer, that are trained by themselves: token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIndices {
    /// Of the embedding, and of the output layer that is tied to it.
    OfEmbedding(Vec<u32>),
    /// By module name: the embedding's and the output layer's.
    ByModule(Vec<(String, Vec<u32>)>),
}

impl TokenIndices {
    fn to_json(&self) -> Value {
        match self {
            TokenIndices::OfEmbedding(ids) => json!(ids),
            TokenIndices::ByModule(all) => Value::Object(all.iter().map(|(m, ids)| (m.clone(), json!(ids))).collect()),
        }
    }
}

/// A LoRA adapter in numbers: W' = W + scale · B·A with A [r, in], B [out, r].
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// The model that it was trained beside.
    pub base_model_name_or_path: Option<String>,
    /// For instance "CAUSAL_LM" or "SEQ_CLS".
    pub task_type: Option<String>,
    /// R, the rank
    pub r: usize,
    /// α, from which the scale of B·A follows.
    pub lora_alpha: f64,
    /// Probability of dropping an input of A in training.
    pub lora_dropout: f64,
    /// Scale by alpha/√r instead of alpha/r (Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
    /// Weight-decomposed: a trained magnitude per output row (Liu et al. 2024, arXiv:2402.09353).
    pub use_dora: bool,
    /// Which modules have A and B.
    pub target_modules: TargetModules,
    /// Which of them have none after all.
    pub exclude_modules: Option<TargetModules>,
    /// Only the modules of these layers; empty for all.
    pub layers_to_transform: Vec<usize>,
    /// Under which names (patterns) layers stand; empty for any.
    pub layers_pattern: Vec<String>,
    /// Ranks that differ from `r`, by pattern.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas that differ from `lora_alpha`, by pattern.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules trained whole and saved whole.
    pub modules_to_save: Vec<String>,
    /// Rows of the embedding and of the output layer that are trained by themselves.
    pub trainable_token_indices: Option<TokenIndices>,
    /// Which of the model's biases are trained too.
    pub bias: Biases,
    /// Whether what is tied in the model stays tied in the adapter.
    pub ensure_weight_tying: bool,
    /// Whether B has a bias: y = … + scale · (B·A·x + b).
    pub lora_bias: bool,
    /// How A and B start: true is PEFT's default, Kaiming-uniform A and zero B.
    pub init_lora_weights: Value,
    /// adapter_config.json as it was read; what this struct does not know about is written back.
    pub raw: Map<String, Value>,
}

/// Which biases are trained besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Biases {
    /// None of them.
    #[default]
    None,
    /// All of the model's.
    All,
    /// Those of the layers that have an adapter.
    LoraOnly,
}

impl Biases {
    const NAMES: [(&'static str, Biases); 3] =
        [("none", Biases::None), ("all", Biases::All), ("lora_only", Biases::LoraOnly)];

    /// As PEFT calls it.
    pub fn name(self) -> &'static str {
        Biases::NAMES.iter().find(|(_, value)| *value == self).map_or("none", |(name, _)| name)
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
            exclude_modules: None,
            layers_to_transform: Vec::new(),
            layers_pattern: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            modules_to_save: Vec::new(),
            trainable_token_indices: None,
            bias: Biases::None,
            ensure_weight_tying: false,
            lora_bias: false,
            init_lora_weights: json!(true),
            raw: Map::new(),
        }
    }
}

/// Options that change what an adapter computes and are not done here.
const REFUSED: [&str; 10] = [
    "layer_replication",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "arrow_config",
    "megatron_config",
];

/// Everything else that PEFT 0.21 writes: read above, or of no effect on a finished adapter.
const KNOWN: [&str; 32] = [
    "peft_type",
    "base_model_name_or_path",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "trainable_token_indices",
    "bias",
    "lora_bias",
    "init_lora_weights",
    "fan_in_fan_out",
    "ensure_weight_tying",
    "auto_mapping",
    "revision",
    "inference_mode",
    "peft_version",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
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
            target_modules: parse_modules("target_modules", &raw, &fields)?
                .ok_or_else(|| fields.error("`target_modules` is missing"))?,
            exclude_modules: parse_modules("exclude_modules", &raw, &fields)?,
            layers_to_transform: match raw.get("layers_to_transform") {
                Some(Value::Array(_)) => fields.counts("layers_to_transform")?.unwrap_or_default(),
                _ => fields.count("layers_to_transform")?.into_iter().collect(),
            },
            layers_pattern: match raw.get("layers_pattern") {
                Some(Value::String(one)) => Some(one.clone()).filter(|p| !p.is_empty()).into_iter().collect(),
                _ => owned(fields.texts("layers_pattern")?.unwrap_or_default()),
            },
            rank_pattern: parse_pattern("rank_pattern", &fields, |v| {
                v.as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| (1..=1 << 16).contains(r))
            })?,
            alpha_pattern: parse_pattern("alpha_pattern", &fields, Value::as_f64)?,
            bias: parse_biases(&fields)?,
            ensure_weight_tying: fields.flag("ensure_weight_tying")?.unwrap_or(false),
            lora_bias: fields.flag("lora_bias")?.unwrap_or(false),
            modules_to_save: owned(fields.texts("modules_to_save")?.unwrap_or_default()),
            trainable_token_indices: parse_token_indices(&raw, &fields)?,
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
        if self.use_dora && self.lora_bias {
            return Err("use_dora and lora_bias are both on, which PEFT refuses too".to_string());
        }
        Ok(())
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
        set("lora_alpha", whole_or_not(self.lora_alpha));
        set("lora_dropout", json!(self.lora_dropout));
        set("use_rslora", json!(self.use_rslora));
        set("use_dora", json!(self.use_dora));
        set("target_modules", self.target_modules.to_json());
        let mut set_or_leave = |key: &str, is_default: bool, value: Value| {
            // What says the same in another way stays as it was read: a number for a list of one.
            if !is_default && !says_the_same(self.raw.get(key), &value) {
                set(key, value);
            }
        };
        let excluded = self.exclude_modules.as_ref();
        set_or_leave("exclude_modules", excluded.is_none(), json!(excluded.map(TargetModules::to_json)));
        set_or_leave("layers_to_transform", self.layers_to_transform.is_empty(), json!(self.layers_to_transform));
        set_or_leave("layers_pattern", self.layers_pattern.is_empty(), json!(self.layers_pattern));
        let ranks: Map<String, Value> = self.rank_pattern.iter().map(|(p, r)| (p.clone(), json!(r))).collect();
        set_or_leave("rank_pattern", ranks.is_empty(), Value::Object(ranks));
        let alphas: Map<String, Value> =
            self.alpha_pattern.iter().map(|(p, a)| (p.clone(), whole_or_not(*a))).collect();
        set_or_leave("alpha_pattern", alphas.is_empty(), Value::Object(alphas));
        let tokens = self.trainable_token_indices.as_ref();
        set_or_leave("trainable_token_indices", tokens.is_none(), json!(tokens.map(TokenIndices::to_json)));
        set_or_leave("lora_bias", !self.lora_bias, json!(self.lora_bias));
        let to_save = (!self.modules_to_save.is_empty()).then_some(&self.modules_to_save);
        set("modules_to_save", json!(to_save));
        set("init_lora_weights", self.init_lora_weights.clone());
        set("bias", json!(self.bias.name()));
        out.entry("fan_in_fan_out").or_insert(json!(false));
        out
    }
}

fn refuse_unsupported(raw: &Map<String, Value>, fields: &Fields) -> Result<()> {
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for (key, _) in raw.iter().filter(|(_, value)| !is_off(value)) {
        if REFUSED.contains(&key.as_str()) {
            return Err(fields.unsupported(format!("`{key}` is set; adapters that use it are not supported")));
        }
        if !KNOWN.contains(&key.as_str()) {
            return Err(fields
                .unsupported(format!("`{key}` is set, which is no option of PEFT 0.21's LoRA that is known here")));
        }
    }
    if fields.is_on("fan_in_fan_out") {
        return Err(fields
            .unsupported("`fan_in_fan_out` is for weights that are stored transposed, which no supported model has"));
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

fn parse_modules(key: &str, raw: &Map<String, Value>, fields: &Fields) -> Result<Option<TargetModules>> {
    match raw.get(key) {
        Some(Value::String(s)) if s.to_lowercase() == "all-linear" => Ok(Some(TargetModules::AllLinear)),
        Some(Value::String(s)) => Ok(Some(TargetModules::Pattern(s.clone()))),
        _ => Ok(fields.texts(key)?.map(|list| TargetModules::List(owned(list)))),
    }
}

fn parse_pattern<T>(key: &str, fields: &Fields, parse: impl Fn(&Value) -> Option<T>) -> Result<Vec<(String, T)>> {
    let Some(object) = fields.object(key)? else { return Ok(Vec::new()) };
    let one = |(pattern, value): (&String, &Value)| match parse(value) {
        Some(parsed) => Ok((pattern.clone(), parsed)),
        None => Err(fields.error(format!("`{key}` gives {value} to \"{pattern}\", a number above 0 is needed"))),
    };
    object.iter().map(one).collect()
}

fn parse_token_indices(raw: &Map<String, Value>, fields: &Fields) -> Result<Option<TokenIndices>> {
    let key = "trainable_token_indices";
    let ids = |value: &Value| -> Option<Vec<u32>> {
        value.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    };
    let wrong = || fields.error(format!("`{key}` needs a list of token ids, or an object with one for each module"));
    match raw.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(modules)) => {
            let one = |(module, list): (&String, &Value)| Some((module.clone(), ids(list)?));
            let all: Option<Vec<_>> = modules.iter().map(one).collect();
            Ok(Some(TokenIndices::ByModule(all.ok_or_else(wrong)?)).filter(|_| !modules.is_empty()))
        }
        Some(list) => Ok(Some(TokenIndices::OfEmbedding(ids(list).ok_or_else(wrong)?))),
    }
}

fn parse_biases(fields: &Fields) -> Result<Biases> {
    let name = fields.text("bias")?.unwrap_or("none");
    let found = Biases::NAMES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, biases)| *biases)
        .ok_or_else(|| fields.unsupported(format!("bias \"{name}\" is not known; none, all and lora_only are")))
}

/// 16 rather than 16.0: PEFT declares whole numbers.
fn whole_or_not(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// Whether `old` is `new`, or the one item of it.
fn says_the_same(old: Option<&Value>, new: &Value) -> bool {
    old == Some(new) || matches!(new, Value::Array(list) if list.len() == 1 && list.first() == old)
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_string).collect()
}
