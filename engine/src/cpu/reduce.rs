//! Sums (and maxima) over a slice in a fixed order: 32 partial results, one for each index modulo 32, folded by halves.
//! The order does not depend on the width of the vectors, so every instruction set gives the same bits.
use super::tile::spread;
use pulp::Simd;

/// Partial results of a slice.
pub(crate) const LANES: usize = 32;

/// What is accumulated: O numbers from I slices.
pub(crate) trait Fold<const I: usize, const O: usize>: Copy {
    /// Where the partial results start; combining with it changes nothing.
    const START: f32;
    /// What stands behind the end of the slices; such elements change nothing.
    const PAD: f32;
    fn step<S: Simd>(self, simd: S, x: [S::f32s; I], so_far: [S::f32s; O]) -> [S::f32s; O];
    fn combine(a: f32, b: f32) -> f32 {
        a + b
    }
}

/// Folds slices of one length.
#[inline(always)]
pub(crate) fn fold<S: Simd, F: Fold<I, O>, const I: usize, const O: usize>(simd: S, x: [&[f32]; I], f: F) -> [f32; O] {
    let lanes = S::F32_LANES;
    let vectors = const { LANES / S::F32_LANES };
    let n = x.iter().map(|x| x.len()).min().unwrap_or(0);
    let mut partial = [[simd.splat_f32s(F::START); O]; LANES];
    // SAFETY: loads stay below n, the length of the shortest slice, and inside `tail`.
    unsafe {
        for at in (0..n / LANES * LANES).step_by(LANES) {
            for (v, partial) in partial[..vectors].iter_mut().enumerate() {
                let x = x.map(|x| x.as_ptr().add(at + v * lanes).cast::<S::f32s>().read_unaligned());
                *partial = f.step(simd, x, *partial);
            }
        }
        if n % LANES != 0 {
            let mut tail = [[F::PAD; LANES]; I];
            for (tail, x) in tail.iter_mut().zip(x) {
                tail[..n % LANES].copy_from_slice(&x[n / LANES * LANES..n]);
            }
            for (v, partial) in partial[..vectors].iter_mut().enumerate() {
                let x = tail.map(|t| t.as_ptr().add(v * lanes).cast::<S::f32s>().read_unaligned());
                *partial = f.step(simd, x, *partial);
            }
        }
    }
    std::array::from_fn(|o| {
        let mut all = [F::START; LANES];
        for v in 0..vectors {
            all[v * lanes..(v + 1) * lanes].copy_from_slice(&spread(simd, partial[v][o])[..lanes]);
        }
        for half in [16, 8, 4, 2, 1] {
            for i in 0..half {
                all[i] = F::combine(all[i], all[i + half]);
            }
        }
        all[0]
    })
}

/// Σ a b
#[derive(Clone, Copy)]
pub(crate) struct Dot;

impl Fold<2, 1> for Dot {
    const START: f32 = 0.0;
    const PAD: f32 = 0.0;
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, [a, b]: [S::f32s; 2], [sum]: [S::f32s; 1]) -> [S::f32s; 1] {
        [simd.mul_add_f32s(a, b, sum)]
    }
}

/// Σ a b c
#[derive(Clone, Copy)]
pub(crate) struct Dot3;

impl Fold<3, 1> for Dot3 {
    const START: f32 = 0.0;
    const PAD: f32 = 0.0;
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, [a, b, c]: [S::f32s; 3], [sum]: [S::f32s; 1]) -> [S::f32s; 1] {
        [simd.mul_add_f32s(simd.mul_f32s(a, b), c, sum)]
    }
}
