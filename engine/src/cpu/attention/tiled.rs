//! Rung 2, tiled: keys come in blocks of 64, and all pairs of a task pass over a block while it is in the first-level cache. So
//! a pair never has all its scores at once: its softmax runs along, and what was summed before is scaled down when a
//! larger score is met (M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3).
//! Otherwise as `plain`: one number after the other.
use super::plain::{PairTerms, add, dot, exp};
use super::{AttentionCall, AttentionGradients, KEY_BLOCK, QueryTask, TASK_LANES};
use crate::cpu::threads::{Shared, Threads};
use crate::portable::ln;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A pair of a task: its query row and head, and the positions that it sees.
struct Pair {
    row: usize,
    head: usize,
    seen: Range<usize>,
}

/// A pair's softmax and sum of values, as far as its keys have been seen.
struct PairSoFar {
    max: f32,
    /// Σ e^(s − max)
    sum: f32,
    /// Σ e^(s − max) v: [E]
    o: Vec<f32>,
}

fn pairs(call: &AttentionCall, task: QueryTask) -> Vec<Pair> {
    let (run, group) = (&call.plan.runs[task.run], call.group());
    let pair = |f: usize| {
        let position = run.first_position + f / group;
        let seen = (position + 1).saturating_sub(call.shape.window)..position + 1;
        Pair { row: run.start + f / group, head: task.kv_head * group + f % group, seen }
    };
    (task.first..task.first + task.count).map(pair).collect()
}

/// The part of a block of positions that a pair sees, as key rows.
fn visible<'a>(call: &AttentionCall<'a>, task: QueryTask, seen: &Range<usize>, block: usize) -> &'a [u32] {
    let (first, end) = (seen.start.max(block), seen.end.min(block + KEY_BLOCK));
    &call.plan.path_rows[call.plan.runs[task.run].path_offset..][first.min(end)..end]
}

/// Blocks from the first that any pair sees to the last.
fn blocks(pairs: &[Pair]) -> impl Iterator<Item = usize> + use<> {
    let first = pairs.first().map_or(0, |pair| pair.seen.start / KEY_BLOCK * KEY_BLOCK);
    let end = pairs.last().map_or(0, |pair| pair.seen.end);
    (first..end).step_by(KEY_BLOCK)
}

/// For each block: m' = max(m, max s), r = e^(m − m'), l ← r l + Σ e^(s − m'), o ← r o + Σ e^(s − m') v; at the end
/// o ← o / l, lse = m + ln l.
///
/// # Safety
/// `o` is [T, H, E] and `lse` [T, H]; the tasks cover all pairs once, and nobody else touches them.
pub(super) unsafe fn forward(
    threads: &Threads,
    call: AttentionCall,
    tasks: &[QueryTask],
    o: Shared<f32>,
    lse: Shared<f32>,
) {
    let (e, n_heads) = (call.shape.head_size, call.shape.n_heads);
    threads.each(tasks.len(), |i| {
        let pairs = pairs(&call, tasks[i]);
        let new = |_: &Pair| PairSoFar { max: f32::NEG_INFINITY, sum: 0.0, o: vec![0.0; e] };
        let mut all: Vec<PairSoFar> = pairs.iter().map(new).collect();
        let mut s = [0f32; KEY_BLOCK];
        for block in blocks(&pairs) {
            for (pair, PairSoFar { max, sum, o }) in pairs.iter().zip(&mut all) {
                let keys = visible(&call, tasks[i], &pair.seen, block);
                if keys.is_empty() {
                    continue;
                }
                let (q, s) = (call.query(pair.row, pair.head), &mut s[..keys.len()]);
                s.iter_mut().zip(keys).for_each(|(s, &key)| *s = call.shape.scale * dot(q, call.key(key, pair.head)));
                let larger = s.iter().copied().fold(*max, f32::max);
                let shrink = exp(*max - larger);
                o.iter_mut().for_each(|o| *o *= shrink);
                (*max, *sum) = (larger, *sum * shrink);
                for (s, &key) in s.iter().zip(keys) {
                    let p = exp(s - larger);
                    *sum += p;
                    add(o, p, call.value(key, pair.head));
                }
            }
        }
        for (pair, PairSoFar { max, sum, o: from }) in pairs.iter().zip(all) {
            let at = pair.row * n_heads + pair.head;
            // SAFETY: the pairs are distinct, and each belongs to one task.
            unsafe {
                o.part(at * e, e).iter_mut().zip(&from).for_each(|(o, x)| {
                    o.write(x / sum);
                });
                lse.ptr().add(at).write(max + ln(f64::from(sum)) as f32);
            }
        }
    });
}

/// dq, block of keys by block of keys for all pairs of a task.
///
/// # Safety
/// `dq` is [T, H, E]; the tasks cover all pairs once, and nobody else touches it.
pub(super) unsafe fn queries(threads: &Threads, back: AttentionGradients, tasks: &[QueryTask], dq: Shared<f32>) {
    let call = back.call;
    let (e, n_heads) = (call.shape.head_size, call.shape.n_heads);
    threads.each(tasks.len(), |i| {
        let pairs = pairs(&call, tasks[i]);
        let mut sums = vec![0f32; pairs.len() * e];
        for block in blocks(&pairs) {
            for (pair, dq) in pairs.iter().zip(sums.chunks_exact_mut(e)) {
                for &key in visible(&call, tasks[i], &pair.seen, block) {
                    let PairTerms { ds, .. } = back.pair(pair.row, pair.head, key);
                    add(dq, call.shape.scale * ds, call.key(key, pair.head));
                }
            }
        }
        for (pair, from) in pairs.iter().zip(sums.chunks_exact(e)) {
            // SAFETY: the pairs are distinct, and each belongs to one task.
            let to = unsafe { dq.part((pair.row * n_heads + pair.head) * e, e) };
            to.iter_mut().zip(from).for_each(|(y, &x)| *y = MaybeUninit::new(x));
        }
    });
}

/// Gradients to a key and its value: [E] each.
#[derive(Clone)]
struct KeyGradients {
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// dk and dv of a block of keys while blocks of 64 query rows pass over it.
///
/// # Safety
/// `dk` and `dv` are [T, K, E]; nobody else touches them.
pub(super) unsafe fn keys(threads: &Threads, back: AttentionGradients, dk: Shared<f32>, dv: Shared<f32>) {
    let call = back.call;
    let (e, n_kv_heads, t) = (call.shape.head_size, call.shape.n_kv_heads, call.plan.n_keys);
    threads.each(t.div_ceil(TASK_LANES) * n_kv_heads, |i| {
        let (first, kv_head) = (i / n_kv_heads * TASK_LANES, i % n_kv_heads);
        let keys = first..(first + TASK_LANES).min(t);
        let mut sums = vec![KeyGradients { dk: vec![0.0; e], dv: vec![0.0; e] }; keys.len()];
        let end = keys.clone().map(|key| call.plan.ends[key] as usize).max().unwrap_or(0).min(t);
        for head in kv_head * call.group()..(kv_head + 1) * call.group() {
            for block in (first..end).step_by(KEY_BLOCK) {
                for (key, KeyGradients { dk, dv }) in keys.clone().zip(&mut sums) {
                    let within = |row: &usize| (block..block + KEY_BLOCK).contains(row);
                    for row in back.rows_that_see(key).skip_while(|row| *row < block).take_while(within) {
                        let PairTerms { p, ds } = back.pair(row, head, key as u32);
                        add(dv, p, back.d_o(row, head));
                        add(dk, call.shape.scale * ds, call.query(row, head));
                    }
                }
            }
        }
        for (key, own) in keys.zip(sums) {
            for (to, from) in [(dk, own.dk), (dv, own.dv)] {
                // SAFETY: a key row and head belong to one task.
                let to = unsafe { to.part((key * n_kv_heads + kv_head) * e, e) };
                to.iter_mut().zip(from).for_each(|(y, x)| *y = MaybeUninit::new(x));
            }
        }
    });
}
