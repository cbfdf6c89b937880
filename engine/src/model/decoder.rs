//! The decoder-only transformer, parametric in everything that families differ in.
//!
//! ```text
//! x₀ = embed[tokens]
//! x  ← x + W_o · attention(rope(q), rope(k), v),    q, k, v = W_{q,k,v} · rms_norm(x)
//! x  ← x + W_down · swiglu(W_gate · n, W_up · n),   n = rms_norm(x)
//! logits = W_head · rms_norm(x)
//! ```
use super::cache::{KvCache, LayerCache};
use super::config::{Head, ModelConfig, SCORE};
use super::linear::{DropoutKey, Linear};
use super::rope::inverse_frequencies;
use crate::backend::{AttentionShape, Device, Layout, Product, RowIndex};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::forest::{AttentionPlan, Forest};
use crate::ops::{self, RopeTable, Scored};
use crate::tape::Tape;
use crate::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// One layer.
#[derive(Clone, Debug)]
pub struct Block {
    pub input_norm: Tensor,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Norms of each head's query and key (Qwen3): [E].
    pub q_norm: Option<Tensor>,
    pub k_norm: Option<Tensor>,
    pub post_norm: Tensor,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    shape: AttentionShape,
    epsilon: f32,
}

#[derive(Clone)]
pub struct Decoder {
    pub config: Arc<ModelConfig>,
    pub device: Device,
    /// [V, D]; also the head when `head` is None.
    pub embed: Tensor,
    pub blocks: Vec<Block>,
    pub norm: Tensor,
    /// [V, D], where it is not tied to the embedding.
    pub head: Option<Tensor>,
    /// [1, D] of a reward model, which has no other head.
    pub score: Option<Tensor>,
    rope: Arc<Mutex<Option<RopeTable>>>,
}

/// How a pass is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Keep only each block's input and compute the block again in the backward.
    pub checkpointing: bool,
    /// Drop inputs of LoRA layers (training); None leaves all.
    pub dropout: Option<DropoutKey>,
}

/// The residual stream between layers: x, and what the layer before gives to it, which the next norm adds as it reads.
struct Residual {
    x: Tensor,
    rest: Option<Tensor>,
}

impl Residual {
    fn of(x: Tensor) -> Self {
        Residual { x, rest: None }
    }

    fn needs_grad(&self) -> bool {
        self.x.needs_grad() || self.rest.as_ref().is_some_and(Tensor::needs_grad)
    }

    /// (x + rest, its norm): [T, D] both.
    fn normed(self, w: &Tensor, epsilon: f32) -> Result<(Tensor, Tensor)> {
        match self.rest {
            Some(rest) => ops::add_rms_norm(&self.x, rest, w, epsilon),
            None => {
                let n = ops::rms_norm(&self.x, w, epsilon)?;
                Ok((self.x, n))
            }
        }
    }

    /// x + rest: [T, D].
    fn sum(self) -> Result<Tensor> {
        match self.rest {
            Some(rest) => ops::add(&self.x, &rest),
            None => Ok(self.x),
        }
    }
}

/// What all blocks of a pass share.
#[derive(Clone)]
struct Stream {
    plan: Arc<AttentionPlan>,
    positions: Buffer,
    rope: RopeTable,
    dropout: Option<DropoutKey>,
}

impl Block {
    /// x [T, D] → [T, D]; with a cache, keys and values are stored in its rows `rows` and read from it.
    fn forward(&self, x: Residual, stream: &Stream, cache: Option<(&mut LayerCache, &RowIndex)>) -> Result<Residual> {
        let (x, n) = x.normed(&self.input_norm, self.epsilon)?;
        let (t, s) = (x.matrix().0, &self.shape);
        let heads = |layer: &Linear, count: usize| layer.forward(&n, stream.dropout)?.reshape(&[t, count, s.head_size]);
        let normed = |y: Tensor, norm: &Option<Tensor>| match norm {
            Some(w) => ops::rms_norm(&y, w, self.epsilon),
            None => Ok(y),
        };
        let q = ops::rope(&normed(heads(&self.q, s.n_heads)?, &self.q_norm)?, &stream.rope, &stream.positions)?;
        let k = ops::rope(&normed(heads(&self.k, s.n_kv_heads)?, &self.k_norm)?, &stream.rope, &stream.positions)?;
        let v = heads(&self.v, s.n_kv_heads)?;
        drop(n);
        let o = match cache {
            None => ops::attention(self.shape, &stream.plan, &q, &k, &v)?,
            Some((layer, rows)) => {
                layer.write(&k, &v, rows)?;
                ops::attention(self.shape, &stream.plan, &q, &layer.k, &layer.v)?
            }
        };
        let o = o.reshape(&[t, s.n_heads * s.head_size])?;
        let rest = Some(self.o.forward(&o, stream.dropout)?);
        let (x, n) = Residual { x, rest }.normed(&self.post_norm, self.epsilon)?;
        let (gate, up) = (self.gate.forward(&n, stream.dropout)?, self.up.forward(&n, stream.dropout)?);
        let act = ops::swiglu(&gate, &up)?;
        Ok(Residual { x, rest: Some(self.down.forward(&act, stream.dropout)?) })
    }

    /// Every tensor of the block with its Hugging Face name below `model.layers.N.`, in a fixed order.
    fn tensors_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut all = vec![("input_layernorm.weight".to_string(), &mut self.input_norm)];
        self.q.tensors_mut("self_attn.q_proj", &mut all);
        self.k.tensors_mut("self_attn.k_proj", &mut all);
        self.v.tensors_mut("self_attn.v_proj", &mut all);
        self.o.tensors_mut("self_attn.o_proj", &mut all);
        for (name, norm) in [("q", &mut self.q_norm), ("k", &mut self.k_norm)] {
            if let Some(norm) = norm {
                all.push((format!("self_attn.{name}_norm.weight"), norm));
            }
        }
        all.push(("post_attention_layernorm.weight".to_string(), &mut self.post_norm));
        self.gate.tensors_mut("mlp.gate_proj", &mut all);
        self.up.tensors_mut("mlp.up_proj", &mut all);
        self.down.tensors_mut("mlp.down_proj", &mut all);
        all
    }

    /// The linear layers by their name in adapters.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("self_attn.q_proj", &mut self.q),
            ("self_attn.k_proj", &mut self.k),
            ("self_attn.v_proj", &mut self.v),
            ("self_attn.o_proj", &mut self.o),
            ("mlp.gate_proj", &mut self.gate),
            ("mlp.up_proj", &mut self.up),
            ("mlp.down_proj", &mut self.down),
        ]
    }

    /// [`Block::forward`] that keeps only its input: see [`ops::checkpoint`].
    fn checkpointed(&self, x: &Tensor, stream: &Stream) -> Result<Tensor> {
        let mut template = self.clone();
        let mut inputs = vec![x.clone()];
        inputs.extend(template.tensors_mut().into_iter().map(|(_, t)| t.clone()));
        for (_, tensor) in template.tensors_mut() {
            *tensor = tensor.detach();
        }
        let stream = stream.clone();
        ops::checkpoint(&inputs, move |inputs| {
            let mut block = template.clone();
            for ((_, slot), tensor) in block.tensors_mut().into_iter().zip(&inputs[1..]) {
                *slot = tensor.clone();
            }
            block.forward(Residual::of(inputs[0].clone()), &stream, None)?.sum()
        })
    }
}

impl Decoder {
    /// A decoder of `config` whose tensors come from `tensor(name, shape)`, Hugging Face names.
    pub fn build(
        config: ModelConfig,
        device: &Device,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<Tensor>,
    ) -> Result<Self> {
        let c = &config;
        let (d, e) = (c.hidden_size, c.head_size);
        let mut blocks = Vec::with_capacity(c.n_layers);
        for layer in 0..c.n_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let mut linear = |part: &str, out: usize, inner: usize, bias: bool| -> Result<Linear> {
                let weight = tensor(&name(&format!("{part}.weight")), &[out, inner])?;
                let bias = if bias { Some(tensor(&name(&format!("{part}.bias")), &[out])?) } else { None };
                Ok(Linear { weight, bias, lora: None })
            };
            let (q, k) = (
                linear("self_attn.q_proj", c.n_heads * e, d, c.qkv_bias)?,
                linear("self_attn.k_proj", c.n_kv_heads * e, d, c.qkv_bias)?,
            );
            let v = linear("self_attn.v_proj", c.n_kv_heads * e, d, c.qkv_bias)?;
            let o = linear("self_attn.o_proj", d, c.n_heads * e, c.o_bias)?;
            let gate = linear("mlp.gate_proj", c.intermediate_size, d, c.mlp_bias)?;
            let up = linear("mlp.up_proj", c.intermediate_size, d, c.mlp_bias)?;
            let down = linear("mlp.down_proj", d, c.intermediate_size, c.mlp_bias)?;
            let mut head_norm = |part: &str| -> Result<Option<Tensor>> {
                if c.qk_norm { Ok(Some(tensor(&name(part), &[e])?)) } else { Ok(None) }
            };
            let (q_norm, k_norm) = (head_norm("self_attn.q_norm.weight")?, head_norm("self_attn.k_norm.weight")?);
            let shape = AttentionShape {
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                head_size: e,
                scale: 1.0 / (e as f32).sqrt(),
                window: c.layer_windows.get(layer).copied().flatten().unwrap_or(usize::MAX),
            };
            let input_norm = tensor(&name("input_layernorm.weight"), &[d])?;
            let post_norm = tensor(&name("post_attention_layernorm.weight"), &[d])?;
            let epsilon = c.rms_norm_eps as f32;
            blocks.push(Block { input_norm, q, k, v, o, q_norm, k_norm, post_norm, gate, up, down, shape, epsilon });
        }
        let embed = tensor("model.embed_tokens.weight", &[c.vocab_size, d])?;
        let norm = tensor("model.norm.weight", &[d])?;
        let (mut head, mut score) = (None, None);
        match c.head {
            Head::Score => score = Some(tensor(SCORE, &[1, d])?),
            Head::LanguageModel if !c.tie_word_embeddings => head = Some(tensor("lm_head.weight", &[c.vocab_size, d])?),
            Head::LanguageModel => {}
        }
        let (config, device) = (Arc::new(config), device.clone());
        Ok(Decoder { config, device, embed, blocks, norm, head, score, rope: Arc::default() })
    }

    /// Every tensor with its Hugging Face name, in a fixed order.
    pub fn tensors_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut all = vec![("model.embed_tokens.weight".to_string(), &mut self.embed)];
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            all.extend(block.tensors_mut().into_iter().map(|(n, t)| (format!("model.layers.{layer}.{n}"), t)));
        }
        all.push(("model.norm.weight".to_string(), &mut self.norm));
        if let Some(head) = &mut self.head {
            all.push(("lm_head.weight".to_string(), head));
        }
        if let Some(score) = &mut self.score {
            all.push((SCORE.to_string(), score));
        }
        all
    }

    /// The tensors that training changes: those of the adapter and a reward model's head if there is an adapter, else
    /// all.
    pub fn trainable_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let adapted = self.has_adapter();
        self.tensors_mut()
            .into_iter()
            .filter(|(name, _)| !adapted || name.contains(".lora_") || name == SCORE)
            .collect()
    }

    pub fn has_adapter(&self) -> bool {
        let mut probe = self.blocks.clone();
        probe.iter_mut().any(|b| b.linears_mut().iter().any(|(_, l)| l.lora.is_some()))
    }

    /// The same model with its trainable tensors on `tape`.
    pub fn watch(&self, tape: &Tape) -> Decoder {
        let mut watched = self.clone();
        for (_, tensor) in watched.trainable_mut() {
            *tensor = tape.watch(tensor);
        }
        watched
    }

    /// Cosines and sines for positions below `n`, kept for the next pass.
    fn rope_table(&self, n: usize) -> Result<RopeTable> {
        let mut kept = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept.as_ref().filter(|t| t.cos_sin.shape()[0] >= n) {
            return Ok(table.clone());
        }
        let table = RopeTable::new(&self.device, &inverse_frequencies(&self.config), n.next_power_of_two().max(256))?;
        *kept = Some(table.clone());
        Ok(table)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().find(|&&t| t as usize >= self.config.vocab_size) {
            None => Ok(()),
            Some(t) => Err(Error::Input(format!(
                "token {t} is not in the model's vocabulary of {}: the tokenizer does not fit the model",
                self.config.vocab_size
            ))),
        }
    }

    /// Hidden states before the final norm: [T, D], one row a token of the forest.
    pub fn hidden(&self, forest: &Forest, pass: Pass) -> Result<Tensor> {
        self.check_tokens(&forest.tokens)?;
        let positions = forest.positions();
        let stream = Stream {
            plan: Arc::new(forest.attention_plan()),
            rope: self.rope_table(positions.iter().max().map_or(0, |&p| p as usize + 1))?,
            positions: self.device.upload(Host::U32(positions))?,
            dropout: pass.dropout,
        };
        let index = Arc::new(RowIndex::new(&*self.device, &forest.tokens)?);
        let mut x = Residual::of(ops::gather_rows(&self.embed, &index)?);
        for block in &self.blocks {
            let on_tape = x.needs_grad() || block.q.lora.is_some() || self.embed.needs_grad();
            x = if pass.checkpointing && on_tape {
                Residual::of(block.checkpointed(&x.sum()?, &stream)?)
            } else {
                block.forward(x, &stream, None)?
            };
        }
        x.sum()
    }

    /// Hidden states of new tokens whose keys and values go to (and come from) the cache: [T, D].
    /// `rows[i]` is the cache row of token i, `plan` says which cache rows it sees; no gradient.
    pub fn hidden_cached(
        &self,
        tokens: &[u32],
        positions: &[u32],
        rows: &[u32],
        plan: AttentionPlan,
        cache: &mut KvCache,
    ) -> Result<Tensor> {
        self.check_tokens(tokens)?;
        if tokens.len() != positions.len() || tokens.len() != rows.len() || plan.n_queries() != tokens.len() {
            let detail = format!(
                "{} tokens, {} positions, {} rows, {} queries",
                tokens.len(),
                positions.len(),
                rows.len(),
                plan.n_queries()
            );
            return Err(Error::shape("hidden_cached", detail));
        }
        if let Some(row) = rows.iter().find(|&&r| r as usize >= cache.n_rows) {
            return Err(Error::shape("hidden_cached", format!("row {row} in a cache of {} rows", cache.n_rows)));
        }
        let stream = Stream {
            plan: Arc::new(plan),
            rope: self.rope_table(positions.iter().max().map_or(0, |&p| p as usize + 1))?,
            positions: self.device.upload(Host::U32(positions.to_vec()))?,
            dropout: None,
        };
        let index = RowIndex::new(&*self.device, rows)?;
        let mut x = Residual::of(ops::gather_rows(&self.embed, &Arc::new(RowIndex::new(&*self.device, tokens)?))?);
        for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.forward(x, &stream, Some((layer, &index)))?;
        }
        x.sum()
    }

    /// The same model for generation: every weight as the device likes to read it for few rows (on the CPU a second copy of
    /// them). The same bits, no gradient; not to be saved.
    pub fn for_generation(&self) -> Result<Decoder> {
        let device = &self.device;
        let pack = |w: &Tensor| -> Result<Tensor> {
            let (n, k) = w.matrix();
            Ok(Tensor::from_buffer(device, device.pack_weight(w.buffer(), n, k)?, w.shape()))
        };
        let mut model = self.without_gradient();
        for (_, linear) in model.blocks.iter_mut().flat_map(Block::linears_mut) {
            linear.weight = pack(&linear.weight)?;
            if let Some(lora) = &mut linear.lora {
                (lora.a, lora.b) = (pack(&lora.a)?, pack(&lora.b)?);
            }
        }
        model.head = Some(pack(self.head_weight())?);
        Ok(model)
    }

    fn head_weight(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    fn normed_rows(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let index = Arc::new(RowIndex::new(&*self.device, rows)?);
        ops::rms_norm(&ops::gather_rows(hidden, &index)?, &self.norm, self.config.rms_norm_eps as f32)
    }

    /// What the model says about target i at row `rows[i]` of the hidden states: only rows that predict reach the head.
    pub fn score(&self, hidden: &Tensor, rows: &[u32], targets: &[u32], temperature: f32) -> Result<Scored> {
        ops::lm_head(&self.normed_rows(hidden, rows)?, self.head_weight(), targets, temperature)
    }

    /// Logits of some rows divided by `temperature`: [N, V]. The same product as [`Decoder::score`]'s, bit for bit.
    pub fn logits_at(&self, hidden: &Tensor, rows: &[u32], temperature: f32) -> Result<Tensor> {
        let (h, w) = (self.normed_rows(hidden, rows)?, self.head_weight());
        let ((m, k), (n, _)) = (h.matrix(), w.matrix());
        let product = Product { layout: Layout::NT, m, n, k, alpha: 1.0 / temperature };
        let z = self.device.matmul(product, h.buffer(), w.buffer(), None)?;
        Ok(Tensor::from_buffer(&self.device, z, &[m, n]))
    }

    /// A reward model's number for each of some rows: [N]. y = w · rms_norm(h).
    pub fn rewards(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let Some(score) = &self.score else {
            return Err(Error::Unsupported(
                "the model has no score.weight: it is a language model, no reward model".into(),
            ));
        };
        ops::linear(&self.normed_rows(hidden, rows)?, score, None)?.reshape(&[rows.len()])
    }

    /// The mean logit of some rows over the vocabulary, a metric without a gradient: [N].
    /// (1/V) Σᵥ h·wᵥ = h · (1/V) Σᵥ wᵥ: the logits themselves are not needed.
    pub fn mean_logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let head = self.head_weight().detach();
        let (v, d) = head.matrix();
        let ones = Tensor::from_f32(&self.device, vec![1.0 / v as f32; v], &[1, v])?;
        let product = Product { layout: Layout::NN, m: 1, n: d, k: v, alpha: 1.0 };
        let mean = self.device.matmul(product, ones.buffer(), head.buffer(), None)?;
        let mean = Tensor::from_buffer(&self.device, mean, &[1, d]);
        ops::linear(&self.without_gradient().normed_rows(&hidden.detach(), rows)?, &mean, None)?.reshape(&[rows.len()])
    }

    /// The same model off every tape.
    pub fn without_gradient(&self) -> Decoder {
        let mut model = self.clone();
        for (_, tensor) in model.tensors_mut() {
            *tensor = tensor.detach();
        }
        model
    }

    /// All logits of some rows: [N, V]. For sampling and for tests; training uses [`Decoder::score`].
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> Result<Tensor> {
        ops::linear(&self.normed_rows(hidden, rows)?, self.head_weight(), None)
    }
}
