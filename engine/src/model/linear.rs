//! A linear layer of the decoder: weight, perhaps a bias, perhaps an adapter beside it.
use super::dora;
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
    /// A [r, in]; of an embedding [V, r], to be looked up.
    pub a: Parameter,
    /// B [out, r]
    pub b: Parameter,
    /// What PEFT's lora_bias adds to B's product: [out].
    pub b_bias: Option<Parameter>,
    /// m of DoRA, the length of each row: [out]; of an embedding that of each column: [D].
    pub magnitude: Option<Parameter>,
    /// m / ‖W + s B A‖ where nothing of it is trained any more: as m.
    pub factor: Option<Tensor>,
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

impl Lora {
    /// dropout(x): what A reads.
    pub(crate) fn dropped(&self, x: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        match dropout {
            Some(key) => ops::dropout(x, self.dropout, Stream::new(key.seed ^ (self.index << 32), key.pass)),
            None => Ok(x.clone()),
        }
    }

    /// dropout(x) Aᵀ: [T, r].
    pub(crate) fn low(&self, x: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        ops::linear(&self.dropped(x, dropout)?, &self.a, None)
    }

    /// y + s · (low Bᵀ + b).
    pub(crate) fn onto(&self, y: Tensor, low: &Tensor) -> Result<Tensor> {
        let y = ops::linear_onto(y, low, &self.b, self.scale)?;
        match &self.b_bias {
            Some(bias) => ops::add(&y, &ops::scale(bias, self.scale)?),
            None => Ok(y),
        }
    }
}

impl Linear {
    /// x [T, in] → [T, out].
    pub fn forward(&self, x: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        if let Some(lora) = &self.lora
            && let Some(magnitude) = &lora.magnitude
        {
            return dora::forward(self, lora, magnitude, x, dropout);
        }
        let y = ops::linear(x, &self.weight, self.bias.as_deref())?;
        match &self.lora {
            None => Ok(y),
            Some(lora) => lora.onto(y, &lora.low(x, dropout)?),
        }
    }

    /// The path of the layer: `model.layers.0.self_attn.q_proj`.
    pub fn path(&self) -> &str {
        self.weight.slot.module()
    }
}

walk!(Lora { a, b, b_bias, magnitude });

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
