//! What a run or command will need of memory, compared with what is free before anything is loaded, and what would fit where it
//! is too much.
//!
//! ```text
//! peak = what the process holds now + weights and what else stays + the most that passes at one time
//! ```
//! What it holds now (the program, the tokenizer, rows, judges that are open already) is asked of the system; the rest
//! follows from the configuration. `tests/memory.rs` compares both with what the commands take.
use crate::data::Example;
use crate::error::Result;
use crate::job::setup::{self, ModelSource, target_modules};
use crate::run::memory::{self, MemoryPart};
use engine::backend::Device;
use engine::config::{Head, ModelConfig, Role, Slot};
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter::Adapter;
use engine::files::adapter_config::AdapterConfig;
use engine::generate::{GenerationShape, Sampling, generation_memory};
use engine::model::decoder::Decoder;
use engine::model::memory::{StepMemory, StepShape, pass_memory, step_memory};

/// What a trainer has besides the model that it trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Bytes that stay: of a reference, of a critic, of a policy that is kept.
    pub stays: u64,
    /// (tokens, predictions) of the largest batch that is only measured.
    pub measured: (usize, usize),
    /// How completions are drawn, where they are.
    pub generation: Option<GenerationShape>,
    /// Whether a critic with a model of its own learns from the same batches.
    pub critic: bool,
    /// Whether a batch of the same size is measured while one waits for its backward.
    pub measures_between: bool,
    /// Whether all is in host memory, where zeros that nobody writes to take none: rows of the embedding's gradient whose
    /// tokens do not occur.
    pub in_host_memory: bool,
}

impl Beside {
    /// So many bytes that stay, and nothing else.
    pub fn staying(stays: u64) -> Self {
        Beside { stays, ..Beside::default() }
    }
}

/// (tokens, predictions) of the largest micro-batch that `batch_size` of these rows can make.
pub fn largest_batch(rows: &[Vec<Example>], batch_size: usize) -> (usize, usize) {
    let tokens = |row: &Vec<Example>| row.iter().map(|e| e.ids.len()).sum();
    largest_of(rows.iter().map(|row| (tokens(row), row.iter().map(Example::n_trained).sum())), batch_size)
}

/// Sums of the `batch_size` largest numbers of either kind: (tokens, predictions) of the largest batch of such rows.
pub fn largest_of(sizes: impl Iterator<Item = (usize, usize)>, batch_size: usize) -> (usize, usize) {
    let (tokens, items): (Vec<usize>, Vec<usize>) = sizes.unzip();
    let top = |mut sizes: Vec<usize>| {
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(batch_size).sum()
    };
    (top(tokens), top(items))
}

/// Bytes of the packed copy of weights that is there while completions are drawn: of trained ones, and of quantised ones
/// (fewer than 16 bits each), whose scales take a fifth more room then; others that are frozen lie packed in their place.
fn packed_copy(config: &ModelConfig, shape: StepShape<'_>) -> u64 {
    match shape.adapter {
        Some(_) if shape.matrix_bytes < 2 * config.count_parameters().1 => return shape.matrix_bytes * 6 / 5,
        Some(_) => return 0,
        None => {}
    }
    let slots = config.slots();
    let own_head = slots.iter().any(|slot| slot.role == Role::Output);
    let read = |role: Role| role == Role::Projection || role == if own_head { Role::Output } else { Role::Embedding };
    4 * slots.iter().filter(|slot| read(slot.role)).map(|slot| slot.n() as u64).sum::<u64>()
}

/// A run's parts, the largest of what passes one after the other in one of them.
fn parts(config: &ModelConfig, shape: StepShape<'_>, beside: &Beside) -> Vec<MemoryPart> {
    let step = step_memory(config, shape);
    let StepMemory { weights, optimizer, collected, activations, head, gradients } = step;
    let gradients = gradients - if beside.in_host_memory { never_written(config, shape) } else { 0 };
    let trunk = if beside.critic { activations } else { 0 };
    let between =
        if beside.measures_between { pass_memory(config, shape.n_tokens, items(config, shape.n_items)) } else { 0 };
    let forward = activations + trunk + head + between;
    let learning = forward.max(gradients);
    let drawing = beside.generation.map_or(0, |drawn| packed_copy(config, shape) + generation_memory(config, drawn));
    let measuring = pass_memory(config, beside.measured.0, items(config, beside.measured.1));
    let mut parts = vec![("weights", weights), ("optimiser", optimizer)];
    parts.extend([("other models", beside.stays), ("gradients that add up", collected)].iter().filter(|p| p.1 > 0));
    let passing = [
        ("activations and logits", forward),
        ("gradients", gradients),
        ("generation", drawing),
        ("evaluation", measuring),
    ];
    let most = learning.max(drawing).max(measuring);
    parts.extend(passing.into_iter().find(|part| part.1 == most));
    parts
}

/// Bytes of the embedding's gradient that stay zero: of a tied one the copy from the first layer, of a reward model all but the
/// rows of its tokens.
fn never_written(config: &ModelConfig, shape: StepShape<'_>) -> u64 {
    let embedding = 4 * (config.vocab_size * config.hidden_size) as u64;
    let written = 4 * (shape.n_tokens.min(config.vocab_size) * config.hidden_size) as u64;
    match (shape.adapter, config.head) {
        (Some(_), _) => 0,
        (None, Head::LanguageModel) => embedding - written,
        (None, Head::Score) => 2 * embedding - written,
    }
}

/// Predictions that have logits: none of a reward model.
fn items(config: &ModelConfig, n: usize) -> usize {
    if config.head == Head::LanguageModel { n } else { 0 }
}

fn sum(parts: &[MemoryPart]) -> u64 {
    parts.iter().map(|part| part.1).sum()
}

/// Refuses a run that memory cannot hold, before anything is loaded, and says what would fit.
/// `available` is what the device has free, None where it does not say. Returns what the run will add to what the process
/// holds, by purpose.
pub fn check_run(
    available: Option<u64>,
    config: &ModelConfig,
    shape: StepShape<'_>,
    batch_size: usize,
    beside: Beside,
) -> Result<Vec<MemoryPart>> {
    let parts = parts(config, shape, &beside);
    if let Some(available) = available.filter(|&a| sum(&parts) > a) {
        let ways = what_fits(available, config, shape, batch_size, &beside);
        let advice = if ways.is_empty() {
            "a smaller model, or a shorter --max_length, is needed".to_string()
        } else {
            format!("what would fit: {}", ways.join(", or "))
        };
        memory::check(sum(&parts), Some(available), &advice)?;
    }
    Ok(parts)
}

/// The step with `n` of `batch_size` rows.
fn share(shape: StepShape<'_>, n: usize, batch_size: usize) -> StepShape<'_> {
    let part = |all: usize| (all * n).div_ceil(batch_size);
    StepShape { n_tokens: part(shape.n_tokens), n_items: part(shape.n_items), ..shape }
}

/// Options under which the run would fit, the least change first.
fn what_fits(
    available: u64,
    config: &ModelConfig,
    shape: StepShape<'_>,
    batch_size: usize,
    beside: &Beside,
) -> Vec<String> {
    let fits = |s: StepShape<'_>| sum(&parts(config, s, beside)) <= available;
    let largest = |s: StepShape<'_>| (1..batch_size).rev().find(|&n| fits(share(s, n, batch_size)));
    let lighter = StepShape { checkpointing: true, ..shape };
    let usual = AdapterConfig { r: 16, target_modules: target_modules(None), ..AdapterConfig::default() };
    let usual = usual.targets(config).unwrap_or_default();
    let adapted = StepShape { adapter: Some(&usual), ..share(lighter, 1, batch_size) };
    let in_16_bits = 2 * config.count_parameters().1;
    let mut ways = Vec::new();
    if !shape.checkpointing && fits(lighter) {
        ways.push("--gradient_checkpointing true".to_string());
    }
    if let Some(n) = largest(shape) {
        ways.push(format!("--per_device_train_batch_size {n} (more --gradient_accumulation_steps keep the result)"));
    } else if let Some(n) = largest(lighter) {
        ways.push(format!("--per_device_train_batch_size {n} with --gradient_checkpointing true"));
    }
    if shape.adapter.is_none() && fits(adapted) {
        ways.push("--use_peft (an adapter instead of all weights)".to_string());
    } else if shape.matrix_bytes > in_16_bits && fits(StepShape { matrix_bytes: in_16_bits, ..adapted }) {
        ways.push("--use_peft with --dtype bfloat16".to_string());
    }
    ways
}

/// Bytes of a model's weights as a command holds them that does not train (None: as its file does), with an adapter's.
fn held(files: &ModelFiles, dtype: Option<DType>, adapter: Option<&Adapter>) -> u64 {
    let (all, matrices) = files.config.count_parameters();
    let matrix_bytes = setup::bytes_of_matrices(dtype, files);
    let adapted: usize = adapter.map_or(0, |adapter| adapter.tensors.values().map(|(_, values)| values.len()).sum());
    matrix_bytes + 4 * (all - matrices) + 4 * adapted as u64
}

/// Bytes of an output layer of its own (None: as its file has it): it is loaded last, and is there twice until it is packed.
fn output_layer(dtype: Option<DType>, files: &ModelFiles) -> u64 {
    let slots = files.config.slots();
    let layer = slots.iter().find(|slot| slot.role == Role::Output);
    let dtype = |slot: &Slot| dtype.or_else(|| files.weights.dtype(&slot.path).ok());
    layer.and_then(|slot| Some(dtype(slot)?.bytes(slot.n()) as u64)).unwrap_or(0)
}

/// What is asked of a model that is loaded to be used and not to be trained.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// Completions are drawn.
    Draw(GenerationShape),
    /// Batches of so many (tokens, predictions) at most are measured.
    Measure((usize, usize)),
    /// All weights are saved as this type.
    Save(DType),
    /// One tensor after the other is written as this type, from float32.
    Write(DType),
}

/// Refuses a command whose model memory cannot hold, before it is loaded.
pub fn check_use(
    files: &ModelFiles,
    dtype: Option<DType>,
    adapter: Option<&Adapter>,
    device: &Device,
    used: Use,
) -> Result<()> {
    let weights = held(files, dtype, adapter);
    let passing = match used {
        Use::Draw(shape) => ("generation", generation_memory(&files.config, shape).max(output_layer(dtype, files))),
        Use::Measure((tokens, predictions)) => {
            ("activations and logits", pass_memory(&files.config, tokens, items(&files.config, predictions)))
        }
        Use::Write(dtype) => tensor_by_tensor(&files.config, dtype),
        // What has the type already is written from where it lies.
        Use::Save(DType::F32) => ("what is written", 0),
        Use::Save(dtype) => ("what is written", dtype.bytes(files.config.count_parameters().0 as usize) as u64),
    };
    check_parts(device, vec![("weights", weights), passing], "a smaller model, or --dtype bfloat16, is needed")
}

/// The largest tensor in float32, and what is written of it.
fn tensor_by_tensor(config: &ModelConfig, dtype: DType) -> MemoryPart {
    let largest = config.slots().iter().map(|slot| slot.n()).max().unwrap_or(0);
    ("the largest tensor", (DType::F32.bytes(largest) + dtype.bytes(largest)) as u64)
}

/// [`check_use`] where a model is written tensor by tensor and never loaded as a whole.
pub fn check_writing(files: &ModelFiles, device: &Device, dtype: DType) -> Result<()> {
    check_parts(device, vec![tensor_by_tensor(&files.config, dtype)], "a smaller model is needed")
}

/// [`check_use`] of a model that is loaded already, before a batch of so many (tokens, predictions) is measured.
pub fn check_batch(model: &Decoder, (tokens, predictions): (usize, usize)) -> Result<()> {
    let passing = pass_memory(&model.config, tokens, items(&model.config, predictions));
    let advice = "a smaller --per_device_eval_batch_size is needed";
    check_parts(&model.device, vec![("activations and logits", passing)], advice)
}

/// [`check_use`] of a model that is loaded already, before `n` completions each of prompts of these lengths are drawn.
pub fn check_drawing(model: &Decoder, lengths: &[usize], n: usize, sampling: &Sampling) -> Result<()> {
    let drawn = generation_memory(&model.config, GenerationShape::of(&model.config, lengths, n, sampling));
    let advice = "a smaller --max_new_tokens or fewer --num_generations are needed";
    check_parts(&model.device, vec![("generation", drawn)], advice)
}

fn check_parts(device: &Device, parts: Vec<MemoryPart>, advice: &str) -> Result<()> {
    memory::check(sum(&parts), free(device), advice)?;
    if device.is_host() {
        memory::expect(&parts);
    }
    Ok(())
}

/// Bytes that a device has free; None where it does not say.
pub fn free(device: &Device) -> Option<u64> {
    if device.shares_host_memory() { memory::available_bytes() } else { device.memory_bytes() }
}

/// How completions of prompts of these lengths will be drawn from a model.
pub fn drawing(source: &ModelSource, lengths: &[usize], n_samples: usize, sampling: &Sampling) -> Use {
    Use::Draw(GenerationShape::of(&source.files.config, lengths, n_samples, sampling))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config() -> ModelConfig {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/llama");
        ModelFiles::open(dir).expect("the tiny llama").config
    }

    fn shape(config: &ModelConfig) -> StepShape<'static> {
        let matrix_bytes = 4 * config.count_parameters().1;
        StepShape {
            matrix_bytes,
            adapter: None,
            n_tokens: 8000,
            n_items: 8000,
            checkpointing: false,
            moments: 2,
            accumulates: false,
        }
    }

    #[test]
    fn too_little_memory_is_told_with_what_would_fit() {
        let config = config();
        let shape = shape(&config);
        let needed = step_memory(&config, shape).total();
        let told = |available| {
            check_run(available, &config, shape, 8, Beside::default()).map(|p| sum(&p)).map_err(|e| e.to_string())
        };
        assert_eq!(told(Some(needed)), Ok(needed));
        assert_eq!(told(None), Ok(needed));
        let text = told(Some(needed - 1)).expect_err("a byte is missing");
        assert!(text.contains("--use_peft") && text.contains("--per_device_train_batch_size 7"), "{text}");
        let text = told(Some(1000)).expect_err("hopeless");
        assert!(text.contains("a smaller model"), "{text}");
    }

    #[test]
    fn what_passes_one_after_the_other_counts_once() {
        let config = config();
        let step = step_memory(&config, shape(&config));
        let all = |beside: Beside| sum(&parts(&config, shape(&config), &beside));
        let alone = all(Beside::default());
        assert_eq!(alone, step.total());
        assert_eq!(all(Beside { stays: 5, ..Beside::default() }), alone + 5);
        assert_eq!(all(Beside { measured: (10, 10), ..Beside::default() }), alone);
        let drawn = GenerationShape { cache_rows: 1 << 20, n_prompts: 1, n_prompt_tokens: 1, n_active: 1 };
        let drawing = packed_copy(&config, shape(&config)) + generation_memory(&config, drawn);
        assert!(drawing > step.passing());
        assert_eq!(all(Beside { generation: Some(drawn), ..Beside::default() }), step.resident() + drawing);
    }

    #[test]
    fn the_largest_batch_is_made_of_the_longest_rows() {
        let row = |n: usize| vec![Example { ids: vec![0; n], trained: vec![true; n] }];
        assert_eq!(largest_batch(&[row(3), row(9), row(5)], 2), (14, 14));
    }
}
