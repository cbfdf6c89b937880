//! The register tile: MR × NV vectors of sums, each accumulated in the order of k. Matrix products and attention both
//! stand on it, and it alone decides the order of additions, so that order is the same everywhere.
use pulp::{Simd, WithSimd};

/// The left operand of a tile: element (r, p), r < MR, p < k.
pub(crate) trait Left: Copy {
    /// # Safety
    /// (r, p) lies in the operand.
    unsafe fn at(&self, r: usize, p: usize) -> f32;
}

/// Rows that are contiguous along k: element (r, p) at `start + r · stride + p`.
#[derive(Clone, Copy)]
pub(crate) struct LeftRows {
    pub start: *const f32,
    pub stride: usize,
}

impl Left for LeftRows {
    #[inline(always)]
    unsafe fn at(&self, r: usize, p: usize) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { *self.start.add(r * self.stride + p) }
    }
}

/// Contiguous across the rows of the tile: element (r, p) at `start + p · stride + r`.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub start: *const f32,
    pub stride: usize,
}

impl Left for Columns {
    #[inline(always)]
    unsafe fn at(&self, r: usize, p: usize) -> f32 {
        // SAFETY: promised by the caller.
        unsafe { *self.start.add(p * self.stride + r) }
    }
}

/// The right operand of a tile: row p's vector v at `start + p · stride + v · step`.
#[derive(Clone, Copy)]
pub(crate) struct Right {
    pub start: *const f32,
    pub stride: usize,
    pub step: usize,
}

/// A tile of sums.
pub(crate) type Tile<S, const MR: usize, const NV: usize> = [[<S as Simd>::f32s; NV]; MR];

/// sum[r][j] ← sum[r][j] + Σ_p left(r, p) · right(p, j), p ascending, one fused multiply-add each.
///
/// # Safety
/// `left` holds (r, p) for r < MR and p < k; `right` is readable for NV vectors at p < k.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, A: Left, const MR: usize, const NV: usize>(
    simd: S,
    k: usize,
    left: A,
    right: Right,
    mut sum: Tile<S, MR, NV>,
) -> Tile<S, MR, NV> {
    // SAFETY: promised by the caller.
    unsafe {
        for p in 0..k {
            let row = right.start.add(p * right.stride);
            let mut b = [simd.splat_f32s(0.0); NV];
            for v in 0..NV {
                b[v] = load(simd, row.add(v * right.step));
            }
            for r in 0..MR {
                let a = simd.splat_f32s(left.at(r, p));
                for v in 0..NV {
                    sum[r][v] = simd.mul_add_f32s(a, b[v], sum[r][v]);
                }
            }
        }
    }
    sum
}

/// Where the sums of a tile go: c ← α sum (+ c).
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub alpha: f32,
    /// Whether c holds something to add to.
    pub add: bool,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Columns of c: fewer than NV vectors at the rim.
    pub width: usize,
}

impl Output {
    /// # Safety
    /// `width` columns of c are the caller's in each of the tile's rows.
    #[inline(always)]
    pub unsafe fn write<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, sum: Tile<S, MR, NV>) {
        let (lanes, alpha) = (S::F32_LANES, simd.splat_f32s(self.alpha));
        // SAFETY: promised by the caller.
        unsafe {
            for r in 0..MR {
                for v in 0..NV {
                    let c = self.c.add(r * self.c_stride + v * lanes);
                    if (v + 1) * lanes <= self.width {
                        let value = if self.add {
                            simd.mul_add_f32s(alpha, sum[r][v], load(simd, c))
                        } else {
                            simd.mul_f32s(alpha, sum[r][v])
                        };
                        store(simd, c, value);
                    } else if v * lanes < self.width {
                        rim(self.add, self.alpha, &spread(simd, sum[r][v]), c, self.width - v * lanes);
                    }
                }
            }
        }
    }
}

/// A tile of a matrix product: c ← α Σ left · right (+ c). A function of its own in the machine code, run by
/// `Simd::vectorize`, so that each shape of tile is compiled once.
pub(crate) struct MatrixTile<A, const MR: usize, const NV: usize> {
    pub k: usize,
    pub left: A,
    pub right: Right,
    pub output: Output,
}

impl<A: Left, const MR: usize, const NV: usize> WithSimd for MatrixTile<A, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: whoever makes a tile promises that its operands are readable and `width` columns of c are its own.
        unsafe {
            let sum = accumulate::<S, A, MR, NV>(simd, self.k, self.left, self.right, [[simd.splat_f32s(0.0); NV]; MR]);
            self.output.write::<S, MR, NV>(simd, sum);
        }
    }
}

/// The first `width` columns of a vector.
///
/// # Safety
/// `width` columns of c are the caller's.
#[inline(never)]
unsafe fn rim(add: bool, alpha: f32, sum: &[f32; 64], c: *mut f32, width: usize) {
    for (j, &sum) in sum.iter().enumerate().take(width) {
        // SAFETY: promised by the caller; without `add` the memory is only written.
        unsafe {
            let c = c.add(j);
            c.write(if add { alpha.mul_add(sum, *c) } else { alpha * sum });
        }
    }
}

/// A tile of a panel: out ← factor ∘ out + Σ left · right. The panel's rows are NV vectors.
pub(crate) struct PanelTile<A, const MR: usize, const NV: usize> {
    pub k: usize,
    pub left: A,
    pub right: Right,
    pub out: *mut f32,
    pub start: Start,
}

/// What a panel's sums start from.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    Out,
    /// What is there times one factor a lane: NV vectors.
    Scaled(*const f32),
}

impl<A: Left, const MR: usize, const NV: usize> WithSimd for PanelTile<A, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut sum = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: whoever makes a tile promises that its operands are readable and its part of the panel is its own.
        unsafe {
            let at = |r: usize, v: usize| self.out.add((r * NV + v) * S::F32_LANES);
            if !matches!(self.start, Start::Zero) {
                for r in 0..MR {
                    for v in 0..NV {
                        sum[r][v] = load(simd, at(r, v));
                    }
                }
            }
            if let Start::Scaled(factor) = self.start {
                for v in 0..NV {
                    let factor = load(simd, factor.add(v * S::F32_LANES));
                    for r in 0..MR {
                        sum[r][v] = simd.mul_f32s(sum[r][v], factor);
                    }
                }
            }
            let sum = accumulate::<S, A, MR, NV>(simd, self.k, self.left, self.right, sum);
            for r in 0..MR {
                for v in 0..NV {
                    store(simd, at(r, v), sum[r][v]);
                }
            }
        }
    }
}

/// A vector from unaligned memory.
///
/// # Safety
/// One vector is readable at `from`.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(_: S, from: *const f32) -> S::f32s {
    // SAFETY: promised by the caller.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// A vector to unaligned memory.
///
/// # Safety
/// One vector is writable at `to`.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(_: S, to: *mut f32, value: S::f32s) {
    // SAFETY: promised by the caller.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Asks for the cache line at `at`, which may lie anywhere: it is never read here.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The lanes of a vector in an array, zeros behind.
#[inline(always)]
pub(crate) fn spread<S: Simd>(simd: S, v: S::f32s) -> [f32; 64] {
    let mut array = [0.0; 64];
    // SAFETY: no vector has more than 64 lanes of f32 (const assertion), and the array has room for 64.
    unsafe {
        const { assert!(S::F32_LANES <= 64) };
        store(simd, array.as_mut_ptr(), v);
    }
    array
}
