//! The families of models, one row each: what a row can say is what the decoder can do.
use crate::error::{Error, Result};
use std::path::Path;

/// Whether a kind of linear layers adds a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biased {
    /// It has none.
    Never,
    /// It has one.
    Always,
    /// As this key of config.json says; without it not.
    Key(&'static str),
}

/// Which layers attend within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None of them.
    None,
    /// All, as `sliding_window` says.
    All,
    /// Where `use_sliding_window` is on, those that `layer_types` or `max_window_layers` names.
    Switched,
}

/// Keys of config.json with factors on what flows through a model; None where a family has no such factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleKeys {
    /// Multiplies the embeddings.
    pub embedding: Option<&'static str>,
    /// Multiplies q·k in the place of 1/√E.
    pub attention: Option<&'static str>,
    /// Multiplies what attention and the feed-forward network add to the residual stream.
    pub residual: Option<&'static str>,
    /// Divides the logits.
    pub logits: Option<&'static str>,
}

/// A family of models. All share one decoder.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// `model_type` in config.json.
    pub name: &'static str,
    /// The entry of `architectures` in config.json.
    pub architecture: &'static str,
    /// `general.architecture` in GGUF files. A family that calls itself otherwise is told by its name or its windows.
    pub gguf: &'static str,
    /// Whether GGUF files have the two halves of each query and key head interleaved: llama.cpp's RoPE turns neighbours.
    pub gguf_interleaves: bool,
    /// Biases of the query, key and value projections.
    pub qkv_bias: Biased,
    /// That of the projection behind attention.
    pub o_bias: Biased,
    /// Those of the feed-forward network.
    pub mlp_bias: Biased,
    /// RMSNorm over each query and key head before RoPE.
    pub qk_norm: bool,
    /// Which layers attend within a window.
    pub windows: Windows,
    /// Factors that config.json gives; 1 where the key is absent.
    pub scales: ScaleKeys,
    /// K where `num_key_value_heads` is absent; None: as many as query heads.
    pub kv_heads: Option<usize>,
    /// E where `head_dim` is absent; None: D / H.
    pub head_size: Option<usize>,
    /// BOS and EOS where their keys are absent.
    pub end_ids: Option<[u32; 2]>,
}

/// The row that the others differ from.
const LLAMA: Family = Family {
    name: "llama",
    architecture: "LlamaForCausalLM",
    gguf: "llama",
    gguf_interleaves: true,
    qkv_bias: Biased::Key("attention_bias"),
    o_bias: Biased::Key("attention_bias"),
    mlp_bias: Biased::Key("mlp_bias"),
    qk_norm: false,
    windows: Windows::None,
    scales: ScaleKeys { embedding: None, attention: None, residual: None, logits: None },
    kv_heads: None,
    head_size: None,
    end_ids: Some([1, 2]),
};

/// Every family there is. Defaults are those of the configuration classes of transformers 5.
pub static FAMILIES: [Family; 5] = [
    LLAMA,
    Family {
        name: "mistral",
        architecture: "MistralForCausalLM",
        qkv_bias: Biased::Never,
        o_bias: Biased::Never,
        mlp_bias: Biased::Never,
        windows: Windows::All,
        kv_heads: Some(8),
        ..LLAMA
    },
    Family {
        name: "qwen2",
        architecture: "Qwen2ForCausalLM",
        gguf: "qwen2",
        gguf_interleaves: false,
        qkv_bias: Biased::Always,
        o_bias: Biased::Never,
        mlp_bias: Biased::Never,
        windows: Windows::Switched,
        kv_heads: Some(32),
        end_ids: None,
        ..LLAMA
    },
    Family {
        name: "qwen3",
        architecture: "Qwen3ForCausalLM",
        gguf: "qwen3",
        gguf_interleaves: false,
        mlp_bias: Biased::Never,
        qk_norm: true,
        windows: Windows::Switched,
        kv_heads: Some(32),
        head_size: Some(128),
        end_ids: None,
        ..LLAMA
    },
    Family {
        name: "granite",
        architecture: "GraniteForCausalLM",
        gguf: "granite",
        scales: ScaleKeys {
            embedding: Some("embedding_multiplier"),
            attention: Some("attention_multiplier"),
            residual: Some("residual_multiplier"),
            logits: Some("logits_scaling"),
        },
        ..LLAMA
    },
];

impl Family {
    /// The family called `name`; the error lists those supported.
    pub fn from_name(name: &str, source: &Path) -> Result<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| Family::unknown(name, source))
    }

    /// The error for a family that is not in the table.
    pub(crate) fn unknown(name: &str, source: &Path) -> Error {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        Error::Unsupported(format!(
            "{}: model family \"{name}\" is not supported; supported are {}",
            source.display(),
            known.join(", ")
        ))
    }
}
