//! What a training step does on a GPU, pinned: a dispatch, an upload or a read-back more is seen here.
//!
//! A GPU that only counts needs an adapter, though it computes nothing on it; without one the tests say that they are skipped.
#![cfg(feature = "gpu")]
mod common;

use common::golden;
use engine::backend::Device;
use engine::config::ModelConfig;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter_config::{AdapterConfig, TargetModules};
use engine::generate::{Sampling, generate};
use engine::gpu::{AdapterSelect, Counts, Gpu, GpuOptions};
use engine::model::decoder::Decoder;
use engine::model::memory::StepShape;
use engine::model::work::step_work;
use engine::optim::AdamW;
use std::path::Path;
use std::sync::Arc;
use trainers::data::Example;
use trainers::doctor::counted::{CountedStep, count_step, counting_gpu, smollm2, smollm2_tables, train};
use trainers::job::batch::Batch;
use trainers::job::learner::{Learner, Optimizer};

fn counting() -> Option<Arc<Gpu>> {
    match counting_gpu() {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn tiny() -> ModelConfig {
    ModelFiles::open(golden("models/llama")).expect("the tiny llama").config
}

fn full(n_sequences: usize, length: usize) -> CountedStep {
    CountedStep { n_sequences, length, dtype: DType::F32, adapter: None, checkpointing: false }
}

/// All products under one name: which kernel takes them depends on the device.
fn dispatches(counts: &Counts) -> Vec<(&'static str, u64)> {
    let mut all: Vec<(&str, u64)> = Vec::new();
    for (name, work) in &counts.kernels {
        let name = if name.starts_with("matmul_") { "matmul" } else { name };
        match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, n)) => *n += work.dispatches,
            None => all.push((name, work.dispatches)),
        }
    }
    all
}

#[test]
fn dispatches_of_a_step() {
    let Some(gpu) = counting() else { return };
    let (counts, _) = count_step(&gpu, &tiny(), &full(2, 24)).expect("counted");
    assert_eq!(dispatches(&counts), FULL, "{counts:#?}");
    assert_eq!((counts.read_backs.0, counts.uploads.0), FULL_TRANSFERS);
    // Gradients are added in place: nobody else holds what is added to.
    assert_eq!(counts.copies, (0, 0));
    let adapter = Some((4, TargetModules::AllLinear));
    let lora = CountedStep { adapter, dtype: DType::BF16, checkpointing: true, ..full(2, 24) };
    let (counts, _) = count_step(&gpu, &tiny(), &lora).expect("counted");
    assert_eq!(dispatches(&counts), LORA, "{counts:#?}");
    assert_eq!(counts.copies, (0, 0));
}

const FULL: &[(&str, u64)] = &[
    ("adamw_many", 3),
    ("add_rms_norm", 3),
    ("add_scaled", 1),
    ("attention", 2),
    ("attention_backward_key", 2),
    ("attention_backward_query", 2),
    ("attention_delta", 2),
    ("binary", 2),
    ("gather_rows", 3),
    ("log_probs", 1),
    ("log_probs_backward", 1),
    ("matmul", 46),
    ("rms_norm", 6),
    ("rms_norm_backward", 5),
    ("rms_norm_backward_weight", 5),
    ("rope", 8),
    ("scatter_add_rows", 2),
    ("sum_rows", 1),
    ("sum_squares_many", 2),
    ("swiglu", 4),
    ("swiglu_backward", 2),
    ("unary", 1),
    ("unary_backward", 1),
    ("write_rows", 3),
];
const FULL_TRANSFERS: (u64, u64) = (2, 18);
const LORA: &[(&str, u64)] = &[
    ("adamw_many", 4),
    ("add_rms_norm", 4),
    ("attention", 4),
    ("attention_backward_key", 2),
    ("attention_backward_query", 2),
    ("attention_delta", 2),
    ("binary", 5),
    ("gather_rows", 3),
    ("log_probs", 1),
    ("log_probs_backward", 1),
    ("matmul", 151),
    ("rms_norm", 8),
    ("rms_norm_backward", 4),
    ("rope", 12),
    ("scatter_add_rows", 1),
    ("sum_rows", 1),
    ("sum_squares_many", 2),
    ("swiglu", 6),
    ("swiglu_backward", 2),
    ("unary", 1),
    ("unary_backward", 1),
    ("write_rows", 3),
];

/// Counting computes nothing and counts what is computed.
#[test]
fn counting_is_what_happens() {
    let Some(counter) = counting() else { return };
    let Ok(software) =
        Gpu::open_with(AdapterSelect::Software, GpuOptions { hardware_rungs: true, ..GpuOptions::default() })
    else {
        return;
    };
    let expected = count_step(&counter, &tiny(), &full(2, 24)).expect("counted").0;
    let device: Device = software.clone();
    let model = Decoder::load(&ModelFiles::open(golden("models/llama")).expect("the model"), &device, DType::F32)
        .expect("loaded");
    let mut learner = Learner::new(model, Optimizer::AdamW(AdamW::new(0.9, 0.999, 1e-8)), 0.0, 1.0);
    let example = Example { ids: (0..24).collect(), trained: vec![true; 24] };
    let batch = Batch::from_examples([&example, &example]).expect("a batch");
    let first = train(&mut learner, &batch, false).expect("a step");
    software.reset_counts();
    let second = train(&mut learner, &batch, false).expect("a step");
    assert!(second < first, "{first} {second}");
    let found = software.counts();
    // Other tokens: of the embedding's gradient other rows are touched.
    let without_rows = |counts: &Counts| {
        let mut all = counts.kernels.clone();
        all.retain(|name, _| *name != "scatter_add_rows");
        all
    };
    assert_eq!(without_rows(&found), without_rows(&expected));
    assert_eq!(found.read_backs, expected.read_backs);
}

/// Generation reads back a token and its log-probability for every row of a step, with one wait, and never the logits.
#[test]
fn generation_reads_back_tokens_and_log_probabilities() {
    let software = Gpu::open(AdapterSelect::Software).ok();
    for gpu in [counting(), software].into_iter().flatten() {
        let device: Device = gpu.clone();
        let model = Decoder::load(&ModelFiles::open(golden("models/llama")).expect("the model"), &device, DType::F32)
            .expect("loaded");
        let prompts = [vec![3, 4, 5], vec![9; 7]];
        let plain = Sampling { max_new_tokens: 6, ..Sampling::default() };
        let filtered = Sampling { top_k: 20, top_p: 0.9, min_p: 0.01, repetition_penalty: 1.2, ..plain.clone() };
        for sampling in [Sampling { temperature: 0.0, ..plain.clone() }, plain, filtered] {
            gpu.reset_counts();
            let drawn = generate(&model, &prompts, 3, &sampling, |_, _| true).expect("generated");
            let n: usize = drawn.iter().map(|c| c.tokens.len()).sum();
            let counts = gpu.counts();
            assert_eq!((n, counts.read_backs), (36, (6, 8 * 36)), "{sampling:?}");
            assert_eq!(counts.kernels["sample"].dispatches, 6);
        }
    }
}

/// What the configuration alone predicts is what is counted: operations within 2 %, bytes within 15 %.
#[test]
fn predictions_are_right() {
    let Some(gpu) = counting() else { return };
    for (adapter, checkpointing) in [(None, false), (None, true), (Some(16), false), (Some(16), true)] {
        let (n, length) = (4, 256);
        let step =
            CountedStep { adapter: adapter.map(|r| (r, TargetModules::AllLinear)), checkpointing, ..full(n, length) };
        let (counts, memory) = count_step(&gpu, &smollm2().expect("a configuration"), &step).expect("counted");
        let config = smollm2().expect("a configuration");
        let all_linear = |r| AdapterConfig { r, target_modules: TargetModules::AllLinear, ..AdapterConfig::default() };
        let targets = adapter.map(|r| all_linear(r).targets(&config).expect("targets"));
        let shape = StepShape {
            matrix_bytes: 4 * config.count_parameters().1,
            adapter: targets.as_deref(),
            n_tokens: n * length,
            n_items: n * (length - 1),
            checkpointing,
            moments: 2,
            accumulates: false,
        };
        let (work, counted) = (step_work(&config, shape, n), counts.total());
        let near = |predicted: u64, counted: u64, share: f64| (predicted as f64 / counted as f64 - 1.0).abs() < share;
        // A product's operations are most of a step's; those of norms and the like are not predicted.
        let bytes = counted.read_bytes + counted.written_bytes;
        eprintln!("{adapter:?} {checkpointing}: predicted {work:?}; counted {counted:?}, {bytes} bytes, {memory:?}");
        assert!(near(work.flops(), counted.flops, 0.02), "{adapter:?} {checkpointing}: {work:?} {counted:?}");
        assert!(near(work.bytes, bytes, 0.15), "{adapter:?} {checkpointing}: {work:?} {bytes}");
    }
}

/// The table of predictions in benches/results is what is counted now; `cargo bench --bench kernels -- count` prints it.
#[test]
fn the_table_is_up_to_date() {
    if counting().is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results/gpu-counts.md");
    let text = std::fs::read_to_string(&path).expect("benches/results/gpu-counts.md");
    let (_, tables) = text.split_once("\n## ").expect("a table");
    let counted = smollm2_tables().expect("counted");
    assert_eq!(format!("\n## {tables}").trim(), counted.trim(), "the tables are now:\n{counted}");
}
