//! LoRA adapters in PEFT's format: a directory with adapter_config.json and adapter_model.safetensors.
use crate::buffer::Host;
use crate::config::ModelConfig;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::adapter_config::{AdapterConfig, TargetModules};
use crate::files::{atomic, read_json_object, safetensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Before every tensor name in the file: PEFT's two wrappers.
const PREFIX: &str = "base_model.model.";
const LORA_A: &str = ".lora_A.weight";
const LORA_B: &str = ".lora_B.weight";
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// The weights that an adapter adds to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub config: AdapterConfig,
    /// (shape, values) by name, without PEFT's prefix: `<module>.lora_A.weight` [r, in], `<module>.lora_B.weight`
    /// [out, r], `<module>.lora_magnitude_vector` [out] for DoRA, and whole weights of `modules_to_save`, for instance
    /// `lm_head.weight` [V, D].
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Adapter {
    /// Reads an adapter that PEFT or this program saved. Target modules given as a regular expression become the list
    /// of modules that the file has.
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
            if short.contains("lora_embedding_") {
                return Err(Error::Unsupported(format!(
                    "{}: {short}: adapters of embeddings are not supported",
                    path.display()
                )));
            }
            let Host::F32(values) = weights.load(name, DType::F32)? else {
                return Err(Error::file(&path, format!("tensor {name} cannot be read as float32")));
            };
            tensors.insert(short.to_string(), (weights.shape(name)?.to_vec(), values));
        }
        let mut adapter = Adapter { config, tensors };
        if matches!(adapter.config.target_modules, TargetModules::Pattern(_)) {
            adapter.config.target_modules = TargetModules::List(adapter.modules());
        }
        adapter.check_pairs().map_err(|detail| Error::file(&path, detail))?;
        Ok(adapter)
    }

    /// The modules that have an A and a B, in order of their names.
    pub fn modules(&self) -> Vec<String> {
        self.tensors.keys().filter_map(|name| name.strip_suffix(LORA_A)).map(str::to_string).collect()
    }

    /// The tensors that replace whole weights of the base model, by name.
    pub fn whole(&self) -> impl Iterator<Item = (&str, &(Vec<usize>, Vec<f32>))> {
        let lora = |name: &str| name.ends_with(LORA_A) || name.ends_with(LORA_B) || name.ends_with(MAGNITUDE);
        self.tensors.iter().map(|(name, t)| (name.as_str(), t)).filter(move |(name, _)| !lora(name))
    }

    /// Whether A, B and magnitudes belong together and have the rank of the configuration; says what does not.
    fn check_pairs(&self) -> std::result::Result<(), String> {
        let r = self.config.r;
        let mut modules = BTreeSet::new();
        for name in self.tensors.keys() {
            let module = [LORA_A, LORA_B, MAGNITUDE].iter().find_map(|suffix| name.strip_suffix(suffix));
            if let Some(module) = module {
                modules.insert(module);
            } else if name.contains("lora_") {
                return Err(format!("tensor {name} is of a kind that is not known"));
            }
        }
        if modules.is_empty() && self.whole().next().is_none() {
            return Err("has no tensors".to_string());
        }
        for module in modules {
            let shape = |suffix: &str| self.tensors.get(&format!("{module}{suffix}")).map(|(shape, _)| &shape[..]);
            let n_out = match (shape(LORA_A), shape(LORA_B)) {
                (Some(&[rows, _]), Some(&[n_out, columns])) if rows == r && columns == r => n_out,
                (Some(a), Some(b)) => {
                    return Err(format!(
                        "{module}: lora_A is {a:?} and lora_B is {b:?}; [{r}, in] and [out, {r}] belong to the rank \
                         {r} in {CONFIG_FILE}"
                    ));
                }
                (None, _) => return Err(format!("{module}{LORA_A} is missing")),
                (_, None) => return Err(format!("{module}{LORA_B} is missing")),
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

    /// Whether the adapter fits `model`: every module is one of its linear layers with these sizes, every whole tensor
    /// one of its tensors. `source` is what errors name.
    pub fn check_fits(&self, model: &ModelConfig, source: &Path) -> Result<()> {
        let expected: BTreeMap<String, Vec<usize>> = model.slots().into_iter().map(|s| (s.path, s.shape)).collect();
        let head = vec![model.vocab_size, model.hidden_size];
        let shape_of = |name: &str| expected.get(name).or((name == "lm_head.weight").then_some(&head));
        let wrong = |detail: String| Err(Error::file(source, format!("does not fit the base model: {detail}")));
        for module in self.modules() {
            let size = |suffix: &str, axis: usize| {
                self.tensors.get(&format!("{module}{suffix}")).and_then(|(shape, _)| shape.get(axis).copied())
            };
            let found = (size(LORA_B, 0), size(LORA_A, 1));
            match shape_of(&format!("{module}.weight")).map(|s| &s[..]) {
                Some(&[n_out, n_in]) if found == (Some(n_out), Some(n_in)) => {}
                Some(&[n_out, n_in]) => {
                    let (b, a) = (found.0.unwrap_or(0), found.1.unwrap_or(0));
                    return wrong(format!("{module} is [{n_out}, {n_in}], the adapter is for [{b}, {a}]"));
                }
                _ => return wrong(format!("it has no linear layer {module}")),
            }
        }
        for (name, (shape, _)) in self.whole() {
            match shape_of(name) {
                Some(wanted) if wanted == shape => {}
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
