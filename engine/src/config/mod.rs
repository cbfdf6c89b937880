//! What a model is made of: a Hugging Face `config.json`, read, checked and written back.
//!
//! Both spellings parse: transformers 5 (`rope_parameters`, `dtype`) and 4 (`rope_theta`, `rope_scaling`,
//! `torch_dtype`). A key that is absent has the default of the family's configuration class in transformers 5; sizes
//! have none and must be there. GGUF files come here too, once their metadata is put into this form.
pub(crate) mod fields;
pub mod layout;
mod rope_config;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use fields::Fields;
pub use layout::{Module, Role, SCORE, Slot};
pub use rope_config::{Rope, RopeScaling};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A family of models that share one decoder; they differ in biases, norms and windows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    pub const ALL: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

    /// `model_type` in config.json.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }
    /// The entry of `architectures` in config.json.
    pub const fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
    /// The family called `name`; the error lists those supported.
    pub fn from_name(name: &str, source: &Path) -> Result<Self> {
        Family::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Family::ALL.iter().map(|f| f.name()).collect();
            Error::Unsupported(format!(
                "{}: model family \"{name}\" is not supported; supported are {}",
                source.display(),
                known.join(", ")
            ))
        })
    }
}

/// What stands on the last layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Head {
    /// Log-probabilities of the next token.
    #[default]
    LanguageModel,
    /// One number for a sequence (transformers' sequence classification with one label): a reward model.
    Score,
}

const CLASSIFICATION: &str = "ForSequenceClassification";

/// A decoder-only transformer in numbers. Letters as everywhere: V, D, F, L, H, K, E.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub head: Head,
    /// V
    pub vocab_size: usize,
    /// D
    pub hidden_size: usize,
    /// F
    pub intermediate_size: usize,
    /// L
    pub n_layers: usize,
    /// H, query heads
    pub n_heads: usize,
    /// K, key/value heads; divides H
    pub n_kv_heads: usize,
    /// E, even; H · E need not be D
    pub head_size: usize,
    pub rms_norm_eps: f64,
    pub rope: Rope,
    pub max_position_embeddings: usize,
    /// The embedding is the output layer too; there is no `lm_head.weight`.
    pub tie_word_embeddings: bool,
    pub qkv_bias: bool,
    pub o_bias: bool,
    pub mlp_bias: bool,
    /// RMSNorm over each query and key head (gain of E) before RoPE.
    pub qk_norm: bool,
    /// Per layer: keys at positions > own − window are seen; None sees all. Length L.
    pub layer_windows: Vec<Option<usize>>,
    pub bos_id: Option<u32>,
    /// The ids that end a text; may be empty.
    pub eos_ids: Vec<u32>,
    pub pad_id: Option<u32>,
    /// config.json as it was read; [`ModelConfig::to_json`] writes back what it does not know about.
    pub raw: Map<String, Value>,
}

/// No size in a configuration may be larger; products of two then stay far from overflow.
const MAX_SIZE: usize = 1 << 26;
const MAX_LAYERS: usize = 4096;

impl ModelConfig {
    /// Parses and checks the object of a config.json; `source` is the file that errors name.
    pub fn from_json(raw: Map<String, Value>, source: &Path) -> Result<Self> {
        let fields = Fields::new(&raw, source);
        let Some(model_type) = fields.text("model_type")? else {
            return Err(Error::file(source, "`model_type` is missing; is this the config.json of a language model?"));
        };
        let family = Family::from_name(model_type, source)?;
        refuse_unsupported(&fields)?;

        let hidden_size = fields.size("hidden_size", MAX_SIZE)?;
        let n_layers = fields.size("num_hidden_layers", MAX_LAYERS)?;
        let n_heads = fields.size("num_attention_heads", MAX_SIZE)?;
        let default_kv_heads = match family {
            Family::Mistral if !raw.contains_key("num_key_value_heads") => 8,
            Family::Qwen2 | Family::Qwen3 if !raw.contains_key("num_key_value_heads") => 32,
            _ => n_heads,
        };
        let default_head_size = match family {
            Family::Qwen3 if !raw.contains_key("head_dim") => 128,
            _ => hidden_size / n_heads,
        };
        let max_position_embeddings = fields.size("max_position_embeddings", usize::MAX >> 16)?;
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        let (qkv_bias, o_bias) = match family {
            Family::Llama | Family::Qwen3 => (attention_bias, attention_bias),
            Family::Mistral => (false, false),
            Family::Qwen2 => (true, false),
        };
        let config = ModelConfig {
            family,
            head: parse_head(&fields)?,
            vocab_size: fields.size("vocab_size", MAX_SIZE)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MAX_SIZE)?,
            n_layers,
            n_heads,
            n_kv_heads: fields.size_or("num_key_value_heads", MAX_SIZE, default_kv_heads)?,
            head_size: fields.size_or("head_dim", MAX_SIZE, default_head_size)?,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope: Rope::parse(&fields, max_position_embeddings)?,
            max_position_embeddings,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias,
            o_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias")?.unwrap_or(false),
            qk_norm: family == Family::Qwen3,
            layer_windows: parse_windows(family, n_layers, &fields)?,
            bos_id: end_ids(family, &fields, "bos_token_id", 1)?.first().copied(),
            eos_ids: end_ids(family, &fields, "eos_token_id", 2)?,
            pad_id: fields.ids("pad_token_id")?.first().copied(),
            raw,
        };
        config.check().map_err(|detail| Error::file(source, detail))?;
        Ok(config)
    }

    /// Whether the numbers fit each other; says which do not.
    pub fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_size),
        ];
        for (name, size) in sizes {
            if size == 0 || size > MAX_SIZE {
                return Err(format!("{name} is {size}; 1 to {MAX_SIZE} is possible"));
            }
        }
        if self.n_layers == 0 || self.n_layers > MAX_LAYERS {
            return Err(format!("num_hidden_layers is {}; 1 to {MAX_LAYERS} is possible", self.n_layers));
        }
        if self.n_heads * self.head_size > MAX_SIZE {
            return Err(format!("{} heads of size {} are not plausible", self.n_heads, self.head_size));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(format!(
                "num_key_value_heads {} does not divide num_attention_heads {}",
                self.n_kv_heads, self.n_heads
            ));
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(format!("the head size {} is odd; rotary embeddings turn pairs", self.head_size));
        }
        if self.max_position_embeddings == 0 {
            return Err("max_position_embeddings is 0".to_string());
        }
        if !(self.rms_norm_eps >= 0.0 && self.rms_norm_eps < 1.0) {
            return Err(format!("rms_norm_eps is {}; at least 0 and below 1 is needed", self.rms_norm_eps));
        }
        if self.layer_windows.len() != self.n_layers {
            return Err(format!("{} layers have {} attention windows", self.n_layers, self.layer_windows.len()));
        }
        self.rope.check()
    }

    /// The config.json to write: `raw`, with every number of this struct on top. RoPE keeps the spelling that `raw`
    /// has, and gets both spellings where it has none, so that transformers 4 and 5 read the same.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = self.raw.clone();
        match self.head {
            Head::LanguageModel => {
                out.entry("architectures").or_insert_with(|| json!([self.family.architecture()]));
            }
            Head::Score => {
                let name = self.family.architecture().replace("ForCausalLM", CLASSIFICATION);
                out.insert("architectures".into(), json!([name]));
                out.insert("id2label".into(), json!({"0": "LABEL_0"}));
                out.insert("label2id".into(), json!({"LABEL_0": 0}));
            }
        }
        let mut set = |key: &str, value: Value| {
            // What already says the same stays as it is written.
            let same = out
                .get(key)
                .is_some_and(|old| *old == value || (old.as_f64().is_some() && old.as_f64() == value.as_f64()));
            if !same {
                out.insert(key.to_string(), value);
            }
        };
        set("model_type", json!(self.family.name()));
        set("vocab_size", json!(self.vocab_size));
        set("hidden_size", json!(self.hidden_size));
        set("intermediate_size", json!(self.intermediate_size));
        set("num_hidden_layers", json!(self.n_layers));
        set("num_attention_heads", json!(self.n_heads));
        set("num_key_value_heads", json!(self.n_kv_heads));
        let implied = self.family != Family::Qwen3 && self.head_size * self.n_heads == self.hidden_size;
        if !implied || self.raw.is_empty() || self.raw.contains_key("head_dim") {
            set("head_dim", json!(self.head_size));
        }
        set("hidden_act", json!("silu"));
        set("rms_norm_eps", json!(self.rms_norm_eps));
        set("max_position_embeddings", json!(self.max_position_embeddings));
        set("tie_word_embeddings", json!(self.tie_word_embeddings));
        if matches!(self.family, Family::Llama | Family::Qwen3) {
            set("attention_bias", json!(self.qkv_bias));
        }
        if self.family == Family::Llama {
            set("mlp_bias", json!(self.mlp_bias));
        }
        set("bos_token_id", json!(self.bos_id));
        set(
            "eos_token_id",
            match &self.eos_ids[..] {
                [] => Value::Null,
                [one] => json!(one),
                many => json!(many),
            },
        );
        set("pad_token_id", json!(self.pad_id));
        self.windows_to_json(&mut out);
        self.rope.to_json(&mut out);
        out
    }

    fn windows_to_json(&self, out: &mut Map<String, Value>) {
        let unchanged = parse_windows(self.family, self.n_layers, &Fields::new(out, Path::new("")));
        if unchanged.is_ok_and(|windows| windows == self.layer_windows) {
            return;
        }
        let window = self.layer_windows.iter().flatten().max();
        if self.family != Family::Llama {
            out.insert("sliding_window".to_string(), json!(window));
        }
        if matches!(self.family, Family::Qwen2 | Family::Qwen3) {
            out.insert("use_sliding_window".to_string(), json!(window.is_some()));
            let kind = |w: &Option<usize>| if w.is_some() { "sliding_attention" } else { "full_attention" };
            out.insert("layer_types".to_string(), self.layer_windows.iter().map(kind).collect());
        }
    }
}

/// A sequence classification has as many labels as `id2label` names; two where it is absent, as in transformers.
fn parse_head(fields: &Fields) -> Result<Head> {
    let names = fields.texts("architectures")?.unwrap_or_default();
    if !names.iter().any(|name| name.ends_with(CLASSIFICATION)) {
        return Ok(Head::LanguageModel);
    }
    let labels = fields.object("id2label")?.map(|labels| labels.len());
    match fields.count("num_labels")?.or(labels).unwrap_or(2) {
        1 => Ok(Head::Score),
        n => Err(fields.unsupported(format!("a classifier of {n} labels; a reward model has one"))),
    }
}

/// LlamaConfig and MistralConfig have BOS 1 and EOS 2 where the key is absent; null means that there is none.
fn end_ids(family: Family, fields: &Fields, key: &str, default: u32) -> Result<Vec<u32>> {
    let has_default = matches!(family, Family::Llama | Family::Mistral);
    if has_default && !fields.has(key) { Ok(vec![default]) } else { fields.ids(key) }
}

/// Things a config.json may ask for that would change the numbers and are not done here.
fn refuse_unsupported(fields: &Fields) -> Result<()> {
    let act = fields.text("hidden_act")?.unwrap_or("silu");
    if !matches!(act, "silu" | "swish") {
        return Err(fields.unsupported(format!("activation \"{act}\" is not supported; supported is silu")));
    }
    if let Some(q) = fields.object("quantization_config")? {
        let method = q.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
        return Err(fields.unsupported(format!(
            "weights quantised by \"{method}\" are not supported; supported are float32, float16 and bfloat16 \
             directories, and GGUF files"
        )));
    }
    if let Some(part) = fields.number("partial_rotary_factor")?
        && part != 1.0
    {
        return Err(fields.unsupported(format!("partial_rotary_factor {part} is not supported; supported is 1")));
    }
    Ok(())
}

fn parse_windows(family: Family, n_layers: usize, fields: &Fields) -> Result<Vec<Option<usize>>> {
    if family == Family::Llama || (family != Family::Mistral && !fields.is_on("use_sliding_window")) {
        refuse_windowed_layers(fields)?;
        return Ok(vec![None; n_layers]);
    }
    // MistralConfig, Qwen2Config and Qwen3Config: sliding_window is 4096 where it is absent, and off where it is null.
    let window = match fields.count("sliding_window")? {
        None if !fields.has("sliding_window") => Some(4096),
        Some(0) => return Err(fields.error("`sliding_window` is 0; null turns it off")),
        window => window,
    };
    if family == Family::Mistral {
        return Ok(vec![window; n_layers]);
    }
    match fields.texts("layer_types")? {
        None => {
            let first = fields.count("max_window_layers")?.unwrap_or(28);
            Ok((0..n_layers).map(|layer| window.filter(|_| layer >= first)).collect())
        }
        Some(types) if types.len() != n_layers => {
            Err(fields.error(format!("`layer_types` names {} layers, `num_hidden_layers` is {n_layers}", types.len())))
        }
        Some(types) => types.iter().map(|t| layer_window(t, window, fields)).collect(),
    }
}

/// Windows are off: no layer may ask for one.
fn refuse_windowed_layers(fields: &Fields) -> Result<()> {
    for kind in fields.texts("layer_types")?.unwrap_or_default() {
        layer_window(kind, None, fields)?;
    }
    Ok(())
}

fn layer_window(kind: &str, window: Option<usize>, fields: &Fields) -> Result<Option<usize>> {
    match kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => Err(fields.error("layer_types has \"sliding_attention\", but sliding_window is off")),
        other => Err(fields.unsupported(format!(
            "layer type \"{other}\" is not supported; supported are full_attention, sliding_attention"
        ))),
    }
}
