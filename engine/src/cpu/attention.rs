//! Attention over a forest, forward and backward, with online softmax and grouped heads
//! (T. Dao, "FlashAttention-2", 2023, algorithms 1 and 2; here without atomics: every task owns what it writes).
//!
//! ```text
//! s[i, j] = scale · q[i]·k[j]      p[i, j] = e^(s − lse[i])      lse[i] = log Σⱼ e^s      o[i] = Σⱼ p[i, j] v[j]
//! ```
//!
//! over the keys j that row i sees. Query heads of one group share keys, so a block of queries is a list of
//! (row, head in the group) pairs, one pair a lane; every lane is computed on its own, with its keys in path order. The
//! softmax is rescaled after blocks of 64 positions counted from the root, so it does not matter which other rows
//! share the block: a masked key adds 0 to sums that are not −0, which changes no bit.
//!
//! That is the last of three rungs, each one idea further than the one before: `plain` (a pair at a time), `tiled` (blocks of
//! keys and a running softmax), `forward` and `backward` (pairs beside each other in the lanes of vectors).
//!
//! Worked example: two tokens, one head of three entries, scale 1, both queries (1, 0, 0).
//!
//! ```text
//! k[0] = (0, 0, 0)       v[0] = (4, 8, 0)        row 0 sees key 0 alone:  s = 0          p = 1        lse = 0
//! k[1] = (ln 3, 0, 0)    v[1] = (8, 0, 4)        row 1 sees both:         s = 0, ln 3    p = ¼, ¾     lse = ln 4
//!
//! o[0] = v[0] = (4, 8, 0)        o[1] = ¼ (4, 8, 0) + ¾ (8, 0, 4) = (7, 2, 3)
//! ```
mod backward;
mod forward;
mod lanes;
mod plain;
mod products;
mod tiled;

use super::threads::{Shared, build, build_chunks, reserve};
use super::{Cpu, check};
use crate::backend::{AttentionInputs, AttentionRung, AttentionShape, SoftmaxAttention};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;

/// Positions between two rescalings of the softmax: part of the definition of the result.
const KEY_BLOCK: usize = 64;
/// Lanes of a task: a multiple of every register tile's width.
const TASK_LANES: usize = 48;

/// Sizes and operands, checked.
#[derive(Clone, Copy)]
struct AttentionCall<'a> {
    shape: AttentionShape,
    plan: &'a AttentionPlan,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl<'a> AttentionCall<'a> {
    fn new(op: &'static str, inputs: AttentionInputs<'a>) -> Result<Self> {
        let AttentionInputs { shape, plan, q, k, v } = inputs;
        let AttentionShape { n_heads, n_kv_heads, head_size, window, .. } = shape;
        if window == 0 {
            return Err(Error::shape(op, "a window of 0 positions; a token sees at least itself"));
        }
        if n_kv_heads == 0 || n_heads == 0 || head_size == 0 || !n_heads.is_multiple_of(n_kv_heads) {
            let detail = format!("{n_heads} heads of {head_size} over {n_kv_heads} key heads; a multiple is needed");
            return Err(Error::shape(op, detail));
        }
        check_plan(op, plan)?;
        let n_q = check::size(op, &[plan.n_queries(), n_heads, head_size])?;
        let n_k = check::size(op, &[plan.n_keys, n_kv_heads, head_size])?;
        let q = check::f32s(op, "q", q, n_q)?;
        Ok(AttentionCall { shape, plan, q, k: check::f32s(op, "k", k, n_k)?, v: check::f32s(op, "v", v, n_k)? })
    }

    /// Query heads that read one key head.
    fn group(&self) -> usize {
        self.shape.n_heads / self.shape.n_kv_heads
    }

    /// Floats of one row of queries, and of keys.
    fn q_stride(&self) -> usize {
        self.shape.n_heads * self.shape.head_size
    }
    fn k_stride(&self) -> usize {
        self.shape.n_kv_heads * self.shape.head_size
    }
}

/// What the backward knows beside the forward's operands.
#[derive(Clone, Copy)]
struct AttentionGradients<'a> {
    call: AttentionCall<'a>,
    /// [T, H]
    lse: &'a [f32],
    /// ∂loss/∂o: [T, H, E]
    d_o: &'a [f32],
    /// δ[i] = Σ_e do[i, e] o[i, e]: [T, H]
    delta: &'a [f32],
}

/// Single rows, for the rungs that take one pair at a time.
impl<'a> AttentionCall<'a> {
    /// The query of a row and head.
    fn query(&self, row: usize, head: usize) -> &'a [f32] {
        let e = self.shape.head_size;
        &self.q[row * self.q_stride() + head * e..][..e]
    }

    /// The key that query head `head` reads in a key row.
    fn key(&self, row: u32, head: usize) -> &'a [f32] {
        let e = self.shape.head_size;
        &self.k[row as usize * self.k_stride() + head / self.group() * e..][..e]
    }

    /// The value beside that key.
    fn value(&self, row: u32, head: usize) -> &'a [f32] {
        let e = self.shape.head_size;
        &self.v[row as usize * self.k_stride() + head / self.group() * e..][..e]
    }
}

/// Every index of the plan lies inside what it points into.
fn check_plan(op: &'static str, plan: &AttentionPlan) -> Result<()> {
    let mut next = 0;
    for (i, run) in plan.runs.iter().enumerate() {
        let end = check::size(op, &[run.path_offset])?
            .checked_add(run.first_position)
            .and_then(|n| n.checked_add(run.len))
            .filter(|&n| n <= plan.path_rows.len());
        if run.start != next || end.is_none() {
            return Err(Error::shape(op, format!("run {i} of the plan has a gap before it or a path cut short")));
        }
        next = run.start + run.len;
    }
    match plan.path_rows.iter().find(|&&row| row as usize >= plan.n_keys) {
        Some(row) => Err(Error::shape(op, format!("key row {row} in the plan, there are {}", plan.n_keys))),
        None => Ok(()),
    }
}

/// Lanes of one run and key head: pair f is row `f / group` of the run and head `f % group` of the group.
#[derive(Clone, Copy)]
struct QueryTask {
    run: usize,
    kv_head: usize,
    first: usize,
    count: usize,
}

fn query_tasks(call: &AttentionCall) -> Vec<QueryTask> {
    let mut tasks = Vec::new();
    for (run, r) in call.plan.runs.iter().enumerate() {
        let lanes = r.len * call.group();
        for first in (0..lanes).step_by(TASK_LANES) {
            let count = (lanes - first).min(TASK_LANES);
            tasks.extend((0..call.shape.n_kv_heads).map(|kv_head| QueryTask { run, kv_head, first, count }));
        }
    }
    tasks
}

impl SoftmaxAttention for Cpu {
    /// (o [T, H, E], lse [T, H])
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)> {
        let call = AttentionCall::new("attention", inputs)?;
        let (shape, plan) = (call.shape, call.plan);
        let tasks = query_tasks(&call);
        let mut lse = vec![0f32; plan.n_queries() * shape.n_heads];
        let lse_to = Shared::of(&mut lse);
        // SAFETY: the tasks cover all (row, head) pairs once, and each writes all of its pairs.
        let o = unsafe {
            build(call.q.len(), |o| match self.attention {
                AttentionRung::Plain => plain::forward(&self.threads, call, o, lse_to),
                AttentionRung::Tiled => tiled::forward(&self.threads, call, &tasks, o, lse_to),
                AttentionRung::Shared => {
                    let lanes = |i: usize| forward::Forward { call, task: tasks[i], o, lse: lse_to };
                    self.threads.each(tasks.len(), |i| self.level.run(lanes(i)));
                }
            })?
        };
        Ok((Buffer::from_f32(o), Buffer::from_f32(lse)))
    }

    /// (dq [T, H, E], dk [T, K, E], dv [T, K, E]): δ for all pairs, then a pass by query rows and one by key rows.
    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let op = "attention_backward";
        let call = AttentionCall::new(op, inputs)?;
        let (plan, t) = (call.plan, call.plan.n_queries());
        if plan.n_keys != t || plan.positions.len() != t || plan.ends.len() != t {
            let detail = format!("{t} queries and {} keys; the gradient needs the plan of one forest", plan.n_keys);
            return Err(Error::shape(op, detail));
        }
        let o = check::f32s(op, "o", o, call.q.len())?;
        let d_o = check::f32s(op, "d_o", d_o, call.q.len())?;
        let lse = check::f32s(op, "lse", lse, t * call.shape.n_heads)?;
        let delta = self.delta(call, o, d_o)?;
        let back = AttentionGradients { call, lse, d_o, delta: &delta };
        let dq = self.by_queries(back)?;
        let (dk, dv) = self.by_keys(back)?;
        Ok((Buffer::from_f32(dq), Buffer::from_f32(dk), Buffer::from_f32(dv)))
    }
}

impl Cpu {
    /// δ[i] = Σ_e do[i, e] o[i, e], which is Σⱼ p[i, j] dp[i, j]: [T, H]
    fn delta(&self, call: AttentionCall, o: &[f32], d_o: &[f32]) -> Result<Vec<f32>> {
        let AttentionShape { n_heads, head_size, .. } = call.shape;
        // SAFETY: every element of a part is written.
        unsafe {
            build_chunks(&self.threads, call.plan.n_queries() * n_heads, 256, |start, part| {
                for (i, delta) in part.iter_mut().enumerate() {
                    let row = (start + i) * head_size..(start + i + 1) * head_size;
                    delta.write(self.level.run(backward::RowDot([&d_o[row.clone()], &o[row]])));
                }
            })
        }
    }

    /// dq [T, H, E]
    fn by_queries(&self, back: AttentionGradients) -> Result<Vec<f32>> {
        let tasks = query_tasks(&back.call);
        // SAFETY: the tasks cover all (row, head) pairs once, and each writes all of its pairs.
        unsafe {
            build(back.call.q.len(), |dq| match self.attention {
                AttentionRung::Plain => plain::queries(&self.threads, back, dq),
                AttentionRung::Tiled => tiled::queries(&self.threads, back, &tasks, dq),
                AttentionRung::Shared => {
                    self.threads.each(tasks.len(), |i| self.level.run(backward::Queries { back, task: tasks[i], dq }));
                }
            })
        }
    }

    /// dk and dv, [T, K, E] each. A task is a block of key rows of one key head; the first have most queries behind them.
    fn by_keys(&self, back: AttentionGradients) -> Result<(Vec<f32>, Vec<f32>)> {
        let (size, t, n_kv_heads) = (back.call.k.len(), back.call.plan.n_keys, back.call.shape.n_kv_heads);
        let n_blocks = t.div_ceil(TASK_LANES);
        let mut dv = Vec::new();
        reserve(&mut dv, size)?;
        let dv_to = Shared::of_raw(dv.as_mut_ptr());
        // SAFETY: the tasks cover all (row, key head) pairs once, and each writes all of its pairs, in dk and in dv.
        unsafe {
            let dk = build(size, |dk| match self.attention {
                AttentionRung::Plain => plain::keys(&self.threads, back, dk, dv_to),
                AttentionRung::Tiled => tiled::keys(&self.threads, back, dk, dv_to),
                AttentionRung::Shared => self.threads.each(n_blocks * n_kv_heads, |i| {
                    let (first, kv_head) = (i / n_kv_heads * TASK_LANES, i % n_kv_heads);
                    let rows = first..(first + TASK_LANES).min(t);
                    self.level.run(backward::Keys { back, rows, kv_head, dk, dv: dv_to });
                }),
            })?;
            dv.set_len(size);
            Ok((dk, dv))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;
    use crate::forest::Forest;

    /// The tokens of the example: scale, q, k, v.
    pub(super) fn example() -> (AttentionShape, AttentionPlan, [Buffer; 3]) {
        let shape = AttentionShape { n_heads: 1, n_kv_heads: 1, head_size: 3, scale: 1.0, window: usize::MAX };
        let plan = Forest::from_sequences(&[vec![0, 0]]).unwrap().attention_plan();
        let q = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let k = vec![0.0, 0.0, 0.0, 3f32.ln(), 0.0, 0.0];
        let v = vec![4.0, 8.0, 0.0, 8.0, 0.0, 4.0];
        (shape, plan, [q, k, v].map(Buffer::from_f32))
    }

    pub(super) fn close(found: &Buffer, expected: &[f32]) {
        let found = found.f32().unwrap();
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, not {expected:?}");
    }

    #[test]
    fn worked_example() {
        let (shape, plan, [q, k, v]) = example();
        for rung in [AttentionRung::Plain, AttentionRung::Tiled, AttentionRung::Shared] {
            let cpu = Cpu::with_rung(Some(1), Level::best(), rung).unwrap();
            let (o, lse) = cpu.attention(AttentionInputs { shape, plan: &plan, q: &q, k: &k, v: &v }).unwrap();
            close(&o, &[4.0, 8.0, 0.0, 7.0, 2.0, 3.0]);
            close(&lse, &[0.0, 4f32.ln()]);
        }
    }
}
