//! The tokenizer that a GGUF file carries in its metadata, as it stands there.

/// `tokenizer.ggml.*` and `tokenizer.chat_template` of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`: "gpt2" (byte-level BPE) or "llama" (SentencePiece).
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer, for instance "smollm", "llama-bpe", "qwen2".
    pub pre: String,
    /// `tokenizer.ggml.tokens`: the text of each id, as the vocabulary spells it.
    pub tokens: Vec<String>,
    /// BPE merges, "left right"; empty for SentencePiece.
    pub merges: Vec<String>,
    /// SentencePiece scores; empty for BPE.
    pub scores: Vec<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// The id that begins a text.
    pub bos_id: Option<u32>,
    /// The id that ends a text.
    pub eos_id: Option<u32>,
    /// The id that ends a turn, where that is not `eos_id`.
    pub eot_id: Option<u32>,
    /// The id that ends a message of several in a turn.
    pub eom_id: Option<u32>,
    /// The id that fills rows up where a program pads.
    pub pad_id: Option<u32>,
    /// The id for what no other token spells.
    pub unknown_id: Option<u32>,
    /// Whether an encoded text gets `bos_id` in front.
    pub add_bos: bool,
    /// Whether an encoded text gets `eos_id` behind.
    pub add_eos: bool,
    /// Whether a text is encoded as if a blank stood before it (SentencePiece).
    pub add_space_prefix: bool,
    /// `tokenizer.chat_template`, Jinja.
    pub chat_template: Option<String>,
    /// `tokenizer.chat_template.NAME`: further templates by name, for instance "tool_use".
    pub named_templates: Vec<(String, String)>,
}
