//! Rung 1, plain: one (row, head) pair at a time, all its scores beside each other, then their softmax, then the sums. The
//! equations as they stand, in f32; nothing is shared, nothing is kept from one pair to the next.
use super::{AttentionCall, AttentionGradients};
use crate::cpu::threads::{Shared, Threads};
use crate::portable::ln;

/// What a key counts for a query, and the loss's gradient to their score over the scale.
pub(super) struct PairTerms {
    pub p: f32,
    pub ds: f32,
}

impl<'a> AttentionGradients<'a> {
    /// do of a query row and head.
    pub(super) fn d_o(&self, row: usize, head: usize) -> &'a [f32] {
        let e = self.call.shape.head_size;
        &self.d_o[row * self.call.q_stride() + head * e..][..e]
    }

    /// p and ds of a query and a key that it sees: p = e^(scale q·k − lse), ds = p (do·v − δ).
    pub(super) fn pair(&self, row: usize, head: usize, key: u32) -> PairTerms {
        let (call, at) = (&self.call, row * self.call.shape.n_heads + head);
        let s = call.shape.scale * dot(call.query(row, head), call.key(key, head));
        let p = exp(s - self.lse[at]);
        PairTerms { p, ds: p * (dot(self.d_o(row, head), call.value(key, head)) - self.delta[at]) }
    }

    /// Query rows i that see key row j: j ≤ i < end[j], position[i] − position[j] < window.
    pub(super) fn rows_that_see(&self, key: usize) -> impl Iterator<Item = usize> + use<'a> {
        let (plan, window) = (self.call.plan, self.call.shape.window);
        let end = (plan.ends[key] as usize).min(plan.positions.len());
        (key..end).filter(move |&row| ((plan.positions[row].saturating_sub(plan.positions[key])) as usize) < window)
    }
}

/// A query row with what it sees: the key rows of its path, those outside the window left out.
#[derive(Clone, Copy)]
pub(super) struct Seeing<'a> {
    pub row: usize,
    pub keys: &'a [u32],
}

/// Every query row of the plan.
pub(super) fn rows<'a>(call: &AttentionCall<'a>) -> Vec<Seeing<'a>> {
    let plan = call.plan;
    let of_run = |run: &'a crate::forest::Run| {
        (0..run.len).map(move |r| {
            let position = run.first_position + r;
            let first = (position + 1).saturating_sub(call.shape.window);
            Seeing { row: run.start + r, keys: &plan.path_rows[run.path_offset..][first..=position] }
        })
    };
    plan.runs.iter().flat_map(of_run).collect()
}

/// eˣ
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    crate::portable::exp(f64::from(x)) as f32
}

/// Σ a b, one after the other.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// y ← y + α x
#[inline(always)]
pub(super) fn add(y: &mut [f32], alpha: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
}

/// s[j] = scale · q·k[j], p = e^(s − max) / Σ e^(s − max), o = Σⱼ p[j] v[j], lse = max + ln Σ e^(s − max).
///
/// # Safety
/// `o` is [T, H, E] and `lse` [T, H], zeroed or not; nobody else touches them.
pub(super) unsafe fn forward(threads: &Threads, call: AttentionCall, o: Shared<f32>, lse: Shared<f32>) {
    let (rows, e, n_heads) = (rows(&call), call.shape.head_size, call.shape.n_heads);
    threads.each(rows.len(), |i| {
        let Seeing { row, keys } = rows[i];
        let mut p = vec![0f32; keys.len()];
        for head in 0..n_heads {
            let q = call.query(row, head);
            p.iter_mut().zip(keys).for_each(|(s, &key)| *s = call.shape.scale * dot(q, call.key(key, head)));
            let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            p.iter_mut().for_each(|s| *s = exp(*s - max));
            let sum: f32 = p.iter().sum();
            // SAFETY: the rows are distinct, and each belongs to one task.
            let (o, lse) = unsafe {
                o.part((row * n_heads + head) * e, e).fill(std::mem::MaybeUninit::new(0.0));
                (o.written((row * n_heads + head) * e, e), lse.ptr().add(row * n_heads + head))
            };
            p.iter().zip(keys).for_each(|(p, &key)| add(o, p / sum, call.value(key, head)));
            // SAFETY: as above.
            unsafe { lse.write(max + ln(f64::from(sum)) as f32) };
        }
    });
}

/// dq[i] = scale Σⱼ ds[i, j] k[j], pair by pair.
///
/// # Safety
/// `dq` is [T, H, E]; nobody else touches it.
pub(super) unsafe fn queries(threads: &Threads, back: AttentionGradients, dq: Shared<f32>) {
    let call = back.call;
    let (rows, e, n_heads) = (rows(&call), call.shape.head_size, call.shape.n_heads);
    threads.each(rows.len(), |i| {
        let Seeing { row, keys } = rows[i];
        for head in 0..n_heads {
            // SAFETY: the rows are distinct, and each belongs to one task.
            let dq = unsafe {
                dq.part((row * n_heads + head) * e, e).fill(std::mem::MaybeUninit::new(0.0));
                dq.written((row * n_heads + head) * e, e)
            };
            for &key in keys {
                let PairTerms { ds, .. } = back.pair(row, head, key);
                add(dq, call.shape.scale * ds, call.key(key, head));
            }
        }
    });
}

/// dk[j] = scale Σᵢ ds[i, j] q[i] and dv[j] = Σᵢ p[i, j] do[i] over the rows i that see j and the heads of the group.
///
/// # Safety
/// `dk` and `dv` are [T, K, E]; nobody else touches them.
pub(super) unsafe fn keys(threads: &Threads, back: AttentionGradients, dk: Shared<f32>, dv: Shared<f32>) {
    let call = back.call;
    let (e, n_kv_heads) = (call.shape.head_size, call.shape.n_kv_heads);
    threads.each(call.plan.n_keys * n_kv_heads, |i| {
        let (key, kv_head) = (i / n_kv_heads, i % n_kv_heads);
        // SAFETY: task i owns part i.
        let (dk, dv) = unsafe {
            [dk, dv].iter().for_each(|x| x.part(i * e, e).fill(std::mem::MaybeUninit::new(0.0)));
            (dk.written(i * e, e), dv.written(i * e, e))
        };
        for head in kv_head * call.group()..(kv_head + 1) * call.group() {
            for row in back.rows_that_see(key) {
                let PairTerms { p, ds } = back.pair(row, head, key as u32);
                add(dv, p, back.d_o(row, head));
                add(dk, call.shape.scale * ds, call.query(row, head));
            }
        }
    });
}
