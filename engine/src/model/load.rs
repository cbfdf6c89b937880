//! A decoder from model files, and back.
use super::decoder::Decoder;
use super::parameter::Parameter;
use crate::backend::Device;
use crate::buffer::Host;
use crate::config::{Head, ModelConfig, Role, Slot};
use crate::dtype::DType;
use crate::error::Result;
use crate::files::{ModelFiles, save_model};
use crate::random::Stream;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

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
        Decoder::build(config, device, |slot| loaded(files, device, slot, dtype))
    }

    /// [`Decoder::load`] of a model that is generated with and not trained: each matrix that products read is packed as soon
    /// as it is loaded, so that generation holds no second copy of it.
    pub fn load_to_generate(files: &ModelFiles, device: &Device, dtype: impl Into<Option<DType>>) -> Result<Self> {
        let (dtype, config) = (dtype.into(), files.config.clone());
        let tied = config.head == Head::LanguageModel && config.tie_word_embeddings;
        Decoder::build(config, device, |slot| {
            let tensor = loaded(files, device, slot, dtype)?;
            match slot.role {
                Role::Projection | Role::Output => tensor.packed(),
                Role::Embedding if tied => tensor.packed(),
                _ => Ok(tensor),
            }
        })
    }

    /// A fresh model: matrices normal with the given standard deviation, gains one, biases zero. Each matrix draws from
    /// the stream of the seed that has its number, counted through the blocks, in each of them norms after linear layers, and
    /// then through what stands outside.
    pub fn random(config: ModelConfig, device: &Device, std: f32, seed: u64) -> Result<Self> {
        let mut slots = config.slots();
        slots.sort_by_key(|slot| (slot.layer.unwrap_or(usize::MAX), slot.layer.is_some() && slot.role == Role::Gain));
        let numbers: BTreeMap<&str, u64> = slots.iter().map(|slot| slot.path.as_str()).zip(1..).collect();
        Decoder::build(config, device, |slot| {
            let stream = Stream::new(seed, numbers.get(slot.path.as_str()).copied().unwrap_or(0));
            let n = slot.n() as u64;
            let values = match slot.role {
                Role::Bias => vec![0.0; slot.n()],
                Role::Gain => vec![1.0; slot.n()],
                _ => (0..n).map(|i| std * stream.normal(i)).collect(),
            };
            Tensor::from_f32(device, values, &slot.shape)
        })
    }

    /// All tensors in host memory, as `dtype` (matrices; norms and biases too, as transformers saves them). What lies in
    /// host memory and has this type already is shared, not copied.
    pub fn host_tensors(&self, dtype: DType) -> Result<Vec<(String, Vec<usize>, Arc<Host>)>> {
        let host = |p: &Parameter| Ok((p.path().to_string(), p.shape().to_vec(), p.cast(dtype)?.to_host()?));
        self.parameters().into_iter().map(host).collect()
    }

    /// Writes config.json and the weights into `dir`, as transformers loads them.
    pub fn save(&self, dir: &Path, dtype: DType) -> Result<()> {
        let tensors = self.without_adapter().host_tensors(dtype)?;
        save_model(dir, &self.config, &tensors, SHARD_BYTES)
    }
}

/// The tensor of a slot on `device`, as [`Decoder::load`] has it.
fn loaded(files: &ModelFiles, device: &Device, slot: &Slot, dtype: Option<DType>) -> Result<Tensor> {
    let Slot { path, shape, role, .. } = slot;
    let values = match (role, dtype) {
        (Role::Score, _) if !files.weights.contains(path) => return Tensor::zeros(device, shape),
        (Role::Score | Role::Gain | Role::Bias, _) => files.weights.load(path, DType::F32)?,
        (_, Some(dtype)) => files.weights.load(path, dtype)?,
        (_, None) => files.weights.load_stored(path)?,
    };
    Tensor::new(device, values, shape)
}
