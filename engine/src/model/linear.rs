//! A linear layer of the decoder: weight, perhaps a bias, perhaps a LoRA adapter beside it.
use super::parameter::{Parameter, Walk, walk};
use crate::error::Result;
use crate::ops;
use crate::random::Stream;
use crate::tensor::Tensor;

/// y = x Wᵀ + b (+ s · (dropout(x) Aᵀ) Bᵀ).
#[derive(Clone, Debug)]
pub struct Linear {
    /// W [out, in]; f32, or of any type when frozen.
    pub weight: Parameter,
    /// b [out]
    pub bias: Option<Parameter>,
    /// The adapter beside it.
    pub lora: Option<Lora>,
}

/// Low-rank adaptation. E. Hu et al., "LoRA", ICLR 2022, equation 3; rsLoRA: D. Kalajdzievski, 2023, s = α/√r.
#[derive(Clone, Debug)]
pub struct Lora {
    /// A [r, in]
    pub a: Parameter,
    /// B [out, r]
    pub b: Parameter,
    /// s = α/r, or α/√r for rsLoRA.
    pub scale: f32,
    /// Probability of dropping an input of A, in training only.
    pub dropout: f32,
    /// Which of the model's LoRA layers this is: separates the random streams of their dropouts.
    pub index: u64,
}

/// The random key of one training pass: which inputs LoRA's dropout drops is a function of it and the layer.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKey {
    /// That of the run.
    pub seed: u64,
    /// Number of the pass (micro-batch) since training began.
    pub pass: u64,
}

impl Linear {
    /// x [T, in] → [T, out].
    pub fn forward(&self, x: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        let Some(lora) = &self.lora else {
            return ops::linear(x, &self.weight, self.bias.as_deref());
        };
        let y = ops::linear(x, &self.weight, self.bias.as_deref())?;
        let dropped = match dropout {
            Some(key) => ops::dropout(x, lora.dropout, Stream::new(key.seed ^ (lora.index << 32), key.pass))?,
            None => x.clone(),
        };
        let low = ops::linear(&dropped, &lora.a, None)?;
        ops::linear_onto(y, &low, &lora.b, lora.scale)
    }

    /// The path of the layer: `model.layers.0.self_attn.q_proj`.
    pub fn path(&self) -> &str {
        self.weight.slot.module()
    }
}

walk!(Lora { a, b });

impl Walk for Linear {
    fn parameters<'a>(&'a self, all: &mut Vec<&'a Parameter>) {
        self.weight.parameters(all);
        self.bias.parameters(all);
        self.lora.parameters(all);
    }
    fn parameters_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Parameter>) {
        self.weight.parameters_mut(all);
        self.bias.parameters_mut(all);
        self.lora.parameters_mut(all);
    }
    fn linears<'a>(&'a self, all: &mut Vec<&'a Linear>) {
        all.push(self);
    }
    fn linears_mut<'a>(&'a mut self, all: &mut Vec<&'a mut Linear>) {
        all.push(self);
    }
}
