//! LoRA adapters in PEFT's format: a directory with adapter_config.json and adapter_model.safetensors.
use crate::buffer::Host;
use crate::config::{ModelConfig, Role};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::adapter_config::AdapterConfig;
use crate::files::{atomic, read_json_object, safetensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Before every tensor name in the file: PEFT's two wrappers.
const PREFIX: &str = "base_model.model.";
const LORA_A: &str = ".lora_A.weight";
const LORA_B: &str = ".lora_B.weight";
const B_BIAS: &str = ".lora_B.bias";
const EMBEDDING_A: &str = ".lora_embedding_A";
const EMBEDDING_B: &str = ".lora_embedding_B";
const MAGNITUDE: &str = ".lora_magnitude_vector";
/// Rows trained by themselves.
const TOKENS: &str = ".token_adapter.trainable_tokens_delta";
/// What an adapter's tensors beside a module end in; every other tensor is one of the model's.
const PARTS: [&str; 6] = [LORA_A, LORA_B, B_BIAS, EMBEDDING_A, EMBEDDING_B, MAGNITUDE];

/// A trained tensor as an adapter's file has it.
pub struct Named {
    /// Without PEFT's prefix.
    pub name: String,
    /// As the file holds it.
    pub shape: Vec<usize>,
}

impl Named {
    /// Of the parameter at `path`, [`Role`] and shape as in the model; `adapted`: its module has A and B.
    pub fn of(path: &str, role: Role, shape: &[usize], adapted: bool) -> Named {
        let mut shape = shape.to_vec();
        if role == Role::EmbeddingA {
            shape.reverse();
        }
        // PEFT puts a layer beside which it stands into a wrapper.
        let name = match path.strip_suffix(".bias") {
            Some(module) if role == Role::Bias && adapted => format!("{module}.base_layer.bias"),
            _ => path.to_string(),
        };
        Named { name, shape }
    }
}

/// The weights that an adapter adds to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// adapter_config.json.
    pub config: AdapterConfig,
    /// (shape, values) by name, without PEFT's prefix: `<module>.lora_A.weight` [r, in], `<module>.lora_B.weight`
    /// [out, r], `<module>.lora_B.bias` [out]; beside an embedding `<module>.lora_embedding_A` [r, V] and
    /// `<module>.lora_embedding_B` [D, r]; `<module>.lora_magnitude_vector` [out] for DoRA (beside an embedding [D]); whole weights of
    /// `modules_to_save`, for instance `lm_head.weight` [V, D]; rows of `trainable_token_indices`,
    /// `<module>.token_adapter.trainable_tokens_delta` [k, D]; and trained biases.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Adapter {
    /// Reads an adapter that PEFT or this program saved.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let (config_path, path) = (dir.join(CONFIG_FILE), dir.join(WEIGHTS_FILE));
        if !config_path.exists() {
            let detail = if dir.exists() { "has no adapter_config.json" } else { "does not exist" };
            return Err(Error::file(
                dir,
                format!("{detail}; an adapter is a directory with {CONFIG_FILE} and {WEIGHTS_FILE}"),
            ));
        }
        let config = AdapterConfig::from_json(read_json_object(&config_path)?, &config_path)?;
        if !path.exists() {
            return Err(Error::file(dir, format!("has no {WEIGHTS_FILE}; adapters in other formats are not read")));
        }
        let weights = safetensors::open(&path)?;
        let mut tensors = BTreeMap::new();
        for name in weights.names() {
            let Some(short) = name.strip_prefix(PREFIX) else {
                return Err(Error::file(&path, format!("tensor {name} does not start with {PREFIX}, as PEFT's do")));
            };
            let Host::F32(values) = weights.load(name, DType::F32)? else {
                return Err(Error::file(&path, format!("tensor {name} cannot be read as float32")));
            };
            tensors.insert(short.to_string(), (weights.shape(name)?.to_vec(), values));
        }
        let adapter = Adapter { config, tensors };
        adapter.check_pairs().map_err(|detail| Error::file(&path, detail))?;
        Ok(adapter)
    }

    /// The modules that have an A and a B, in order of their names.
    pub fn modules(&self) -> Vec<String> {
        let of = |name: &str| name.strip_suffix(LORA_A).or(name.strip_suffix(EMBEDDING_A)).map(str::to_string);
        self.tensors.keys().filter_map(|name| of(name)).collect()
    }

    /// The tensors that replace whole weights of the base model, by name.
    pub fn whole(&self) -> impl Iterator<Item = (&str, &(Vec<usize>, Vec<f32>))> {
        let lora = |name: &str| PARTS.iter().chain([&TOKENS]).any(|part| name.ends_with(part));
        self.tensors.iter().map(|(name, t)| (name.as_str(), t)).filter(move |(name, _)| !lora(name))
    }

    /// Whether A, B and magnitudes belong together and have the rank of the configuration; says what does not.
    fn check_pairs(&self) -> std::result::Result<(), String> {
        let mut modules = BTreeSet::new();
        for name in self.tensors.keys() {
            if let Some(module) = PARTS.iter().find_map(|suffix| name.strip_suffix(suffix)) {
                modules.insert(module);
            } else if name.contains("lora_") {
                return Err(format!("tensor {name} is of a kind that is not known"));
            }
        }
        if self.tensors.is_empty() {
            return Err("has no tensors".to_string());
        }
        for module in modules {
            let shape = |suffix: &str| self.tensors.get(&format!("{module}{suffix}")).map(|(shape, _)| &shape[..]);
            let (a, b) = if shape(EMBEDDING_A).or(shape(EMBEDDING_B)).is_some() {
                (EMBEDDING_A, EMBEDDING_B)
            } else {
                (LORA_A, LORA_B)
            };
            let n_out = match (shape(a), shape(b)) {
                (Some(&[rows, _]), Some(&[n_out, columns])) if rows == columns && self.has_rank(rows) => n_out,
                (Some(found_a), Some(found_b)) => {
                    let r = self.config.r;
                    return Err(format!(
                        "{module}: lora_A is {found_a:?} and lora_B is {found_b:?}; [{r}, in] and [out, {r}] belong to the \
                         rank {r} in {CONFIG_FILE}"
                    ));
                }
                (None, _) => return Err(format!("{module}{a} is missing")),
                (_, None) => return Err(format!("{module}{b} is missing")),
            };
            match shape(MAGNITUDE) {
                None if self.config.use_dora => return Err(format!("{module}{MAGNITUDE} is missing (use_dora is on)")),
                Some(_) if !self.config.use_dora => {
                    return Err(format!("{module}{MAGNITUDE} is there, but use_dora is off"));
                }
                Some(m) if m != [n_out] => return Err(format!("{module}{MAGNITUDE} is {m:?}, [{n_out}] is needed")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether some module may have this rank.
    fn has_rank(&self, r: usize) -> bool {
        r == self.config.r || self.config.rank_pattern.iter().any(|(_, of_pattern)| *of_pattern == r)
    }

    /// Whether the adapter fits `model`: every module is one of its modules with these sizes, every whole tensor
    /// one of its tensors. `source` is what errors name.
    pub fn check_fits(&self, model: &ModelConfig, source: &Path) -> Result<()> {
        let slots = model.untied().slots();
        let expected: BTreeMap<&str, &Vec<usize>> = slots.iter().map(|s| (s.path.as_str(), &s.shape)).collect();
        let wrong = |detail: String| Err(Error::file(source, format!("does not fit the base model: {detail}")));
        for module in self.modules() {
            let size = |suffix: &str, axis: usize| {
                self.tensors.get(&format!("{module}{suffix}")).and_then(|(shape, _)| shape.get(axis).copied())
            };
            // [out, in] of a linear layer, [V, D] of an embedding.
            let found = (size(LORA_B, 0).or(size(EMBEDDING_A, 1)), size(LORA_A, 1).or(size(EMBEDDING_B, 0)));
            match expected.get(format!("{module}.weight").as_str()).map(|s| &s[..]) {
                Some(&[n_out, n_in]) if found == (Some(n_out), Some(n_in)) => {}
                Some(&[n_out, n_in]) => {
                    let (b, a) = (found.0.unwrap_or(0), found.1.unwrap_or(0));
                    return wrong(format!("{module} is [{n_out}, {n_in}], the adapter is for [{b}, {a}]"));
                }
                _ => return wrong(format!("it has no linear layer {module}")),
            }
        }
        for (name, (shape, _)) in &self.tensors {
            let Some(module) = name.strip_suffix(TOKENS) else { continue };
            match expected.get(format!("{module}.weight").as_str()).map(|s| &s[..]) {
                Some(&[_, d]) if shape.get(1) == Some(&d) => {}
                Some(wanted) => return wrong(format!("{module} is {wanted:?}, the adapter has rows of it {shape:?}")),
                None => return wrong(format!("it has no module {module}")),
            }
        }
        for (name, (shape, _)) in self.whole() {
            match expected.get(name.replace(".base_layer.", ".").as_str()) {
                Some(wanted) if *wanted == shape => {}
                Some(wanted) => return wrong(format!("{name} is {wanted:?}, the adapter has {shape:?}")),
                None => return wrong(format!("it has no tensor {name}")),
            }
        }
        Ok(())
    }

    /// Writes the adapter as PEFT reads it; each file whole or not at all, the configuration last.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        atomic::create_directory(dir)?;
        self.check_pairs().map_err(|detail| Error::file(dir, format!("adapter cannot be saved: {detail}")))?;
        let tensors: Vec<(String, Vec<usize>, Host)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (format!("{PREFIX}{name}"), shape.clone(), Host::F32(values.clone())))
            .collect();
        safetensors::write(&dir.join(WEIGHTS_FILE), &tensors)?;
        atomic::replace_json(&dir.join(CONFIG_FILE), &self.config.to_json())
    }
}
