//! LoRA on a decoder: adding, loading, saving, switching off, folding in.
use super::decoder::Decoder;
use super::linear::{Linear, Lora};
use super::parameter::Parameter;
use crate::backend::{Device, Layout, Product};
use crate::config::{Role, SCORE, Slot};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::adapter::Adapter;
use crate::files::adapter_config::{AdapterConfig, Target};
use crate::random::Stream;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stream ids of initialisation start here, so that they meet no other use of the seed.
const INITIALISATION: u64 = 0x4c6f_5241 << 32;

/// A: uniform in ±1/√in (Kaiming-uniform with a = √5, PEFT's start); B: zero.
fn start_values(device: &Device, Target { module, r, .. }: &Target, stream: Stream) -> Result<(Tensor, Tensor)> {
    let (out, inner) = (module.n_out, module.n_in);
    let bound = 1.0 / (inner as f32).sqrt();
    let a = (0..(r * inner) as u64).map(|i| bound * (2.0 * stream.uniform(i) - 1.0)).collect();
    Ok((Tensor::from_f32(device, a, &[*r, inner])?, Tensor::zeros(device, &[out, *r])?))
}

/// A trained parameter beside `layer`.
fn beside(layer: &Linear, name: &str, role: Role, tensor: Tensor) -> Parameter {
    let path = format!("{}.{name}.weight", layer.path());
    let (shape, layer) = (tensor.shape().to_vec(), layer.weight.slot.layer);
    let slot = Slot { path, gguf: None, shape, role, layer, turned: None };
    Parameter { slot: Arc::new(slot), tensor, trained: true }
}

impl Decoder {
    /// Puts fresh LoRA layers beside every target of `config`; the model's output is unchanged until B moves from zero.
    pub fn add_lora(&mut self, config: &AdapterConfig, seed: u64) -> Result<()> {
        self.place_lora(config, |device, target, index| {
            start_values(device, target, Stream::new(seed, INITIALISATION + index))
        })
    }

    /// Puts the layers of a saved adapter in place; every one of its tensors must have a layer of its shape.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let mut left: BTreeMap<&str, &(Vec<usize>, Vec<f32>)> =
            adapter.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        if let (Some(score), Some((shape, values))) = (&mut self.score, left.remove(SCORE)) {
            if score.shape() != shape {
                return Err(Error::Input(format!(
                    "adapter tensor {SCORE} is {shape:?}, this model needs {:?}",
                    score.shape()
                )));
            }
            score.tensor = Tensor::from_f32(&self.device, values.clone(), shape)?;
        }
        self.place_lora(&adapter.config, |device, Target { module, r, .. }, _| {
            let mut take = |part: &str, shape: [usize; 2]| {
                let name = format!("{}.{part}.weight", module.path);
                let Some((found, values)) = left.remove(name.as_str()) else {
                    return Err(Error::Input(format!("the adapter has no tensor {name}, though its target_modules name it")));
                };
                if found[..] != shape {
                    return Err(Error::Input(format!("adapter tensor {name} is {found:?}, this model needs {shape:?}: it was trained on another model")));
                }
                Tensor::from_f32(device, values.clone(), &shape)
            };
            Ok((take("lora_A", [*r, module.n_in])?, take("lora_B", [module.n_out, *r])?))
        })?;
        match left.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Error::Input(format!("adapter tensor {name} has no place in this model ({} such)", left.len())))
            }
        }
    }

    /// Puts A and B beside every target of `config`, from `values(device, target, number of the linear layer)`; they are
    /// what is trained from here on, with a reward model's head.
    fn place_lora(
        &mut self,
        config: &AdapterConfig,
        mut values: impl FnMut(&Device, &Target, u64) -> Result<(Tensor, Tensor)>,
    ) -> Result<()> {
        let targets = config.targets(&self.config)?.into_iter().map(|target| (target.module.path.clone(), target));
        let mut targets: BTreeMap<String, Target> = targets.collect();
        for parameter in self.parameters_mut() {
            parameter.trained = parameter.slot.role == Role::Score;
        }
        let (device, dropout) = (self.device.clone(), config.lora_dropout as f32);
        for (layer, index) in self.linears_mut().into_iter().zip(1..) {
            let Some(target) = targets.remove(layer.path()) else { continue };
            let (a, b) = values(&device, &target, index)?;
            let (a, b) = (beside(layer, "lora_A", Role::LoraA, a), beside(layer, "lora_B", Role::LoraB, b));
            layer.lora = Some(Lora { a, b, scale: target.scale as f32, dropout, index });
        }
        match targets.keys().next() {
            None => Ok(()),
            Some(path) => {
                Err(Error::Unsupported(format!("an adapter of {path}: those of layers in blocks are supported")))
            }
        }
    }

    /// The adapter as host values, ready to save.
    pub fn adapter(&self, config: AdapterConfig) -> Result<Adapter> {
        let host = |p: &Parameter| Ok((p.path().to_string(), (p.shape().to_vec(), p.to_vec()?)));
        Ok(Adapter { config, tensors: self.trained().into_iter().map(host).collect::<Result<_>>()? })
    }

    /// The base model: the same weights with the adapter off.
    pub fn without_adapter(&self) -> Decoder {
        let mut base = self.clone();
        base.linears_mut().into_iter().for_each(|layer| layer.lora = None);
        base.parameters_mut().into_iter().for_each(|p| p.trained = true);
        base
    }

    /// Folds the adapter into the weights: W ← W + s · B A, in f32, then back to the weight's own dtype.
    pub fn merge_adapter(&mut self) -> Result<()> {
        let device = self.device.clone();
        for layer in self.linears_mut() {
            let Some(lora) = layer.lora.take() else { continue };
            let (dtype, (m, n), shape) = (layer.weight.dtype(), layer.weight.matrix(), layer.weight.shape().to_vec());
            let product = Product { layout: Layout::NN, m, n, k: lora.a.matrix().0, alpha: lora.scale };
            let weight = layer.weight.cast(DType::F32)?.into_buffer();
            let merged = device.matmul(product, lora.b.buffer(), lora.a.buffer(), Some(weight))?;
            layer.weight.tensor = Tensor::from_buffer(&device, merged, &shape).cast(dtype)?;
        }
        self.parameters_mut().into_iter().for_each(|p| p.trained = true);
        Ok(())
    }
}
