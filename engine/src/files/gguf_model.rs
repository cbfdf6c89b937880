//! A GGUF file as a model: its metadata as a Hugging Face config.json, its tensors under Hugging Face names.
//!
//! llama.cpp stores the query and key projections of the llama architecture with the two halves of every head
//! interleaved (its RoPE turns neighbours, Hugging Face's turns halves); they are put back as they are loaded. Llama
//! 3's frequency scaling is not in the metadata but as a tensor of divisors, from which its factor is read.
use crate::config::family::{Biased, ScaleKeys, Windows};
use crate::config::{FAMILIES, Family, ModelConfig, RopeScaling, Slot};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::gguf::Gguf;
use crate::files::weights::{Entry, RowOrder, Stored, Weights};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Divisors of the rotary frequencies, [E/2], of models with Llama 3 scaling.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Sizes: the key below the architecture's name, and that of config.json.
pub(super) const SIZES: [(&str, &str); 6] = [
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    (KV_HEADS, "num_key_value_heads"),
];

/// The one size that may be absent: then it is the number of heads.
const KV_HEADS: &str = "attention.head_count_kv";

/// The config.json that transformers would have for this model.
pub fn config(gguf: &Gguf) -> Result<Map<String, Value>> {
    let arch = gguf
        .text("general.architecture")?
        .ok_or_else(|| Error::file(gguf.path(), "metadata general.architecture is missing: it is no model"))?;
    let key = |name: &str| format!("{arch}.{name}");
    let family = family(gguf, arch)?;
    if let Some(n) = gguf.count(&key("expert_count"))?.filter(|n| *n > 0) {
        return Err(Error::Unsupported(format!(
            "{}: mixture-of-experts models ({n} experts) are not supported",
            gguf.path().display()
        )));
    }
    let needed = |name: &str| {
        gguf.count(&key(name))?.ok_or_else(|| Error::file(gguf.path(), format!("metadata {} is missing", key(name))))
    };
    let n_heads = needed("attention.head_count")?;
    let hidden_size = needed("embedding_length")?;
    let head_size = head_size(gguf, arch, hidden_size, n_heads)?;
    let vocab_size = match gguf.count(&key("vocab_size"))? {
        Some(n) => Some(n),
        None => gguf.tensors.iter().find(|t| t.name == "token_embd.weight").and_then(|t| t.shape.first().copied()),
    };
    let has = |name: &str| gguf.tensors.iter().any(|t| t.name == name);
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| out.insert(key.to_string(), value);
    set("architectures", json!([family.architecture]));
    set("model_type", json!(family.name));
    set("vocab_size", json!(vocab_size));
    for (name, hf_name) in SIZES {
        let size = if name == KV_HEADS { gguf.count(&key(name))?.unwrap_or(n_heads) } else { needed(name)? };
        set(hf_name, json!(size));
    }
    set("head_dim", json!(head_size));
    set("hidden_act", json!("silu"));
    set("rms_norm_eps", json!(gguf.number(&key("attention.layer_norm_rms_epsilon"))?.map(shortest)));
    set("tie_word_embeddings", json!(!has("output.weight")));
    for (which, tensor) in [(family.qkv_bias, "blk.0.attn_q.bias"), (family.mlp_bias, "blk.0.ffn_up.bias")] {
        if let Biased::Key(key) = which {
            set(key, json!(has(tensor)));
        }
    }
    match family.windows {
        Windows::None => {}
        Windows::All => drop(set("sliding_window", json!(gguf.count(&key("attention.sliding_window"))?))),
        Windows::Switched => drop(set("use_sliding_window", json!(false))),
    }
    for (name, scale) in scales(gguf, arch, family, head_size)? {
        out.insert(name.to_string(), json!(scale));
    }
    set_ids(gguf, &mut out)?;
    let theta = gguf.number(&key("rope.freq_base"))?.map_or(10000.0, shortest);
    set_rope(gguf, arch, theta, head_size, &mut out)?;
    Ok(out)
}

/// A family's factors, each with its key in config.json (if the family has it) and below the architecture's name: of
/// embeddings, attention, residual stream, logits.
pub(super) fn scale_names(keys: ScaleKeys) -> [(Option<&'static str>, &'static str); 4] {
    [
        (keys.embedding, "embedding_scale"),
        (keys.attention, "attention.scale"),
        (keys.residual, "residual_scale"),
        (keys.logits, "logit_scale"),
    ]
}

/// The family's factors by their keys in config.json. llama.cpp takes an attention factor that is absent or 0 for 1/√E, the
/// others for 1.
fn scales(gguf: &Gguf, arch: &str, family: &Family, head_size: usize) -> Result<Vec<(&'static str, f64)>> {
    let usual = 1.0 / (head_size as f64).sqrt();
    let mut found = Vec::new();
    for ((key, name), absent) in scale_names(family.scales).into_iter().zip([1.0, usual, 1.0, 1.0]) {
        let scale = gguf.number(&format!("{arch}.{name}"))?.filter(|scale| *scale != 0.0);
        found.extend(key.map(|key| (key, scale.map_or(absent, shortest))));
    }
    Ok(found)
}

/// E; a head whose value is of another size, or that is turned in part only, is not supported.
fn head_size(gguf: &Gguf, arch: &str, hidden_size: usize, n_heads: usize) -> Result<usize> {
    let count = |name: &str| gguf.count(&format!("{arch}.{name}"));
    let rotated = count("rope.dimension_count")?;
    let implied = hidden_size.checked_div(n_heads).unwrap_or(0);
    let head_size = count("attention.key_length")?.or(rotated).unwrap_or(implied);
    for (name, size) in
        [("rope.dimension_count", rotated), ("attention.value_length", count("attention.value_length")?)]
    {
        if let Some(size) = size.filter(|size| *size != head_size) {
            return Err(Error::Unsupported(format!(
                "{}: {arch}.{name} {size} differs from the head size {head_size}, which is not supported",
                gguf.path().display()
            )));
        }
    }
    Ok(head_size)
}

/// The row of this architecture. llama.cpp calls Mistral's models "llama" as well; they say so in their name, or by their window.
fn family(gguf: &Gguf, arch: &str) -> Result<&'static Family> {
    let named = gguf.text("general.name")?.unwrap_or_default().to_lowercase();
    let windowed = gguf.count(&format!("{arch}.attention.sliding_window"))?.is_some_and(|w| w > 0);
    let rows = || FAMILIES.iter().filter(|family| family.gguf == arch || family.name == arch);
    let told = |family: &&Family| named.contains(family.name) || (windowed && family.windows == Windows::All);
    let other = rows().filter(|family| family.name != arch).find(told);
    other.or_else(|| rows().next()).ok_or_else(|| Family::unknown(arch, gguf.path()))
}

/// A float32 written as the shortest decimal that reads back as it: 1e-5, not 9.999999747378752e-6.
fn shortest(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}

fn set_ids(gguf: &Gguf, out: &mut Map<String, Value>) -> Result<()> {
    let id = |name: &str| gguf.count(&format!("tokenizer.ggml.{name}_token_id"));
    let eos = id("eos")?;
    // "End of turn" and "end of message" end an answer too, where a model has them besides its EOS.
    let mut ends: Vec<usize> = eos.into_iter().collect();
    for end in [id("eot")?, id("eom")?].into_iter().flatten() {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    out.insert("bos_token_id".to_string(), json!(id("bos")?));
    out.insert("eos_token_id".to_string(), if ends.len() > 1 { json!(ends) } else { json!(ends.first()) });
    out.insert("pad_token_id".to_string(), json!(id("padding")?));
    Ok(())
}

fn set_rope(gguf: &Gguf, arch: &str, theta: f64, head_size: usize, out: &mut Map<String, Value>) -> Result<()> {
    let unsupported = |detail: String| Error::Unsupported(format!("{}: {detail}", gguf.path().display()));
    let kind = gguf.text(&format!("{arch}.rope.scaling.type"))?;
    let factor = match gguf.number(&format!("{arch}.rope.scaling.factor"))? {
        Some(factor) => Some(factor),
        None => gguf.number(&format!("{arch}.rope.scale_linear"))?,
    };
    let divisors = rope_divisors(gguf)?;
    let scaling = match (kind, factor, divisors) {
        (None | Some("none"), _, Some(divisors)) => llama3_scaling(&divisors, theta, head_size).ok_or_else(|| {
            unsupported(format!("the frequency divisors in {ROPE_DIVISORS} are not those of Llama 3's scaling"))
        })?,
        (None, Some(factor), None) | (Some("linear"), Some(factor), None) if factor > 0.0 && factor != 1.0 => {
            json!({"rope_type": "linear", "factor": factor})
        }
        (None | Some("none" | "linear"), _, None) => Value::Null,
        (Some(kind), ..) => {
            return Err(unsupported(format!(
                "RoPE scaling of type \"{kind}\" is not supported; supported are none, linear, and Llama 3's divisors"
            )));
        }
    };
    // Both spellings, so that transformers 4 and 5 read the same.
    let mut parameters = scaling.as_object().cloned().unwrap_or_default();
    parameters.entry("rope_type").or_insert(json!("default"));
    parameters.insert("rope_theta".to_string(), json!(theta));
    out.insert("rope_parameters".to_string(), Value::Object(parameters));
    out.insert("rope_theta".to_string(), json!(theta));
    out.insert("rope_scaling".to_string(), scaling);
    Ok(())
}

fn rope_divisors(gguf: &Gguf) -> Result<Option<Vec<f32>>> {
    let Some(tensor) = gguf.tensors.iter().find(|t| t.name == ROPE_DIVISORS) else { return Ok(None) };
    if tensor.stored != Stored::Known(DType::F32) {
        return Err(Error::file(gguf.path(), format!("{ROPE_DIVISORS} is {:?}, F32 is needed", tensor.stored)));
    }
    let bytes = gguf.bytes_of(tensor);
    let divisors: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Ok(Some(divisors).filter(|d| d.iter().any(|x| *x != 1.0)))
}

/// What Llama 3's scaling divides each frequency by: [E/2]; None for another scaling.
pub(super) fn llama3_divisors(scaling: RopeScaling, theta: f64, head_size: usize) -> Option<Vec<f64>> {
    let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings } =
        scaling
    else {
        return None;
    };
    let divisor = |i: usize| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / head_size as f64);
        // 1 for short waves, `factor` for long ones, between them 1/((1 − s)/factor + s)
        let s = ((original_max_position_embeddings as f64 / wavelength - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - s) / factor + s)
    };
    Some((0..head_size / 2).map(divisor).collect())
}

/// The parameters of Llama 3's scaling whose divisors these are, tried with the values of Meta's models: low factor 1,
/// high factor 4, original length 8192 (then other powers of two), and the largest divisor as the factor. None where they
/// give other divisors.
fn llama3_scaling(divisors: &[f32], theta: f64, head_size: usize) -> Option<Value> {
    if divisors.len() * 2 != head_size {
        return None;
    }
    let (low, high) = (1.0, 4.0);
    let factor = f64::from(divisors.iter().copied().fold(0.0, f32::max));
    let fits = |original: &usize| {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: *original,
        };
        let wanted = llama3_divisors(scaling, theta, head_size).unwrap_or_default();
        wanted.iter().zip(divisors).all(|(want, got)| (f64::from(*got) - want).abs() <= 1e-3 * want)
    };
    let original = std::iter::once(8192).chain((4..21).map(|n| 1 << n)).find(fits)?;
    Some(json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original}))
}

/// One sentence about the metadata that says something of the model and that nothing has asked for, if there is any.
pub fn metadata_not_read(gguf: &Gguf) -> Option<String> {
    // What a file is called, who made it and how it was quantised; the tokenizer's own (gguf_vocabulary.rs).
    let about = ["general.", "quantize.", "split.", "tokenizer."];
    let is_about = |key: &&str| about.iter().any(|prefix| key.starts_with(prefix)) || key.ends_with(".vocab_size");
    let keys: Vec<&str> = gguf.not_asked().into_iter().filter(|key| !is_about(key)).collect();
    (!keys.is_empty()).then(|| format!("metadata that is not read: {}", keys.join(", ")))
}

/// The tensors under their Hugging Face names, as the model's layout says; those that it does not name
/// under their own.
pub fn weights(gguf: Gguf, config: &ModelConfig) -> Result<Weights> {
    let slots = config.slots();
    let by_name: BTreeMap<&str, &Slot> = slots.iter().filter_map(|s| Some((s.gguf.as_deref()?, s))).collect();
    let mut entries = BTreeMap::new();
    for tensor in &gguf.tensors {
        let slot = by_name.get(tensor.name.as_str());
        let entry = Entry {
            file: tensor.file,
            shape: tensor.shape.clone(),
            stored: tensor.stored.clone(),
            start: tensor.start,
            len: tensor.len,
            rows: match slot.and_then(|slot| slot.turned) {
                Some(head_size) if config.family.gguf_interleaves => RowOrder::Interleaved { head_size },
                _ => RowOrder::AsIs,
            },
        };
        entries.insert(slot.map_or(&tensor.name, |slot| &slot.path).clone(), entry);
    }
    Weights::new(std::iter::once(gguf.file).chain(gguf.parts).collect(), entries)
}
