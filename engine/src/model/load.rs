//! A decoder from model files, and back.
use super::config::{ModelConfig, SCORE};
use super::decoder::Decoder;
use crate::backend::Device;
use crate::buffer::Host;
use crate::dtype::DType;
use crate::error::Result;
use crate::files::{ModelFiles, save_model};
use crate::random::Stream;
use crate::tensor::Tensor;
use std::path::Path;

/// Weight files larger than this are cut into shards, as transformers does.
const SHARD_BYTES: u64 = 5_000_000_000;

impl Decoder {
    /// Loads every tensor to `device`: matrices as `dtype` (None: each as its file holds it, quantised ones too), norms,
    /// biases and a reward model's head as f32.
    pub fn load(files: &ModelFiles, device: &Device, dtype: impl Into<Option<DType>>) -> Result<Self> {
        Decoder::load_as(files, files.config.clone(), device, dtype)
    }

    /// The same as the model that `config` describes: a language model's files make a reward model whose head is zero.
    pub fn load_as(
        files: &ModelFiles,
        config: ModelConfig,
        device: &Device,
        dtype: impl Into<Option<DType>>,
    ) -> Result<Self> {
        let dtype = dtype.into();
        let model = Decoder::build(config, device, |name, shape| {
            if name == SCORE {
                return match files.weights.contains(name) {
                    true => Tensor::new(device, files.weights.load(name, DType::F32)?, shape),
                    false => Tensor::zeros(device, shape),
                };
            }
            let values = match dtype {
                _ if shape.len() < 2 => files.weights.load(name, DType::F32)?,
                Some(dtype) => files.weights.load(name, dtype)?,
                None => files.weights.load_stored(name)?,
            };
            Tensor::new(device, values, shape)
        })?;
        files.weights.release_pages();
        Ok(model)
    }

    /// A fresh model: matrices normal with the given standard deviation, gains one, biases zero.
    /// Tensor i of the model draws from stream i of the seed.
    pub fn random(config: ModelConfig, device: &Device, std: f32, seed: u64) -> Result<Self> {
        let mut number = 0;
        Decoder::build(config, device, |name, shape| {
            number += 1;
            let (n, stream) = (shape.iter().product::<usize>(), Stream::new(seed, number));
            let values = match shape.len() {
                1 if name.ends_with("bias") => vec![0.0; n],
                1 => vec![1.0; n],
                _ => (0..n as u64).map(|i| std * stream.normal(i)).collect(),
            };
            Tensor::from_f32(device, values, shape)
        })
    }

    /// All tensors in host memory, as `dtype` (matrices; norms and biases too, as transformers saves them).
    pub fn host_tensors(&mut self, dtype: DType) -> Result<Vec<(String, Vec<usize>, Host)>> {
        let device = self.device.clone();
        let mut all = Vec::new();
        for (name, tensor) in self.tensors_mut() {
            all.push((name, tensor.shape().to_vec(), device.download(tensor.cast(dtype)?.buffer())?));
        }
        Ok(all)
    }

    /// Writes config.json and the weights into `dir`, as transformers loads them.
    pub fn save(&mut self, dir: &Path, dtype: DType) -> Result<()> {
        let tensors = self.without_adapter().host_tensors(dtype)?;
        save_model(dir, &self.config, &tensors, SHARD_BYTES)
    }
}
