//! What work costs, counted as it is recorded: dispatches, bytes and floating-point operations by kernel.
//!
//! Bytes are the least that a kernel must move: each tensor once, as if nothing were read twice and nothing stayed in a
//! cache. Operations are those of the equation at the kernel's head: 2 m n k of a product, 4 E a visible (query, key) pair
//! of a head in attention's forward and 14 E in its backward, some ten an element elsewhere (integer work is not counted).
//! Each call states them (`Cost`).
//! With [`GpuOptions::count_only`](super::GpuOptions) nothing else happens: no memory is taken and nothing runs, so that
//! what a step of any model will do and take on a GPU is known beforehand.
use super::recorder::{Bind, Call};
use super::{Gpu, lock};
use crate::forest::AttentionPlan;
use shaders::Shader;
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::LazyLock;

/// What dispatches of one kernel did, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How many.
    pub dispatches: u64,
    /// The least that they must read.
    pub read_bytes: u64,
    /// The least that they must write.
    pub written_bytes: u64,
    /// Floating-point operations; a fused multiply-add is two.
    pub flops: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.dispatches += other.dispatches;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.flops += other.flops;
    }
}

/// Everything that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By kernel, that is by file in shaders/.
    pub kernels: BTreeMap<&'static str, Work>,
    /// Command buffers given to the driver.
    pub submits: u64,
    /// Copies from host memory, and their bytes.
    pub uploads: (u64, u64),
    /// Copies on the device, made because what changes in place has another owner, and their bytes.
    pub copies: (u64, u64),
    /// Waits for values to come back to the host, and their bytes.
    pub read_backs: (u64, u64),
}

impl Counts {
    /// All kernels together.
    pub fn total(&self) -> Work {
        let mut all = Work::default();
        self.kernels.values().for_each(|&work| all += work);
        all
    }
}

impl Gpu {
    /// What was recorded since the device was opened, or since [`Gpu::reset_counts`].
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Counts from zero again; the peak of [`Gpu::memory_use`] from what is in use now.
    pub fn reset_counts(&self) {
        *lock(&self.counts) = Counts::default();
        self.pool.reset_peak();
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }

    /// Counts one dispatch, and says what it costs.
    pub(super) fn count_dispatch(&self, call: &Call<'_>) -> Work {
        let work = work(call);
        self.count(|counts| *counts.kernels.entry(call.shader.name).or_default() += work);
        work
    }
}

/// By a shader's name the bindings that it may write, a bit each.
static WRITES: LazyLock<HashMap<&str, u32>> =
    LazyLock::new(|| shaders::ALL.iter().map(|s| (s.name, writes(s))).collect());

fn writes(shader: &Shader) -> u32 {
    let binding = |line: &str| line.strip_prefix("@group(0) @binding(")?.split(')').next()?.parse().ok();
    let written = shader.source.lines().filter(|line| line.contains("read_write"));
    written.filter_map(binding).map(|i: u32| 1 << i).sum()
}

/// What a call says of its work beyond what its bindings show: its operations, and what of the bindings it touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    flops: usize,
    /// Bytes read and written where they are not those of the bindings.
    read_bytes: Option<usize>,
    written_bytes: Option<usize>,
    /// It reads what it writes, too.
    in_place: bool,
    /// Bytes of one binding that it writes and reads, where others are only written.
    read_again: u64,
}

impl Cost {
    /// Nothing but moving values, or whole numbers.
    pub const MOVES: Cost = Cost::flops(0);

    /// This many operations on all that is bound.
    pub const fn flops(flops: usize) -> Cost {
        Cost { flops, read_bytes: None, written_bytes: None, in_place: false, read_again: 0 }
    }
    /// Of what is bound this many bytes are read.
    pub fn reading(self, bytes: usize) -> Cost {
        Cost { read_bytes: Some(bytes), ..self }
    }
    /// Of what is bound this many bytes are written.
    pub fn writing(self, bytes: usize) -> Cost {
        Cost { written_bytes: Some(bytes), ..self }
    }
    /// What is written is read before, if so.
    pub fn in_place(self, in_place: bool) -> Cost {
        Cost { in_place, ..self }
    }
    /// Of what is written this is read before.
    pub fn reading_again(self, bind: Bind<'_>) -> Cost {
        Cost { read_again: bind.bytes, ..self }
    }
}

fn work(call: &Call<'_>) -> Work {
    let writes = WRITES.get(call.shader.name).copied().unwrap_or(0);
    let bytes = |written: bool| -> u64 {
        let of = |(i, bind): (usize, &Bind<'_>)| ((writes >> i & 1 == 1) == written).then_some(bind.bytes);
        call.binds.iter().enumerate().filter_map(of).sum()
    };
    let Cost { flops, read_bytes, written_bytes, in_place, read_again } = call.cost;
    let written_bytes = written_bytes.map_or_else(|| bytes(true), |n| n as u64);
    let read_bytes = read_bytes.map_or_else(|| bytes(false), |n| n as u64) + read_again;
    let read_bytes = read_bytes + if in_place { written_bytes } else { 0 };
    Work { dispatches: 1, read_bytes, written_bytes, flops: flops as u64 }
}

/// (query, key) pairs of a plan that see each other.
pub(super) fn visible_pairs(plan: &AttentionPlan, window: usize) -> usize {
    let of_run =
        |run: &crate::forest::Run| -> usize { (0..run.len).map(|i| (run.first_position + i + 1).min(window)).sum() };
    plan.runs.iter().map(of_run).sum()
}
