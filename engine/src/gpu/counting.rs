//! What work costs, counted as it is recorded: dispatches, bytes and floating-point operations by kernel.
//!
//! Bytes are the least that a kernel must move: each tensor once, as if nothing were read twice and nothing stayed in a
//! cache. Operations are those of the equation at the kernel's head: 2 m n k of a product, 4 E a visible (query, key) pair
//! of a head in attention's forward and 14 E in its backward, some ten an element elsewhere (integer work is not counted).
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
    pub dispatches: u64,
    pub read_bytes: u64,
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

    /// Counts one dispatch; `pairs` are the (query, key) pairs that see each other, of attention.
    pub(super) fn count_dispatch(&self, call: &Call<'_>, pairs: u64) {
        let work = work(call, pairs);
        self.count(|counts| *counts.kernels.entry(call.shader.name).or_default() += work);
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

/// Whether the kernel reads what it writes: it works in place.
fn in_place(call: &Call<'_>) -> bool {
    match call.shader {
        shaders::ADAMW
        | shaders::ADAMW_MANY
        | shaders::ADD_SCALED
        | shaders::LOG_PROBS_BACKWARD
        | shaders::PENALISE => true,
        shaders::MATMUL_REDUCE => call.params[6] == 1,
        shaders::RMS_NORM_BACKWARD => call.params[2] == 1,
        product if product.name.starts_with("matmul_") => call.params[ACCUMULATE] == 1,
        _ => false,
    }
}

/// Words of the products' `Params`.
const ACCUMULATE: usize = 10;

fn work(call: &Call<'_>, pairs: u64) -> Work {
    let writes = WRITES.get(call.shader.name).copied().unwrap_or(0);
    let bytes = |written: bool| -> u64 {
        let of = |(i, bind): (usize, &Bind<'_>)| ((writes >> i & 1 == 1) == written).then_some(bind.bytes);
        call.binds.iter().enumerate().filter_map(of).sum()
    };
    let (mut read, mut written) = (bytes(false), bytes(true));
    let p = |i: usize| u64::from(call.params[i]);
    // Kernels that are shown a whole table or list and touch a part of it.
    match call.shader {
        shaders::GATHER_ROWS => {
            let dtype_bytes = call.binds[0].buffer.dtype().bytes(call.params[1] as usize) as u64;
            read = p(0) * (dtype_bytes + 4);
        }
        shaders::SCATTER_ADD_ROWS | shaders::WRITE_ROWS => written = 4 * p(0) * p(1),
        shaders::SUM_SQUARES => written = 4 * p(2),
        shaders::SUM_SQUARES_MANY => (read, written) = (4 * slots(call, 15), 4 * p(16)),
        shaders::ADAMW_MANY => (read, written) = (16 * slots(call, 7), 48 * slots(call, 7)),
        shaders::PENALISE => (read, written) = (4 * p(0), 4 * p(0)),
        _ => {}
    }
    if in_place(call) {
        read += written;
    } else if call.shader == shaders::ADD_RMS_NORM {
        // of what it writes it reads the sum's memory
        read += call.binds[2].bytes;
    }
    Work { dispatches: 1, read_bytes: read, written_bytes: written, flops: flops(call, pairs) }
}

/// The sizes of the tensors that share a dispatch, together.
fn slots(call: &Call<'_>, slots: usize) -> u64 {
    call.params[..slots].iter().map(|&n| u64::from(n)).sum()
}

fn flops(call: &Call<'_>, pairs: u64) -> u64 {
    let p = |i: usize| u64::from(call.params[i]);
    match call.shader {
        shaders::MATMUL_REDUCE => p(0) * p(1) * p(2),
        product if product.name.starts_with("matmul_") => 2 * p(0) * p(1) * p(2),
        // q·k and p·v; with dO·v and dS·k; with dO·v, pᵀ·dO and dSᵀ·q: 2 E each, for every head
        shaders::ATTENTION => 4 * pairs * p(0) * p(2),
        shaders::ATTENTION_BACKWARD_QUERY => 6 * pairs * p(0) * p(2),
        shaders::ATTENTION_BACKWARD_KEY => 8 * pairs * p(0) * p(2),
        shaders::ATTENTION_DELTA => 2 * p(0) * p(1),
        shaders::RMS_NORM => 4 * p(0) * p(1),
        shaders::ADD_RMS_NORM => 5 * p(0) * p(1),
        shaders::RMS_NORM_BACKWARD => 8 * p(0) * p(1),
        shaders::RMS_NORM_BACKWARD_WEIGHT => 3 * p(0) * p(1),
        shaders::SUM_ROWS | shaders::SCATTER_ADD_ROWS => p(0) * p(1),
        shaders::LOG_PROBS => 6 * p(0) * p(1),
        shaders::SAMPLE => 3 * p(0) * p(1),
        shaders::LOG_PROBS_BACKWARD => 4 * p(0) * p(1),
        shaders::SUM_SQUARES | shaders::ADD_SCALED | shaders::UNARY_BACKWARD => 2 * p(0),
        shaders::ROPE => 3 * p(0),
        shaders::SWIGLU => 5 * p(0),
        shaders::SWIGLU_BACKWARD => 10 * p(0),
        shaders::SUM_SQUARES_MANY => 2 * slots(call, 15),
        shaders::ADAMW => 56 * p(0),
        shaders::ADAMW_MANY => 56 * slots(call, 7),
        shaders::UNARY | shaders::BINARY | shaders::DROPOUT | shaders::PENALISE => p(0),
        _ => 0,
    }
}

/// (query, key) pairs of a plan that see each other.
pub(super) fn visible_pairs(plan: &AttentionPlan, window: usize) -> u64 {
    let of_run = |run: &crate::forest::Run| -> u64 {
        (0..run.len).map(|i| (run.first_position + i + 1).min(window) as u64).sum()
    };
    plan.runs.iter().map(of_run).sum()
}
