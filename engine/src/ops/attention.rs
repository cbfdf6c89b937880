//! Softmax attention over a forest. A. Vaswani et al., 2017, equation 1; grouped heads: J. Ainslie et al., 2023;
//! computed block by block with the row's log-sum-exp kept for the backward: T. Dao et al., "FlashAttention", 2022.
//!
//! ```text
//! o[i, h] = Σ_j p[i, j] · v[j, g],   p[i, ·] = softmax_j(scale · q[i, h] · k[j, g]),   j over the rows that i sees
//! ```
//! with g = h / (H / K) the key head of query head h, and "sees" as in [`crate::forest`].
use super::beside;
use crate::backend::{AttentionInputs, AttentionShape};
use crate::error::{Error, Result};
use crate::forest::AttentionPlan;
use crate::tape::record1;
use crate::tensor::Tensor;
use std::sync::Arc;

/// q [T, H, E]; k, v [S, K, E] → o [T, H, E].
pub fn attention(
    shape: AttentionShape,
    plan: &Arc<AttentionPlan>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Result<Tensor> {
    let (t, s, e) = (plan.n_queries(), plan.n_keys, shape.head_size);
    let fits = q.len() == t * shape.n_heads * e && k.len() >= s * shape.n_kv_heads * e && k.len() == v.len();
    if !fits || shape.n_kv_heads == 0 || !shape.n_heads.is_multiple_of(shape.n_kv_heads) {
        let detail =
            format!("q {:?}, k {:?}, v {:?} for {t} queries, {s} keys, {shape:?}", q.shape(), k.shape(), v.shape());
        return Err(Error::shape("attention", detail));
    }
    let (o, lse) =
        q.device().attention(AttentionInputs { shape, plan, q: q.buffer(), k: k.buffer(), v: v.buffer() })?;
    let o = beside(q, o, q.shape());
    let (plan, sq, sk, sv, so) = (plan.clone(), q.detach(), k.detach(), v.detach(), o.clone());
    // δ[i] = Σ_e do ∘ o,  ds = p ∘ (do vᵀ − δ),  dq = scale · ds k,  dk = scale · dsᵀ q,  dv = pᵀ do
    record1("attention", &[q, k, v], o, move |d_o| {
        if plan.ends.len() != plan.n_keys || plan.n_queries() != plan.n_keys {
            return Err(Error::NoGradient { op: "attention", detail: "the plan is for decoding".into() });
        }
        let (dq, dk, dv) = d_o.device().attention_backward(
            AttentionInputs { shape, plan: &plan, q: sq.buffer(), k: sk.buffer(), v: sv.buffer() },
            so.buffer(),
            &lse,
            d_o.buffer(),
        )?;
        Ok(vec![
            Some(beside(&d_o, dq, sq.shape())),
            Some(beside(&d_o, dk, sk.shape())),
            Some(beside(&d_o, dv, sv.shape())),
        ])
    })
}
