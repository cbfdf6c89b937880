//! The directory of a run: its options, manifest, metrics and checkpoints; and what a person sees while it runs.
//!
//! Modules in reading order; each uses only those before it.
pub mod durable;
pub mod memory;
pub mod schedule;
pub mod metrics;
pub mod progress;
pub mod cadence;
pub mod best;
pub mod state;
pub mod optimizer_file;
pub mod side_files;
pub mod checkpoint;
pub mod directory;

pub use best::{BestSoFar, Watch};
pub use cadence::{Cadence, Due};
pub use checkpoint::{Checkpoint, CheckpointWriter};
pub use directory::{Begin, RunDirectory, RunPlan};
pub use durable::FileHash;
pub use metrics::{METRICS, Metric, MetricsLog};
pub use optimizer_file::{OptimizerState, Slot};
pub use progress::Progress;
pub use state::{Accumulator, DataPosition, TrainerState};
