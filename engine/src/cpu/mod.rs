//! The CPU backend: vectorised kernels on threads of its own, with the same bits for any number of threads, any
//! instruction set and any neighbours in the batch.
//!
//! Files in reading order: `level` (instruction sets), `threads`, `check` (operands), `weights` (any dtype), `panels` (packed for generation), `math` (exp, ln, …),
//! `map` and `reduce` (the two loops), `tile` (the register tile); then one file for each group of kernels.
mod adamw;
mod attention;
mod check;
mod elementwise;
mod level;
mod log_probs;
mod math;
mod map;
mod matmul;
mod memory;
mod panels;
mod reduce;
mod norms;
mod rope;
mod rows;
mod sample;
mod scratch;
mod sums;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
mod weights;

use crate::backend::{AttentionRung, Backend};
use crate::error::Result;
pub use level::Level;
pub use panels::Panels;
use std::sync::Arc;
use threads::Threads;

/// The CPU as a device.
#[derive(Debug)]
pub struct Cpu {
    threads: Threads,
    level: Level,
    attention: AttentionRung,
}

impl Cpu {
    /// A CPU device with `threads` threads (all the machine has if `None`) on the best instruction set.
    ///
    /// Errors: 0 threads, or threads that the system does not give.
    pub fn new(threads: Option<usize>) -> Result<Arc<Cpu>> {
        Cpu::with_level(threads, Level::best())
    }

    /// As `new`, on a given instruction set. `Error::Unsupported` if this machine lacks it.
    pub fn with_level(threads: Option<usize>, level: Level) -> Result<Arc<Cpu>> {
        Cpu::with_rung(threads, level, AttentionRung::Shared)
    }

    /// As `with_level`, with a slower kernel of attention: to compare them.
    pub fn with_rung(threads: Option<usize>, level: Level, attention: AttentionRung) -> Result<Arc<Cpu>> {
        keep_freed_memory();
        Ok(Arc::new(Cpu { level: level.checked()?, threads: Threads::new(threads)?, attention }))
    }

    /// How many threads it has.
    pub fn n_threads(&self) -> usize {
        self.threads.count()
    }

    /// The instruction set it uses.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// Tells glibc to keep freed memory of up to 32 MiB a piece for the next allocation: a step frees and takes the same
/// gigabyte of activations again, and pages fresh from the kernel cost a tenth of its time.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator; a value it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        let n = self.threads.count();
        format!("cpu ({n} thread{}, {})", if n == 1 { "" } else { "s" }, self.level.name())
    }
    fn is_host(&self) -> bool {
        true
    }
}
