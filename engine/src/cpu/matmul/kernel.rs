//! One rectangle of C on one thread: panels of B in cache, tiles of C in registers.
use super::{Job, K_BLOCK, pack};
use crate::backend::Layout;
use crate::cpu::check::Weights;
use crate::cpu::scratch::with_scratch;
use crate::cpu::tile::{Columns, Left, Rows, Tile, accumulate, load, store, zero};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Columns of B that are packed at a time: 256 × 576 floats stay in the second-level cache.
const N_BLOCK: usize = 576;
/// Rows of Aᵀ that are packed at a time.
const M_BLOCK: usize = 192;

pub(super) struct Rectangle<'a> {
    pub job: Job<'a>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl WithSimd for Rectangle<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // 8 × 3 vectors of sums + 3 of B + 1 of A in 32 registers; 6 × 2 + 2 + 1 in 16.
        if S::REGISTER_COUNT >= 32 { self.run::<S, 8, 3>(simd) } else { self.run::<S, 6, 2>(simd) }
    }
}

/// The block of the product at hand.
#[derive(Clone, Copy)]
struct Block {
    /// First index along k, and how many.
    from: usize,
    kc: usize,
    /// First column of C, and how many.
    column: usize,
    width: usize,
    /// Whether C holds something to add to.
    add: bool,
    panels: Panels,
}

/// Where the right operand of the tiles stands.
#[derive(Clone, Copy)]
struct Panels {
    /// Full panel q: `start + q · step`, its rows `stride` apart.
    start: *const f32,
    step: usize,
    stride: usize,
    /// Panels of one vector for the columns behind the full panels, [kc, lanes] each.
    rest: *const f32,
}

impl Rectangle<'_> {
    #[inline(always)]
    fn run<S: Simd, const MR: usize, const NV: usize>(self, simd: S) {
        let full = NV * S::F32_LANES;
        let m = self.rows.len();
        // A few rows: one panel at a time, used at once while it is in the first-level cache.
        let most = if m <= 2 * MR { full } else { N_BLOCK / full * full };
        let blocks = self.columns.len().div_ceil(most).max(1);
        let width = self.columns.len().div_ceil(blocks).next_multiple_of(full);
        let right = K_BLOCK * (width + S::F32_LANES);
        let left = if self.job.p.layout == Layout::TN { K_BLOCK * M_BLOCK } else { 0 };
        with_scratch(right + left, |scratch| {
            for column in self.columns.clone().step_by(width) {
                for from in (0..self.job.p.k).step_by(K_BLOCK) {
                    let block = Block {
                        from,
                        kc: (self.job.p.k - from).min(K_BLOCK),
                        column,
                        width: (self.columns.end - column).min(width),
                        add: self.job.accumulate || from > 0,
                        panels: Panels { start: scratch, step: 0, stride: full, rest: scratch },
                    };
                    // SAFETY: the scratch has room for the panels of K_BLOCK × width, one more panel of a single
                    // vector, and the packed part of A behind them; the operands' sizes were checked.
                    unsafe {
                        let block = self.pack_right::<S, MR, NV>(block, scratch);
                        if self.job.p.layout == Layout::TN {
                            self.transposed_left::<S, MR, NV>(simd, block, scratch.add(right));
                        } else {
                            self.plain_left::<S, MR, NV>(simd, block);
                        }
                    }
                }
            }
        });
    }

    /// Packs the block of B; where few rows use it and its memory is right as it stands, only the rim.
    ///
    /// # Safety
    /// `scratch` has room for kc × (width, rounded up to whole vectors).
    #[inline(always)]
    unsafe fn pack_right<S: Simd, const MR: usize, const NV: usize>(
        &self,
        mut block: Block,
        scratch: *mut f32,
    ) -> Block {
        let Job { p, b, .. } = self.job;
        let lanes = S::F32_LANES;
        let full = NV * lanes;
        let n_full = block.width / full;
        // SAFETY: panels follow each other in the scratch; the last one is rounded up to whole vectors.
        unsafe {
            let panel = |first: usize, count: usize, to: *mut f32, width: usize| {
                let (columns, k) = ((block.column + first, count), (block.from, block.kc));
                if p.layout == Layout::NT {
                    pack::transposed(b, p.k, columns, k, to, width);
                } else {
                    pack::copied(b, p.n, columns, k, to, width);
                }
            };
            let mut to = scratch;
            let direct = match b {
                Weights::F32(b) if p.layout != Layout::NT && self.rows.len() <= MR => Some(b),
                _ => None,
            };
            if let Some(b) = direct {
                let start = b.as_ptr().add(block.from * p.n + block.column);
                block.panels = Panels { start, step: full, stride: p.n, rest: to };
            } else {
                for q in 0..n_full {
                    panel(q * full, full, to, full);
                    to = to.add(block.kc * full);
                }
                block.panels = Panels { start: scratch, step: block.kc * full, stride: full, rest: to };
            }
            for first in (n_full * full..block.width).step_by(lanes) {
                panel(first, (block.width - first).min(lanes), to, lanes);
                to = to.add(block.kc * lanes);
            }
        }
        block
    }

    /// Layouts NN and NT: the rows of A are read where they stand.
    ///
    /// # Safety
    /// The block's panels are packed.
    #[inline(always)]
    unsafe fn plain_left<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, block: Block) {
        let k = self.job.p.k;
        let mut i = self.rows.start;
        // SAFETY: rows i .. i + height lie in A, columns from .. from + kc too.
        unsafe {
            while i < self.rows.end {
                let left = Rows { start: self.job.a.as_ptr().add(i * k + block.from), stride: k };
                i += self.band::<S, Rows, MR, NV>(simd, block, left, i, self.rows.end - i);
            }
        }
    }

    /// Layout TN: A is [k, m], so a band of rows is packed, [kc, MR] for each band.
    ///
    /// # Safety
    /// The block's panels are packed; `scratch` has room for kc × M_BLOCK.
    #[inline(always)]
    unsafe fn transposed_left<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        block: Block,
        scratch: *mut f32,
    ) {
        let m = self.job.p.m;
        let a = Weights::F32(self.job.a);
        // SAFETY: M_BLOCK is a multiple of MR, so the bands of a part fit in the scratch.
        unsafe {
            for first in self.rows.clone().step_by(M_BLOCK) {
                let end = (first + M_BLOCK).min(self.rows.end);
                for i in (first..end).step_by(MR) {
                    let to = scratch.add((i - first) * block.kc);
                    pack::copied(a, m, (i, (end - i).min(MR)), (block.from, block.kc), to, MR);
                }
                let mut i = first;
                while i < end {
                    let (band, inside) = ((i - first) / MR, (i - first) % MR);
                    let left = Columns { start: scratch.add(band * MR * block.kc + inside), stride: MR };
                    i += self.band::<S, Columns, MR, NV>(simd, block, left, i, end - i);
                }
            }
        }
    }

    /// The widest band of rows that `rest` rows allow, over all panels; returns its height.
    ///
    /// # Safety
    /// `left` holds the rows; the panels are packed.
    #[inline(always)]
    unsafe fn band<S: Simd, A: Left, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        block: Block,
        left: A,
        row: usize,
        rest: usize,
    ) -> usize {
        // SAFETY: the height is at most `rest`.
        unsafe {
            if rest >= MR {
                self.across::<S, A, MR, NV>(simd, block, left, row);
                MR
            } else if rest >= 4 {
                self.across::<S, A, 4, NV>(simd, block, left, row);
                4
            } else if rest >= 2 {
                self.across::<S, A, 2, NV>(simd, block, left, row);
                2
            } else {
                self.across::<S, A, 1, NV>(simd, block, left, row);
                1
            }
        }
    }

    /// One band of rows over all panels.
    ///
    /// # Safety
    /// As `band`, with `HEIGHT` rows.
    #[inline(always)]
    unsafe fn across<S: Simd, A: Left, const HEIGHT: usize, const NV: usize>(
        &self,
        simd: S,
        block: Block,
        left: A,
        row: usize,
    ) {
        let lanes = S::F32_LANES;
        let full = NV * lanes;
        let n_full = block.width / full;
        let Panels { start, step, stride, rest } = block.panels;
        // SAFETY: the tiles lie in the rectangle of C that this task owns; panels are packed.
        unsafe {
            let c = self.job.c.ptr().add(row * self.job.p.n + block.column);
            for q in 0..n_full {
                let sum = accumulate::<S, A, HEIGHT, NV>(simd, block.kc, left, start.add(q * step), stride, zero(simd));
                self.finish(simd, block.add, sum, c.add(q * full));
            }
            for (q, first) in (n_full * full..block.width).step_by(lanes).enumerate() {
                let panel = rest.add(q * block.kc * lanes);
                let sum = accumulate::<S, A, HEIGHT, 1>(simd, block.kc, left, panel, lanes, zero(simd));
                if first + lanes <= block.width {
                    self.finish(simd, block.add, sum, c.add(first));
                } else {
                    self.finish_rim(simd, block.add, sum, c.add(first), block.width - first);
                }
            }
        }
    }

    /// c ← α sum (+ c)
    ///
    /// # Safety
    /// The tile at `c` is this task's.
    #[inline(always)]
    unsafe fn finish<S: Simd, const HEIGHT: usize, const NV: usize>(
        &self,
        simd: S,
        add: bool,
        sum: Tile<S, HEIGHT, NV>,
        c: *mut f32,
    ) {
        let alpha = simd.splat_f32s(self.job.p.alpha);
        for (r, sum) in sum.into_iter().enumerate() {
            for (v, sum) in sum.into_iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe {
                    let c = c.add(r * self.job.p.n + v * S::F32_LANES);
                    let value =
                        if add { simd.mul_add_f32s(alpha, sum, load(simd, c)) } else { simd.mul_f32s(alpha, sum) };
                    store(simd, c, value);
                }
            }
        }
    }

    /// As `finish`, for the first `width` columns of a vector.
    ///
    /// # Safety
    /// `width` columns at `c` are this task's.
    #[inline(always)]
    unsafe fn finish_rim<S: Simd, const HEIGHT: usize>(
        &self,
        simd: S,
        add: bool,
        sum: Tile<S, HEIGHT, 1>,
        c: *mut f32,
        width: usize,
    ) {
        let alpha = simd.splat_f32s(self.job.p.alpha);
        for (r, [sum]) in sum.into_iter().enumerate() {
            // SAFETY: promised by the caller; without `add` the memory is only written.
            unsafe {
                let c = c.add(r * self.job.p.n);
                let value = if add {
                    let c = simd.partial_load_f32s(std::slice::from_raw_parts(c, width));
                    simd.mul_add_f32s(alpha, sum, c)
                } else {
                    simd.mul_f32s(alpha, sum)
                };
                let value = crate::cpu::elementwise::spread(simd, value);
                std::ptr::copy_nonoverlapping(value.as_ptr(), c, width);
            }
        }
    }
}
