//! Attention over a forest (A. Vaswani et al., 2017, equation 1), exact softmax, grouped heads, sliding window: plain loops over
//! query rows, their heads and the keys that they see, in f64. Equations: `ops/attention.rs`.
//!
//! The forward takes its keys from the plan's runs and paths, the backward from `positions` and `ends`: two
//! descriptions of one forest, which check each other.
use super::Reference;
use super::check::{size, too_short, values};
use crate::backend::{AttentionInputs, AttentionShape, SoftmaxAttention};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::forest::{AttentionPlan, Run};

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// p = softmax(s), computed in place. Returns log Σ eˢ.
fn softmax(s: &mut [f64]) -> f64 {
    let max = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + s.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
    s.iter_mut().for_each(|s| *s = (*s - lse).exp());
    lse
}

impl SoftmaxAttention for Reference {
    /// q [T, H, E], k and v [S, K, E] → (o [T, H, E], lse [T, H]): for each query row and head its scores, their softmax, and
    /// the sum of values.
    fn attention(&self, inputs: AttentionInputs<'_>) -> Result<(Buffer, Buffer)> {
        let AttentionInputs { shape, plan, q, k, v } = inputs;
        let op = "attention";
        check_shape(op, shape)?;
        check_plan(op, plan)?;
        let AttentionShape { n_heads, n_kv_heads, head_size: e, scale, window } = shape;
        let t = plan.n_queries();
        let n_keys = size(op, &[plan.n_keys, n_kv_heads, e])?;
        let q = values(op, "q", q, size(op, &[t, n_heads, e])?)?;
        let (k, v) = (values(op, "k", k, n_keys)?, values(op, "v", v, n_keys)?);
        let (mut o, mut lse) = (vec![0f32; t * n_heads * e], vec![0f32; t * n_heads]);
        for run in &plan.runs {
            for row in run.start..run.start + run.len {
                let keys = on_the_path(plan, run, row, window);
                for head in 0..n_heads {
                    let query = row * n_heads + head;
                    let of_head = |row: u32| (row as usize * n_kv_heads + head / (n_heads / n_kv_heads)) * e;
                    let q = &q[query * e..][..e];
                    let score = |&row: &u32| f64::from(scale) * dot(q, &k[of_head(row)..][..e]);
                    let mut p: Vec<f64> = keys.iter().map(score).collect();
                    lse[query] = softmax(&mut p) as f32;
                    for x in 0..e {
                        let sum: f64 = keys.iter().zip(&p).map(|(&row, p)| p * f64::from(v[of_head(row) + x])).sum();
                        o[query * e + x] = sum as f32;
                    }
                }
            }
        }
        Ok((Buffer::from_f32(o), Buffer::from_f32(lse)))
    }

    /// (dq [T, H, E], dk [T, K, E], dv [T, K, E]) from do [T, H, E]. o and lse save time elsewhere; here the softmax is
    /// computed again, and δ is Σ p dp.
    fn attention_backward(
        &self,
        inputs: AttentionInputs<'_>,
        o: &Buffer,
        lse: &Buffer,
        d_o: &Buffer,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let AttentionInputs { shape, plan, q, k, v } = inputs;
        let op = "attention_backward";
        check_shape(op, shape)?;
        check_forest(plan)?;
        let AttentionShape { n_heads, n_kv_heads, head_size: e, scale, window } = shape;
        let t = plan.n_queries();
        let n_queries = size(op, &[t, n_heads, e])?;
        let n_keys = size(op, &[t, n_kv_heads, e])?;
        let (q, d_o) = (values(op, "q", q, n_queries)?, values(op, "do", d_o, n_queries)?);
        let (k, v) = (values(op, "k", k, n_keys)?, values(op, "v", v, n_keys)?);
        values(op, "o", o, n_queries)?;
        values(op, "lse", lse, t * n_heads)?;
        let (mut dq, mut dk, mut dv) = (vec![0f64; n_queries], vec![0f64; n_keys], vec![0f64; n_keys]);
        for i in 0..t {
            let keys: Vec<usize> = (0..t).filter(|&j| sees(plan, window, i, j)).collect();
            for head in 0..n_heads {
                let query = (i * n_heads + head) * e;
                let of_head = |row: usize| (row * n_kv_heads + head / (n_heads / n_kv_heads)) * e;
                let (q, d_o) = (&q[query..][..e], &d_o[query..][..e]);
                let score = |&j: &usize| f64::from(scale) * dot(q, &k[of_head(j)..][..e]);
                let mut p: Vec<f64> = keys.iter().map(score).collect();
                softmax(&mut p);
                let dp: Vec<f64> = keys.iter().map(|&j| dot(d_o, &v[of_head(j)..][..e])).collect();
                let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for (n, &j) in keys.iter().enumerate() {
                    let ds = f64::from(scale) * p[n] * (dp[n] - delta);
                    for x in 0..e {
                        dq[query + x] += ds * f64::from(k[of_head(j) + x]);
                        dk[of_head(j) + x] += ds * f64::from(q[x]);
                        dv[of_head(j) + x] += p[n] * f64::from(d_o[x]);
                    }
                }
            }
        }
        let round = |x: Vec<f64>| Buffer::from_f32(x.iter().map(|&x| x as f32).collect());
        Ok((round(dq), round(dk), round(dv)))
    }
}

/// The key rows that a query row of a run sees, by position.
fn on_the_path<'a>(plan: &'a AttentionPlan, run: &Run, row: usize, window: usize) -> &'a [u32] {
    let position = run.first_position + row - run.start;
    &plan.path_rows[run.path_offset..][(position + 1).saturating_sub(window)..=position]
}

/// Whether row i sees row j of one forest: j ≤ i < ends[j] and positions[i] − positions[j] < window.
fn sees(plan: &AttentionPlan, window: usize, i: usize, j: usize) -> bool {
    let distance = plan.positions[i].checked_sub(plan.positions[j]);
    j <= i && i < plan.ends[j] as usize && distance.is_some_and(|d| (d as usize) < window)
}

/// The plan is that of one forest whose rows are both queries and keys.
fn check_forest(plan: &AttentionPlan) -> Result<()> {
    let t = plan.n_queries();
    if plan.positions.len() != t || plan.ends.len() != t || plan.n_keys != t {
        let (positions, ends) = (plan.positions.len(), plan.ends.len());
        let detail = format!("{t} queries, {} keys, {positions} positions, {ends} ends; all must agree", plan.n_keys);
        return Err(Error::NoGradient { op: "attention", detail });
    }
    Ok(())
}

fn check_shape(op: &'static str, shape: AttentionShape) -> Result<()> {
    let AttentionShape { n_heads, n_kv_heads, head_size, window, .. } = shape;
    if n_kv_heads == 0 || n_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        return Err(Error::shape(op, format!("{n_heads} heads are no multiple of {n_kv_heads} key/value heads")));
    }
    if head_size == 0 || window == 0 {
        return Err(Error::shape(op, format!("head size {head_size}, window {window}; both are at least 1")));
    }
    Ok(())
}

/// The runs cover the queries without gaps, their paths are there and name rows that exist.
fn check_plan(op: &'static str, plan: &AttentionPlan) -> Result<()> {
    let mut next = 0;
    for run in &plan.runs {
        if run.start != next {
            return Err(Error::shape(
                op,
                format!("a run starts at query {}, the one before ends at {next}", run.start),
            ));
        }
        next += run.len;
        let end = run.path_offset + run.first_position + run.len;
        if end > plan.path_rows.len() {
            return Err(too_short(op, "path_rows", plan.path_rows.len(), end));
        }
    }
    match plan.path_rows.iter().find(|&&row| row as usize >= plan.n_keys) {
        Some(row) => Err(Error::shape(op, format!("a path names key row {row} of {}", plan.n_keys))),
        None => Ok(()),
    }
}
