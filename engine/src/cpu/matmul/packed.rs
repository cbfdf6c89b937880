//! The product with a packed weight: C ← α·A·Wᵀ (+ C), the same sums in the same order as the other products.
//!
//! Worked example: x = (1, 10, 100) against the panel of W = (1 2 3; 4 5 6) (see `cpu/panels.rs`). A vector of sums takes one line
//! of the panel for each element of x, so that all outputs grow together:
//!
//! ```text
//! 1 · (1, 4) = (1, 4)      + 10 · (2, 5) = (21, 54)      + 100 · (3, 6) = (321, 654)
//! ```
use super::K_BLOCK;
use crate::cpu::panels::{Column, Decode, PANEL, Panels, Words};
use crate::cpu::scratch::Scratch;
use crate::cpu::threads::Shared;
use crate::cpu::tile::{Left, LeftRows, MatrixTile, Output, Right, load, prefetch};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// All rows of C, a range of its columns that begins with a panel.
pub(super) struct PackedColumns<'a> {
    pub m: usize,
    pub alpha: f32,
    pub a: &'a [f32],
    pub w: &'a Panels,
    pub c: Shared<f32>,
    pub accumulate: bool,
    pub columns: Range<usize>,
}

impl WithSimd for PackedColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Tiles as in `kernel`; where a vector is narrower than a panel, a tile's vectors divide the panel.
        match (S::REGISTER_COUNT, S::F32_LANES) {
            (32.., PANEL) => self.run::<S, 8, 3>(simd),
            (32.., _) => self.run::<S, 6, 4>(simd),
            _ => self.run::<S, 6, 2>(simd),
        }
    }
}

impl PackedColumns<'_> {
    #[inline(always)]
    fn run<S: Simd, const MR: usize, const NV: usize>(self, simd: S) {
        let (k, lanes) = (self.w.k, S::F32_LANES);
        let full = NV * lanes;
        // Panels that a tile reads from: three, or part of one.
        let across = full.div_ceil(PANEL);
        let end = self.columns.end.next_multiple_of(PANEL);
        let mut scratch = Scratch::new(K_BLOCK * across * PANEL);
        let mut column = self.columns.start;
        while column < self.columns.end {
            let whole = column + full <= end;
            let width = if whole { full } else { lanes };
            for from in (0..k).step_by(K_BLOCK) {
                let kc = (k - from).min(K_BLOCK);
                // SAFETY: the columns lie in whole panels, of which the weight has enough; rows from .. from + kc too.
                unsafe {
                    if let (Some(words), ..=4) = (self.w.as_words(), self.m) {
                        if whole {
                            self.few_rows::<S, NV>(simd, words, column, from, kc);
                        } else {
                            self.few_rows::<S, 1>(simd, words, column, from, kc);
                        }
                        continue;
                    }
                    if let (Some(w), ..=4) = (self.w.as_f32(), self.m) {
                        if whole {
                            self.few_rows_of_f32::<S, NV>(simd, w, column, from, kc);
                        } else {
                            self.few_rows_of_f32::<S, 1>(simd, w, column, from, kc);
                        }
                        continue;
                    }
                    let right = self.right(simd, column, width, from, kc, &mut scratch);
                    if whole {
                        self.rows::<S, MR, NV>(simd, column, from, kc, right);
                    } else {
                        self.rows::<S, MR, 1>(simd, column, from, kc, right);
                    }
                }
            }
            column += width;
        }
    }

    /// `width` columns of the weight from `column` on, where they stand or decoded.
    ///
    /// # Safety
    /// They lie in the panels, and so do rows from .. from + kc; the scratch has room for whole panels of kc rows.
    #[inline(always)]
    unsafe fn right<S: Simd>(
        &self,
        simd: S,
        column: usize,
        width: usize,
        from: usize,
        kc: usize,
        scratch: &mut Scratch,
    ) -> Right {
        let (panel, inside, lanes) = (column / PANEL, column % PANEL, S::F32_LANES);
        let beside = |rows: usize| if lanes == PANEL { rows * PANEL } else { lanes };
        // SAFETY: promised by the caller.
        unsafe {
            if let Some(w) = self.w.as_f32() {
                let start = w.as_ptr().add((panel * self.w.k + from) * PANEL + inside);
                return Right { start, stride: PANEL, step: beside(self.w.k) };
            }
            let to = scratch.ptr();
            for q in 0..width.div_ceil(PANEL) {
                let to = std::slice::from_raw_parts_mut(to.add(q * kc * PANEL), kc * PANEL);
                simd.vectorize(Decode { panels: self.w, panel: panel + q, from, kc, to });
            }
            Right { start: to.add(inside), stride: PANEL, step: beside(kc) }
        }
    }

    /// All rows of A against the columns of `right`, in bands of MR, 4, 2 and 1.
    ///
    /// # Safety
    /// `right` is readable for NV vectors at kc rows.
    #[inline(always)]
    unsafe fn rows<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        column: usize,
        from: usize,
        kc: usize,
        right: Right,
    ) {
        let mut i = 0;
        while i < self.m {
            // SAFETY: the band's height is at most what is left.
            unsafe {
                match self.m - i {
                    rest if rest >= MR => i += self.band::<S, MR, NV>(simd, i, column, from, kc, right),
                    4.. => i += self.band::<S, 4, NV>(simd, i, column, from, kc, right),
                    2.. => i += self.band::<S, 2, NV>(simd, i, column, from, kc, right),
                    _ => i += self.band::<S, 1, NV>(simd, i, column, from, kc, right),
                }
            }
        }
    }

    /// # Safety
    /// As `rows`; rows row .. row + HEIGHT lie in A.
    #[inline(always)]
    unsafe fn band<S: Simd, const HEIGHT: usize, const NV: usize>(
        &self,
        simd: S,
        row: usize,
        column: usize,
        from: usize,
        kc: usize,
        right: Right,
    ) -> usize {
        // SAFETY: the tile lies in the columns of C that this task owns.
        unsafe {
            let (left, output) = self.place(row, column, from);
            let tile: MatrixTile<LeftRows, HEIGHT, NV> = MatrixTile { k: kc, left, right, output };
            simd.vectorize(tile);
        }
        HEIGHT
    }

    /// Rows of A from `row` on, at `from` along k, and where their sums go.
    ///
    /// # Safety
    /// The row lies in A and C, `from` and the column too.
    #[inline(always)]
    unsafe fn place(&self, row: usize, column: usize, from: usize) -> (LeftRows, Output) {
        let (k, n) = (self.w.k, self.w.n);
        // SAFETY: promised by the caller.
        unsafe {
            let c = self.c.ptr().add(row * n + column);
            let (alpha, add) = (self.alpha, self.accumulate || from > 0);
            (
                LeftRows { start: self.a.as_ptr().add(row * k + from), stride: k },
                Output { alpha, add, c, c_stride: n, width: n - column },
            )
        }
    }

    /// All rows of A, at most four, against columns that come from memory.
    ///
    /// # Safety
    /// NV vectors of columns lie in the panels, rows from .. from + kc too.
    #[inline(always)]
    unsafe fn few_rows_of_f32<S: Simd, const NV: usize>(
        &self,
        simd: S,
        w: &[f32],
        column: usize,
        from: usize,
        kc: usize,
    ) {
        let mut row = 0;
        // SAFETY: promised by the caller; the tile's height is at most what is left.
        unsafe {
            let start = w.as_ptr().add((column / PANEL * self.w.k + from) * PANEL + column % PANEL);
            let step = if S::F32_LANES == PANEL { self.w.k * PANEL } else { S::F32_LANES };
            let right = Right { start, stride: PANEL, step };
            macro_rules! tile {
                ($height:expr) => {{
                    let (left, output) = self.place(row, column, from);
                    simd.vectorize(StreamTile::<$height, NV> { k: kc, left, right, output });
                    row += $height;
                }};
            }
            while row < self.m {
                match self.m - row {
                    4.. => tile!(4),
                    2.. => tile!(2),
                    _ => tile!(1),
                }
            }
        }
    }

    /// All rows of A, at most four, against columns of codes that are decoded in registers.
    ///
    /// # Safety
    /// NV vectors of columns lie in the panels, rows from .. from + kc too.
    #[inline(always)]
    unsafe fn few_rows<S: Simd, const NV: usize>(&self, simd: S, words: &Words, column: usize, from: usize, kc: usize) {
        macro_rules! tile {
            ($row:expr, $height:expr, $bits:expr) => {{
                let (left, output) = self.place($row, column, from);
                let at = std::array::from_fn(|v| words.column(column + v * S::F32_LANES, from));
                let group = words.group;
                simd.vectorize(CodeTile::<$height, NV, $bits> { k: kc, group, left, at, output });
                $row += $height;
            }};
        }
        let mut row = 0;
        // SAFETY: promised by the caller; the tile's height is at most what is left.
        unsafe {
            while row < self.m {
                match (self.m - row, words.bits) {
                    (4.., 4) => tile!(row, 4, 4),
                    (2.., 4) => tile!(row, 2, 4),
                    (_, 4) => tile!(row, 1, 4),
                    (4.., _) => tile!(row, 4, 8),
                    (2.., _) => tile!(row, 2, 8),
                    _ => tile!(row, 1, 8),
                }
            }
        }
    }
}

/// The sums of a few rows against NV vectors of columns, read once and at the speed of memory.
struct StreamTile<const HEIGHT: usize, const NV: usize> {
    k: usize,
    left: LeftRows,
    right: Right,
    output: Output,
}

impl<const HEIGHT: usize, const NV: usize> WithSimd for StreamTile<HEIGHT, NV> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        /// Rows from one that is read to the one that is fetched: 2 KiB, into the next page before it is begun.
        const AHEAD: usize = 32 * PANEL;
        let mut sum = [[simd.splat_f32s(0.0); NV]; HEIGHT];
        // SAFETY: whoever makes a tile promises that its operands are readable and its columns of C its own.
        unsafe {
            for p in 0..self.k {
                let row = self.right.start.add(p * self.right.stride);
                let mut w = [simd.splat_f32s(0.0); NV];
                for v in 0..NV {
                    let at = row.add(v * self.right.step);
                    prefetch(at.wrapping_add(AHEAD));
                    w[v] = load(simd, at);
                }
                for r in 0..HEIGHT {
                    let a = simd.splat_f32s(self.left.at(r, p));
                    for v in 0..NV {
                        sum[r][v] = simd.mul_add_f32s(a, w[v], sum[r][v]);
                    }
                }
            }
            self.output.write::<S, HEIGHT, NV>(simd, sum);
        }
    }
}

/// The sums of a few rows against NV vectors of columns of codes.
struct CodeTile<const HEIGHT: usize, const NV: usize, const BITS: usize> {
    k: usize,
    group: usize,
    left: LeftRows,
    at: [Column; NV],
    output: Output,
}

impl<const HEIGHT: usize, const NV: usize, const BITS: usize> WithSimd for CodeTile<HEIGHT, NV, BITS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (per_word, mut sum) = (32 / BITS, [[simd.splat_f32s(0.0); NV]; HEIGHT]);
        // SAFETY: whoever makes a tile promises that its operands are readable and its columns of C its own.
        unsafe {
            for g in 0..self.k / self.group {
                let mut scale = [self.at[0].scale(simd, g); NV];
                for v in 1..NV {
                    scale[v] = self.at[v].scale(simd, g);
                }
                for word in g * self.group / per_word..(g + 1) * self.group / per_word {
                    let mut codes = [self.at[0].codes(simd, word); NV];
                    for v in 1..NV {
                        codes[v] = self.at[v].codes(simd, word);
                    }
                    for i in 0..per_word {
                        let mut w = [simd.splat_f32s(0.0); NV];
                        for v in 0..NV {
                            w[v] = scale[v].weight::<BITS>(simd, codes[v], i);
                        }
                        for r in 0..HEIGHT {
                            let a = simd.splat_f32s(self.left.at(r, word * per_word + i));
                            for v in 0..NV {
                                sum[r][v] = simd.mul_add_f32s(a, w[v], sum[r][v]);
                            }
                        }
                    }
                }
            }
            self.output.write::<S, HEIGHT, NV>(simd, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::{Layout, Product, Products};
    use crate::buffer::Buffer;
    use crate::cpu::Cpu;

    #[test]
    fn worked_example() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let w = Buffer::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let packed = cpu.pack_weight(&w, 2, 3).unwrap();
        let p = Product { layout: Layout::NT, m: 1, n: 2, k: 3, alpha: 1.0 };
        for w in [w, packed] {
            let y = cpu.matmul(p, &Buffer::from_f32(vec![1.0, 10.0, 100.0]), &w, None).unwrap();
            assert_eq!(y.f32().unwrap(), [321.0, 654.0]);
        }
    }
}
