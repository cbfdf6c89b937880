//! The tokenizer that a GGUF file carries in its metadata, as it stands there.

/// `tokenizer.ggml.*` and `tokenizer.chat_template` of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`: "gpt2" (byte-level BPE) or "llama" (SentencePiece).
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer, for instance "smollm", "llama-bpe", "qwen2".
    pub pre: String,
    pub tokens: Vec<String>,
    /// BPE merges, "left right"; empty for SentencePiece.
    pub merges: Vec<String>,
    /// SentencePiece scores; empty for BPE.
    pub scores: Vec<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    pub bos_id: Option<u32>,
    pub eos_id: Option<u32>,
    pub pad_id: Option<u32>,
    pub unknown_id: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_space_prefix: bool,
    pub chat_template: Option<String>,
}
