//! A model as a GGUF file, as llama.cpp's convert_hf_to_gguf.py writes it: the inverse of `gguf_model.rs`.
//!
//! Matrices have the type that is asked for; norms, biases and the divisors of rotary frequencies are float32. A matrix
//! whose rows are no whole blocks of Q8_0 is float16, as in llama.cpp. Keys and query/key rows are those that
//! `gguf_model.rs` reads.
use crate::buffer::Host;
use crate::config::family::Windows;
use crate::config::{Head, ModelConfig, Rope, RopeScaling, Slot};
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use crate::files::gguf_model::{ROPE_DIVISORS, SIZES, llama3_divisors, scale_names};
use crate::files::gguf_vocabulary;
use crate::files::gguf_write::{self, Meta, PlannedTensor};
use crate::files::vocabulary::Vocabulary;
use crate::files::weights::RowOrder;
use crate::quant;
use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;

/// llama.cpp's number for what most tensors of a file are (`general.file_type`).
fn file_type(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F32 => Some(0),
        DType::F16 => Some(1),
        DType::Quant(Quant::Q8_0) => Some(7),
        DType::BF16 => Some(32),
        _ => None,
    }
}

/// A model to be written, checked to be one that GGUF can hold.
#[derive(Debug)]
pub struct GgufExport<'a> {
    config: &'a ModelConfig,
    vocabulary: Option<&'a Vocabulary>,
    name: &'a str,
    dtype: DType,
}

impl<'a> GgufExport<'a> {
    /// `name` becomes `general.name`; `dtype` is that of the matrices: float32, float16, bfloat16 or Q8_0.
    pub fn new(
        config: &'a ModelConfig,
        vocabulary: Option<&'a Vocabulary>,
        name: &'a str,
        dtype: DType,
    ) -> Result<Self> {
        if config.head == Head::Score {
            let detail = "a reward model (it has score.weight) has no place in a GGUF file; write it as a directory";
            return Err(Error::Unsupported(detail.into()));
        }
        if config.family.windows == Windows::Switched && config.layer_windows.iter().any(Option::is_some) {
            return Err(Error::Unsupported(format!(
                "GGUF has no place for the attention windows of single layers, which this {} model has",
                config.family.name
            )));
        }
        if file_type(dtype).is_none() {
            let detail =
                format!("a GGUF file of type {} is not written; float32, float16, bfloat16 and Q8_0 are", dtype.name());
            return Err(Error::Unsupported(detail));
        }
        Ok(GgufExport { config, vocabulary, name, dtype })
    }

    /// What programs that read the file will do otherwise than this one, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (Windows::All, Some(Some(window))) = (self.config.family.windows, self.config.layer_windows.first()) {
            notes.push(format!(
                "the model attends within {window} tokens; llama.cpp lets it see all, so that longer texts give other results"
            ));
        }
        let narrow = |slot: &&Slot| slot.role.is_matrix() && self.stored(slot) != self.dtype;
        let n = self.config.slots().iter().filter(narrow).count();
        if n > 0 {
            notes.push(format!("{n} matrices have rows of no whole blocks of {}; they are float16", self.dtype.name()));
        }
        notes
    }

    /// Writes the file. `values` gives a tensor in float32, rows in Hugging Face's order; it is asked for each in turn.
    pub fn save(&self, path: &Path, mut values: impl FnMut(&Slot) -> Result<Vec<f32>>) -> Result<()> {
        let divisors = divisors(&self.config.rope, self.config.head_size);
        let slots: Vec<Slot> = self.config.slots().into_iter().filter(|slot| slot.gguf.is_some()).collect();
        let planned = |slot: &Slot| PlannedTensor {
            name: slot.gguf.clone().unwrap_or_default(),
            shape: slot.shape.clone(),
            dtype: self.stored(slot),
        };
        let mut tensors: Vec<PlannedTensor> = slots.iter().map(planned).collect();
        if let Some(divisors) = &divisors {
            tensors.push(PlannedTensor { name: ROPE_DIVISORS.into(), shape: vec![divisors.len()], dtype: DType::F32 });
        }
        gguf_write::write(path, &self.metadata()?, &tensors, |i| match slots.get(i) {
            Some(slot) => {
                let rows = if self.config.family.gguf_interleaves { slot.turned } else { None };
                let values = interleaved(values(slot)?, &slot.shape, rows);
                encode(path, &slot.path, values, tensors[i].dtype)
            }
            None => Ok(Host::F32(divisors.clone().unwrap_or_default())),
        })
    }

    /// The type of a tensor in the file.
    fn stored(&self, slot: &Slot) -> DType {
        let whole_blocks = |q: Quant| slot.shape.last().is_some_and(|row| row.is_multiple_of(q.block_len()));
        match self.dtype {
            _ if !slot.role.is_matrix() => DType::F32,
            DType::Quant(q) if !whole_blocks(q) => DType::F16,
            dtype => dtype,
        }
    }

    fn metadata(&self) -> Result<Vec<(String, Meta)>> {
        let (config, arch) = (self.config, self.config.family.gguf);
        let mut out: Vec<(String, Meta)> = Vec::new();
        let mut general = |key: &str, value: Meta| out.push((format!("general.{key}"), value));
        general("architecture", Meta::Text(arch.into()));
        general("type", Meta::Text("model".into()));
        general("name", Meta::Text(self.name.into()));
        general("file_type", Meta::U32(file_type(self.dtype).unwrap_or_default()));
        general("quantization_version", Meta::U32(2));
        let mut own = |key: &str, value: Meta| out.push((format!("{arch}.{key}"), value));
        let json = config.to_json();
        for (key, name) in SIZES {
            own(key, Meta::U32(small(name, json.get(name).and_then(Value::as_u64).unwrap_or_default())?));
        }
        own("vocab_size", Meta::U32(small("vocab_size", config.vocab_size as u64)?));
        let head_size = small("head_dim", config.head_size as u64)?;
        for key in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
            own(key, Meta::U32(head_size));
        }
        own("attention.layer_norm_rms_epsilon", Meta::F32(config.rms_norm_eps as f32));
        own("rope.freq_base", Meta::F32(config.rope.theta as f32));
        if let RopeScaling::Linear { factor } = config.rope.scaling {
            own("rope.scaling.type", Meta::Text("linear".into()));
            own("rope.scaling.factor", Meta::F32(factor as f32));
        }
        if let (Windows::All, Some(Some(window))) = (config.family.windows, config.layer_windows.first()) {
            own("attention.sliding_window", Meta::U32(small("sliding_window", *window as u64)?));
        }
        let of = config.scales;
        let values = [Some(of.embedding), of.attention, Some(of.residual), Some(of.logits)];
        for ((key, name), value) in scale_names(config.family.scales).into_iter().zip(values) {
            if let Some(value) = value.filter(|_| key.is_some()) {
                own(name, Meta::F32(value as f32));
            }
        }
        out.extend(self.vocabulary.map(gguf_vocabulary::metadata).unwrap_or_default());
        Ok(out)
    }
}

fn small(name: &str, n: u64) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::Unsupported(format!("{name} is {n}, more than a GGUF file can say")))
}

/// The tensor of divisors that Llama 3's scaling is told by; None for other scalings.
fn divisors(rope: &Rope, head_size: usize) -> Option<Vec<f32>> {
    let divisors = llama3_divisors(rope.scaling, rope.theta, head_size)?;
    Some(divisors.into_iter().map(|x| x as f32).collect())
}

/// The rows as llama.cpp wants them: within each head of `head_size` rows the two halves alternate; None: as they are.
fn interleaved(values: Vec<f32>, shape: &[usize], head_size: Option<usize>) -> Vec<f32> {
    let Some(head_size) = head_size else { return values };
    let width = shape.get(1).copied().unwrap_or(1).max(1);
    let order = RowOrder::Interleaved { head_size };
    let mut out = vec![0.0; values.len()];
    for (row, from) in values.chunks_exact(width).enumerate() {
        let at = order.stored_row(row) * width;
        out[at..at + width].copy_from_slice(from);
    }
    out
}

/// Values as a tensor of the file; an error where float16 cannot hold one, or where one is no number.
fn encode(path: &Path, name: &str, values: Vec<f32>, dtype: DType) -> Result<Host> {
    if let Some(x) = values.par_iter().find_any(|x| !x.is_finite()) {
        return Err(Error::file(path, format!("not written: tensor {name} has the value {x}; the model is broken")));
    }
    let too_large = |x: f32| {
        let detail =
            format!("not written: tensor {name} has the value {x}, which {} cannot hold; bfloat16 can", dtype.name());
        Err(Error::file(path, detail))
    };
    match dtype {
        DType::F16 => match values.par_iter().find_any(|x| f16::from_f32(**x).is_infinite()) {
            Some(x) => too_large(*x),
            None => Ok(Host::Half(dtype, values.par_iter().map(|x| f16::from_f32(*x).to_bits()).collect())),
        },
        DType::BF16 => Ok(Host::Half(dtype, values.par_iter().map(|x| bf16::from_f32(*x).to_bits()).collect())),
        // A block's scale is a float16: its largest weight divided by 127.
        DType::Quant(Quant::Q8_0) => match values.par_iter().find_any(|x| f16::from_f32(x.abs() / 127.0).is_infinite())
        {
            Some(x) => too_large(*x),
            None => Ok(Host::Blocks(dtype, quant::encode_q8_0(&values)?)),
        },
        _ => Ok(Host::F32(values)),
    }
}
