//! What every command does before its own work: open the model with its tokenizer, put the adapter on.
use crate::data::Calls;
use crate::error::{Error, Result};
use crate::hub::{self, Hub, HubName};
use crate::job::learner::{self, Learner};
use crate::options::{self, LoraOptions, ModelOptions, TargetModules, TrainingOptions, WeightType, base_of};
use crate::run::OF_A_RUN;
use crate::run::side_files::SIDE_FILES;
use crate::run::{Checkpoint, FileHash, durable};
use crate::text::Tokenizer;
use engine::backend::Device;
use engine::config::{Head, ModelConfig, Role, SCORE, Slot};
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter::Adapter;
use engine::files::adapter_config::{self, AdapterConfig, TokenIndices};
use engine::files::adapter_targets::Target;
use engine::model::decoder::Decoder;
use engine::model::memory::StepShape;
use engine::model::parameter::Parameter;
use engine::optim::AdamW;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model on disk and its tokenizer, checked to fit each other.
pub struct ModelSource {
    /// Its configuration and where its weights lie; none are loaded yet.
    pub files: ModelFiles,
    /// Its vocabulary and chat templates; no larger than the embedding.
    pub tokenizer: Tokenizer,
}

/// Opens a model directory or a .gguf file with its tokenizer ([`open_files`]).
pub fn open_source(path: &str) -> Result<ModelSource> {
    open_with(path, None)
}

/// Opens a model with the tokenizer of the adapter that goes on it, where the adapter's directory has one: what training has left
/// there, a chat template too, is what the adapter has learnt with. Else with the model's own.
pub fn open_with(path: &str, adapter: Option<&Path>) -> Result<ModelSource> {
    let mut source = open_own(path)?;
    if let Some(adapter) = adapter.filter(|adapter| brings_tokenizer(adapter)) {
        let shown = adapter.display().to_string();
        let tokenizer = Tokenizer::from_directory(adapter)?;
        check_rows(&tokenizer, source.files.config.vocab_size, &shown)?;
        if !tokenizer.has_templates_of(&source.tokenizer) {
            tell!("note: {shown}: the adapter's own chat template is used, which is another than the model's");
        }
        source.tokenizer = tokenizer;
    }
    Ok(source)
}

/// Whether an adapter's directory has a tokenizer.
fn brings_tokenizer(adapter: &Path) -> bool {
    adapter.join("tokenizer.json").is_file()
}

fn open_own(path: &str) -> Result<ModelSource> {
    let files = open_files(path)?;
    for note in &files.notes {
        tell!("note: {path}: {note}");
    }
    let tokenizer = open_tokenizer(&files)?;
    check_rows(&tokenizer, files.config.vocab_size, path)?;
    let source = ModelSource { files, tokenizer };
    not_read(&source)?.iter().for_each(|note| tell!("note: {path}: {note}"));
    Ok(source)
}

/// Opens a model directory or a .gguf file; of one from the hub, fetches the weights first.
pub fn open_files(path: &str) -> Result<ModelFiles> {
    Hub::of_environment().complete_model(Path::new(path))?;
    if !Path::new(path).exists() {
        return Err(Error::file(
            path,
            "there is no such file or directory; a model is a directory in Hugging Face layout (config.json, \
             model.safetensors, tokenizer.json), a .gguf file, or on the Hugging Face hub a name of two parts, org/name",
        ));
    }
    Ok(ModelFiles::open(Path::new(path))?)
}

/// Where a model and its adapter lie.
#[derive(Debug)]
pub struct ModelAndAdapter {
    /// A model directory or .gguf file.
    pub model: String,
    /// A PEFT adapter for it.
    pub adapter: Option<PathBuf>,
}

/// What a user means by a model, an adapter, or both. An adapter's directory alone stands for the adapter and for its base
/// ([`base_of`]). Errors: neither is given, or what is given as the only adapter is none.
pub fn model_and_adapter(model: Option<&str>, adapter: Option<&Path>) -> Result<ModelAndAdapter> {
    let alone = match (model, adapter) {
        (Some(model), Some(adapter)) => {
            return Ok(ModelAndAdapter { model: model.into(), adapter: Some(adapter.to_path_buf()) });
        }
        (Some(path), None) => path.to_string(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => return Err(Error::input("model_name_or_path is missing")),
    };
    match base_of(&alone)? {
        Some(base) => Ok(ModelAndAdapter { model: base, adapter: Some(PathBuf::from(alone)) }),
        None if adapter.is_some() => Err(Error::file(alone, "is no adapter; give the model with --model_name_or_path")),
        None => Ok(ModelAndAdapter { model: alone, adapter: None }),
    }
}

impl ModelAndAdapter {
    /// Whether the adapter's directory has a tokenizer, which then holds.
    pub fn brings_tokenizer(&self) -> bool {
        self.adapter.as_deref().is_some_and(brings_tokenizer)
    }

    /// Opens the model, with the tokenizer that holds ([`open_with`]).
    pub fn open(&self) -> Result<ModelSource> {
        open_with(&self.model, self.adapter.as_deref())
    }
}

fn check_rows(tokenizer: &Tokenizer, rows: usize, path: &str) -> Result<()> {
    let tokens = tokenizer.vocab_size();
    if tokens > rows {
        return Err(Error::Input(format!(
            "{path}: its tokenizer has {tokens} tokens, its embedding only {rows} rows: the tokenizer belongs to another model"
        )));
    }
    Ok(())
}

impl ModelSource {
    /// The tokens that end what is drawn: those that the model's files name, and the tokenizer's.
    pub fn stop_tokens(&self) -> Vec<u32> {
        let mut ids = self.files.config.end_ids().to_vec();
        ids.extend(self.tokenizer.eos_id().filter(|id| !ids.contains(id)));
        ids
    }
}

/// Lines about what a model brings that is not read: files of its directory, fields of generation_config.json.
fn not_read(source: &ModelSource) -> Result<Vec<String>> {
    let (files, path) = (&source.files, &source.files.path);
    let mut names: Vec<String> = Vec::new();
    if path.is_dir() {
        let of_a_run = path.join(crate::run::MANIFEST).exists() || path.join("files.json").exists();
        for entry in std::fs::read_dir(path).map_err(|e| Error::file(path, e))? {
            let name = entry.map_err(|e| Error::file(path, e))?.file_name().to_string_lossy().into_owned();
            let written = OF_A_RUN.iter().chain(&SIDE_FILES).any(|file| *file == name);
            let ours = of_a_run && (written || name.starts_with("checkpoint-"));
            let read = files.is_file_of(&name) || source.tokenizer.is_file_of(&name);
            if !name.starts_with('.') && !ours && !read {
                names.push(name);
            }
        }
        names.sort();
    }
    let mut notes = Vec::new();
    if !names.is_empty() {
        notes.push(format!("not read: {}", names.join(", ")));
    }
    // What ends a completion is read by the commands that draw for people; those that train have an option for it, and say so.
    let mut unused = files.config.generation.not_used(true);
    unused.retain(|name| *name != "stop_strings");
    if !unused.is_empty() {
        notes.push(format!(
            "generation_config.json: {} {} not used",
            unused.join(", "),
            if unused.len() == 1 { "is" } else { "are" }
        ));
    }
    Ok(notes)
}

fn open_tokenizer(files: &ModelFiles) -> Result<Tokenizer> {
    match &files.vocabulary {
        Some(vocabulary) => Tokenizer::from_vocabulary(vocabulary, &files.path),
        None => Tokenizer::from_directory(&files.path),
    }
}

/// The type that frozen matrices are held in: with `auto`, that of the file's embedding stands for all.
pub fn held_dtype(choice: WeightType, files: &ModelFiles) -> DType {
    choice.dtype().unwrap_or_else(|| stored_dtype(files, "model.embed_tokens.weight"))
}

fn stored_dtype(files: &ModelFiles, name: &str) -> DType {
    files.weights.dtype(name).unwrap_or(DType::F32)
}

/// Bytes of all matrices as they are held where they are not trained: with `auto`, each as the file has it.
pub fn held_bytes(choice: WeightType, files: &ModelFiles) -> u64 {
    bytes_of_matrices(choice.dtype(), files)
}

/// Bytes of all matrices in one type; None: each as the file has it.
pub fn bytes_of_matrices(dtype: Option<DType>, files: &ModelFiles) -> u64 {
    let bytes = |slot: &Slot| dtype.unwrap_or_else(|| stored_dtype(files, &slot.path)).bytes(slot.n()) as u64;
    files.config.slots().iter().filter(|slot| slot.role.is_matrix()).map(bytes).sum()
}

/// The type that a merged model is saved in; `auto` keeps half precision where the file has it.
pub fn saved_dtype(choice: WeightType, files: &ModelFiles) -> DType {
    choice.dtype().unwrap_or_else(|| match files.weights.dtype("model.embed_tokens.weight") {
        Ok(DType::BF16) => DType::BF16,
        Ok(DType::F16) => DType::F16,
        _ => DType::F32,
    })
}

/// How the tokenizer's chat template wants calls of functions.
pub fn calls_of(tokenizer: &Tokenizer) -> Calls {
    if tokenizer.template_mentions("tool_calls") { Calls::AsCalls } else { Calls::AsText }
}

/// The options' own chat template and end-of-sequence token, where given.
pub fn adjust_tokenizer(template: Option<&Path>, eos_token: Option<&str>, tokenizer: &mut Tokenizer) -> Result<()> {
    if let Some(path) = template {
        let file = if path.is_dir() { path.join("chat_template.jinja") } else { path.to_path_buf() };
        let source =
            std::fs::read_to_string(&file).map_err(|e| Error::file(&file, format!("chat_template_path: {e}")))?;
        tokenizer.set_chat_template(&source);
    }
    match eos_token {
        Some(token) => tokenizer.set_eos(token),
        None => Ok(()),
    }
}

/// What is trained: all weights, or an adapter (a new one, or one to go on with) beside frozen ones.
pub struct Policy {
    /// Of the weights; None: as their file holds them, quantised ones too.
    dtype: Option<DType>,
    /// That type, of the embedding: what most weights have.
    held_bytes: u64,
    adapter: Option<AdapterConfig>,
    /// What it changes.
    targets: Option<Vec<Target>>,
    /// Weights of modules that it trains whole.
    n_whole: u64,
    /// Floats of rows that it trains by themselves, and of the matrix that puts them into the output layer.
    token_rows: (u64, u64),
    start: Option<Adapter>,
    seed: u64,
}

impl Policy {
    /// From the options; an adapter is read and compared with the model, nothing else is loaded yet.
    pub fn new(source: &ModelSource, model: &ModelOptions, lora: &LoraOptions, seed: u64) -> Result<Self> {
        let config = source.files.config.clone();
        let dropouts: Vec<String> = config.dropouts().iter().map(|(key, p)| format!("{key} {p}")).collect();
        if !dropouts.is_empty() {
            let (path, which) = (source.files.path.display(), dropouts.join(", "));
            tell!("note: {path}: its config.json asks for dropout in training, which is not done: {which}");
        }
        let (adapter, start) = match &lora.adapter_name_or_path {
            Some(path) => {
                let mut adapter = load_adapter(path, config.head)?;
                adapter.check_fits(&config, path)?;
                name_base(&mut adapter.config, path, &model.model_name_or_path);
                (Some(adapter.config.clone()), Some(adapter))
            }
            None if lora.use_peft => (Some(new_adapter(&model.model_name_or_path, config.head, lora)?), None),
            None => (None, None),
        };
        let targets = adapter.as_ref().map(|adapter| adapter.targets(&config)).transpose()?;
        if let Some(adapter) = &adapter {
            check_trainable(adapter, &config)?;
        }
        let rows = adapter.as_ref().map(|adapter| adapter.token_targets(&config)).transpose()?.unwrap_or_default();
        let in_head = if rows.shared { rows.embedding.len() } else { rows.output.len() };
        let token_rows = (rows.n_weights(&config), (in_head * config.vocab_size) as u64);
        // Weights that are trained are float32.
        let dtype = if adapter.is_some() { model.dtype.dtype() } else { Some(DType::F32) };
        let held_bytes = held_bytes(model.dtype, &source.files);
        let whole = adapter.as_ref().map(|adapter| adapter.trained_whole(&config)).unwrap_or_default();
        let n_whole = whole.iter().filter(|slot| slot.role != Role::Score).map(|slot| slot.n() as u64).sum();
        Ok(Policy { dtype, held_bytes, adapter, targets, n_whole, token_rows, start, seed })
    }

    /// What a training step's memory depends on: the policy, the options and (tokens, predictions) of the largest batch.
    pub fn step_shape(&self, training: &TrainingOptions, (n_tokens, n_items): (usize, usize)) -> StepShape<'_> {
        let adapter = self.targets.as_deref();
        let moments = if training.optim == options::OptimizerName::AdamW { 2 } else { 0 };
        let (matrix_bytes, checkpointing) = (self.held_bytes, training.gradient_checkpointing);
        let accumulates = training.gradient_accumulation_steps > 1;
        StepShape { matrix_bytes, adapter, n_tokens, n_items, checkpointing, moments, accumulates }
    }

    /// Bytes that modules and rows trained whole take beside their frozen values: weights, gradients, moments.
    pub fn bytes_trained_whole(&self, training: &TrainingOptions) -> u64 {
        let moments = if training.optim == options::OptimizerName::AdamW { 2 } else { 0 };
        let (rows, places) = self.token_rows;
        4 * (2 + moments) * (self.n_whole + rows) + 4 * places
    }

    /// Loads the model, with its trained weights those of a checkpoint if one is given.
    pub fn model(&self, device: &Device, source: &ModelSource, resumed: Option<&Checkpoint>) -> Result<Decoder> {
        let resumed_files = match (resumed, &self.adapter) {
            (Some(checkpoint), None) => Some(ModelFiles::open(&checkpoint.path)?),
            _ => None,
        };
        let mut model = Decoder::load(resumed_files.as_ref().unwrap_or(&source.files), device, self.dtype)?;
        match (resumed, &self.adapter, &self.start) {
            (Some(checkpoint), Some(_), _) => model.load_adapter(&Adapter::load(&checkpoint.path)?)?,
            (None, Some(_), Some(start)) => model.load_adapter(start)?,
            (None, Some(config), None) => model.add_lora(config, self.seed)?,
            (_, None, _) => {}
        }
        Ok(model)
    }

    /// Loads the model, and from a checkpoint the trained weights and the optimiser's state.
    pub fn learner(
        &self,
        device: &Device,
        source: &ModelSource,
        training: &TrainingOptions,
        resumed: Option<&Checkpoint>,
    ) -> Result<Learner> {
        let model = self.model(device, source, resumed)?;
        let adamw = AdamW::new(training.adam_beta1, training.adam_beta2, training.adam_epsilon);
        let optimizer = match training.optim {
            options::OptimizerName::AdamW => learner::Optimizer::AdamW(adamw),
            options::OptimizerName::Sgd => learner::Optimizer::Sgd,
        };
        let mut learner = Learner::new(model, optimizer, training.weight_decay, training.max_grad_norm);
        if let Some(checkpoint) = resumed {
            learner.restore_optimizer(checkpoint.optimizer()?)?;
        }
        Ok(learner)
    }

    /// The model as it was before training, to compare with: a frozen copy, or for a new adapter the model with the
    /// adapter off, or beside it the adapter that training went on from. `model` is the one to be trained;
    /// `resumed`: it has been trained already.
    pub fn reference(&self, model: &Decoder, source: &ModelSource, resumed: bool) -> Result<Decoder> {
        match (&self.adapter, &self.start) {
            (None, _) if resumed => Ok(Decoder::load(&source.files, &model.device, self.dtype)?),
            (None, _) => Ok(model.clone()),
            (Some(_), None) => Ok(model.without_adapter()),
            (Some(_), Some(start)) => {
                let mut reference = model.without_adapter();
                reference.load_adapter(start)?;
                Ok(reference)
            }
        }
    }

    /// Bytes that a reference keeps beside the model: those of all weights, or none where an adapter is trained.
    pub fn reference_bytes(source: &ModelSource, lora: &LoraOptions) -> u64 {
        if lora.is_used() { 0 } else { 4 * source.files.config.count_parameters().0 }
    }

    /// One line: what is trained, on how much, where.
    pub fn describe(&self, model: &Decoder, amount: &str, device: &str) -> String {
        let count = |all: Vec<&Parameter>| all.iter().map(|p| p.len()).sum::<usize>() as f64 / 1e6;
        let (all, trained) = (count(model.parameters()), count(model.trained()));
        let what = match &self.adapter {
            None => format!("all {all:.1} M weights"),
            Some(a) => format!("an adapter of rank {} ({trained:.2} M of {all:.1} M weights)", a.r),
        };
        format!("training {what} on {amount}; {device}")
    }

    /// Whether an adapter is trained beside frozen weights.
    pub fn is_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// What a finished run has made, in a few words.
    pub fn kind(&self) -> String {
        self.adapter.as_ref().map_or("all weights".into(), |a| format!("an adapter of rank {}", a.r))
    }

    /// The directory that transformers (or PEFT) loads: weights or adapter, and the tokenizer.
    pub fn save(&self, dir: &Path, model: &Decoder, tokenizer: &Tokenizer) -> Result<()> {
        match &self.adapter {
            None => model.save(dir, DType::F32)?,
            Some(config) => model.adapter(config.clone())?.save(dir)?,
        }
        tokenizer.save(dir)
    }
}

/// The layers that `--lora_target_modules` names; without it queries and values.
pub fn target_modules(named: Option<&TargetModules>) -> adapter_config::TargetModules {
    match named {
        None => adapter_config::TargetModules::List(vec!["q_proj".into(), "v_proj".into()]),
        Some(TargetModules::AllLinear) => adapter_config::TargetModules::AllLinear,
        Some(TargetModules::Named(names)) => adapter_config::TargetModules::List(names.clone()),
        Some(TargetModules::Pattern(pattern)) => adapter_config::TargetModules::Pattern(pattern.clone()),
    }
}

/// PEFT's configuration of the adapter that the options describe.
fn new_adapter(model: &str, head: Head, lora: &LoraOptions) -> Result<AdapterConfig> {
    let (task_type, always) = match head {
        Head::LanguageModel => ("CAUSAL_LM", None),
        Head::Score => ("SEQ_CLS", Some("score".to_string())),
    };
    let modules_to_save = lora.lora_modules_to_save.iter().flatten().cloned().chain(always).collect();
    let id = |id: &usize| {
        u32::try_from(*id)
            .map_err(|_| Error::Input(format!("lora_trainable_token_indices: {id} is no token of any vocabulary")))
    };
    let tokens = lora.lora_trainable_token_indices.as_ref().map(|ids| ids.0.iter().map(id).collect::<Result<Vec<_>>>());
    let (model, raw) = base_name(model);
    let config = AdapterConfig {
        base_model_name_or_path: Some(model),
        r: lora.lora_r,
        lora_alpha: lora.lora_alpha as f64,
        lora_dropout: lora.lora_dropout,
        use_rslora: lora.use_rslora,
        use_dora: lora.use_dora,
        target_modules: target_modules(lora.lora_target_modules.as_ref()),
        task_type: Some(task_type.into()),
        modules_to_save,
        trainable_token_indices: tokens.transpose()?.map(TokenIndices::OfEmbedding),
        raw,
        ..AdapterConfig::default()
    };
    config.check().map_err(Error::Input)?;
    Ok(config)
}

/// An adapter that names no base gets this one's name, and so does one that names it from its own directory: what is trained on from
/// here is saved elsewhere. A name that stands for itself stays.
fn name_base(adapter: &mut AdapterConfig, path: &Path, model: &str) {
    let stays = |name: &String| Path::new(name).exists() || !path.join(name).exists();
    if !adapter.base_model_name_or_path.as_ref().is_some_and(stays) {
        let (model, revision) = base_name(model);
        adapter.base_model_name_or_path = Some(model);
        adapter.raw.extend(revision);
    }
}

/// The base of an adapter as its configuration names it: a path, or for a model from the hub its name, with the commit as PEFT's
/// `revision`.
fn base_name(model: &str) -> (String, Map<String, Value>) {
    match hub::name_of(Path::new(model)) {
        Some(HubName { repo, revision: Some(commit), file: None }) => {
            (repo.id, Map::from_iter([("revision".to_string(), Value::from(commit))]))
        }
        Some(name) => (name.to_string(), Map::new()),
        None => (model.to_string(), Map::new()),
    }
}

/// What an adapter may hold and still not be trained: said before anything is loaded.
fn check_trainable(adapter: &AdapterConfig, model: &ModelConfig) -> Result<()> {
    let named = |name: &String| model.untied().slots().iter().any(|slot| slot.module().ends_with(name.as_str()));
    match adapter.modules_to_save.iter().find(|name| !named(name) && *name != "score") {
        None => Ok(()),
        Some(name) => Err(Error::Input(format!("lora_modules_to_save: the model has no module {name}"))),
    }
}

/// The files of each role with their hashes, for the manifest.
pub fn hash_inputs(read: &[(&str, &Path)]) -> Result<BTreeMap<String, Vec<(String, FileHash)>>> {
    let of = |role: &str, path: &Path| match role.ends_with("data") {
        // A commit is all of its files, whichever of them other programs have fetched by now.
        _ if hub::name_of(path).is_some() => Ok(hub::name_of(path).iter().map(commit_hash).collect()),
        true => durable::hash_tree(path),
        false => {
            let parts = parts_of(path);
            let all = parts.iter().map(|part| durable::hash_files(part)).collect::<Result<Vec<_>>>()?;
            Ok(all.concat())
        }
    };
    let mut by_role: BTreeMap<String, Vec<(String, FileHash)>> = BTreeMap::new();
    for (role, path) in read {
        by_role.entry(role.to_string()).or_default().extend(of(role, path)?);
    }
    Ok(by_role)
}

/// What stands for the content of something from the hub: its name with the commit, and the hash of that.
fn commit_hash(name: &HubName) -> (String, FileHash) {
    (name.to_string(), durable::hash_text(&name.to_string()))
}

/// All parts of a GGUF that was split (`name-00001-of-00003.gguf` …), those that are there; else the path alone.
fn parts_of(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let counted = || {
        let stem = name.strip_suffix(".gguf")?;
        let (stem, n) = stem.rsplit_once("-of-")?;
        let (stem, _) = stem.rsplit_once('-')?;
        let n_parts: usize = n.parse().ok()?;
        let part = |i| path.with_file_name(format!("{stem}-{i:05}-of-{n_parts:05}.gguf"));
        Some((1..=n_parts).map(part).filter(|part| part.is_file()).collect::<Vec<_>>())
    };
    counted().filter(|parts| !parts.is_empty()).unwrap_or_else(|| vec![path.to_path_buf()])
}

/// One hash a role: resuming compares them.
pub fn combined(inputs: &BTreeMap<String, Vec<(String, FileHash)>>) -> BTreeMap<String, String> {
    inputs.iter().map(|(role, files)| (role.clone(), durable::combined_hash(files))).collect()
}

/// An adapter directory for a model with this head, refused where it holds what the engine does not compute.
pub fn load_adapter(path: &Path, head: Head) -> Result<Adapter> {
    let adapter = Adapter::load(path)?;
    if head == Head::LanguageModel && adapter.tensors.contains_key(SCORE) {
        return Err(Error::Input(format!(
            "{}: the adapter of a reward model (it has score.weight); lapidary score takes it",
            path.display()
        )));
    }
    Ok(adapter)
}
