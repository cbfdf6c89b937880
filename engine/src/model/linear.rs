//! A linear layer of the decoder: weight, perhaps a bias, perhaps a LoRA adapter beside it.
use crate::error::Result;
use crate::ops;
use crate::random::Stream;
use crate::tensor::Tensor;

/// y = x Wᵀ + b (+ s · (dropout(x) Aᵀ) Bᵀ).
#[derive(Clone, Debug)]
pub struct Linear {
    /// W [out, in]; f32, or of any type when frozen.
    pub weight: Tensor,
    /// b [out]
    pub bias: Option<Tensor>,
    pub lora: Option<Lora>,
}

/// Low-rank adaptation. E. Hu et al., "LoRA", ICLR 2022, equation 3; rsLoRA: D. Kalajdzievski, 2023, s = α/√r.
#[derive(Clone, Debug)]
pub struct Lora {
    /// A [r, in]
    pub a: Tensor,
    /// B [out, r]
    pub b: Tensor,
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
    pub seed: u64,
    /// Number of the pass (micro-batch) since training began.
    pub pass: u64,
}

impl Linear {
    /// x [T, in] → [T, out].
    pub fn forward(&self, x: &Tensor, dropout: Option<DropoutKey>) -> Result<Tensor> {
        let Some(lora) = &self.lora else {
            return ops::linear(x, &self.weight, self.bias.as_ref());
        };
        let y = ops::linear(x, &self.weight, self.bias.as_ref())?;
        let dropped = match dropout {
            Some(key) => ops::dropout(x, lora.dropout, Stream::new(key.seed ^ (lora.index << 32), key.pass))?,
            None => x.clone(),
        };
        let low = ops::linear(&dropped, &lora.a, None)?;
        ops::linear_onto(y, &low, &lora.b, lora.scale)
    }

    /// Every tensor of the layer with its name under `path`.
    pub(crate) fn tensors_mut<'a>(&'a mut self, path: &str, all: &mut Vec<(String, &'a mut Tensor)>) {
        all.push((format!("{path}.weight"), &mut self.weight));
        if let Some(bias) = &mut self.bias {
            all.push((format!("{path}.bias"), bias));
        }
        if let Some(lora) = &mut self.lora {
            all.push((format!("{path}.lora_A.weight"), &mut lora.a));
            all.push((format!("{path}.lora_B.weight"), &mut lora.b));
        }
    }
}
