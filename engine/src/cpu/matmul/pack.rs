//! Packing: copies a block of B (or of Aᵀ) into panels that the register tile reads from front to back.
//! Weights that are not f32 are decoded here, a block at a time.
use super::K_BLOCK;
use crate::cpu::weights::Weights;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// The most columns that `Copied` takes at a time.
pub(super) const COLUMNS: usize = 640;

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
    pub b: Weights<'a>,
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
                        Weights::F32(b) => b[start..start + kc].as_ptr(),
                        b => {
                            simd.vectorize(Decode { b, start, to: &mut decoded[r][..kc] });
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
    pub b: Weights<'a>,
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
        let Widths { n_full, full, lanes } = self.panels;
        let mut decoded = [0f32; COLUMNS];
        for (p, row) in self.along_k.enumerate() {
            let start = row * self.stride + self.columns.start;
            let row = match self.b {
                Weights::F32(b) => &b[start..start + count],
                b => {
                    simd.vectorize(Decode { b, start, to: &mut decoded[..count] });
                    &decoded[..count]
                }
            };
            let (whole, rest) = row.split_at(n_full * full);
            // SAFETY: panel q of the full ones starts at q · kc · full, the others follow; the room was promised.
            unsafe {
                for (q, part) in whole.chunks_exact(full).enumerate() {
                    let to = self.to.add((q * kc + p) * full);
                    for (j, &x) in part.iter().enumerate() {
                        to.add(j).write(x);
                    }
                }
                let to = self.to.add(n_full * kc * full);
                for (q, part) in rest.chunks(lanes).enumerate() {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), to.add((q * kc + p) * lanes), part.len());
                }
            }
        }
    }
}

/// A stretch of weights as f32, compiled once for each instruction set.
struct Decode<'a, 'b> {
    b: Weights<'a>,
    start: usize,
    to: &'b mut [f32],
}

impl WithSimd for Decode<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.b.decode(self.start, self.to);
    }
}
