//! A model's `generation_config.json`: the ids that end a text, and how its makers draw from it.
use super::fields::Fields;
use crate::error::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What generation_config.json says; empty where there is no such file. Every field may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// The ids that end a text. Where there are some, they go before those of config.json.
    pub eos_ids: Vec<u32>,
    /// Whether tokens are drawn at random; false: always the likeliest.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Only this many likeliest tokens; 0 for all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities add up to this.
    pub top_p: Option<f64>,
    /// Only tokens at least this share as likely as the likeliest.
    pub min_p: Option<f64>,
    /// Divides positive logits (multiplies negative ones) of tokens that occurred already.
    pub repetition_penalty: Option<f64>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// The file as it was read.
    pub raw: Map<String, Value>,
}

/// Fields that say where the file comes from, or what is told elsewhere too.
const ABOUT: [&str; 6] =
    ["transformers_version", "_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache"];
/// How tokens are drawn: read by commands that draw for people.
pub const DRAWING: [&str; 7] =
    ["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens"];

impl GenerationConfig {
    /// Parses the object of a generation_config.json; `source` is the file that errors name.
    pub fn from_json(raw: Map<String, Value>, source: &Path) -> Result<Self> {
        let fields = Fields::new(&raw, source);
        let within = |key: &str, min: f64, max: f64| -> Result<Option<f64>> {
            match fields.number(key)? {
                Some(x) if !(min..=max).contains(&x) => {
                    Err(fields.error(format!("`{key}` is {x}; {min} to {max} is possible")))
                }
                x => Ok(x),
            }
        };
        Ok(GenerationConfig {
            eos_ids: fields.ids("eos_token_id")?,
            do_sample: fields.flag("do_sample")?,
            temperature: within("temperature", 0.0, 1e9)?,
            top_k: fields.count("top_k")?,
            // 0 stands for "all" in some files, as 1 does in others.
            top_p: within("top_p", 0.0, 1.0)?.map(|p| if p == 0.0 { 1.0 } else { p }),
            min_p: within("min_p", 0.0, 1.0)?,
            repetition_penalty: within("repetition_penalty", f64::MIN_POSITIVE, 1e9)?,
            max_new_tokens: fields.count("max_new_tokens")?.filter(|n| *n > 0),
            raw,
        })
    }

    /// The fields that are not used although they say something, `drawing` of them excepted.
    pub fn not_used(&self, drawing: bool) -> Vec<&str> {
        let said = |(name, value): (&'_ String, &Value)| {
            let known = ABOUT.contains(&name.as_str()) || (drawing && DRAWING.contains(&name.as_str()));
            !known && !is_neutral(name, value)
        };
        self.raw.iter().filter(|(name, value)| said((name, value))).map(|(name, _)| name.as_str()).collect()
    }

    /// The fields that say how tokens are drawn, if there are any.
    pub fn drawing_fields(&self) -> Vec<&str> {
        let said = |name: &&str| self.raw.get(*name).is_some_and(|value| !value.is_null());
        DRAWING.into_iter().filter(said).collect()
    }

    /// The file to write beside a model with these ids: what was there, and the ids that it did not name.
    pub fn to_json(&self, config: &Map<String, Value>) -> Map<String, Value> {
        let mut out = self.raw.clone();
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            if let Some(id) = config.get(key).filter(|id| !id.is_null() && out.get(key).is_none_or(Value::is_null)) {
                out.insert(key.to_string(), id.clone());
            }
        }
        out
    }
}

/// Whether a field has the value that changes nothing (transformers' `GenerationConfig`).
fn is_neutral(name: &str, value: &Value) -> bool {
    let is = |neutral: f64| value.as_f64() == Some(neutral);
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => match name {
            "num_beams"
            | "num_beam_groups"
            | "typical_p"
            | "length_penalty"
            | "num_return_sequences"
            | "encoder_repetition_penalty" => is(1.0),
            "epsilon_cutoff"
            | "eta_cutoff"
            | "diversity_penalty"
            | "no_repeat_ngram_size"
            | "encoder_no_repeat_ngram_size"
            | "min_length"
            | "min_new_tokens" => is(0.0),
            _ => *value == json!(""),
        },
    }
}
