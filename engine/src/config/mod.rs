//! What a model is made of: a Hugging Face `config.json`, read, checked and written back.
//!
//! Both spellings parse: transformers 5 (`rope_parameters`, `dtype`) and 4 (`rope_theta`, `rope_scaling`,
//! `torch_dtype`). A key that is absent has the default of the family's configuration class in transformers 5; sizes
//! have none and must be there. GGUF files come here too, once their metadata is put into this form.
pub mod family;
pub(crate) mod fields;
pub mod generation;
pub mod layout;
mod rope_config;
mod windows;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use family::{Biased, QkNorm, ScaleKeys};
pub use family::{FAMILIES, Family};
use fields::Fields;
pub use generation::GenerationConfig;
pub use layout::{Module, Role, SCORE, Slot};
pub use rope_config::{Rope, RopeScaling};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Factors on what flows through a model. Where they are 1, nothing is computed for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Multiplies the embeddings.
    pub embedding: f64,
    /// Multiplies q·k; None: 1/√E.
    pub attention: Option<f64>,
    /// Multiplies what attention and the feed-forward network add to the residual stream.
    pub residual: f64,
    /// Divides the logits.
    pub logits: f64,
}

impl Scales {
    fn parse(keys: ScaleKeys, fields: &Fields) -> Result<Self> {
        let of = |key: Option<&str>| key.map(|key| Ok(fields.number(key)?.unwrap_or(1.0))).transpose();
        Ok(Scales {
            embedding: of(keys.embedding)?.unwrap_or(1.0),
            attention: of(keys.attention)?,
            residual: of(keys.residual)?.unwrap_or(1.0),
            logits: of(keys.logits)?.unwrap_or(1.0),
        })
    }

    /// Each factor with its key in config.json, where the family has one.
    fn by_key(self, keys: ScaleKeys) -> impl Iterator<Item = (&'static str, f64)> {
        let all = [
            (keys.embedding, self.embedding),
            (keys.attention, self.attention.unwrap_or(1.0)),
            (keys.residual, self.residual),
            (keys.logits, self.logits),
        ];
        all.into_iter().filter_map(|(key, scale)| Some((key?, scale)))
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
    /// The row of [`FAMILIES`].
    pub family: &'static Family,
    /// What stands on the last layer.
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
    /// ε of every norm.
    pub rms_norm_eps: f64,
    /// The rotary position embedding.
    pub rope: Rope,
    /// Tokens of the longest text that the model is made for.
    pub max_position_embeddings: usize,
    /// The embedding is the output layer too; there is no `lm_head.weight`.
    pub tie_word_embeddings: bool,
    /// The projections to queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// So has the projection behind attention.
    pub o_bias: bool,
    /// So has the feed-forward network.
    pub mlp_bias: bool,
    /// RMSNorm of queries and keys before RoPE.
    pub qk_norm: QkNorm,
    /// Factors, for instance on embeddings and logits.
    pub scales: Scales,
    /// Per layer: keys at positions > own − window are seen; None sees all. Length L.
    pub layer_windows: Vec<Option<usize>>,
    /// What a text begins with, if anything.
    pub bos_id: Option<u32>,
    /// The ids that end a text; may be empty.
    pub eos_ids: Vec<u32>,
    /// What other programs fill batches up with.
    pub pad_id: Option<u32>,
    /// How it is drawn from: generation_config.json.
    pub generation: GenerationConfig,
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
        // The class' default stands for a key that is absent, what follows from other sizes for one that is null.
        let absent =
            |key: &str, default: Option<usize>, null: usize| default.filter(|_| !fields.has(key)).unwrap_or(null);
        let max_position_embeddings = fields.size("max_position_embeddings", usize::MAX >> 16)?;
        let biased = |which| match which {
            Biased::Never => Ok(false),
            Biased::Always => Ok(true),
            Biased::Key(key) => Ok(fields.flag(key)?.unwrap_or(false)),
        };
        let config = ModelConfig {
            family,
            head: parse_head(&fields)?,
            vocab_size: fields.size("vocab_size", MAX_SIZE)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MAX_SIZE)?,
            n_layers,
            n_heads,
            n_kv_heads: fields.size_or(
                "num_key_value_heads",
                MAX_SIZE,
                absent("num_key_value_heads", family.kv_heads, n_heads),
            )?,
            head_size: fields.size_or(
                "head_dim",
                MAX_SIZE,
                absent("head_dim", family.head_size, hidden_size / n_heads),
            )?,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(family.norm_eps),
            rope: Rope::parse(&fields, max_position_embeddings)?,
            max_position_embeddings,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: biased(family.qkv_bias)?,
            o_bias: biased(family.o_bias)?,
            mlp_bias: biased(family.mlp_bias)?,
            qk_norm: family.qk_norm,
            scales: Scales::parse(family.scales, &fields)?,
            layer_windows: windows::parse(family, n_layers, &fields)?,
            bos_id: end_ids(&fields, "bos_token_id", family.bos)?.first().copied(),
            eos_ids: end_ids(&fields, "eos_token_id", family.eos)?,
            pad_id: end_ids(&fields, "pad_token_id", family.pad)?.first().copied(),
            generation: GenerationConfig::default(),
            raw,
        };
        config.check().map_err(|detail| Error::file(source, detail))?;
        Ok(config)
    }

    /// The dropouts that config.json asks of training, which are not done here: key and probability.
    pub fn dropouts(&self) -> Vec<(&str, f64)> {
        let drops = |key: &str| key.contains("dropout") || key.ends_with("pdrop");
        let named = self.raw.iter().filter(|(key, _)| drops(key));
        named.filter_map(|(key, value)| Some((key.as_str(), value.as_f64().filter(|p| *p > 0.0)?))).collect()
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
        for (key, scale) in self.scales.by_key(self.family.scales) {
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(format!("{key} is {scale}; a number above 0 is needed"));
            }
        }
        if self.layer_windows.len() != self.n_layers {
            return Err(format!("{} layers have {} attention windows", self.n_layers, self.layer_windows.len()));
        }
        self.rope.check()
    }

    /// The ids that end what is generated: those of generation_config.json, or where it names none, of config.json.
    pub fn end_ids(&self) -> &[u32] {
        if self.generation.eos_ids.is_empty() { &self.eos_ids } else { &self.generation.eos_ids }
    }

    /// The config.json to write: `raw`, with every number of this struct on top. RoPE keeps the spelling that `raw`
    /// has, and gets both spellings where it has none, so that transformers 4 and 5 read the same.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = self.raw.clone();
        match self.head {
            Head::LanguageModel => {
                out.entry("architectures").or_insert_with(|| json!([self.family.architecture]));
            }
            Head::Score => {
                let name = self.family.architecture.replace("ForCausalLM", CLASSIFICATION);
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
        set("model_type", json!(self.family.name));
        set("vocab_size", json!(self.vocab_size));
        set("hidden_size", json!(self.hidden_size));
        set("intermediate_size", json!(self.intermediate_size));
        set("num_hidden_layers", json!(self.n_layers));
        set("num_attention_heads", json!(self.n_heads));
        set("num_key_value_heads", json!(self.n_kv_heads));
        let implied = self.family.head_size.is_none() && self.head_size * self.n_heads == self.hidden_size;
        if !implied || self.raw.is_empty() || self.raw.contains_key("head_dim") {
            set("head_dim", json!(self.head_size));
        }
        set("hidden_act", json!("silu"));
        set("rms_norm_eps", json!(self.rms_norm_eps));
        set("max_position_embeddings", json!(self.max_position_embeddings));
        set("tie_word_embeddings", json!(self.tie_word_embeddings));
        for (which, is) in [(self.family.qkv_bias, self.qkv_bias), (self.family.mlp_bias, self.mlp_bias)] {
            if let Biased::Key(key) = which {
                set(key, json!(is));
            }
        }
        for (key, scale) in self.scales.by_key(self.family.scales) {
            set(key, json!(scale));
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
        windows::to_json(self, &mut out);
        self.rope.to_json(&mut out);
        out
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

/// The ids of a key, or the family's default where it is absent; null means that there is none.
fn end_ids(fields: &Fields, key: &str, default: Option<u32>) -> Result<Vec<u32>> {
    match default {
        Some(default) if !fields.has(key) => Ok(vec![default]),
        _ => fields.ids(key),
    }
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
