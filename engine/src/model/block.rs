//! One layer of the decoder: attention and the feed-forward network, each behind a norm and beside the residual stream.
//!
//! ```text
//! x ← x + W_o · attention(rope(q), rope(k), v),    q, k, v = W_{q,k,v} · rms_norm(x)
//! x ← x + W_down · swiglu(W_gate · n, W_up · n),   n = rms_norm(x)
//! ```
use super::cache::LayerCache;
use super::linear::{DropoutKey, Linear};
use super::parameter::{Parameter, Parts, Walk, walk};
use crate::backend::{AttentionShape, RowIndex};
use crate::buffer::Buffer;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::forest::AttentionPlan;
use crate::ops::{self, RopeTable};
use crate::tensor::Tensor;
use std::sync::Arc;

/// What all blocks of a pass share.
#[derive(Clone)]
pub(crate) struct Context {
    pub plan: Arc<AttentionPlan>,
    pub positions: Buffer,
    pub rope: RopeTable,
    pub dropout: Option<DropoutKey>,
}

/// The residual stream between layers: x, and what the layer before gives to it, which the next norm adds as it reads.
pub(crate) struct Residual {
    x: Tensor,
    rest: Option<Tensor>,
}

impl Residual {
    pub fn of(x: Tensor) -> Self {
        Residual { x, rest: None }
    }

    pub fn needs_grad(&self) -> bool {
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
    pub fn sum(self) -> Result<Tensor> {
        match self.rest {
            Some(rest) => ops::add(&self.x, &rest),
            None => Ok(self.x),
        }
    }
}

/// scale · x; the same tensor where the factor is 1.
pub(crate) fn scaled(x: Tensor, scale: f32) -> Result<Tensor> {
    if scale == 1.0 { Ok(x) } else { ops::scale(&x, scale) }
}

/// Attention with rotary positions; heads of queries share those of keys and values in groups.
#[derive(Clone, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// Norms of each head's query and key: [E].
    q_norm: Option<Parameter>,
    k_norm: Option<Parameter>,
    shape: AttentionShape,
    epsilon: f32,
}
walk!(Attention { q, k, v, o, q_norm, k_norm });

impl Attention {
    fn build(c: &ModelConfig, layer: usize, parts: &mut Parts) -> Result<Self> {
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        Ok(Attention {
            q: parts.linear(&name("q_proj"))?,
            k: parts.linear(&name("k_proj"))?,
            v: parts.linear(&name("v_proj"))?,
            o: parts.linear(&name("o_proj"))?,
            q_norm: parts.find(&name("q_norm.weight")),
            k_norm: parts.find(&name("k_norm.weight")),
            shape: AttentionShape {
                n_heads: c.n_heads,
                n_kv_heads: c.n_kv_heads,
                head_size: c.head_size,
                scale: c.scales.attention.map_or_else(|| 1.0 / (c.head_size as f32).sqrt(), |scale| scale as f32),
                window: c.layer_windows.get(layer).copied().flatten().unwrap_or(usize::MAX),
            },
            epsilon: c.rms_norm_eps as f32,
        })
    }

    /// n [T, D], the normed stream → [T, D]; with a cache, keys and values are stored in its rows and read from it.
    fn forward(&self, n: Tensor, context: &Context, cache: Option<(&mut LayerCache, &RowIndex)>) -> Result<Tensor> {
        let (t, s) = (n.matrix().0, &self.shape);
        let heads =
            |layer: &Linear, count: usize| layer.forward(&n, context.dropout)?.reshape(&[t, count, s.head_size]);
        let normed = |y: Tensor, norm: &Option<Parameter>| match norm {
            Some(w) => ops::rms_norm(&y, w, self.epsilon),
            None => Ok(y),
        };
        let q = ops::rope(&normed(heads(&self.q, s.n_heads)?, &self.q_norm)?, &context.rope, &context.positions)?;
        let k = ops::rope(&normed(heads(&self.k, s.n_kv_heads)?, &self.k_norm)?, &context.rope, &context.positions)?;
        let v = heads(&self.v, s.n_kv_heads)?;
        drop(n);
        let o = match cache {
            None => ops::attention(self.shape, &context.plan, &q, &k, &v)?,
            Some((layer, rows)) => {
                layer.write(&k, &v, rows)?;
                ops::attention(self.shape, &context.plan, &q, &layer.k, &layer.v)?
            }
        };
        self.o.forward(&o.reshape(&[t, s.n_heads * s.head_size])?, context.dropout)
    }
}

/// The feed-forward network: y = W_down · (silu(W_gate · n) ∘ (W_up · n)).
#[derive(Clone, Debug)]
struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}
walk!(FeedForward { gate, up, down });

impl FeedForward {
    fn build(layer: usize, parts: &mut Parts) -> Result<Self> {
        let mut linear = |part: &str| parts.linear(&format!("model.layers.{layer}.mlp.{part}"));
        Ok(FeedForward { gate: linear("gate_proj")?, up: linear("up_proj")?, down: linear("down_proj")? })
    }

    /// n [T, D] → [T, D].
    fn forward(&self, n: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        let (gate, up) = (self.gate.forward(n, dropout)?, self.up.forward(n, dropout)?);
        self.down.forward(&ops::swiglu(&gate, &up)?, dropout)
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Block {
    input_norm: Parameter,
    attention: Attention,
    post_norm: Parameter,
    mlp: FeedForward,
    epsilon: f32,
    /// Factor on what attention and the feed-forward network add to the stream.
    scale: f32,
}
walk!(Block { input_norm, attention, post_norm, mlp });

impl Block {
    pub(crate) fn build(c: &ModelConfig, layer: usize, parts: &mut Parts) -> Result<Self> {
        let mut gain = |part: &str| parts.take(&format!("model.layers.{layer}.{part}.weight"));
        let (input_norm, post_norm) = (gain("input_layernorm")?, gain("post_attention_layernorm")?);
        let (attention, mlp) = (Attention::build(c, layer, parts)?, FeedForward::build(layer, parts)?);
        let (epsilon, scale) = (c.rms_norm_eps as f32, c.scales.residual as f32);
        Ok(Block { input_norm, attention, post_norm, mlp, epsilon, scale })
    }

    /// Whether a gradient will be asked of any of its parameters.
    pub(crate) fn needs_grad(&self) -> bool {
        let mut all = Vec::new();
        self.parameters(&mut all);
        all.iter().any(|p| p.needs_grad())
    }

    /// x [T, D] → [T, D]; with a cache, keys and values are stored in its rows and read from it.
    pub(crate) fn forward(
        &self,
        x: Residual,
        context: &Context,
        cache: Option<(&mut LayerCache, &RowIndex)>,
    ) -> Result<Residual> {
        let (x, n) = x.normed(&self.input_norm, self.epsilon)?;
        let rest = Some(scaled(self.attention.forward(n, context, cache)?, self.scale)?);
        let (x, n) = Residual { x, rest }.normed(&self.post_norm, self.epsilon)?;
        Ok(Residual { x, rest: Some(scaled(self.mlp.forward(&n, context.dropout)?, self.scale)?) })
    }

    /// [`Block::forward`] that keeps only its input: see [`ops::checkpoint`].
    pub(crate) fn checkpointed(&self, x: &Tensor, context: &Context) -> Result<Tensor> {
        let mut own = Vec::new();
        self.parameters(&mut own);
        let inputs: Vec<Tensor> = std::iter::once(x).chain(own.into_iter().map(|p| &p.tensor)).cloned().collect();
        let (block, context) = (self.map(|p| Ok(p.detach()))?, context.clone());
        ops::checkpoint(&inputs, move |inputs| {
            let mut tensors = inputs[1..].iter();
            let block = block.map(|p| Ok(tensors.next().unwrap_or(&p.tensor).clone()))?;
            block.forward(Residual::of(inputs[0].clone()), &context, None)?.sum()
        })
    }
}
