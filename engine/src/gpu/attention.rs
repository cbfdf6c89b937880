//! Attention over forests: what the kernels need to know about a plan, kept beside it, and their calls.
use super::counting::{Cost, visible_pairs};
use super::pool::Pool;
use super::recorder::Call;
use super::{Gpu, GpuBuffer, lock, rounds, shared, word};
use crate::backend::{AttentionInputs, AttentionRung, AttentionShape, SoftmaxAttention};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;
use shaders::Shader;
use std::sync::{Arc, Mutex};

/// Rows of a block, in which the forest's ends and positions are summed up; the kernels' KEYS and QUERIES.
const BLOCK: usize = 64;
/// Words that describe a tile to attention.wgsl.
const TILE_WORDS: usize = 5;

/// The largest head size.
const LARGEST_HEAD: usize = 256;
/// Fours of rows that a workgroup of the last rung may take, the fastest first.
const QUADS: [usize; 3] = [4, 2, 1];
/// Workgroup memory that a kernel takes at most, even where a device has more.
const MOST_WORKGROUP_BYTES: u32 = 32 << 10;

/// Lists on a device that follow from a plan; made at first use and kept in `plan.derived`.
#[derive(Default)]
struct Derived {
    lists: Mutex<Vec<(Arc<Pool>, List, Arc<GpuBuffer>)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    /// Tiles of this many (query, head) pairs, with this many heads to a key head.
    Tiles { share: usize, rows: usize },
    /// `plan.path_rows`.
    Path,
    /// Positions, ends, and per block of rows the largest end, the lowest and the highest position.
    Forest,
}

/// The kernel of one call, its sizes and constants.
struct AttentionKernel {
    shader: Shader,
    /// Query heads to a key head.
    share: usize,
    /// Pairs, or keys, that a workgroup takes.
    rows: usize,
    /// Workgroups beside each other for the columns of a pair or key: one, where a thread has several columns.
    columns: usize,
    constants: Vec<(&'static str, u32)>,
}

/// The kernels of one job by rung; of the last: arrays of 64 vec4 in workgroup memory for each quad of rows and 64 columns, and
/// further ones for each quad.
struct Ladder {
    plain: Shader,
    tiled: Shader,
    shared: Shader,
    arrays: usize,
    extra: usize,
}

const FORWARD: Ladder = Ladder {
    plain: shaders::ATTENTION_PLAIN,
    tiled: shaders::ATTENTION_TILED,
    shared: shaders::ATTENTION,
    arrays: 1,
    extra: 1,
};
const BACKWARD_QUERY: Ladder = Ladder {
    plain: shaders::ATTENTION_PLAIN_BACKWARD_QUERY,
    tiled: shaders::ATTENTION_TILED_BACKWARD_QUERY,
    shared: shaders::ATTENTION_BACKWARD_QUERY,
    arrays: 2,
    extra: 1,
};
const BACKWARD_KEY: Ladder = Ladder {
    plain: shaders::ATTENTION_PLAIN_BACKWARD_KEY,
    tiled: shaders::ATTENTION_TILED_BACKWARD_KEY,
    shared: shaders::ATTENTION_BACKWARD_KEY,
    arrays: 2,
    extra: 2,
};

impl Ladder {
    /// Whether a workgroup of the last rung fits this much workgroup memory, with a KiB for what belongs to rows.
    fn fits(&self, quads: usize, columns: usize, workgroup_bytes: u32) -> bool {
        let room = (workgroup_bytes.min(MOST_WORKGROUP_BYTES) as usize).saturating_sub(1 << 10);
        quads * 16 * 64 * (self.arrays * columns + self.extra) <= room
    }
}

fn constants(quads: usize, columns: usize) -> Vec<(&'static str, u32)> {
    vec![("QUADS", quads as u32), ("COLUMNS", columns as u32)]
}

/// The kernels with constants, for all head sizes on all devices.
pub(super) fn variants() -> Vec<(Shader, Vec<(&'static str, u32)>)> {
    let sizes = || (1..=LARGEST_HEAD / 64).flat_map(|columns| QUADS.map(|quads| (quads, columns)));
    let of = |ladder: &Ladder| {
        let fitting = sizes().filter(|&(quads, columns)| ladder.fits(quads, columns, MOST_WORKGROUP_BYTES));
        fitting.map(|(quads, columns)| (ladder.shared, constants(quads, columns))).collect::<Vec<_>>()
    };
    [&FORWARD, &BACKWARD_QUERY, &BACKWARD_KEY].into_iter().flat_map(of).collect()
}

impl Gpu {
    /// The kernel of the rung that the options name.
    fn attention_kernel(&self, shape: AttentionShape, ladder: &Ladder) -> Result<AttentionKernel> {
        let AttentionShape { n_heads, n_kv_heads, head_size, .. } = shape;
        if n_kv_heads == 0 || n_heads % n_kv_heads != 0 {
            return Err(Error::shape(
                "attention",
                format!("{n_heads} query heads do not share {n_kv_heads} key heads"),
            ));
        }
        if head_size == 0 || head_size > LARGEST_HEAD {
            return Err(Error::Unsupported(format!(
                "attention on a GPU: head size {head_size}; 1 to {LARGEST_HEAD} are supported"
            )));
        }
        let share = n_heads / n_kv_heads;
        let shader = match self.options.attention {
            AttentionRung::Plain => ladder.plain,
            AttentionRung::Tiled => ladder.tiled,
            AttentionRung::Shared => ladder.shared,
        };
        if self.options.attention != AttentionRung::Shared {
            let columns = if self.options.attention == AttentionRung::Plain { head_size.div_ceil(64) } else { 1 };
            return Ok(AttentionKernel { shader, share, rows: 1, columns, constants: Vec::new() });
        }
        let columns = head_size.div_ceil(64);
        let quads =
            QUADS.into_iter().find(|&q| ladder.fits(q, columns, self.max_workgroup_bytes)).ok_or_else(|| {
                Error::Unsupported(format!(
                    "attention on {}: too little workgroup memory for head size {head_size}",
                    self.label
                ))
            })?;
        let constants = constants(quads, columns);
        Ok(AttentionKernel { shader, share, rows: 4 * quads, columns: 1, constants })
    }

    fn plan_list(&self, plan: &AttentionPlan, list: List) -> Result<Arc<GpuBuffer>> {
        let any = plan.derived.get_or_init(|| Box::new(Derived::default()));
        // Another backend's notes may be there already; then the lists are made anew each time.
        let Some(derived) = any.downcast_ref::<Derived>() else {
            return Ok(Arc::new(self.make_list(plan, list)?));
        };
        let mut lists = lock(&derived.lists);
        if let Some((_, _, found)) = lists.iter().find(|(pool, l, _)| Arc::ptr_eq(pool, &self.pool) && *l == list) {
            return Ok(found.clone());
        }
        let made = Arc::new(self.make_list(plan, list)?);
        lists.push((self.pool.clone(), list, made.clone()));
        Ok(made)
    }

    fn make_list(&self, plan: &AttentionPlan, list: List) -> Result<GpuBuffer> {
        let words = match list {
            List::Path => plan.path_rows.clone(),
            List::Tiles { share, rows } => tiles(plan, share, rows)?,
            List::Forest => forest_words(plan),
        };
        self.upload_host(&Host::U32(words))
    }
}

impl SoftmaxAttention for Gpu {
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)> {
        let AttentionInputs { shape, plan, q, k, v } = inputs;
        let AttentionShape { n_heads, n_kv_heads, head_size, scale, window } = shape;
        let kernel = self.attention_kernel(shape, &FORWARD)?;
        if self.is_software {
            let rounds = rounds::forward(self.options.attention, shape, kernel.rows, plan);
            rounds::check(&self.label, self.options.attention, rounds)?;
        }
        let (t, n_kv) = (plan.n_queries(), plan.n_keys * n_kv_heads * head_size);
        let (n_q, size) = (t * n_heads * head_size, |n: usize| word("attention", n));
        let q = self.f32("attention", q, n_q)?;
        let (k, v) = (self.f32("attention", k, n_kv)?, self.f32("attention", v, n_kv)?);
        let (o, lse) = (self.new_f32(n_q)?, self.new_f32(t * n_heads)?);
        let tiles = self.plan_list(plan, List::Tiles { share: kernel.share, rows: kernel.rows })?;
        let path = self.plan_list(plan, List::Path)?;
        let n_tiles = tiles.len() / TILE_WORDS;
        let [x, y, _] = self.groups(n_tiles);
        let call = Call {
            shader: kernel.shader,
            constants: &kernel.constants,
            params: &[
                size(n_heads)?,
                size(n_kv_heads)?,
                size(head_size)?,
                scale.to_bits(),
                clamp_window(window),
                size(n_tiles)?,
            ],
            binds: &[q.whole(), k.whole(), v.whole(), tiles.whole(), path.whole(), o.whole(), lse.whole()],
            groups: [x, y, if n_tiles == 0 { 0 } else { size(n_kv_heads * kernel.columns)? }],
            // q·k and p·v
            cost: Cost::flops(4 * visible_pairs(plan, window) * n_heads * head_size),
        };
        self.dispatch(call)?;
        Ok((shared(o), shared(lse)))
    }

    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let AttentionInputs { shape, plan, q, k, v } = inputs;
        let op = "attention_backward";
        let AttentionShape { n_heads, n_kv_heads, head_size, scale, window } = shape;
        let t = plan.n_queries();
        if plan.positions.len() != t || plan.ends.len() != t || plan.n_keys != t {
            return Err(Error::shape(
                op,
                format!(
                    "{t} queries, {} keys, {} positions, {} ends; all must be equal",
                    plan.n_keys,
                    plan.positions.len(),
                    plan.ends.len()
                ),
            ));
        }
        if self.is_software {
            rounds::check(&self.label, self.options.attention, rounds::backward(self.options.attention, shape, plan))?;
        }
        let (n_q, n_kv, n_rows) = (t * n_heads * head_size, t * n_kv_heads * head_size, t * n_heads);
        let (q, k, v) = (self.f32(op, q, n_q)?, self.f32(op, k, n_kv)?, self.f32(op, v, n_kv)?);
        let (o, d_o, lse) = (self.f32(op, o, n_q)?, self.f32(op, d_o, n_q)?, self.f32(op, lse, n_rows)?);
        let (dq, dk, dv) = (self.new_f32(n_q)?, self.new_f32(n_kv)?, self.new_f32(n_kv)?);
        let lse_delta = self.new_f32(2 * n_rows)?;
        let forest = self.plan_list(plan, List::Forest)?;
        let size = |n: usize| word(op, n);
        self.dispatch(Call {
            shader: shaders::ATTENTION_DELTA,
            constants: &[],
            params: &[size(n_rows)?, size(head_size)?],
            binds: &[d_o.whole(), o.whole(), lse.whole(), lse_delta.whole()],
            groups: self.groups(n_rows.div_ceil(64)),
            cost: Cost::flops(2 * n_rows * head_size),
        })?;
        let pairs = visible_pairs(plan, window);
        let params =
            [size(n_heads)?, size(n_kv_heads)?, size(head_size)?, scale.to_bits(), clamp_window(window), size(t)?];
        let inputs = [q.whole(), k.whole(), v.whole(), d_o.whole(), lse_delta.whole(), forest.whole()];

        let kernel = self.attention_kernel(shape, &BACKWARD_QUERY)?;
        let [x, y, _] = self.groups((t * kernel.share).div_ceil(kernel.rows));
        let call = Call {
            shader: kernel.shader,
            constants: &kernel.constants,
            params: &params,
            binds: &[&inputs[..], &[dq.whole()]].concat(),
            groups: [x, y, if t == 0 { 0 } else { size(n_kv_heads * kernel.columns)? }],
            // q·k, dO·v and dS·k
            cost: Cost::flops(6 * pairs * n_heads * head_size),
        };
        self.dispatch(call)?;

        let kernel = self.attention_kernel(shape, &BACKWARD_KEY)?;
        let [x, y, _] = self.groups(t.div_ceil(kernel.rows));
        let call = Call {
            shader: kernel.shader,
            constants: &kernel.constants,
            params: &params,
            binds: &[&inputs[..], &[dk.whole(), dv.whole()]].concat(),
            groups: [x, y, if t == 0 { 0 } else { size(n_kv_heads * kernel.columns)? }],
            // q·k, dO·v, pᵀ·dO and dSᵀ·q
            cost: Cost::flops(8 * pairs * n_heads * head_size),
        };
        self.dispatch(call)?;
        Ok((shared(dq), shared(dk), shared(dv)))
    }
}

fn clamp_window(window: usize) -> u32 {
    u32::try_from(window).unwrap_or(u32::MAX)
}

/// Cuts every run into tiles of `rows` pairs (query row, head of the group); five words a tile, see attention.wgsl.
pub(super) fn tiles(plan: &AttentionPlan, share: usize, rows: usize) -> Result<Vec<u32>> {
    let mut words = Vec::new();
    for run in &plan.runs {
        let n_pairs = run.len * share;
        for pair0 in (0..n_pairs).step_by(rows) {
            for n in [run.start, pair0, n_pairs, run.first_position, run.path_offset] {
                words.push(word("attention", n)?);
            }
        }
    }
    Ok(words)
}

/// Positions [T], ends [T], and of each block of 64 rows the largest end, the lowest and the highest position.
fn forest_words(plan: &AttentionPlan) -> Vec<u32> {
    let extremes = |values: &[u32], pick: fn(std::slice::Iter<'_, u32>) -> Option<&u32>| -> Vec<u32> {
        values.chunks(BLOCK).map(|block| pick(block.iter()).copied().unwrap_or(0)).collect()
    };
    [
        plan.positions.clone(),
        plan.ends.clone(),
        extremes(&plan.ends, |block| block.max()),
        extremes(&plan.positions, |block| block.min()),
        extremes(&plan.positions, |block| block.max()),
    ]
    .concat()
}
