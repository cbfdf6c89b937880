//! One rectangle of C on one thread: panels of B in cache, tiles of C in registers.
use super::pack::{COLUMNS, Copied, Transposed, Widths};
use super::{Job, K_BLOCK};
use crate::backend::Layout;
use crate::cpu::scratch::Scratch;
use crate::cpu::tile::{Columns, Left, LeftRows, MatrixTile, Output, Right};
use crate::cpu::weights::HostWeights;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Columns of B that are packed at a time: 256 × 576 floats stay in the second-level cache.
const N_BLOCK: usize = 576;
const _: () = assert!(N_BLOCK <= COLUMNS && M_BLOCK <= COLUMNS);
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
        if const { S::REGISTER_COUNT >= 32 } { self.run::<S, 8, 3>(simd) } else { self.run::<S, 6, 2>(simd) }
    }
}

/// The block of the product at hand.
#[derive(Clone, Copy)]
struct DepthBlock {
    /// First index along k, and how many.
    from: usize,
    kc: usize,
    /// First column of C, and how many.
    column: usize,
    width: usize,
    /// Whether C holds something to add to.
    add: bool,
    panels: RightPanels,
}

/// Where the right operand of the tiles stands.
#[derive(Clone, Copy)]
struct RightPanels {
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
        let mut scratch = Scratch::new(right + left);
        let scratch = scratch.ptr();
        for column in self.columns.clone().step_by(width) {
            for from in (0..self.job.p.k).step_by(K_BLOCK) {
                let block = DepthBlock {
                    from,
                    kc: (self.job.p.k - from).min(K_BLOCK),
                    column,
                    width: (self.columns.end - column).min(width),
                    add: self.job.accumulate || from > 0,
                    panels: RightPanels { start: scratch, step: 0, stride: full, rest: scratch },
                };
                // SAFETY: the scratch has room for the panels of K_BLOCK × width, one more panel of a single
                // vector, and the packed part of A behind them; the operands' sizes were checked.
                unsafe {
                    let block = self.pack_right::<S, MR, NV>(simd, block, scratch);
                    if self.job.p.layout == Layout::TN {
                        self.transposed_left::<S, MR, NV>(simd, block, scratch.add(right));
                    } else {
                        self.plain_left::<S, MR, NV>(simd, block);
                    }
                }
            }
        }
    }

    /// Packs the block of B; where few rows use it and its memory is right as it stands, only the rim.
    ///
    /// # Safety
    /// `scratch` has room for kc × (width, rounded up to whole vectors).
    #[inline(always)]
    unsafe fn pack_right<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        mut block: DepthBlock,
        scratch: *mut f32,
    ) -> DepthBlock {
        let Job { p, b, .. } = self.job;
        let lanes = S::F32_LANES;
        let full = NV * lanes;
        let n_full = block.width / full;
        let direct = match b {
            HostWeights::F32(b) if p.layout != Layout::NT && self.rows.len() <= 2 * MR => Some(b),
            _ => None,
        };
        // Columns that need no packing.
        let packed = if direct.is_some() { n_full * full } else { 0 };
        // SAFETY: panels follow each other in the scratch; the last one is rounded up to whole vectors.
        unsafe {
            let rest = scratch.add(block.kc * (n_full * full - packed));
            match direct {
                Some(b) => {
                    let start = b.as_ptr().add(block.from * p.n + block.column);
                    block.panels = RightPanels { start, step: full, stride: p.n, rest };
                }
                None => block.panels = RightPanels { start: scratch, step: block.kc * full, stride: full, rest },
            }
            let (columns, transposed) = (block.column + packed..block.column + block.width, p.layout == Layout::NT);
            let (stride, panels) =
                (if transposed { p.k } else { p.n }, Widths { n_full: n_full - packed / full, full, lanes });
            let along_k = block.from..block.from + block.kc;
            let to = scratch;
            if transposed {
                simd.vectorize(Transposed { b, stride, columns, along_k, to, panels });
            } else {
                simd.vectorize(Copied { b, stride, columns, along_k, to, panels });
            }
        }
        block
    }

    /// Layouts NN and NT: the rows of A are read where they stand.
    ///
    /// # Safety
    /// The block's panels are packed.
    #[inline(always)]
    unsafe fn plain_left<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, block: DepthBlock) {
        let k = self.job.p.k;
        let mut i = self.rows.start;
        // SAFETY: rows i .. i + height lie in A, columns from .. from + kc too.
        unsafe {
            while i < self.rows.end {
                let left = LeftRows { start: self.job.a.as_ptr().add(i * k + block.from), stride: k };
                i += self.band::<S, LeftRows, MR, NV>(simd, block, left, i, self.rows.end - i);
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
        block: DepthBlock,
        scratch: *mut f32,
    ) {
        let m = self.job.p.m;
        let a = HostWeights::F32(self.job.a);
        // SAFETY: M_BLOCK is a multiple of MR, so the bands of a part fit in the scratch.
        unsafe {
            for first in self.rows.clone().step_by(M_BLOCK) {
                let end = (first + M_BLOCK).min(self.rows.end);
                let panels = Widths { n_full: (end - first) / MR, full: MR, lanes: MR };
                let along_k = block.from..block.from + block.kc;
                simd.vectorize(Copied { b: a, stride: m, columns: first..end, along_k, to: scratch, panels });
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
        block: DepthBlock,
        left: A,
        row: usize,
        rest: usize,
    ) -> usize {
        // SAFETY: the height is at most `rest`.
        unsafe {
            match rest {
                _ if rest >= MR => self.across::<S, A, MR, NV>(simd, block, left, row),
                4.. => self.across::<S, A, 4, NV>(simd, block, left, row),
                2.. => self.across::<S, A, 2, NV>(simd, block, left, row),
                _ => self.across::<S, A, 1, NV>(simd, block, left, row),
            }
        }
    }

    /// One band of rows over all panels; returns its height.
    ///
    /// # Safety
    /// As `band`, with `HEIGHT` rows.
    #[inline(always)]
    unsafe fn across<S: Simd, A: Left, const HEIGHT: usize, const NV: usize>(
        &self,
        simd: S,
        block: DepthBlock,
        left: A,
        row: usize,
    ) -> usize {
        let lanes = S::F32_LANES;
        let full = NV * lanes;
        let n_full = block.width / full;
        let RightPanels { start, step, stride, rest } = block.panels;
        let DepthBlock { kc: k, add, .. } = block;
        let (alpha, c_stride) = (self.job.p.alpha, self.job.p.n);
        // SAFETY: the tiles lie in the rectangle of C that this task owns; panels are packed.
        unsafe {
            let c = self.job.c.ptr().add(row * c_stride + block.column);
            for q in 0..n_full {
                let (c, right) = (c.add(q * full), Right { start: start.add(q * step), stride, step: lanes });
                let output = Output { alpha, add, c, c_stride, width: full };
                let tile: MatrixTile<A, HEIGHT, NV> = MatrixTile { k, left, right, output };
                simd.vectorize(tile);
            }
            for (q, first) in (n_full * full..block.width).step_by(lanes).enumerate() {
                let (c, right) = (c.add(first), Right { start: rest.add(q * k * lanes), stride: lanes, step: lanes });
                let width = (block.width - first).min(lanes);
                let output = Output { alpha, add, c, c_stride, width };
                let tile: MatrixTile<A, HEIGHT, 1> = MatrixTile { k, left, right, output };
                simd.vectorize(tile);
            }
        }
        HEIGHT
    }
}
