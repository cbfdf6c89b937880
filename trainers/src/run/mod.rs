//! The directory of a run: its options, manifest, metrics and checkpoints; and what a person sees while it runs.
//!
//! Reading order: durable, memory, metrics, progress, cadence, state, optimizer_file, checkpoint, directory. Each uses
//! only those before it.
pub mod cadence;
pub mod checkpoint;
pub mod directory;
pub mod durable;
pub mod memory;
pub mod metrics;
pub mod optimizer_file;
pub mod progress;
pub mod state;

pub use cadence::{Cadence, Due};
pub use checkpoint::{Checkpoint, CheckpointWriter};
pub use directory::{Begin, RunDirectory, RunPlan};
pub use durable::FileHash;
pub use metrics::{METRICS, Metric, MetricsLog};
pub use optimizer_file::{OptimizerState, Slot};
pub use progress::Progress;
pub use state::{Accumulator, DataPosition, TrainerState};
