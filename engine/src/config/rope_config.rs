//! Rotary position embeddings in config.json: the base, and how frequencies are stretched for long texts.
use crate::config::fields::Fields;
use crate::error::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Rotary position embedding: head dimension pair i turns by position · theta^(−2i/E), then `scaling`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base θ.
    pub theta: f64,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched beyond the length a model was first trained at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Llama 3.1: wavelengths above `original / low_freq_factor` divided by `factor`, those below
    /// `original / high_freq_factor` kept, a blend between.
    Llama3 {
        /// By how much long waves are slowed.
        factor: f64,
        /// The longest wave that is kept in part, as a share of the original length.
        low_freq_factor: f64,
        /// The longest wave that is kept whole.
        high_freq_factor: f64,
        /// Tokens that the model was first trained at.
        original_max_position_embeddings: usize,
    },
}

impl Rope {
    /// Reads `rope_scaling`, `rope_parameters` and `rope_theta` of a config.json.
    pub(crate) fn parse(fields: &Fields, max_position_embeddings: usize) -> Result<Self> {
        // transformers 5 gives `rope_scaling` precedence when both are there.
        let object = match fields.object("rope_scaling")? {
            Some(o) => Some(o),
            None => fields.object("rope_parameters")?,
        };
        let empty = Map::new();
        let rope = Fields::new(object.unwrap_or(&empty), fields.source());
        let theta = match rope.number("rope_theta")? {
            Some(theta) => theta,
            None => fields.number("rope_theta")?.unwrap_or(10000.0),
        };
        let kind = match rope.text("rope_type")? {
            Some(kind) => kind,
            None => rope.text("type")?.unwrap_or("default"),
        };
        if let Some(part) = rope.number("partial_rotary_factor")?
            && part != 1.0
        {
            return Err(fields.unsupported(format!("partial_rotary_factor {part} is not supported; supported is 1")));
        }
        let scaling = match kind {
            "default" if object.is_some_and(|o| o.values().any(Value::is_object)) => {
                return Err(fields.unsupported("RoPE parameters that differ between layers are not supported"));
            }
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: rope.needed_number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: rope.needed_number("factor")?,
                low_freq_factor: rope.needed_number("low_freq_factor")?,
                high_freq_factor: rope.needed_number("high_freq_factor")?,
                original_max_position_embeddings: rope
                    .count("original_max_position_embeddings")?
                    .unwrap_or(max_position_embeddings),
            },
            other => {
                return Err(fields.unsupported(format!(
                    "RoPE of type \"{other}\" is not supported; supported are default, linear, llama3"
                )));
            }
        };
        Ok(Rope { theta, scaling })
    }

    /// Whether the numbers are possible; says which is not.
    pub fn check(&self) -> std::result::Result<(), String> {
        let positive = |name: &str, x: f64| {
            if x > 0.0 && x.is_finite() { Ok(()) } else { Err(format!("RoPE's {name} is {x}; above 0 is needed")) }
        };
        positive("rope_theta", self.theta)?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                positive("factor", factor)?;
                positive("low_freq_factor", low_freq_factor)?;
                positive("high_freq_factor", high_freq_factor)?;
                positive("original_max_position_embeddings", original_max_position_embeddings as f64)?;
                if high_freq_factor <= low_freq_factor {
                    return Err(format!(
                        "RoPE's high_freq_factor {high_freq_factor} is not above its low_freq_factor {low_freq_factor}"
                    ));
                }
                Ok(())
            }
        }
    }

    /// The transformers 5 object: type, theta and what the type needs.
    fn parameters(&self) -> Map<String, Value> {
        let mut p = Map::new();
        let kind = match self.scaling {
            RopeScaling::None => "default",
            RopeScaling::Linear { factor } => {
                p.insert("factor".to_string(), json!(factor));
                "linear"
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                p.insert("factor".to_string(), json!(factor));
                p.insert("low_freq_factor".to_string(), json!(low_freq_factor));
                p.insert("high_freq_factor".to_string(), json!(high_freq_factor));
                let original = json!(original_max_position_embeddings);
                p.insert("original_max_position_embeddings".to_string(), original);
                "llama3"
            }
        };
        p.insert("rope_theta".to_string(), json!(self.theta));
        p.insert("rope_type".to_string(), json!(kind));
        p
    }

    /// Writes both spellings into a config.json, unless it says the same already.
    pub fn to_json(self, out: &mut Map<String, Value>) {
        let fields = Fields::new(out, Path::new(""));
        let max_position_embeddings = fields.count("max_position_embeddings").ok().flatten().unwrap_or(0);
        let spelled = ["rope_theta", "rope_scaling", "rope_parameters"].iter().any(|k| fields.has(k));
        if spelled && Rope::parse(&fields, max_position_embeddings).is_ok_and(|rope| rope == self) {
            return;
        }
        let mut parameters = self.parameters();
        out.insert("rope_parameters".to_string(), Value::Object(parameters.clone()));
        out.insert("rope_theta".to_string(), json!(self.theta));
        parameters.remove("rope_theta");
        let scaled = self.scaling != RopeScaling::None;
        out.insert("rope_scaling".to_string(), if scaled { Value::Object(parameters) } else { Value::Null });
    }
}
