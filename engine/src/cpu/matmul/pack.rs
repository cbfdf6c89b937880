//! Packing: copies a block of B (or of Aᵀ) into panels that the register tile reads from front to back.
//! Weights that are not f32 are decoded here, a block at a time.
//!
//! Worked example: a block of B with two indices along k and five columns, into panels of `full` = 4 and `lanes` = 2 columns. One panel
//! is full, the fifth column begins another; what stands behind it there, ·, is no part of B.
//!
//! ```text
//! B = (1 2 3 4  5)    [Copied]: rows of B as they are            1 2 3 4   6 7 8 9     5 ·   10 ·
//!     (6 7 8 9 10)    [Transposed]: from Bᵀ = (1 6; 2 7; …), the same panels
//! ```
//!
//! So the tile of columns 0 to 3 reads 1 2 3 4, then 6 7 8 9, one line for each index along k.
use super::K_BLOCK;
use crate::cpu::weights::HostWeights;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// The most columns that `Copied` takes at a time.
pub(super) const COLUMNS: usize = 640;
/// Rows that `Copied` takes through all panels together: panels are multiples of 4 KiB apart, so a row at a time would
/// have all of them compete for the same lines of the first-level cache, each line left half-written.
const ROWS: usize = 8;

/// Widths of the panels: `n_full` panels of `full` columns, then panels of `lanes` columns. A panel of width w is
/// [kc, w]; the panels stand one after another, and columns beyond the last one packed are left as they are.
#[derive(Clone, Copy)]
pub(super) struct Widths {
    pub n_full: usize,
    pub full: usize,
    pub lanes: usize,
}

impl Widths {
    /// Each panel's width and where its first column stands, for `count` columns.
    fn each(self, count: usize) -> impl Iterator<Item = (usize, usize)> {
        let end = self.n_full * self.full;
        let full = (0..end).step_by(self.full).map(move |first| (self.full, first));
        full.chain((end..count).step_by(self.lanes).map(move |first| (self.lanes, first)))
    }
}

/// Rows `columns` of a matrix with rows of `stride`, taken as columns (layout NT).
///
/// `to` has room for the panels, and `along_k` holds at most 256 indices: whoever makes one promises it.
pub(super) struct Transposed<'a> {
    pub b: HostWeights<'a>,
    pub stride: usize,
    pub columns: Range<usize>,
    pub along_k: Range<usize>,
    pub to: *mut f32,
    pub panels: Widths,
}

impl WithSimd for Transposed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let kc = self.along_k.len();
        let mut decoded = [[0f32; K_BLOCK]; 4];
        for (width, first) in self.panels.each(self.columns.len()) {
            let count = width.min(self.columns.len() - first);
            for j in (0..count).step_by(4) {
                let four = (count - j).min(4);
                // Fewer than four rows: the last one again; its columns are not used.
                let mut rows = [decoded[0].as_ptr(); 4];
                for r in 0..4 {
                    let row = self.columns.start + first + j + r.min(four - 1);
                    let start = row * self.stride + self.along_k.start;
                    rows[r] = match self.b {
                        HostWeights::F32(b) => b[start..start + kc].as_ptr(),
                        b => {
                            simd.vectorize(DecodeRow { b, start, to: &mut decoded[r][..kc] });
                            decoded[r].as_ptr()
                        }
                    };
                }
                // SAFETY: each row holds kc floats; the panel has room for whole vectors.
                unsafe {
                    let to = self.to.add(first * kc + j);
                    if j + 4 <= width {
                        transpose_four(rows, kc, to, width);
                    } else {
                        for (r, &row) in rows.iter().enumerate().take(four) {
                            for p in 0..kc {
                                *to.add(p * width + r) = *row.add(p);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Four rows of kc floats become four neighbouring columns of a panel.
///
/// # Safety
/// Each row holds kc floats, `to + p · width` has room for 4, p < kc.
#[inline(always)]
unsafe fn transpose_four(rows: [*const f32; 4], kc: usize, to: *mut f32, width: usize) {
    // SAFETY: p + 4 ≤ kc in the blocks of four, p < kc after them.
    unsafe {
        let mut p = 0;
        while p + 4 <= kc {
            let x: [[f32; 4]; 4] = rows.map(|row| row.add(p).cast::<[f32; 4]>().read_unaligned());
            for i in 0..4 {
                to.add((p + i) * width).cast::<[f32; 4]>().write_unaligned([x[0][i], x[1][i], x[2][i], x[3][i]]);
            }
            p += 4;
        }
        while p < kc {
            to.add(p * width).cast::<[f32; 4]>().write_unaligned(rows.map(|row| *row.add(p)));
            p += 1;
        }
    }
}

/// Rows `along_k` of a matrix with rows of `stride`, their columns `columns` (B in NN and TN, A in TN).
///
/// `to` has room for the panels; at most `COLUMNS` columns: whoever makes one promises it.
pub(super) struct Copied<'a> {
    pub b: HostWeights<'a>,
    pub stride: usize,
    pub columns: Range<usize>,
    pub along_k: Range<usize>,
    pub to: *mut f32,
    pub panels: Widths,
}

impl WithSimd for Copied<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (kc, count) = (self.along_k.len(), self.columns.len());
        let mut decoded = [0f32; ROWS * COLUMNS];
        for block in (0..kc).step_by(ROWS) {
            let rows = (kc - block).min(ROWS);
            let first = (self.along_k.start + block) * self.stride + self.columns.start;
            let (from, stride) = match self.b {
                HostWeights::F32(b) => (b[first..first + (rows - 1) * self.stride + count].as_ptr(), self.stride),
                b => {
                    for r in 0..rows {
                        let to = &mut decoded[r * COLUMNS..][..count];
                        simd.vectorize(DecodeRow { b, start: first + r * self.stride, to });
                    }
                    (decoded.as_ptr(), COLUMNS)
                }
            };
            for (width, column) in self.panels.each(count) {
                let n = width.min(count - column);
                // SAFETY: rows and columns lie in the operand (sliced above); the panel has room for kc × width.
                unsafe {
                    let (from, to) = (from.add(column), self.to.add(column * kc + block * width));
                    for r in 0..rows {
                        copy_row(from.add(r * stride), to.add(r * width), n);
                    }
                }
            }
        }
    }
}

/// n floats; a loop that becomes whole vectors, where a call to the library's copy would cost more than it moves.
///
/// # Safety
/// n floats are readable and writable; they do not overlap.
#[inline(always)]
unsafe fn copy_row(from: *const f32, to: *mut f32, n: usize) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut j = 0;
        while j + 8 <= n {
            to.add(j).cast::<[f32; 8]>().write_unaligned(from.add(j).cast::<[f32; 8]>().read_unaligned());
            j += 8;
        }
        while j < n {
            to.add(j).write(*from.add(j));
            j += 1;
        }
    }
}

/// A stretch of weights as f32, compiled once for each instruction set.
struct DecodeRow<'a, 'b> {
    b: HostWeights<'a>,
    start: usize,
    to: &'b mut [f32],
}

impl WithSimd for DecodeRow<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.b.decode(self.start, self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    #[test]
    fn worked_example() {
        const UNWRITTEN: f32 = -1.0;
        let b: Vec<f32> = (1..=10).map(|i| i as f32).collect();
        let transposed: Vec<f32> = (0..5).flat_map(|j| [b[j], b[5 + j]]).collect();
        let panels = Widths { n_full: 1, full: 4, lanes: 2 };
        let expected = [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 5.0, UNWRITTEN, 10.0, UNWRITTEN];
        for level in Level::available() {
            let mut out = [UNWRITTEN; 12];
            let (to, columns, along_k) = (out.as_mut_ptr(), 0..5, 0..2);
            level.run(Copied { b: HostWeights::F32(&b), stride: 5, columns, along_k, to, panels });
            assert_eq!(out, expected);
            let mut out = [UNWRITTEN; 12];
            let (to, columns, along_k) = (out.as_mut_ptr(), 0..5, 0..2);
            level.run(Transposed { b: HostWeights::F32(&transposed), stride: 2, columns, along_k, to, panels });
            assert_eq!(out, expected);
        }
    }
}
