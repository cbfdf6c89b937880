//! Every kernel there is, in groups, a trait each. `reference` defines what is correct, `cpu` and `gpu` are fast; each
//! implements a group in the file that has the group's name, where its kernels are.
//!
//! Rules for every implementation: a number depends only on the values it is computed from, never on how the work was
//! split (threads and workgroups own disjoint outputs; reductions run in a fixed order over fixed-size blocks); f32
//! accumulation or better; shapes were checked by the op that calls. Shapes are row-major and written [rows, columns].
//! Letters: T tokens, D width, H heads, K key/value heads, E head size, F hidden width of the MLP, V vocabulary,
//! R rank; m, n, k in products.
mod adamw;
mod attention;
mod elementwise;
mod log_probs;
mod matmul;
mod memory;
mod norms;
mod rope;
mod rows;
mod sample;
mod sums;

pub use adamw::{AdamWStep, Optimise, Trained};
pub use attention::{AttentionInputs, AttentionRung, AttentionShape, SoftmaxAttention};
pub use elementwise::{Binary, Elementwise, Unary};
pub use log_probs::{LmHead, LogProbs, LogProbsBackward};
pub use matmul::{Layout, Product, Products};
pub use memory::Memory;
pub use norms::{Norms, RmsNormBackward};
pub use rope::{Rotary, Rotation};
pub use rows::{RowIndex, TableRows};
pub use sample::{Choice, Draw, Sample};
use std::sync::Arc;
pub use sums::Sums;

/// A device that runs kernels.
pub type Device = Arc<dyn Backend>;

/// All groups of kernels on one device.
pub trait Backend:
    Memory
    + Elementwise
    + Sums
    + Products
    + TableRows
    + Norms
    + Rotary
    + SoftmaxAttention
    + LmHead
    + Sample
    + Optimise
    + Send
    + Sync
    + std::fmt::Debug
{
    /// For people and manifests: "cpu (2 threads, avx512)", "gpu: llvmpipe (Vulkan)".
    fn name(&self) -> String;
    /// Whether buffers are host memory (reference, CPU).
    fn is_host(&self) -> bool;
    /// Whether buffers, wherever they are, take memory of the host: CPUs, integrated GPUs, software adapters.
    fn shares_host_memory(&self) -> bool {
        self.is_host()
    }
    /// Bytes of the device's own memory, used or not; None where it has none or does not say.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}
