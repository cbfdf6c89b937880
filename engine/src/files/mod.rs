//! Model files: Hugging Face directories, GGUF, PEFT adapters.
pub mod adapter;
pub mod adapter_config;
pub mod adapter_targets;
pub mod atomic;
pub mod gguf;
pub mod gguf_model;
mod gguf_vocabulary;
pub mod gguf_write;
pub mod gguf_export;
pub mod safetensors;
pub mod vocabulary;
pub mod weights;
mod whole;

#[cfg(test)]
mod adapter_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use crate::buffer::Host;
use crate::config::{GenerationConfig, ModelConfig};
use crate::dtype::DType;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vocabulary::Vocabulary;
use weights::Weights;

/// How a model is drawn from.
pub const GENERATION_FILE: &str = "generation_config.json";
/// The beginning of a file that Git LFS has left in the place of a large one.
pub const LFS_BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/";
/// What to do about a file that begins as the pointers do that Git LFS leaves in the place of large files.
pub const LFS_POINTER: &str = "is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull` in its repository, or \
                               download it from the web page";

/// A model on disk, checked to be whole; its weights are loaded tensor by tensor.
#[derive(Debug)]
pub struct ModelFiles {
    /// What the model is made of.
    pub config: ModelConfig,
    /// Its tensors.
    pub weights: Weights,
    /// The directory or file that was opened.
    pub path: PathBuf,
    /// The tokenizer of a GGUF file, if it has one; directories have tokenizer.json instead.
    pub vocabulary: Option<Vocabulary>,
    /// What a user should know of these files, a sentence each: what contradicts the configuration, what is not read.
    pub notes: Vec<String>,
}

impl ModelFiles {
    /// Opens a directory in Hugging Face layout (config.json, model.safetensors or shards with an index) or a .gguf
    /// file, and checks that every tensor of the model is there in its shape and in a type that can be read. Whether the
    /// output layer is the embedding is for the tensors to say; further tensors are noted.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing_model(path)),
            Err(e) => return Err(Error::file(path, format!("cannot be opened: {e}"))),
        };
        let files = if metadata.is_dir() { Self::open_directory(path)? } else { Self::open_gguf(path)? };
        files.settle()
    }

    /// Whether this is the name of a file in the model's directory that holds its configuration or weights.
    pub fn is_file_of(&self, name: &str) -> bool {
        ["config.json", GENERATION_FILE].contains(&name)
            || (name == safetensors::INDEX_FILE && !self.path.join(safetensors::SINGLE_FILE).exists())
            || self.weights.paths().any(|path| path.file_name().is_some_and(|file| file == name))
    }

    fn open_directory(dir: &Path) -> Result<Self> {
        let config_path = dir.join("config.json");
        if !config_path.exists() {
            let detail = if dir.join("adapter_config.json").exists() {
                "is an adapter, not a model; give its base model, and the adapter as adapter"
            } else {
                "has no config.json; a model directory or a .gguf file is needed"
            };
            return Err(Error::file(dir, detail));
        }
        let mut config = ModelConfig::from_json(read_json_object(&config_path)?, &config_path)?;
        let generation = dir.join(GENERATION_FILE);
        if generation.exists() {
            config.generation = GenerationConfig::from_json(read_json_object(&generation)?, &generation)?;
        }
        let (single, index) = (dir.join(safetensors::SINGLE_FILE), dir.join(safetensors::INDEX_FILE));
        let weights = if single.exists() {
            safetensors::open(&single)?
        } else if index.exists() {
            safetensors::open_sharded(&index)?
        } else {
            return Err(Error::file(
                dir,
                format!(
                    "has neither {} nor {}; weights in other formats (pytorch_model.bin …) are not read, \
                     convert them to safetensors first",
                    safetensors::SINGLE_FILE,
                    safetensors::INDEX_FILE
                ),
            ));
        };
        Ok(ModelFiles { config, weights, path: dir.to_path_buf(), vocabulary: None, notes: Vec::new() })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let gguf = gguf::Gguf::open(path)?;
        let config = ModelConfig::from_json(gguf_model::config(&gguf)?, path)?;
        let has_tokenizer = gguf.metadata.contains_key("tokenizer.ggml.tokens");
        let vocabulary = if has_tokenizer { Some(gguf.vocabulary()?) } else { None };
        if let Some(v) = vocabulary.as_ref().filter(|v| v.tokens.len() > config.vocab_size) {
            let detail = format!(
                "its tokenizer has {} tokens, its embedding {}; they do not belong together",
                v.tokens.len(),
                config.vocab_size
            );
            return Err(Error::file(path, detail));
        }
        let notes = gguf_model::metadata_not_read(&gguf).into_iter().collect();
        let weights = gguf_model::weights(gguf, &config)?;
        Ok(ModelFiles { config, weights, path: path.to_path_buf(), vocabulary, notes })
    }
}

fn missing_model(path: &Path) -> Error {
    let mut detail = "there is no such file or directory; a model is a directory in Hugging Face layout (config.json, \
                      model.safetensors, tokenizer.json) or a .gguf file"
        .to_string();
    let parts: Vec<&str> = path.to_str().unwrap_or_default().split('/').collect();
    if let [owner, name] = parts[..]
        && !owner.is_empty()
        && !name.is_empty()
        && !owner.starts_with(['.', '~'])
    {
        detail.push_str(". If it is meant as a name on the Hugging Face hub: models are not downloaded here; download it first and give the directory");
    }
    Error::file(path, detail)
}

/// Reads a JSON file that holds an object.
pub fn read_json_object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be opened: {e}")))?;
    if text.starts_with(LFS_BEGINNING) {
        return Err(Error::file(path, LFS_POINTER));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::file(path, "is JSON, but not an object")),
        Err(e) => Err(Error::file(path, format!("is not JSON: {e}"))),
    }
}

/// Writes a model directory that transformers loads as it is: model.safetensors (or shards of at most
/// `max_shard_bytes` with an index), config.json, generation_config.json. Tensors are (Hugging Face name, shape,
/// values). Every file is replaced whole; the configuration comes last.
pub fn save_model<H: Borrow<Host>>(
    dir: &Path,
    config: &ModelConfig,
    tensors: &[(String, Vec<usize>, H)],
    max_shard_bytes: u64,
) -> Result<()> {
    atomic::create_directory(dir)?;
    safetensors::write_model(dir, tensors, max_shard_bytes)?;
    let mut json = config.to_json();
    if let Some(dtype) = main_dtype(tensors) {
        let key = if json.contains_key("torch_dtype") && !json.contains_key("dtype") { "torch_dtype" } else { "dtype" };
        json.insert(key.to_string(), json!(dtype.name()));
    }
    atomic::replace_json(&dir.join(GENERATION_FILE), &config.generation.to_json(&json))?;
    atomic::replace_json(&dir.join("config.json"), &json)
}

/// The type that most bytes have.
fn main_dtype<H: Borrow<Host>>(tensors: &[(String, Vec<usize>, H)]) -> Option<DType> {
    let mut bytes: BTreeMap<&str, (usize, DType)> = BTreeMap::new();
    for (_, _, host) in tensors {
        let host = host.borrow();
        bytes.entry(host.dtype().name()).or_insert((0, host.dtype())).0 += host.bytes();
    }
    bytes.into_values().max_by_key(|(n, _)| *n).map(|(_, dtype)| dtype)
}
