//! What a training step of a model will cost, from its configuration and a device's two ceilings.
use super::ceilings::Ceilings;
use super::devices::Found;
use super::table::Table;
use crate::error::Result;
use crate::job::setup::{self, held_bytes};
use crate::options::DoctorStepOptions;
use crate::run::memory::show_bytes;
use engine::files::ModelFiles;
use engine::files::adapter_config::AdapterConfig;
use engine::files::adapter_targets::Target;
use engine::model::memory::{StepMemory, StepShape, step_memory};
use engine::model::work::step_work;
use std::fmt::Write;

/// A model that may be trained.
pub struct Planned {
    files: ModelFiles,
    path: String,
}

impl Planned {
    /// Reads the configuration; the weights stay where they are (of a model from the hub, in its cache).
    pub fn open(path: &str) -> Result<Self> {
        Ok(Planned { files: setup::open_files(path)?, path: path.into() })
    }
}

/// The adapter that the options describe.
fn adapter(step: &DoctorStepOptions) -> Option<AdapterConfig> {
    let target_modules = setup::target_modules(step.lora_target_modules.as_ref());
    step.use_peft.then(|| AdapterConfig { r: step.lora_r, target_modules, ..AdapterConfig::default() })
}

/// The step that the options describe: sequences of max_length tokens, all of them trained on.
fn shape<'a>(planned: &Planned, step: &DoctorStepOptions, adapter: Option<&'a [Target]>) -> StepShape<'a> {
    let n_tokens = step.per_device_train_batch_size * step.max_length;
    StepShape {
        matrix_bytes: held_bytes(step.dtype, &planned.files),
        adapter,
        n_tokens,
        n_items: n_tokens - step.per_device_train_batch_size,
        checkpointing: step.gradient_checkpointing,
        moments: 2,
        accumulates: false,
    }
}

/// A paragraph about the step and a table of devices.
pub fn describe(
    planned: &Planned,
    step: &DoctorStepOptions,
    found: &[Found],
    ceilings: &[Option<Ceilings>],
) -> Result<String> {
    let config = &planned.files.config;
    let targets = adapter(step).map(|adapter| adapter.targets(config)).transpose()?;
    let shape = shape(planned, step, targets.as_deref());
    let work = step_work(config, shape, step.per_device_train_batch_size);
    let memory = step_memory(config, shape);
    let what = match shape.adapter {
        None => "all weights".to_string(),
        Some(targets) => {
            let (r, n, held) = (step.lora_r, targets.len(), show_bytes(shape.matrix_bytes));
            format!("an adapter of rank {r} on {n} layers over {held} of weights")
        }
    };
    let mut text = format!(
        "\na training step of {}: {what}, {} × {} tokens, activations {}\n  {:.1} M parameters; {:.2} TFLOP ({:.0} % in products), {} moved at least\n  {}\n",
        planned.path,
        step.per_device_train_batch_size,
        step.max_length,
        if shape.checkpointing { "computed again" } else { "kept" },
        config.count_parameters().0 as f64 / 1e6,
        work.flops() as f64 / 1e12,
        100.0 * work.product_flops as f64 / work.flops().max(1) as f64,
        show_bytes(work.bytes),
        purposes(&memory)
    );
    let mut table = Table::new(
        "what it will cost, if every kernel reaches the ceilings",
        &["--device", "seconds a step", "tokens/s", "memory at the peak", "free"],
    );
    for (device, c) in found.iter().zip(ceilings) {
        let needed = memory.total();
        let free = match device.free_bytes {
            None => "not known".to_string(),
            Some(free) if free < needed => format!("{}: too little", show_bytes(free)),
            Some(free) => show_bytes(free),
        };
        let (time, rate) = match c.map(|c| work.seconds(c.flops_per_s, c.bytes_per_s)) {
            Some(seconds) => (format!("{seconds:.2}"), format!("{:.0}", shape.n_tokens as f64 / seconds)),
            None => ("–".to_string(), "–".to_string()),
        };
        table.row(&[&device.flag, &time, &rate, &show_bytes(needed), &free]);
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "{table}");
    if found.iter().any(|device| device.flag != "cpu") {
        text += &on_a_gpu(planned, step, shape)?;
    }
    Ok(text)
}

/// What the step does on a GPU, counted rather than predicted.
#[cfg(feature = "gpu")]
fn on_a_gpu(planned: &Planned, step: &DoctorStepOptions, shape: StepShape<'_>) -> Result<String> {
    use super::counted::{CountedStep, count_step, counting_gpu};
    let counted = CountedStep {
        n_sequences: step.per_device_train_batch_size,
        length: step.max_length,
        dtype: crate::job::setup::held_dtype(step.dtype, &planned.files),
        adapter: adapter(step).map(|adapter| (adapter.r, adapter.target_modules)),
        checkpointing: shape.checkpointing,
    };
    let (counts, memory) = count_step(&counting_gpu()?, &planned.files.config, &counted)?;
    let all = counts.total();
    Ok(format!(
        "  on a GPU: {} dispatches, {:.2} TFLOP, {} moved, {} at the peak, {} read-backs\n",
        all.dispatches,
        all.flops as f64 / 1e12,
        show_bytes(all.read_bytes + all.written_bytes),
        show_bytes(memory.peak_bytes),
        counts.read_backs.0
    ))
}

#[cfg(not(feature = "gpu"))]
fn on_a_gpu(_: &Planned, _: &DoctorStepOptions, _: StepShape<'_>) -> Result<String> {
    Ok(String::new())
}

fn purposes(m: &StepMemory) -> String {
    let parts = [
        ("weights", m.weights),
        ("gradients", m.gradients),
        ("optimiser", m.optimizer),
        ("activations", m.activations),
        ("output layer", m.head),
    ];
    let parts: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {}", show_bytes(*bytes))).collect();
    format!("memory: {}", parts.join(", "))
}
