//! The directory of a run: its options, manifest, metrics and checkpoints; and what a person sees while it runs.
//!
//! Modules in reading order; each uses only those before it.
pub mod durable;
pub mod memory;
pub mod schedule;
pub mod metrics;
pub mod series;
pub mod parting;
pub mod tensorboard;
pub mod health;
pub mod interrupt;
pub mod progress;
pub mod cadence;
pub mod best;
pub mod state;
pub mod optimizer_file;
pub mod side_files;
pub mod checkpoint;
pub mod lock;
pub mod directory;
mod model_place;
mod samples_file;
pub mod summary;
pub mod pushing;

pub use best::{BestSoFar, Watch};
pub use cadence::{Cadence, Due};
pub use checkpoint::{Checkpoint, CheckpointWriter};
pub use directory::{
    Begin, CONFIG, MANIFEST, Manifest, OF_A_RUN, Outcome, PREVIEW, REPORT, RunDirectory, RunPlan, SAMPLES,
};
pub use durable::FileHash;
pub use metrics::{METRICS, Metric, MetricsLog};
pub use model_place::check_model_place;
pub use optimizer_file::{OptimizerState, Slot};
pub use progress::Progress;
pub use pushing::Pusher;
pub use samples_file::SamplesFile;
pub use series::{JsonLines, MetricsFile, Series};
pub use state::{Accumulator, DataPosition, TrainerState};
pub use summary::Ending;
