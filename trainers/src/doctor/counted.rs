//! What a training step does on a GPU, counted without doing it: dispatches, bytes and operations by kernel, memory.
use crate::data::Example;
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::learner::{Learner, Optimizer};
use engine::backend::Device;
use engine::config::ModelConfig;
use engine::dtype::DType;
use engine::files::adapter_config::{AdapterConfig, TargetModules};
use engine::gpu::{AdapterSelect, Counts, Gpu, GpuOptions, MemoryUse};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::optim::AdamW;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::sync::Arc;

/// A step of supervised fine-tuning on sequences of equal length, every token but the first trained on.
#[derive(Clone, Debug)]
pub struct CountedStep {
    /// Sequences of the step's one batch.
    pub n_sequences: usize,
    /// Tokens of a sequence.
    pub length: usize,
    /// Type of the weights that are not trained.
    pub dtype: DType,
    /// Rank of a new adapter and its layers; None trains all weights.
    pub adapter: Option<(usize, TargetModules)>,
    /// Whether activations are computed again in the backward, block by block.
    pub checkpointing: bool,
}

/// A GPU that only counts; some adapter must be there, of any kind.
pub fn counting_gpu() -> engine::Result<Arc<Gpu>> {
    let options = || GpuOptions { count_only: true, ..GpuOptions::default() };
    Gpu::open_with(AdapterSelect::Auto, options()).or_else(|_| Gpu::open_with(AdapterSelect::Software, options()))
}

/// Counts the second of two steps: the first makes the optimiser's state. The memory is that of weights, state and step.
pub fn count_step(gpu: &Arc<Gpu>, config: &ModelConfig, step: &CountedStep) -> Result<(Counts, MemoryUse)> {
    let device: Device = gpu.clone();
    let frozen = if step.adapter.is_some() { step.dtype } else { DType::F32 };
    let mut model = Decoder::build(config.clone(), &device, |slot| {
        Tensor::zeros(&device, &slot.shape)?.cast(if slot.role.is_matrix() { frozen } else { DType::F32 })
    })?;
    if let Some((r, target_modules)) = step.adapter.clone() {
        model.add_lora(&AdapterConfig { r, lora_alpha: 32.0, target_modules, ..AdapterConfig::default() }, 1)?;
    }
    let mut learner = Learner::new(model, Optimizer::AdamW(AdamW::new(0.9, 0.999, 1e-8)), 0.0, 1.0);
    let example = Example { ids: vec![0; step.length], trained: vec![true; step.length] };
    let batch = Batch::from_examples(std::iter::repeat_n(&example, step.n_sequences))?;
    for _ in 0..2 {
        gpu.reset_counts();
        train(&mut learner, &batch, step.checkpointing)?;
    }
    Ok((gpu.counts(), gpu.memory_use()))
}

/// One step of supervised fine-tuning.
pub fn train(learner: &mut Learner, batch: &Batch, checkpointing: bool) -> engine::Result<f32> {
    let tape = Tape::new();
    let watched = learner.model.watch(&tape);
    let hidden = watched.hidden(&batch.forest, Pass { checkpointing, ..Pass::default() })?;
    let logp = watched.score(&hidden, &batch.rows, &batch.targets, 1.0)?.logp;
    let loss = ops::scale(&ops::sum(&logp)?, -1.0 / batch.n_items().max(1) as f32)?;
    let value = loss.item()?;
    learner.accumulate(&tape, watched, &loss)?;
    learner.step(1e-3)?;
    Ok(value)
}

/// The counts as a table in Markdown, the kernel that moves most first.
pub fn markdown(counts: &Counts) -> String {
    let mut rows: Vec<_> = counts.kernels.iter().map(|(name, work)| (format!("`{name}`"), *work)).collect();
    rows.sort_by_key(|(name, work)| (std::cmp::Reverse(work.read_bytes + work.written_bytes), name.clone()));
    rows.push(("all".into(), counts.total()));
    let mut text =
        "| kernel | dispatches | read, MB | written, MB | GFLOP | FLOP per byte |\n|---|---|---|---|---|---|\n"
            .to_string();
    for (name, w) in rows {
        let bytes = (w.read_bytes + w.written_bytes).max(1) as f64;
        text += &format!(
            "| {name} | {} | {:.1} | {:.1} | {:.2} | {:.1} |\n",
            w.dispatches,
            w.read_bytes as f64 / 1e6,
            w.written_bytes as f64 / 1e6,
            w.flops as f64 / 1e9,
            w.flops as f64 / bytes
        );
    }
    let ((uploads, up_bytes), (read_backs, down_bytes)) = (counts.uploads, counts.read_backs);
    let (copies, copied_bytes) = counts.copies;
    text + &format!(
        "\n{} submits, {copies} copies ({:.2} MB), {uploads} uploads ({:.2} MB), {read_backs} read-backs ({:.2} MB).\n",
        counts.submits,
        copied_bytes as f64 / 1e6,
        up_bytes as f64 / 1e6,
        down_bytes as f64 / 1e6
    )
}

/// SmolLM2-135M's configuration.
const SMOLLM2: &str = r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    "rope_theta": 100000, "tie_word_embeddings": true, "rms_norm_eps": 1e-5}"#;

/// The configuration of SmolLM2-135M: 30 layers of width 576, tied embedding, 49152 tokens.
pub fn smollm2() -> Result<ModelConfig> {
    let raw = serde_json::from_str(SMOLLM2).map_err(crate::error::Error::internal)?;
    Ok(ModelConfig::from_json(raw, std::path::Path::new("SmolLM2-135M"))?)
}

/// What steps of SmolLM2-135M on 8 × 512 tokens do, as the tables of benches/results.
pub fn smollm2_tables() -> Result<String> {
    let full = CountedStep { n_sequences: 8, length: 512, dtype: DType::F32, adapter: None, checkpointing: false };
    let lora = CountedStep { adapter: Some((16, TargetModules::AllLinear)), dtype: DType::BF16, ..full.clone() };
    let (gpu, config) = (counting_gpu()?, smollm2()?);
    let mut text = String::new();
    for (what, step) in [("all weights", full), ("LoRA, rank 16, all-linear, over bfloat16", lora)] {
        let (counts, memory) = count_step(&gpu, &config, &step)?;
        let gb = memory.peak_bytes as f64 / 1e9;
        text += &format!("\n## {what}\n\n{gb:.2} GB at the peak.\n\n{}", markdown(&counts));
    }
    Ok(text)
}
