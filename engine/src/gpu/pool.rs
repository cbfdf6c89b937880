//! The pool that buffers come from and go back to.
use super::{Gpu, lock};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Free memory that the pool keeps beyond a half of what is in use.
const SPARE: u64 = 256 << 20;

/// Memory that came from the driver.
#[derive(Debug, Clone)]
pub(super) struct Allocation {
    pub buffer: wgpu::Buffer,
    pub id: u64,
    pub capacity: u64,
}

/// Free buffers by capacity, and counts.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) state: Mutex<PoolState>,
    /// Number of submits so far.
    pub(super) epoch: AtomicU64,
    /// Buffers were given up: bind groups that still hold them should go too.
    pub(super) evicted: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct PoolState {
    /// By capacity; each with the epoch it became free in.
    free: BTreeMap<u64, Vec<(Allocation, u64)>>,
    free_bytes: u64,
    pub(super) live_bytes: u64,
    peak_bytes: u64,
    pub(super) next_id: u64,
}

impl Pool {
    /// Capacities grow in steps of an eighth of a power of two: at most 12.5 % of a buffer is unused.
    pub(super) fn capacity(bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (bytes.next_power_of_two() / 16).max(256);
        bytes.div_ceil(step) * step
    }

    pub(super) fn release(&self, memory: Allocation) {
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut state = lock(&self.state);
        state.live_bytes -= memory.capacity;
        state.free_bytes += memory.capacity;
        state.free.entry(memory.capacity).or_default().push((memory, epoch));
        while state.free_bytes > state.live_bytes / 2 + SPARE {
            let oldest = state.free.iter().min_by_key(|(_, list)| list.first().map_or(u64::MAX, |(_, epoch)| *epoch));
            let Some(capacity) = oldest.map(|(capacity, _)| *capacity) else { break };
            if let Some(list) = state.free.get_mut(&capacity) {
                list.remove(0);
                if list.is_empty() {
                    state.free.remove(&capacity);
                }
            }
            state.free_bytes -= capacity;
            self.evicted.store(true, Ordering::Release);
        }
    }

    /// A free buffer of this capacity, not used by work recorded since epoch `before` if given.
    pub(super) fn take(&self, capacity: u64, before: Option<u64>) -> Option<Allocation> {
        let mut state = lock(&self.state);
        let list = state.free.get_mut(&capacity)?;
        let index = match before {
            None => list.len().checked_sub(1)?,
            Some(epoch) => list.iter().position(|(_, freed)| *freed < epoch)?,
        };
        let (memory, _) = list.remove(index);
        if list.is_empty() {
            state.free.remove(&capacity);
        }
        state.free_bytes -= capacity;
        state.count_live(capacity);
        Some(memory)
    }

    /// Forgets the peak so far.
    pub(super) fn reset_peak(&self) {
        let mut state = lock(&self.state);
        state.peak_bytes = state.live_bytes + state.free_bytes;
    }

    /// Gives all free buffers back to the driver.
    pub(super) fn clear(&self) {
        let mut state = lock(&self.state);
        state.free.clear();
        state.free_bytes = 0;
        self.evicted.store(true, Ordering::Release);
    }
}

impl PoolState {
    pub(super) fn count_live(&mut self, capacity: u64) {
        self.live_bytes += capacity;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes + self.free_bytes);
    }
}

/// Bytes of GPU memory that the engine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// In tensors.
    pub live_bytes: u64,
    /// In the pool, to be used again.
    pub free_bytes: u64,
    /// The most that tensors and pool held together.
    pub peak_bytes: u64,
}

impl Gpu {
    /// What is held now, and the most that was.
    pub fn memory_use(&self) -> MemoryUse {
        let state = lock(&self.pool.state);
        MemoryUse { live_bytes: state.live_bytes, free_bytes: state.free_bytes, peak_bytes: state.peak_bytes }
    }
}
