//! A small llama with a token per letter and random weights, made on the spot: what quickstart, tests and examples train.
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use engine::backend::Device;
use engine::config::ModelConfig;
use engine::dtype::DType;
use engine::files::vocabulary::Vocabulary;
use engine::model::decoder::Decoder;
use serde_json::{Value, json};
use std::path::Path;

/// Tokens that it can see.
const CONTEXT: usize = 64;

/// How large it is, and how its weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// D
    pub hidden_size: usize,
    /// F
    pub intermediate_size: usize,
    /// L
    pub n_layers: usize,
    /// H, as many key/value heads.
    pub n_heads: usize,
    /// Standard deviation of the weights.
    pub std: f32,
}

impl Shape {
    /// 30 thousand weights: learns a rule about letters in seconds.
    pub const TINY: Shape = Shape { hidden_size: 32, intermediate_size: 64, n_layers: 2, n_heads: 2, std: 0.1 };
    /// 0.1 million weights: sorts or reverses a few letters.
    pub const SMALL: Shape = Shape { hidden_size: 64, intermediate_size: 192, n_layers: 2, n_heads: 4, std: 0.06 };
    /// 0.6 million weights: sorts six digits.
    pub const LARGER: Shape = Shape { hidden_size: 128, intermediate_size: 384, n_layers: 3, n_heads: 4, std: 0.04 };
}

/// A vocabulary of one end token (id 0), the blank and the 94 visible characters of ASCII, without merges.
fn letters() -> Vocabulary {
    let mut tokens: Vec<String> = vec!["<|end|>".into(), "Ġ".into()];
    tokens.extend((33u8..127).map(|c| char::from(c).to_string()));
    Vocabulary {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        token_types: tokens.iter().map(|t| if t.starts_with("<|") { 3 } else { 1 }).collect(),
        eos_id: Some(0),
        bos_id: Some(0),
        tokens,
        ..Default::default()
    }
}

/// Writes the model and its tokenizer into `dir`, a Hugging Face directory; the same seed gives the same weights.
pub fn make(dir: &Path, shape: Shape, device: &Device, seed: u64) -> Result<()> {
    let vocabulary = letters();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary.tokens.len(),
        "hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads, "num_key_value_heads": shape.n_heads,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0,
    });
    let Value::Object(config) = config else { return Err(Error::internal("the small model's configuration")) };
    let config = ModelConfig::from_json(config, &dir.join("config.json"))?;
    Decoder::random(config, device, shape.std, seed)?.save(dir, DType::F32)?;
    Tokenizer::from_vocabulary(&vocabulary, dir)?.save(dir)
}
