//! The KV cache: keys and values of every token seen so far, by row. Which rows a sequence sees is the plan's business.
use crate::backend::{Device, RowIndex};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::tensor::Tensor;

/// Keys and values of one layer: each [rows, K, E].
#[derive(Debug)]
pub struct LayerCache {
    /// Keys, turned by RoPE.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

/// One [`LayerCache`] a layer, all with the same number of rows.
#[derive(Debug)]
pub struct KvCache {
    /// First to last.
    pub layers: Vec<LayerCache>,
    /// Tokens that there is room for.
    pub n_rows: usize,
}

impl KvCache {
    /// Room for `n_rows` tokens, 2 · layers · K · E floats each.
    pub fn new(device: &Device, config: &ModelConfig, n_rows: usize) -> Result<Self> {
        let shape = [n_rows, config.n_kv_heads, config.head_size];
        let layer = || Ok(LayerCache { k: Tensor::zeros(device, &shape)?, v: Tensor::zeros(device, &shape)? });
        Ok(KvCache { layers: (0..config.n_layers).map(|_| layer()).collect::<Result<_>>()?, n_rows })
    }
}

impl LayerCache {
    /// Stores the keys and values [T, K, E] of the rows `index` names.
    pub(crate) fn write(&mut self, k: &Tensor, v: &Tensor, index: &RowIndex) -> Result<()> {
        let (device, width) = (k.device().clone(), k.len() / index.len().max(1));
        device.write_rows(self.k.buffer_mut(), k.buffer(), index, width)?;
        device.write_rows(self.v.buffer_mut(), v.buffer(), index, width)
    }
}
