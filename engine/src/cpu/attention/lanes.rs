//! Which row and head a lane of a tile is, and what it sees: query lanes see positions of their path, key lanes are seen by rows.
use super::{AttentionCall, QueryTask};
use pulp::Simd;
use std::ops::Range;

/// Some lanes of a task: pairs `first .. first + count`.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    pub task: QueryTask,
    pub first: usize,
    pub count: usize,
}

impl Lanes {
    /// Where the (query row, query head) pair of a lane below `count` stands in [T, H]: lse and δ.
    #[inline(always)]
    pub fn pair(&self, call: &AttentionCall, lane: usize) -> usize {
        let (pair, group) = (self.first + lane, call.group());
        let row = call.plan.runs[self.task.run].start + pair / group;
        let head = self.task.kv_head * group + pair % group;
        row * call.shape.n_heads + head
    }

    /// Where the pair's E numbers begin in [T, H, E]: q, o and their gradients.
    #[inline(always)]
    pub fn offset(&self, call: &AttentionCall, lane: usize) -> usize {
        self.pair(call, lane) * call.shape.head_size
    }

    #[inline(always)]
    pub fn query(&self, call: &AttentionCall, lane: usize) -> Option<*const f32> {
        (lane < self.count).then(|| call.q[self.offset(call, lane)..].as_ptr())
    }

    /// Positions that a lane sees; lanes without a query see what the last one sees.
    pub fn range(&self, call: &AttentionCall, lane: usize) -> Range<usize> {
        let pair = self.first + lane.min(self.count - 1);
        let position = call.plan.runs[self.task.run].first_position + pair / call.group();
        (position + 1).saturating_sub(call.shape.window)..position + 1
    }

    /// Key rows by position.
    pub fn path<'a>(&self, call: &AttentionCall<'a>) -> &'a [u32] {
        let run = &call.plan.runs[self.task.run];
        &call.plan.path_rows[run.path_offset..run.path_offset + run.first_position + run.len]
    }
}

/// Which positions the lanes of a tile see.
pub(super) struct Seen<S: Simd, const NV: usize> {
    lo: [S::i32s; NV],
    hi: [S::i32s; NV],
    /// All lanes together see positions `first .. end`, and every lane sees `all_first .. all_end`.
    pub first: usize,
    pub end: usize,
    all_first: usize,
    all_end: usize,
}

impl<S: Simd, const NV: usize> Seen<S, NV> {
    #[inline(always)]
    pub fn new(simd: S, lanes: &Lanes, call: &AttentionCall) -> Self {
        let (mut lo, mut hi) = ([0i32; 64], [0i32; 64]);
        for lane in 0..NV * S::F32_LANES {
            let range = lanes.range(call, lane);
            (lo[lane], hi[lane]) = (range.start as i32, range.end as i32);
        }
        let vector = |x: &[i32; 64], v: usize| simd.partial_load_i32s(&x[v * S::F32_LANES..][..S::F32_LANES]);
        let (head, tail) = (lanes.range(call, 0), lanes.range(call, lanes.count - 1));
        Seen {
            lo: std::array::from_fn(|v| vector(&lo, v)),
            hi: std::array::from_fn(|v| vector(&hi, v)),
            first: head.start,
            end: tail.end,
            all_first: tail.start,
            all_end: head.end,
        }
    }

    /// Whether some lane misses some of the positions `block .. block + n`.
    #[inline(always)]
    pub fn masks(&self, block: usize, n: usize) -> bool {
        block < self.all_first || block + n > self.all_end
    }

    /// Which lanes of vector v see a position.
    #[inline(always)]
    pub fn mask(&self, simd: S, v: usize, position: usize) -> S::m32s {
        let p = simd.splat_i32s(position as i32);
        simd.and_m32s(simd.less_than_or_equal_i32s(self.lo[v], p), simd.less_than_i32s(p, self.hi[v]))
    }
}

/// What a lane's key needs to know about the queries that see it.
pub(super) struct KeyLanes<S: Simd, const NV: usize> {
    row: [S::i32s; NV],
    end: [S::i32s; NV],
    /// Queries at this position and beyond do not see the key.
    last_position: [S::i32s; NV],
}

impl<S: Simd, const NV: usize> KeyLanes<S, NV> {
    #[inline(always)]
    pub fn new(simd: S, call: &AttentionCall, rows: Range<usize>) -> Self {
        let (mut row, mut end, mut last) = ([0i32; 64], [0i32; 64], [0i32; 64]);
        for (lane, r) in rows.enumerate() {
            row[lane] = r as i32;
            end[lane] = call.plan.ends[r] as i32;
            last[lane] =
                (call.plan.positions[r] as usize).saturating_add(call.shape.window).min(i32::MAX as usize) as i32;
        }
        let vector = |x: &[i32; 64], v: usize| simd.partial_load_i32s(&x[v * S::F32_LANES..][..S::F32_LANES]);
        KeyLanes {
            row: std::array::from_fn(|v| vector(&row, v)),
            end: std::array::from_fn(|v| vector(&end, v)),
            last_position: std::array::from_fn(|v| vector(&last, v)),
        }
    }

    /// Which keys of vector v the query row sees: j ≤ i, i < end[j], position[i] < position[j] + window.
    #[inline(always)]
    pub fn mask(&self, simd: S, v: usize, row: usize, position: u32) -> S::m32s {
        let (i, position) = (simd.splat_i32s(row as i32), simd.splat_i32s(position as i32));
        let below = simd.and_m32s(simd.less_than_or_equal_i32s(self.row[v], i), simd.less_than_i32s(i, self.end[v]));
        simd.and_m32s(below, simd.less_than_i32s(position, self.last_position[v]))
    }
}
