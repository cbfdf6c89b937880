//! What every command does before its own work: open the model with its tokenizer, put the adapter on, check memory.
use crate::data::Example;
use crate::error::{Error, Result};
use crate::options::{LoraOptions, Optimizer, TargetModules, TrainingOptions, WeightType};
use crate::run::memory;
use crate::text::Tokenizer;
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter::Adapter;
use engine::files::adapter_config::{self, AdapterConfig};
use engine::model::config::ModelConfig;
use engine::model::decoder::Decoder;
use engine::model::memory::{StepShape, step_memory};
use std::path::Path;

/// A model on disk and its tokenizer, checked to fit each other.
pub struct Source {
    pub files: ModelFiles,
    pub tokenizer: Tokenizer,
}

/// Opens a model directory or a .gguf file with its tokenizer.
pub fn open_source(path: &str) -> Result<Source> {
    let files = ModelFiles::open(Path::new(path))?;
    let tokenizer = open_tokenizer(&files)?;
    let (tokens, rows) = (tokenizer.vocab_size(), files.config.vocab_size);
    if tokens > rows {
        return Err(Error::Input(format!(
            "{path}: its tokenizer has {tokens} tokens, its embedding only {rows} rows: the tokenizer belongs to another model"
        )));
    }
    Ok(Source { files, tokenizer })
}

fn open_tokenizer(files: &ModelFiles) -> Result<Tokenizer> {
    match &files.vocabulary {
        Some(vocabulary) => Tokenizer::from_vocabulary(vocabulary, &files.path),
        None => Tokenizer::from_directory(&files.path),
    }
}

/// The type that frozen matrices are held in; `auto` keeps half precision where the file has it.
pub fn frozen_dtype(choice: WeightType, files: &ModelFiles) -> DType {
    choice.dtype().unwrap_or_else(|| match files.weights.dtype("model.embed_tokens.weight") {
        Ok(DType::BF16) => DType::BF16,
        Ok(DType::F16) => DType::F16,
        _ => DType::F32,
    })
}

/// PEFT's configuration of the adapter to train: an existing one's, or a new one's; None trains all weights.
pub fn adapter_config(model: &str, lora: &LoraOptions) -> Result<Option<(AdapterConfig, Option<Adapter>)>> {
    if let Some(path) = &lora.adapter_name_or_path {
        let adapter = load_adapter(path)?;
        return Ok(Some((adapter.config.clone(), Some(adapter))));
    }
    if !lora.use_peft {
        return Ok(None);
    }
    let target_modules = match &lora.lora_target_modules {
        None => adapter_config::TargetModules::List(vec!["q_proj".into(), "v_proj".into()]),
        Some(TargetModules::AllLinear) => adapter_config::TargetModules::AllLinear,
        Some(TargetModules::Named(names)) => adapter_config::TargetModules::List(names.clone()),
    };
    let config = AdapterConfig {
        base_model_name_or_path: Some(model.to_string()),
        r: lora.lora_r,
        lora_alpha: lora.lora_alpha as f64,
        lora_dropout: lora.lora_dropout,
        use_rslora: lora.use_rslora,
        target_modules,
        ..AdapterConfig::default()
    };
    Ok(Some((config, None)))
}

/// An adapter directory, refused where it holds what the engine does not compute.
pub fn load_adapter(path: &Path) -> Result<Adapter> {
    let adapter = Adapter::load(path)?;
    if adapter.config.use_dora {
        return Err(Error::Input(format!("{}: a DoRA adapter; LoRA and rsLoRA are supported", path.display())));
    }
    if let Some((name, _)) = adapter.whole().next() {
        return Err(Error::Input(format!("{}: it replaces {name} as a whole (modules_to_save), which is not supported", path.display())));
    }
    Ok(adapter)
}

/// What a training step's memory depends on, from the options and the data.
pub fn step_shape(
    config: &ModelConfig,
    dtype: DType,
    adapter: Option<&AdapterConfig>,
    training: &TrainingOptions,
    largest: (usize, usize),
) -> Result<StepShape> {
    let adapter = match adapter {
        None => None,
        Some(a) => Some((a.r, a.targets(config)?.len().div_ceil(config.n_layers.max(1)))),
    };
    Ok(StepShape {
        dtype,
        adapter,
        n_tokens: largest.0,
        n_items: largest.1,
        checkpointing: training.gradient_checkpointing,
        moments: if training.optim == Optimizer::AdamW { 2 } else { 0 },
    })
}

/// (tokens, predictions) of the largest micro-batch that `batch_size` of these rows can make.
pub fn largest_batch(rows: &[Vec<Example>], batch_size: usize) -> (usize, usize) {
    let top = |count: &dyn Fn(&Vec<Example>) -> usize| {
        let mut sizes: Vec<usize> = rows.iter().map(count).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(batch_size).sum()
    };
    (top(&|row| row.iter().map(|e| e.ids.len()).sum()), top(&|row| row.iter().map(Example::n_trained).sum()))
}

/// Refuses a run that memory cannot hold, before anything is loaded, and says what would fit.
pub fn check_memory(device: &Device, config: &ModelConfig, shape: StepShape, batch_size: usize) -> Result<()> {
    if !device.is_host() {
        return Ok(());
    }
    let needed = step_memory(config, shape).total();
    let Some(available) = memory::available_bytes().filter(|&a| needed > a) else { return Ok(()) };
    let fits = |s: StepShape| step_memory(config, s).total() <= available;
    let with_batch = |n: usize, s: StepShape| StepShape { n_tokens: s.n_tokens * n / batch_size, n_items: s.n_items * n / batch_size, ..s };
    let mut ways = Vec::new();
    let lighter = StepShape { checkpointing: true, ..shape };
    if !shape.checkpointing && fits(lighter) {
        ways.push("--gradient_checkpointing true".to_string());
    }
    if let Some(n) = (1..batch_size).rev().find(|&n| fits(with_batch(n, shape))) {
        ways.push(format!("--per_device_train_batch_size {n} (with more --gradient_accumulation_steps the result is the same)"));
    } else if let Some(n) = (1..batch_size).rev().find(|&n| fits(with_batch(n, lighter))) {
        ways.push(format!("--per_device_train_batch_size {n} with --gradient_checkpointing true"));
    }
    let adapted = StepShape { adapter: Some((16, 2)), ..with_batch(1, lighter) };
    if shape.adapter.is_none() && fits(adapted) {
        ways.push("--use_peft (an adapter instead of all weights)".to_string());
    }
    let halved = StepShape { dtype: DType::BF16, ..adapted };
    if shape.dtype == DType::F32 && !fits(adapted) && fits(halved) {
        ways.push("--use_peft with --dtype bfloat16".to_string());
    }
    let advice = if ways.is_empty() {
        "a smaller model, or a shorter --max_length, is needed".to_string()
    } else {
        format!("what would fit: {}", ways.join(", or "))
    };
    memory::check(needed, Some(available), &advice)
}
