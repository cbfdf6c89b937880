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
mod backward;
mod forward;
mod products;

use super::threads::{Shared, build};
use super::{Cpu, check};
use crate::backend::{AttentionInputs, AttentionShape, SoftmaxAttention};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;

/// Positions between two rescalings of the softmax: part of the definition of the result.
const KEY_BLOCK: usize = 64;
/// Lanes of a task: a multiple of every register tile's width.
const TASK_LANES: usize = 48;

/// Sizes and operands, checked.
#[derive(Clone, Copy)]
struct Checked<'a> {
    shape: AttentionShape,
    plan: &'a AttentionPlan,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl<'a> Checked<'a> {
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
        Ok(Checked { shape, plan, q, k: check::f32s(op, "k", k, n_k)?, v: check::f32s(op, "v", v, n_k)? })
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

fn query_tasks(call: &Checked) -> Vec<QueryTask> {
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
        let call = Checked::new("attention", inputs)?;
        let (shape, plan) = (call.shape, call.plan);
        let tasks = query_tasks(&call);
        let mut lse = vec![0f32; plan.n_queries() * shape.n_heads];
        let lse_to = Shared::of(&mut lse);
        // SAFETY: the tasks cover all (row, head) pairs once, and each writes all of its pairs.
        let o = unsafe {
            build(call.q.len(), |o| {
                self.threads
                    .each(tasks.len(), |i| self.level.run(forward::Forward { call, task: tasks[i], o, lse: lse_to }));
            })?
        };
        Ok((Buffer::from_f32(o), Buffer::from_f32(lse)))
    }

    /// (dq [T, H, E], dk [T, K, E], dv [T, K, E])
    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let op = "attention_backward";
        let call = Checked::new(op, inputs)?;
        let (shape, plan) = (call.shape, call.plan);
        let t = plan.n_queries();
        if plan.n_keys != t || plan.positions.len() != t || plan.ends.len() != t {
            let detail = format!("{t} queries and {} keys; the gradient needs the plan of one forest", plan.n_keys);
            return Err(Error::shape(op, detail));
        }
        let pairs = t * shape.n_heads;
        let o = check::f32s(op, "o", o, call.q.len())?;
        let d_o = check::f32s(op, "d_o", d_o, call.q.len())?;
        let lse = check::f32s(op, "lse", lse, pairs)?;
        // delta[i] = Σ_e do[i, e] o[i, e] = Σⱼ p[i, j] dp[i, j]
        // SAFETY: every element of a part is written.
        let delta = unsafe {
            super::threads::build_chunks(&self.threads, pairs, 256, |start, part| {
                for (i, delta) in part.iter_mut().enumerate() {
                    let row = (start + i) * shape.head_size..(start + i + 1) * shape.head_size;
                    delta.write(self.level.run(backward::RowDot([&d_o[row.clone()], &o[row]])));
                }
            })?
        };
        let back = backward::Backward { call, lse, d_o, delta: &delta };
        let tasks = query_tasks(&call);
        // SAFETY: the tasks cover all (row, head) pairs once, and each writes all of its pairs.
        let dq = unsafe {
            build(call.q.len(), |dq| {
                self.threads.each(tasks.len(), |i| self.level.run(backward::Queries { back, task: tasks[i], dq }));
            })?
        };
        // Blocks of key rows, the ones with most queries behind them first.
        let n_blocks = t.div_ceil(TASK_LANES);
        let mut dv = Vec::new();
        super::threads::reserve(&mut dv, call.k.len())?;
        let dv_to = Shared::of_raw(dv.as_mut_ptr());
        // SAFETY: the tasks cover all (row, key head) pairs once, and each writes all of its pairs, in dk and in dv.
        let dk = unsafe {
            let dk = build(call.k.len(), |dk| {
                self.threads.each(n_blocks * shape.n_kv_heads, |i| {
                    let (first, kv_head) = (i / shape.n_kv_heads * TASK_LANES, i % shape.n_kv_heads);
                    let rows = first..(first + TASK_LANES).min(t);
                    self.level.run(backward::Keys { back, rows, kv_head, dk, dv: dv_to });
                });
            })?;
            dv.set_len(call.k.len());
            dk
        };
        Ok((Buffer::from_f32(dq), Buffer::from_f32(dk), Buffer::from_f32(dv)))
    }
}
