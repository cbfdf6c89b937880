//! Rung 3, shared: pairs beside each other in the lanes of vectors; blocks of 64 positions, running maximum and sum of every lane, o rescaled when the maximum grows.
//!
//! Worked example: 66 keys before one query, one entry a head. The 64 of the first block have the score 0 and the value 1, the
//! two of the second the score ln 32 and the value 4. m is the maximum so far, l the sum and o the sum of values under it:
//!
//! ```text
//! block 1:   m = 0                              l = 64 · e⁰ = 64        o = 64 · 1 = 64
//! block 2:   m = ln 32, shrink = e^(0 − ln 32) = 1/32
//!                                               l = 64/32 + 1 + 1 = 4   o = 64/32 + 4 + 4 = 10
//! end:       o / l = 2.5                        lse = m + ln l = ln 32 + ln 4 = ln 128
//! ```
use super::lanes::{Lanes, Seen};
use super::products::{
    FEW, FewLanes, Listed, add_rows_transposed_times_panel, fill_panel, rows_times_panel, spill_panel,
};
use super::{AttentionCall, KEY_BLOCK, QueryTask};
use crate::cpu::math;
use crate::cpu::scratch::Scratch;
use crate::cpu::threads::Shared;
use crate::cpu::tile::{Start, load, store};
use pulp::{Simd, WithSimd};

/// One task; writes its pairs' o and lse.
pub(super) struct Forward<'a> {
    pub call: AttentionCall<'a>,
    pub task: QueryTask,
    pub o: Shared<f32>,
    pub lse: Shared<f32>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if const { S::REGISTER_COUNT >= 32 } { self.run::<S, 8, 3>(simd) } else { self.run::<S, 6, 2>(simd) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const MR: usize, const NV: usize>(&self, simd: S) {
        let QueryTask { first, count, .. } = self.task;
        let mut at = 0;
        while at < count {
            let lanes = Lanes { task: self.task, first: first + at, count: count - at };
            // Few lanes, as in decoding: one vector is enough.
            at += if count - at <= S::F32_LANES {
                self.lanes::<S, MR, 1>(simd, lanes)
            } else {
                self.lanes::<S, MR, NV>(simd, lanes)
            };
        }
    }

    /// As many lanes as the tile has; returns how many.
    #[inline(always)]
    fn lanes<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, mut lanes: Lanes) -> usize {
        let width = NV * S::F32_LANES;
        lanes.count = lanes.count.min(width);
        let size = self.call.shape.head_size;
        let mut scratch = Scratch::new((2 * size + KEY_BLOCK + 1) * width + FEW * size);
        let scratch = scratch.ptr();
        // SAFETY: the scratch holds q and o as [size, width] and s as [KEY_BLOCK, width]; rows come from a checked
        // plan, and the lanes' outputs are this task's.
        unsafe {
            let (q, o, s) = (scratch, scratch.add(size * width), scratch.add(2 * size * width));
            let shrink = s.add(KEY_BLOCK * width);
            let few = shrink.add(width);
            std::slice::from_raw_parts_mut(few, FEW * size).fill(0.0);
            let call = &self.call;
            fill_panel(q, width, size, call.shape.scale, |lane| lanes.query(call, lane));
            std::slice::from_raw_parts_mut(o, size * width).fill(0.0);
            let seen = Seen::<S, NV>::new(simd, &lanes, call);
            let (lowest, zero) = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_f32s(0.0));
            let mut so_far = SoFar::<S, NV> { max: [lowest; NV], sum: [zero; NV], shrink };
            let path = lanes.path(call);
            let head = self.task.kv_head * size;
            let mut block = seen.first / KEY_BLOCK * KEY_BLOCK;
            while block < seen.end {
                let n = (seen.end - block).min(KEY_BLOCK);
                let index = &path[block..block + n];
                let stride = call.k_stride();
                let keys = Listed { start: call.k.as_ptr().add(head), stride, index };
                rows_times_panel::<S, MR, NV>(simd, keys, size, q, s);
                so_far.add_block(simd, s, n, &seen, block);
                let values = Listed { start: call.v.as_ptr().add(head), stride, index };
                if lanes.count <= FEW {
                    add_few(simd, lanes.count, values, size, s, width, shrink, few);
                } else {
                    add_rows_transposed_times_panel::<S, MR, NV>(simd, values, size, s, o, Start::Scaled(shrink));
                }
                block += KEY_BLOCK;
            }
            if lanes.count <= FEW {
                fill_panel(o, width, size, 1.0, |lane| (lane < lanes.count).then(|| few.add(lane * size).cast_const()));
            }
            self.finish(simd, &lanes, o, so_far);
        }
        lanes.count
    }

    /// o ← o / sum; lse = max + ln sum
    ///
    /// # Safety
    /// `o` is [size, NV vectors]; the lanes' outputs are this task's.
    #[inline(always)]
    unsafe fn finish<S: Simd, const NV: usize>(
        &self,
        simd: S,
        lanes: &Lanes,
        o: *mut f32,
        SoFar { max, sum, .. }: SoFar<S, NV>,
    ) {
        let (width, size) = (NV * S::F32_LANES, self.call.shape.head_size);
        let mut lse = [0f32; 64];
        // SAFETY: promised by the caller; a tile is at most 48 lanes wide.
        unsafe {
            for v in 0..NV {
                let log = simd.add_f32s(max[v], math::ln(simd, sum[v]));
                store(simd, lse.as_mut_ptr().add(v * S::F32_LANES), log);
                let inverse = simd.div_f32s(simd.splat_f32s(1.0), sum[v]);
                for e in 0..size {
                    let at = o.add(e * width + v * S::F32_LANES);
                    store(simd, at, simd.mul_f32s(load(simd, at), inverse));
                }
            }
            for (lane, &lse) in lse.iter().enumerate().take(lanes.count) {
                self.lse.ptr().add(lanes.pair(&self.call, lane)).write(lse);
            }
            let to = self.o.ptr();
            spill_panel(o, width, size, lanes.count, 1.0, |lane| to.add(lanes.offset(&self.call, lane)));
        }
    }
}

/// [`FewLanes`] for `count` of them, 1 to 8.
///
/// # Safety
/// As the operands of [`FewLanes`].
#[inline(always)]
unsafe fn add_few<S: Simd>(
    simd: S,
    count: usize,
    rows: Listed,
    size: usize,
    s: *const f32,
    width: usize,
    factor: *const f32,
    o: *mut f32,
) {
    macro_rules! lanes {
        ($($c:literal)*) => {
            match count {
                $($c => simd.vectorize(FewLanes::<$c> { rows, size, s, width, factor, o }),)*
                _ => {}
            }
        };
    }
    lanes!(1 2 3 4 5 6 7 8);
}

/// The softmax of NV vectors of lanes, as far as their keys have been seen.
struct SoFar<S: Simd, const NV: usize> {
    max: [S::f32s; NV],
    /// Σ e^(s − max)
    sum: [S::f32s; NV],
    /// The factor on what was summed before the last block: NV vectors.
    shrink: *mut f32,
}

impl<S: Simd, const NV: usize> SoFar<S, NV> {
    /// Takes in the scores of the positions `block .. block + n`: s ← e^(s − max), the masked ones 0.
    ///
    /// # Safety
    /// `s` is [n, NV vectors], `shrink` NV vectors.
    #[inline(always)]
    unsafe fn add_block(&mut self, simd: S, s: *mut f32, n: usize, seen: &Seen<S, NV>, block: usize) {
        let lowest = simd.splat_f32s(f32::NEG_INFINITY);
        let masked = seen.masks(block, n);
        // SAFETY: j < n, v < NV.
        unsafe {
            for v in 0..NV {
                let column = s.add(v * S::F32_LANES);
                let at = |j: usize| column.add(j * NV * S::F32_LANES);
                let mut largest = self.max[v];
                for j in 0..n {
                    let mut x = load(simd, at(j));
                    if masked {
                        x = simd.select_f32s(seen.mask(simd, v, block + j), x, lowest);
                        store(simd, at(j), x);
                    }
                    largest = math::max(simd, x, largest);
                }
                // A lane that has seen no key yet keeps −∞; 0 in its place makes e^(−∞ − 0) = 0.
                let base = simd.select_f32s(simd.equal_f32s(largest, lowest), simd.splat_f32s(0.0), largest);
                let factor = math::exp(simd, simd.sub_f32s(self.max[v], base));
                store(simd, self.shrink.add(v * S::F32_LANES), factor);
                let mut total = simd.mul_f32s(self.sum[v], factor);
                for j in 0..n {
                    let p = math::exp(simd, simd.sub_f32s(load(simd, at(j)), base));
                    total = simd.add_f32s(total, p);
                    store(simd, at(j), p);
                }
                (self.max[v], self.sum[v]) = (largest, total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::close;
    use crate::backend::{AttentionInputs, AttentionShape, SoftmaxAttention};
    use crate::buffer::Buffer;
    use crate::cpu::Cpu;
    use crate::forest::AttentionPlan;

    #[test]
    fn worked_example() {
        let (mut k, mut v) = (vec![0.0; 66], vec![1.0; 66]);
        k[64..].fill(32f32.ln());
        v[64..].fill(4.0);
        let mut plan = AttentionPlan { n_keys: 66, ..Default::default() };
        plan.push_queries(1, 65, &(0..66).collect::<Vec<u32>>());
        let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_size: 1, scale: 1.0, window: usize::MAX };
        let [q, k, v] = [vec![1.0], k, v].map(Buffer::from_f32);
        let cpu = Cpu::new(Some(1)).unwrap();
        let (o, lse) = cpu.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }).unwrap();
        close(&o, &[2.5]);
        close(&lse, &[128f32.ln()]);
    }
}
