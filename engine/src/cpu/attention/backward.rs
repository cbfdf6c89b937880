//! Rung 3 backward, in two passes that recompute p: dq by query rows, dk and dv by key rows, each owned by one task. `plain`
//! has the same two loops pair by pair; here [`Queries`] has queries in the lanes of vectors, [`Keys`] keys. On a GPU these are
//! `attention_backward_query.wgsl` and `attention_backward_key.wgsl`.
//!
//! The forward was s = scale·q·k, p = e^(s − lse), o = Σ p v, so with dp = do·v and delta = Σ p dp = do·o
//!
//! ```text
//! ds = p (dp − delta)      dq = scale Σⱼ ds k[j]      dk = scale Σᵢ ds q[i]      dv = Σᵢ p do[i]
//! ```
//!
//! Worked example: the two tokens of `attention`, with do[0] = 0 and do[1] = (1, 0, 0). Of row 1, p = (¼, ¾), and
//!
//! ```text
//! dp = do·v = (4, 8)        delta = do·o = 7 = ¼ 4 + ¾ 8        ds = (¼ (4 − 7), ¾ (8 − 7)) = (−¾, ¾)
//! dq[1] = −¾ k[0] + ¾ k[1] = (¾ ln 3, 0, 0)
//! dk[0] = −¾ q[1] = (−¾, 0, 0)     dk[1] = (¾, 0, 0)     dv[0] = ¼ do[1] = (¼, 0, 0)     dv[1] = (¾, 0, 0)
//! ```
use super::lanes::{KeyLanes, Lanes, Seen};
use super::products::{Listed, add_rows_transposed_times_panel, fill_panel, rows_times_panel, spill_panel};
use super::{AttentionGradients, KEY_BLOCK, QueryTask};
use crate::cpu::math;
use crate::cpu::reduce::{Dot, fold};
use crate::cpu::scratch::Scratch;
use crate::cpu::threads::Shared;
use crate::cpu::tile::{Start, load, store};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Σ a b of two rows.
pub(super) struct RowDot<'a>(pub [&'a [f32]; 2]);

impl WithSimd for RowDot<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        fold(simd, self.0, Dot)[0]
    }
}

/// dq of one task's pairs: lanes are queries, as in the forward.
pub(super) struct Queries<'a> {
    pub back: AttentionGradients<'a>,
    pub task: QueryTask,
    pub dq: Shared<f32>,
}

impl WithSimd for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if const { S::REGISTER_COUNT >= 32 } { self.run::<S, 8, 3>(simd) } else { self.run::<S, 6, 2>(simd) }
    }
}

impl Queries<'_> {
    #[inline(always)]
    fn run<S: Simd, const MR: usize, const NV: usize>(&self, simd: S) {
        let QueryTask { first, count, .. } = self.task;
        let width = NV * S::F32_LANES;
        for at in (0..count).step_by(width) {
            let lanes = Lanes { task: self.task, first: first + at, count: (count - at).min(width) };
            self.lanes::<S, MR, NV>(simd, lanes);
        }
    }

    #[inline(always)]
    fn lanes<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, lanes: Lanes) {
        let AttentionGradients { call, lse, d_o, delta } = self.back;
        let width = NV * S::F32_LANES;
        let size = call.shape.head_size;
        let mut scratch = Scratch::new((3 * size + 2 * KEY_BLOCK) * width);
        let q = scratch.ptr();
        // SAFETY: the scratch holds q, do and dq as [size, width], s and dp as [KEY_BLOCK, width]; rows come from a
        // checked plan, and the lanes' outputs are this task's.
        unsafe {
            let d_out = q.add(size * width);
            let dq = d_out.add(size * width);
            let s = dq.add(size * width);
            let dp = s.add(KEY_BLOCK * width);
            let row = |x: &[f32], lane| (lane < lanes.count).then(|| x[lanes.offset(&call, lane)..].as_ptr());
            fill_panel(q, width, size, call.shape.scale, |lane| row(call.q, lane));
            fill_panel(d_out, width, size, 1.0, |lane| row(d_o, lane));
            std::slice::from_raw_parts_mut(dq, size * width).fill(0.0);
            let of_pairs = |x: &[f32]| {
                let mut values = [0f32; 64];
                for (lane, value) in values.iter_mut().enumerate().take(lanes.count) {
                    *value = x[lanes.pair(&call, lane)];
                }
                std::array::from_fn(|v| load(simd, values.as_ptr().add(v * S::F32_LANES)))
            };
            let (lse, delta): ([S::f32s; NV], [S::f32s; NV]) = (of_pairs(lse), of_pairs(delta));
            let seen = Seen::<S, NV>::new(simd, &lanes, &call);
            let path = lanes.path(&call);
            let (head, stride) = (self.task.kv_head * size, call.k_stride());
            let mut block = seen.first / KEY_BLOCK * KEY_BLOCK;
            while block < seen.end {
                let n = (seen.end - block).min(KEY_BLOCK);
                let index = &path[block..block + n];
                let keys = Listed { start: call.k.as_ptr().add(head), stride, index };
                let values = Listed { start: call.v.as_ptr().add(head), stride, index };
                rows_times_panel::<S, MR, NV>(simd, keys, size, q, s);
                rows_times_panel::<S, MR, NV>(simd, values, size, d_out, dp);
                let masked = seen.masks(block, n);
                for j in 0..n {
                    for v in 0..NV {
                        let at = (j * NV + v) * S::F32_LANES;
                        let mut p = math::exp(simd, simd.sub_f32s(load(simd, s.add(at)), lse[v]));
                        if masked {
                            p = simd.select_f32s(seen.mask(simd, v, block + j), p, simd.splat_f32s(0.0));
                        }
                        let ds = simd.mul_f32s(p, simd.sub_f32s(load(simd, dp.add(at)), delta[v]));
                        store(simd, s.add(at), ds);
                    }
                }
                add_rows_transposed_times_panel::<S, MR, NV>(simd, keys, size, s, dq, Start::Out);
                block += KEY_BLOCK;
            }
            let to_dq = self.dq.ptr();
            spill_panel(dq, width, size, lanes.count, call.shape.scale, |lane| to_dq.add(lanes.offset(&call, lane)));
        }
    }
}

/// Panels of a tile of keys.
#[derive(Clone, Copy)]
struct KeyPanels {
    /// [E, lanes], k times the scale
    k: *mut f32,
    v: *mut f32,
    dk: *mut f32,
    dv: *mut f32,
    /// [queries of a block, lanes]: s, then p
    p: *mut f32,
    /// [queries of a block, lanes]: dp, then ds
    ds: *mut f32,
}

/// dk and dv of some key rows and one key head: lanes are keys.
pub(super) struct Keys<'a> {
    pub back: AttentionGradients<'a>,
    pub rows: Range<usize>,
    pub kv_head: usize,
    pub dk: Shared<f32>,
    pub dv: Shared<f32>,
}

impl WithSimd for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if const { S::REGISTER_COUNT >= 32 } { self.run::<S, 8, 3>(simd) } else { self.run::<S, 6, 2>(simd) }
    }
}

impl Keys<'_> {
    #[inline(always)]
    fn run<S: Simd, const MR: usize, const NV: usize>(&self, simd: S) {
        let width = NV * S::F32_LANES;
        for first in self.rows.clone().step_by(width) {
            self.lanes::<S, MR, NV>(simd, first..(first + width).min(self.rows.end));
        }
    }

    #[inline(always)]
    fn lanes<S: Simd, const MR: usize, const NV: usize>(&self, simd: S, rows: Range<usize>) {
        let call = self.back.call;
        let (width, size) = (NV * S::F32_LANES, call.shape.head_size);
        let (head, stride) = (self.kv_head * size, call.k_stride());
        let mut scratch = Scratch::new((4 * size + 2 * KEY_BLOCK) * width);
        let scratch = scratch.ptr();
        // SAFETY: the scratch holds k, v, dk and dv as [size, width], p and ds as [KEY_BLOCK, width]; the rows lie
        // in the checked operands, and those of dk and dv are this task's.
        unsafe {
            let part = |i: usize| scratch.add(i * size * width);
            let ds = part(4).add(KEY_BLOCK * width);
            let panels = KeyPanels { k: part(0), v: part(1), dk: part(2), dv: part(3), p: part(4), ds };
            let row = |x: &[f32], lane| (lane < rows.len()).then(|| x[(rows.start + lane) * stride + head..].as_ptr());
            fill_panel(panels.k, width, size, call.shape.scale, |lane| row(call.k, lane));
            fill_panel(panels.v, width, size, 1.0, |lane| row(call.v, lane));
            // dk, and dv behind it.
            std::slice::from_raw_parts_mut(panels.dk, 2 * size * width).fill(0.0);
            let ends = &call.plan.ends[rows.clone()];
            let end = (ends.iter().max().map_or(0, |&e| e as usize)).min(call.plan.n_queries());
            let keys = KeyLanes::<S, NV>::new(simd, &call, rows.clone());
            for q_head in self.kv_head * call.group()..(self.kv_head + 1) * call.group() {
                for first in (rows.start..end).step_by(KEY_BLOCK) {
                    let queries = first..(first + KEY_BLOCK).min(end);
                    self.block::<S, MR, NV>(simd, &keys, rows.clone(), queries, q_head, panels);
                }
            }
            let (to_dk, to_dv) = (self.dk.ptr(), self.dv.ptr());
            let at = |lane: usize| (rows.start + lane) * stride + head;
            spill_panel(panels.dk, width, size, rows.len(), call.shape.scale, |lane| to_dk.add(at(lane)));
            spill_panel(panels.dv, width, size, rows.len(), 1.0, |lane| to_dv.add(at(lane)));
        }
    }

    /// Adds what a block of query rows of one head contributes.
    ///
    /// # Safety
    /// The panels are as `lanes` lays them out, the rows lie in the operands.
    #[inline(always)]
    unsafe fn block<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        keys: &KeyLanes<S, NV>,
        rows: Range<usize>,
        queries: Range<usize>,
        q_head: usize,
        panels: KeyPanels,
    ) {
        let AttentionGradients { call, lse, d_o, delta } = self.back;
        let plan = call.plan;
        let (size, n_heads) = (call.shape.head_size, call.shape.n_heads);
        let positions = &plan.positions[queries.clone()];
        // Rows that see all keys of the tile need no mask: behind the last key, in every subtree, inside the window.
        let every_end = plan.ends[rows.clone()].iter().min().map_or(0, |&e| e as usize);
        let first_key = plan.positions[rows.clone()].iter().min().copied().unwrap_or(0) as usize;
        let furthest = positions.iter().max().copied().unwrap_or(0) as usize;
        let windowed = furthest.saturating_sub(first_key) >= call.shape.window;
        let last_key = plan.positions[rows.clone()].iter().max().copied().unwrap_or(0) as usize;
        let nearest = positions.iter().min().copied().unwrap_or(0) as usize;
        if nearest.saturating_sub(last_key) >= call.shape.window {
            return;
        }
        let masked = queries.start + 1 < rows.end || queries.end > every_end || windowed;
        let mut list = [0u32; KEY_BLOCK];
        for (at, row) in list.iter_mut().zip(queries.clone()) {
            *at = row as u32;
        }
        let index = &list[..queries.len()];
        // SAFETY: promised by the caller.
        unsafe {
            let KeyPanels { k, v, dk, dv, p: p_panel, ds: ds_panel } = panels;
            let (head, stride) = (q_head * size, call.q_stride());
            let q = Listed { start: call.q.as_ptr().add(head), stride, index };
            let d_out = Listed { start: d_o.as_ptr().add(head), stride, index };
            rows_times_panel::<S, MR, NV>(simd, q, size, k, p_panel);
            rows_times_panel::<S, MR, NV>(simd, d_out, size, v, ds_panel);
            for (i, row) in queries.enumerate() {
                let lse = simd.splat_f32s(lse[row * n_heads + q_head]);
                let delta = simd.splat_f32s(delta[row * n_heads + q_head]);
                for v in 0..NV {
                    let at = (i * NV + v) * S::F32_LANES;
                    let mut p = math::exp(simd, simd.sub_f32s(load(simd, p_panel.add(at)), lse));
                    if masked {
                        p = simd.select_f32s(keys.mask(simd, v, row, positions[i]), p, simd.splat_f32s(0.0));
                    }
                    let ds = simd.mul_f32s(p, simd.sub_f32s(load(simd, ds_panel.add(at)), delta));
                    store(simd, p_panel.add(at), p);
                    store(simd, ds_panel.add(at), ds);
                }
            }
            add_rows_transposed_times_panel::<S, MR, NV>(simd, d_out, size, p_panel, dv, Start::Out);
            add_rows_transposed_times_panel::<S, MR, NV>(simd, q, size, ds_panel, dk, Start::Out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, example};
    use crate::backend::{AttentionInputs, AttentionRung, SoftmaxAttention};
    use crate::buffer::Buffer;
    use crate::cpu::{Cpu, Level};

    #[test]
    fn worked_example() {
        let (shape, plan, [q, k, v]) = example();
        let d_o = Buffer::from_f32(vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        for rung in [AttentionRung::Plain, AttentionRung::Tiled, AttentionRung::Shared] {
            let cpu = Cpu::with_rung(Some(1), Level::best(), rung).unwrap();
            let inputs = AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v };
            let (o, lse) = cpu.attention(inputs).unwrap();
            let (dq, dk, dv) = cpu.attention_backward(inputs, &o, &lse, &d_o).unwrap();
            close(&dq, &[0.0, 0.0, 0.0, 0.75 * 3f32.ln(), 0.0, 0.0]);
            close(&dk, &[-0.75, 0.0, 0.0, 0.75, 0.0, 0.0]);
            close(&dv, &[0.25, 0.0, 0.0, 0.75, 0.0, 0.0]);
        }
    }
}
