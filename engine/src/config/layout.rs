//! Every tensor of a model, told once: its path, its name in GGUF files, its shape and what it is for.
//!
//! Building, loading, saving, adapters, what is trained, and what a step needs of memory and work all follow from
//! [`ModelConfig::slots`]. The order is that of the decoder's own walk over its parameters.
use super::family::{NormPlace, QkNorm};
use super::{Head, ModelConfig};

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A row for each token: [V, D].
    Embedding,
    /// The matrix of a linear layer inside a block: [out, in].
    Projection,
    /// What a linear layer adds: [out].
    Bias,
    /// What a norm multiplies by.
    Gain,
    /// The output layer: [V, D].
    Output,
    /// The head of a reward model: [1, D].
    Score,
    /// An adapter's A, [r, in].
    LoraA,
    /// An adapter's B, [out, r].
    LoraB,
    /// An embedding's A as it is looked up: [V, r], the transpose of what files hold.
    EmbeddingA,
    /// An embedding's B, [D, r].
    EmbeddingB,
    /// The length of each row of a weight, DoRA's m: [out]; of an embedding, that of each column: [D].
    Magnitude,
    /// Rows of an embedding or output layer that are trained by themselves: [k, D].
    TokenRows,
}

impl Role {
    /// Whether weight decay holds for it, as in transformers' Trainer: not for biases, not for norms.
    pub fn decays(self) -> bool {
        !matches!(self, Role::Bias | Role::Gain)
    }
    /// Whether it is a matrix, which may be held in few bits where it is not trained.
    pub fn is_matrix(self) -> bool {
        self.decays() && self != Role::Magnitude
    }
}

/// A place for a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its Hugging Face name: `model.layers.0.self_attn.q_proj.weight`.
    pub path: String,
    /// Its name in GGUF files: `blk.0.attn_q.weight`; None where they have none.
    pub gguf: Option<String>,
    /// Outermost dimension first; matrices are [out, in].
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The block that it belongs to; None outside of all.
    pub layer: Option<usize>,
    /// The size of a head, where the rows are heads that RoPE turns: queries and keys.
    pub turned: Option<usize>,
}

impl Slot {
    /// Number of elements.
    pub fn n(&self) -> usize {
        self.shape.iter().product()
    }
    /// The module that it belongs to: the path without its last part.
    pub fn module(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(module, _)| module)
    }
}

/// A module with a matrix: what an adapter can stand beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// That of its matrix.
    pub role: Role,
    /// Rows of its matrix: what a linear layer gives, or the vocabulary of an embedding.
    pub n_out: usize,
    /// Columns of its matrix.
    pub n_in: usize,
    /// The block that it belongs to; None outside of all.
    pub layer: Option<usize>,
}

/// The slots of a model while they are listed.
struct Slots {
    slots: Vec<Slot>,
    layer: Option<usize>,
}

impl Slots {
    /// `path` and `gguf` without what stands before a block's names.
    fn add(&mut self, path: &str, gguf: Option<&str>, shape: &[usize], role: Role) -> &mut Slot {
        let at = self.slots.len();
        let (hf, gg) = match self.layer {
            Some(n) => (format!("model.layers.{n}."), format!("blk.{n}.")),
            None => (String::new(), String::new()),
        };
        let (path, gguf) = (format!("{hf}{path}"), gguf.map(|name| format!("{gg}{name}")));
        self.slots.push(Slot { path, gguf, shape: shape.to_vec(), role, layer: self.layer, turned: None });
        &mut self.slots[at]
    }

    fn gain(&mut self, path: &str, gguf: &str, n: usize) {
        self.add(&format!("{path}.weight"), Some(&format!("{gguf}.weight")), &[n], Role::Gain);
    }

    /// A linear layer of `n_in` → `n_out`, with a bias or without.
    fn linear(&mut self, path: &str, gguf: &str, [n_out, n_in]: [usize; 2], bias: bool, turned: Option<usize>) {
        let mut part = |kind: &str, shape: &[usize], role| {
            self.add(&format!("{path}.{kind}"), Some(&format!("{gguf}.{kind}")), shape, role).turned = turned;
        };
        part("weight", &[n_out, n_in], Role::Projection);
        if bias {
            part("bias", &[n_out], Role::Bias);
        }
    }
}

/// The path of the output layer.
const OUTPUT: &str = "lm_head";
/// The name of a reward model's head.
pub const SCORE: &str = "score.weight";

impl ModelConfig {
    /// Every tensor such a model has.
    pub fn slots(&self) -> Vec<Slot> {
        let (v, d, f, e) = (self.vocab_size, self.hidden_size, self.intermediate_size, self.head_size);
        let (q, kv) = (self.n_heads * e, self.n_kv_heads * e);
        let mut list = Slots { slots: Vec::new(), layer: None };
        list.add("model.embed_tokens.weight", Some("token_embd.weight"), &[v, d], Role::Embedding);
        for layer in 0..self.n_layers {
            list.layer = Some(layer);
            let norms = self.family.norms;
            if norms == NormPlace::Before {
                list.gain("input_layernorm", "attn_norm", d);
            }
            list.linear("self_attn.q_proj", "attn_q", [q, d], self.qkv_bias, Some(e));
            list.linear("self_attn.k_proj", "attn_k", [kv, d], self.qkv_bias, Some(e));
            list.linear("self_attn.v_proj", "attn_v", [kv, d], self.qkv_bias, None);
            list.linear("self_attn.o_proj", "attn_output", [d, q], self.o_bias, None);
            let gains = match self.qk_norm {
                QkNorm::None => None,
                QkNorm::Head => Some([e, e]),
                QkNorm::All => Some([q, kv]),
            };
            if let Some([q, k]) = gains {
                list.gain("self_attn.q_norm", "attn_q_norm", q);
                list.gain("self_attn.k_norm", "attn_k_norm", k);
            }
            let behind_attention = if norms == NormPlace::Before { "ffn_norm" } else { "post_attention_norm" };
            list.gain("post_attention_layernorm", behind_attention, d);
            list.linear("mlp.gate_proj", "ffn_gate", [f, d], self.mlp_bias, None);
            list.linear("mlp.up_proj", "ffn_up", [f, d], self.mlp_bias, None);
            list.linear("mlp.down_proj", "ffn_down", [d, f], self.mlp_bias, None);
            if norms == NormPlace::After {
                list.gain("post_feedforward_layernorm", "post_ffw_norm", d);
            }
        }
        list.layer = None;
        list.gain("model.norm", "output_norm", d);
        match self.head {
            Head::Score => {
                list.add(SCORE, None, &[1, d], Role::Score);
            }
            Head::LanguageModel if !self.tie_word_embeddings => {
                list.add(&format!("{OUTPUT}.weight"), Some("output.weight"), &[v, d], Role::Output);
            }
            Head::LanguageModel => {}
        }
        list.slots
    }

    /// The same model with an output layer of its own.
    pub fn untied(&self) -> ModelConfig {
        ModelConfig { tie_word_embeddings: false, ..self.clone() }
    }

    /// Every module with a matrix: the embedding, the linear layers in their order, then the head. The output layer is
    /// there where it has no matrix of its own, too.
    pub fn modules(&self) -> Vec<Module> {
        let module = |slot: &Slot| match slot.shape[..] {
            [n_out, n_in] => {
                Some(Module { path: slot.module().to_string(), role: slot.role, n_out, n_in, layer: slot.layer })
            }
            _ => None,
        };
        let mut modules: Vec<Module> = self.slots().iter().filter_map(module).collect();
        if self.head == Head::LanguageModel && self.tie_word_embeddings {
            let (n_out, n_in) = (self.vocab_size, self.hidden_size);
            modules.push(Module { path: OUTPUT.to_string(), role: Role::Output, n_out, n_in, layer: None });
        }
        modules
    }

    /// Number of weights: (all, those in matrices). A tied output layer counts once.
    pub fn count_parameters(&self) -> (u64, u64) {
        let slots = self.slots();
        let count = |of: &dyn Fn(&Slot) -> bool| slots.iter().filter(|s| of(s)).map(|s| s.n() as u64).sum();
        (count(&|_| true), count(&|slot| slot.role.is_matrix()))
    }
}
