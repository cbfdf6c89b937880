//! Softmax attention over a forest. A. Vaswani et al., 2017, equation 1; grouped heads: J. Ainslie et al., 2023;
//! computed block by block with the row's log-sum-exp kept for the backward: T. Dao et al., "FlashAttention", 2022.
//!
//! Forward, for query row i and head h, over the key rows j that i sees (as in [`crate::forest`]), g = h / (H / K):
//!
//! ```text
//! s[j] = scale · q[i, h]·k[j, g]     p = softmax(s)     o[i, h] = Σ_j p[j] v[j, g]     lse[i, h] = log Σ_j e^s[j]
//! ```
//!
//! Backward, from do = ∂loss/∂o; p is not kept but e^(s − lse), computed anew:
//!
//! ```text
//! dp[j] = do[i, h]·v[j, g]      δ[i, h] = Σ_j p[j] dp[j] = Σ_e do[i, h, e] o[i, h, e]      ds[j] = p[j] (dp[j] − δ)
//! dq[i, h] = scale · Σ_j ds[j] k[j, g]                     over the key rows that i sees
//! dk[j, g] = scale · Σ_i,h ds[j] q[i, h]                   over the query rows that see j and the H / K heads of the group
//! dv[j, g] = Σ_i,h p[j] do[i, h]
//! ```
//!
//! The book derives them, in `book/src/attention.md`. Plain loops: `reference/attention.rs`.
use super::beside;
use crate::backend::{AttentionInputs, AttentionShape};
use crate::buffer::Buffer;
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
    let inputs = AttentionInputs { shape, plan, q: q.buffer(), k: k.buffer(), v: v.buffer() };
    let (o, lse) = q.device().attention(inputs)?;
    let o = beside(q, o, q.shape());
    let saved =
        SavedAttention { shape, plan: plan.clone(), q: q.detach(), k: k.detach(), v: v.detach(), o: o.clone(), lse };
    record1("attention", &[q, k, v], o, move |d_o| saved.backward(&d_o))
}

/// What the forward read and gave.
struct SavedAttention {
    shape: AttentionShape,
    plan: Arc<AttentionPlan>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    /// [T, H]
    lse: Buffer,
}

impl SavedAttention {
    /// do [T, H, E] → dq [T, H, E], dk [T, K, E], dv [T, K, E]. The forward was o = softmax(scale · q kᵀ) v, so
    /// ds = p ∘ (do vᵀ − δ), dq = scale · ds k, dk = scale · dsᵀ q, dv = pᵀ do.
    fn backward(&self, d_o: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let SavedAttention { shape, plan, q, k, v, o, lse } = self;
        if plan.ends.len() != plan.n_keys || plan.n_queries() != plan.n_keys {
            return Err(Error::NoGradient { op: "attention", detail: "the plan is for decoding".into() });
        }
        let inputs = AttentionInputs { shape: *shape, plan, q: q.buffer(), k: k.buffer(), v: v.buffer() };
        let (dq, dk, dv) = d_o.device().attention_backward(inputs, o.buffer(), lse, d_o.buffer())?;
        let like = |gradient, x: &Tensor| Some(beside(d_o, gradient, x.shape()));
        Ok(vec![like(dq, q), like(dk, k), like(dv, v)])
    }
}
