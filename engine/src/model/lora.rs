//! LoRA on a decoder: adding, loading, saving, switching off, folding in.
use super::config::SCORE;
use super::decoder::Decoder;
use super::linear::{Linear, Lora};
use crate::backend::{Device, Layout, Product};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::adapter::Adapter;
use crate::files::adapter_config::AdapterConfig;
use crate::random::Stream;
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// Stream ids of initialisation start here, so that they meet no other use of the seed.
const INITIALISATION: u64 = 0x4c6f_5241 << 32;

/// A: uniform in ±1/√in (Kaiming-uniform with a = √5, PEFT's start); B: zero.
fn start_values(device: &Device, layer: &Linear, r: usize, stream: Stream) -> Result<(Tensor, Tensor)> {
    let (out, inner) = layer.weight.matrix();
    let bound = 1.0 / (inner as f32).sqrt();
    let a = (0..(r * inner) as u64).map(|i| bound * (2.0 * stream.uniform(i) - 1.0)).collect();
    Ok((Tensor::from_f32(device, a, &[r, inner])?, Tensor::zeros(device, &[out, r])?))
}

impl Decoder {
    /// Puts fresh LoRA layers beside every target of `config`; the model's output is unchanged until B moves from zero.
    pub fn add_lora(&mut self, config: &AdapterConfig, seed: u64) -> Result<()> {
        self.place_lora(config, |device, _, layer, index| {
            start_values(device, layer, config.r, Stream::new(seed, INITIALISATION + index))
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
            *score = Tensor::from_f32(&self.device, values.clone(), shape)?;
        }
        self.place_lora(&adapter.config, |device, path, layer, _| {
            let (out, inner) = layer.weight.matrix();
            let mut take = |part: &str, shape: [usize; 2]| {
                let name = format!("{path}.{part}.weight");
                let Some((found, values)) = left.remove(name.as_str()) else {
                    return Err(Error::Input(format!("the adapter has no tensor {name}, though its target_modules name it")));
                };
                if found[..] != shape {
                    return Err(Error::Input(format!("adapter tensor {name} is {found:?}, this model needs {shape:?}: it was trained on another model")));
                }
                Tensor::from_f32(device, values.clone(), &shape)
            };
            Ok((take("lora_A", [adapter.config.r, inner])?, take("lora_B", [out, adapter.config.r])?))
        })?;
        match left.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Error::Input(format!("adapter tensor {name} has no place in this model ({} such)", left.len())))
            }
        }
    }

    fn place_lora(
        &mut self,
        config: &AdapterConfig,
        mut values: impl FnMut(&Device, &str, &Linear, u64) -> Result<(Tensor, Tensor)>,
    ) -> Result<()> {
        let targets: Vec<String> = config.targets(&self.config)?.into_iter().map(|(path, _, _)| path).collect();
        let (device, mut index, scale) = (self.device.clone(), 0, config.scale() as f32);
        for (number, block) in self.blocks.iter_mut().enumerate() {
            for (name, layer) in block.linears_mut() {
                index += 1;
                let path = format!("model.layers.{number}.{name}");
                if targets.contains(&path) {
                    let (a, b) = values(&device, &path, layer, index)?;
                    layer.lora = Some(Lora { a, b, scale, dropout: config.lora_dropout as f32, index });
                }
            }
        }
        Ok(())
    }

    /// The adapter as host values, ready to save.
    pub fn adapter(&mut self, config: AdapterConfig) -> Result<Adapter> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in self.trainable_mut() {
            tensors.insert(name, (tensor.shape().to_vec(), tensor.to_vec()?));
        }
        Ok(Adapter { config, tensors })
    }

    /// The base model: the same weights with the adapter off.
    pub fn without_adapter(&self) -> Decoder {
        let mut base = self.clone();
        base.blocks.iter_mut().flat_map(|b| b.linears_mut()).for_each(|(_, layer)| layer.lora = None);
        base
    }

    /// Folds the adapter into the weights: W ← W + s · B A, in f32, then back to the weight's own dtype.
    pub fn merge_adapter(&mut self) -> Result<()> {
        for (_, layer) in self.blocks.iter_mut().flat_map(|b| b.linears_mut()) {
            let Some(lora) = layer.lora.take() else { continue };
            let (dtype, (m, n), shape) = (layer.weight.dtype(), layer.weight.matrix(), layer.weight.shape().to_vec());
            let product = Product { layout: Layout::NN, m, n, k: lora.a.matrix().0, alpha: lora.scale };
            let weight = layer.weight.cast(DType::F32)?.into_buffer();
            let merged = self.device.matmul(product, lora.b.buffer(), lora.a.buffer(), Some(weight))?;
            layer.weight = Tensor::from_buffer(&self.device, merged, &shape).cast(dtype)?;
        }
        Ok(())
    }
}
