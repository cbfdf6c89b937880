//! The register tile: MR × NV vectors of sums, each accumulated in the order of k. Matrix products and attention both
//! stand on it, and it alone decides the order of additions, so that order is the same everywhere.
use pulp::Simd;

/// The left operand of a tile: element (r, p), r < MR, p < k.
pub(crate) trait Left: Copy {
    /// # Safety
    /// (r, p) lies in the operand.
    unsafe fn at(&self, r: usize, p: usize) -> f32;
}

/// Rows that are contiguous along k: element (r, p) at `start + r · stride + p`.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub start: *const f32,
    pub stride: usize,
}

impl Left for Rows {
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

/// A tile of sums.
pub(crate) type Tile<S, const MR: usize, const NV: usize> = [[<S as Simd>::f32s; NV]; MR];

/// All zero.
#[inline(always)]
pub(crate) fn zero<S: Simd, const MR: usize, const NV: usize>(simd: S) -> Tile<S, MR, NV> {
    [[simd.splat_f32s(0.0); NV]; MR]
}

/// sum[r][j] ← sum[r][j] + Σ_p left(r, p) · right[p · stride + j], p ascending, one fused multiply-add each.
///
/// # Safety
/// `left` holds (r, p) for r < MR and p < k; `right + p · stride` is readable for NV vectors, p < k.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, A: Left, const MR: usize, const NV: usize>(
    simd: S,
    k: usize,
    left: A,
    right: *const f32,
    stride: usize,
    mut sum: Tile<S, MR, NV>,
) -> Tile<S, MR, NV> {
    // SAFETY: promised by the caller.
    unsafe {
        for p in 0..k {
            let row = right.add(p * stride);
            let b: [S::f32s; NV] = std::array::from_fn(|v| load(simd, row.add(v * S::F32_LANES)));
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
