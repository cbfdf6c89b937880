//! The decoder-only transformer, parametric in everything that families differ in.
//!
//! ```text
//! x₀ = embed[tokens]
//! x  ← block(x), layer by layer
//! logits = W_head · rms_norm(x)
//! ```
use super::block::{Block, Context, Residual, scaled};
use super::cache::KvCache;
use super::dora;
use super::linear::{DropoutKey, Linear, Lora};
use super::neftune::EmbeddingNoise;
use super::parameter::{Parameter, Parts, Walk, walk};
use super::rope::inverse_frequencies;
use super::token_rows::TokenRows;
use crate::backend::{Device, RowIndex};
use crate::buffer::Host;
use crate::config::{ModelConfig, SCORE, Slot};
use crate::error::{Error, Result};
use crate::forest::{AttentionPlan, Forest};
use crate::ops::{self, RopeTable};
use crate::tape::Tape;
use crate::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// A model on a device.
#[derive(Clone)]
pub struct Decoder {
    /// What it is made of.
    pub config: Arc<ModelConfig>,
    /// Where its tensors lie.
    pub device: Device,
    /// [V, D]; also the head when `head` is None.
    pub embed: Parameter,
    /// An adapter beside the embedding.
    pub embed_lora: Option<Lora>,
    /// Rows of the embedding that are trained by themselves.
    pub embed_tokens: Option<TokenRows>,
    /// The layers, first to last.
    pub blocks: Vec<Block>,
    /// Gain of the last norm: [D].
    pub norm: Parameter,
    /// [V, D], where it is not tied to the embedding.
    pub head: Option<Parameter>,
    /// An adapter beside the output layer, tied or not.
    pub head_lora: Option<Lora>,
    /// Rows of the output layer that are trained by themselves and are not those of the embedding.
    pub head_tokens: Option<TokenRows>,
    /// [1, D] of a reward model, which has no other head.
    pub score: Option<Parameter>,
    rope: Arc<Mutex<Option<RopeTable>>>,
}

/// How a pass is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Keep only each block's input and compute the block again in the backward.
    pub checkpointing: bool,
    /// Drop inputs of LoRA layers (training); None leaves all.
    pub dropout: Option<DropoutKey>,
    /// Add noise to the embeddings (training); None adds none.
    pub noise: Option<EmbeddingNoise>,
}

walk!(Decoder { embed, embed_lora, embed_tokens, blocks, norm, head, head_lora, head_tokens, score });

impl Decoder {
    /// A decoder of `config` whose tensors come from `tensor(slot)`, asked for in the order of the slots.
    pub fn build(config: ModelConfig, device: &Device, tensor: impl FnMut(&Slot) -> Result<Tensor>) -> Result<Self> {
        let mut parts = Parts::make(config.slots(), tensor)?;
        let blocks =
            (0..config.n_layers).map(|layer| Block::build(&config, layer, &mut parts)).collect::<Result<_>>()?;
        let (embed, norm) = (parts.take("model.embed_tokens.weight")?, parts.take("model.norm.weight")?);
        let (head, score) = (parts.find("lm_head.weight"), parts.find(SCORE));
        parts.done()?;
        let (config, device) = (Arc::new(config), device.clone());
        Ok(Decoder {
            config,
            device,
            embed,
            embed_lora: None,
            embed_tokens: None,
            blocks,
            norm,
            head,
            head_lora: None,
            head_tokens: None,
            score,
            rope: Arc::default(),
        })
    }

    /// Every parameter, in the order of [`ModelConfig::slots`], those of an adapter behind the layer that they change.
    pub fn parameters(&self) -> Vec<&Parameter> {
        let mut all = Vec::new();
        Walk::parameters(self, &mut all);
        all
    }

    /// [`Decoder::parameters`], to change them.
    pub fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = Vec::new();
        Walk::parameters_mut(self, &mut all);
        all
    }

    /// The parameters that training changes: without an adapter all, with one its own and what it names to be trained whole.
    pub fn trained(&self) -> Vec<&Parameter> {
        self.parameters().into_iter().filter(|p| p.trained).collect()
    }

    /// [`Decoder::trained`], to change them.
    pub fn trained_mut(&mut self) -> Vec<&mut Parameter> {
        self.parameters_mut().into_iter().filter(|p| p.trained).collect()
    }

    /// The linear layers of the blocks, in the order of the slots.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut all = Vec::new();
        Walk::linears(self, &mut all);
        all
    }

    /// [`Decoder::linears`], to change them.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = Vec::new();
        Walk::linears_mut(self, &mut all);
        all
    }

    /// Whether any layer has an adapter.
    pub fn has_adapter(&self) -> bool {
        let outside = self.embed_lora.is_some() || self.head_lora.is_some();
        let rows = self.embed_tokens.is_some() || self.head_tokens.is_some();
        outside || rows || self.linears().iter().any(|layer| layer.lora.is_some())
    }

    /// The same model with its trained parameters on `tape`.
    pub fn watch(&self, tape: &Tape) -> Decoder {
        let mut watched = self.clone();
        for parameter in watched.trained_mut() {
            parameter.tensor = tape.watch(parameter);
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

    /// x₀ = embed[tokens] (+ s · A[tokens] Bᵀ; of DoRA times m / ‖V‖) (+ noise), times the family's factor: [T, D].
    fn embedded(&self, tokens: &[u32], noise: Option<Vec<f32>>) -> Result<Tensor> {
        let index = Arc::new(RowIndex::new(&*self.device, tokens)?);
        let mut x = match &self.embed_tokens {
            Some(rows) => rows.looked_up(&self.embed, tokens)?,
            None => ops::gather_rows(&self.embed, &index)?,
        };
        if let Some(lora) = &self.embed_lora {
            x = lora.onto(x, &ops::gather_rows(&lora.a, &index)?)?;
            if let Some(magnitude) = &lora.magnitude {
                x = ops::mul(&x, &dora::factor(&self.embed, lora, magnitude)?)?;
            }
        }
        if let Some(noise) = noise {
            let shape = x.shape().to_vec();
            x = ops::add(&x, &Tensor::from_f32(&self.device, noise, &shape)?)?;
        }
        scaled(x, self.config.scales.embedding as f32)
    }

    /// Hidden states before the final norm: [T, D], one row a token of the forest.
    pub fn hidden(&self, forest: &Forest, pass: Pass) -> Result<Tensor> {
        self.check_tokens(&forest.tokens)?;
        let positions = forest.positions();
        let n_positions = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let context = Context {
            plan: Arc::new(forest.attention_plan()),
            rope: self.rope_table(n_positions)?,
            positions: self.device.upload(Host::U32(positions))?,
            dropout: pass.dropout,
        };
        let noise = pass.noise.map(|noise| noise.values(forest.tokens.len(), self.config.hidden_size, n_positions));
        let mut x = Residual::of(self.embedded(&forest.tokens, noise)?);
        for block in &self.blocks {
            x = if pass.checkpointing && (x.needs_grad() || block.needs_grad()) {
                Residual::of(block.checkpointed(&x.sum()?, &context)?)
            } else {
                block.forward(x, &context, None)?
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
        let context = Context {
            plan: Arc::new(plan),
            rope: self.rope_table(positions.iter().max().map_or(0, |&p| p as usize + 1))?,
            positions: self.device.upload(Host::U32(positions.to_vec()))?,
            dropout: None,
        };
        let index = RowIndex::new(&*self.device, rows)?;
        let mut x = Residual::of(self.embedded(tokens, None)?);
        for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.forward(x, &context, Some((layer, &index)))?;
        }
        x.sum()
    }

    /// The same model for generation: every weight as the device likes to read it for few rows (on the CPU a second copy of
    /// those that are not packed yet). The same bits, no gradient.
    pub fn for_generation(&self) -> Result<Decoder> {
        let mut model = self.without_gradient();
        model.settle_factors()?;
        for linear in model.linears_mut() {
            let lora = linear.lora.iter_mut().flat_map(|lora| [&mut lora.a, &mut lora.b]);
            std::iter::once(&mut linear.weight).chain(lora).try_for_each(Parameter::pack)?;
        }
        if model.score.is_none() {
            model.head.as_mut().unwrap_or(&mut model.embed).pack()?;
        }
        Ok(model)
    }

    /// Packs the matrices that are not trained, in their place, for a model that learns and is generated with in turn:
    /// packed once, held once. Every product with them has the bits that it had.
    pub fn pack_frozen(&mut self) -> Result<()> {
        for linear in self.linears_mut().into_iter().filter(|linear| !linear.weight.trained) {
            linear.weight.pack()?;
        }
        let head = self.head.as_mut().unwrap_or(&mut self.embed);
        if self.score.is_none() && !head.trained { head.pack() } else { Ok(()) }
    }

    /// Computes what adapters say of frozen weights once for all tokens: DoRA's m / ‖V‖, the change of single rows.
    fn settle_factors(&mut self) -> Result<()> {
        for linear in self.linears_mut() {
            if let Some(lora) = &mut linear.lora {
                lora.factor = dora::factor_of(&linear.weight, lora)?;
            }
        }
        let head = self.head_weight().tensor.clone();
        for (weight, lora) in [(&head, &mut self.head_lora), (&self.embed.tensor, &mut self.embed_lora)] {
            if let Some(lora) = lora {
                lora.factor = dora::factor_of(weight, lora)?;
            }
        }
        for rows in [&mut self.embed_tokens, &mut self.head_tokens].into_iter().flatten() {
            *rows = rows.for_generation(&head)?;
        }
        Ok(())
    }

    /// The same model off every tape.
    pub fn without_gradient(&self) -> Decoder {
        let mut model = self.clone();
        for parameter in model.parameters_mut() {
            parameter.tensor = parameter.detach();
        }
        model
    }
}
