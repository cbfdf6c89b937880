//! The LM head: from hidden rows to log-probabilities of targets, without ever building all logits.
//!
//! ```text
//! z = (c ∘ Σ s x wᵀ + Σ s x wᵀ) / τ,   logp[i] = z[i, target_i] − log Σ_v exp z[i, v],   entropy[i] = −Σ_v p[i, v] log p[i, v]
//! ```
//! Most heads are the one product h Wᵀ; an adapter beside the head adds others, and that of DoRA a factor c for each token. Rows
//! are taken in chunks. The backward starts where the forward ended: logits of the last chunks, up to `LOGITS_KEPT` bytes,
//! wait for it; those of the chunks before are computed anew, one chunk at a time. So a short batch pays for its logits
//! once, and peak memory does not grow with rows × vocabulary.
use super::beside;
use crate::backend::{Binary, Device, Layout, LogProbs, LogProbsBackward, Product, RowIndex};
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tape::record;
use crate::tensor::Tensor;
use std::ops::Range;

/// What the LM head says about each row's target.
pub struct Scored {
    /// log π(target): [N].
    pub logp: Tensor,
    /// Entropy of the row's distribution in nats: [N]. A metric: it has no gradient yet, and asking for one is an error.
    pub entropy: Tensor,
    argmax: Vec<Buffer>,
}

impl Scored {
    /// The most likely token of each row: [N].
    pub fn argmax(&self) -> Result<Vec<u32>> {
        let mut all = Vec::with_capacity(self.logp.len());
        for chunk in &self.argmax {
            match self.logp.device().download(chunk)? {
                Host::U32(v) => all.extend(v),
                other => return Err(Error::shape("lm_head", format!("argmax came as {}", other.dtype().name()))),
            }
        }
        Ok(all)
    }
}

/// Bytes of logits that may wait for the backward.
pub const LOGITS_KEPT: usize = 256 << 20;

/// Rows of a chunk: as many as may be kept in host memory, a quarter of it on a device (whose bindings have limits); a
/// multiple of 256 rows where possible (the product's block over rows, so that dW does not depend on the chunks).
fn chunk_rows(v: usize, is_host: bool) -> usize {
    let rows = if is_host { LOGITS_KEPT } else { LOGITS_KEPT / 4 } / (4 * v.max(1));
    if rows >= 256 { rows / 256 * 256 } else { rows.max(1) }
}

/// Bytes of the logits of `n` rows over a vocabulary of `v` in host memory: (the most that the backward has at once, kept ones
/// and a chunk that it computes again; the largest chunk).
pub fn kept_and_chunk(n: usize, v: usize) -> (u64, u64) {
    let (rows, bytes) = (chunk_rows(v, true), |rows: usize| 4 * rows as u64 * v as u64);
    let whole = |start: &usize| (n - start).saturating_mul(4 * v) <= LOGITS_KEPT;
    let kept = (0..n).step_by(rows).find(whole).map_or(0, |start| n - start);
    let again = if kept < n { rows.min(n) } else { 0 };
    (bytes(kept + again), bytes(rows.min(n)))
}

/// A product that logits consist of: s · x wᵀ.
#[derive(Clone)]
pub struct HeadTerm {
    /// x [N, K]
    pub x: Tensor,
    /// w [V, K]; of any type where it is not trained.
    pub w: Tensor,
    /// s
    pub scale: f32,
}

/// What logits consist of: c ∘ Σ s x wᵀ + Σ s x wᵀ, the second sum over what c does not touch.
#[derive(Clone)]
pub struct HeadTerms {
    /// Those of the first sum; one at least.
    pub terms: Vec<HeadTerm>,
    /// c [V]; None for 1.
    pub factor: Option<Tensor>,
    /// Those of the second sum.
    pub rest: Vec<HeadTerm>,
}

impl HeadTerms {
    /// h Wᵀ alone: h [N, D], w [V, D].
    pub fn of(h: &Tensor, w: &Tensor) -> Self {
        let terms = vec![HeadTerm { x: h.clone(), w: w.clone(), scale: 1.0 }];
        HeadTerms { terms, factor: None, rest: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = &HeadTerm> {
        self.terms.iter().chain(&self.rest)
    }

    /// (N, V)
    fn sizes(&self) -> Result<(usize, usize)> {
        let Some(first) = self.terms.first() else { return Err(Error::shape("lm_head", "no product at all")) };
        let (n, v) = (first.x.matrix().0, first.w.matrix().0);
        for HeadTerm { x, w, .. } in self.all() {
            if x.matrix() != (n, w.matrix().1) || w.matrix().0 != v {
                let detail = format!("hidden {:?} and weight {:?} in logits of [{n}, {v}]", x.shape(), w.shape());
                return Err(Error::shape("lm_head", detail));
            }
        }
        match &self.factor {
            Some(c) if c.len() != v => Err(Error::shape("lm_head", format!("factor {:?} of {v} logits", c.shape()))),
            _ => Ok((n, v)),
        }
    }

    fn detach(&self) -> Self {
        let detach = |all: &[HeadTerm]| -> Vec<HeadTerm> {
            all.iter().map(|t| HeadTerm { x: t.x.detach(), w: t.w.detach(), scale: t.scale }).collect()
        };
        HeadTerms {
            terms: detach(&self.terms),
            factor: self.factor.as_ref().map(Tensor::detach),
            rest: detach(&self.rest),
        }
    }

    /// z of some rows, `xs` those of each x.
    fn logits(&self, xs: &[Buffer], m: usize, v: usize, inverse_temperature: f32) -> Result<Buffer> {
        let n_terms = self.terms.len();
        let z = sum_of(&self.terms, xs, m, v, inverse_temperature, None)?;
        let z = match &self.factor {
            Some(c) => c.device().binary(Binary::Mul, &z, c.buffer(), m * v, v)?,
            None => z,
        };
        if self.rest.is_empty() {
            return Ok(z);
        }
        sum_of(&self.rest, &xs[n_terms..], m, v, inverse_temperature, Some(z))
    }
}

/// Σ s x wᵀ / τ (+ z): [m, V].
fn sum_of(
    terms: &[HeadTerm],
    xs: &[Buffer],
    m: usize,
    v: usize,
    inverse_temperature: f32,
    mut z: Option<Buffer>,
) -> Result<Buffer> {
    for (HeadTerm { w, scale, .. }, x) in terms.iter().zip(xs) {
        let product = Product { layout: Layout::NT, m, n: v, k: w.matrix().1, alpha: scale * inverse_temperature };
        z = Some(w.device().matmul(product, x, w.buffer(), z)?);
    }
    z.ok_or_else(|| Error::shape("lm_head", "no product at all"))
}

/// The logits themselves, without a gradient: [N, V]. The same products as [`lm_head`]'s, bit for bit.
pub fn head_logits(head: &HeadTerms, temperature: f32) -> Result<Tensor> {
    let (n, v) = head.sizes()?;
    let xs: Vec<Buffer> = head.all().map(|term| term.x.buffer().clone()).collect();
    let z = head.logits(&xs, n, v, 1.0 / temperature)?;
    Ok(beside(&head.terms[0].x, z, &[n, v]))
}

/// One chunk: its rows of each x, its targets, and its logits z.
struct Chunk {
    rows: Range<usize>,
    xs: Vec<Buffer>,
    targets: Buffer,
    index: RowIndex,
    z: Buffer,
}

/// The saved inputs of the head.
struct HeadInputs {
    head: HeadTerms,
    device: Device,
    v: usize,
    targets: Vec<u32>,
    inverse_temperature: f32,
}

impl HeadInputs {
    fn chunk(&self, rows: Range<usize>) -> Result<Chunk> {
        let (device, m) = (&self.device, rows.len());
        let index = RowIndex::new(&**device, &(rows.start as u32..rows.end as u32).collect::<Vec<_>>())?;
        let whole = m == self.targets.len();
        let rows_of = |term: &HeadTerm| match whole {
            true => Ok(term.x.buffer().clone()),
            false => device.gather_rows(term.x.buffer(), &index, term.x.matrix().1),
        };
        let xs = self.head.all().map(rows_of).collect::<Result<Vec<_>>>()?;
        let targets = device.upload(Host::U32(self.targets[rows.clone()].to_vec()))?;
        let z = self.head.logits(&xs, m, self.v, self.inverse_temperature)?;
        Ok(Chunk { rows, xs, targets, index, z })
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, c) = (self.targets.len(), chunk_rows(self.v, self.device.is_host()));
        (0..n).step_by(c).map(move |start| start..(start + c).min(n))
    }

    /// Whether the logits of these rows wait for the backward.
    fn keeps(&self, rows: &Range<usize>) -> bool {
        (self.targets.len() - rows.start).saturating_mul(4 * self.v) <= LOGITS_KEPT
    }
}

/// h [N, D], w [V, D] of any dtype, targets [N], temperature τ → [`Scored`].
pub fn lm_head(h: &Tensor, w: &Tensor, targets: &[u32], temperature: f32) -> Result<Scored> {
    adapted_lm_head(&HeadTerms::of(h, w), targets, temperature)
}

/// [`lm_head`] with logits that consist of more than one product.
pub fn adapted_lm_head(head: &HeadTerms, targets: &[u32], temperature: f32) -> Result<Scored> {
    let (n, v) = head.sizes()?;
    if n != targets.len() || n == 0 || temperature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        let detail = format!("logits [{n}, {v}], {} targets, temperature {temperature}", targets.len());
        return Err(Error::shape("lm_head", detail));
    }
    if let Some(t) = targets.iter().find(|&&t| t as usize >= v) {
        return Err(Error::shape("lm_head", format!("target {t} in a vocabulary of {v}")));
    }
    let h = &head.terms[0].x;
    let device = h.device().clone();
    let saved = HeadInputs {
        head: head.detach(),
        device: device.clone(),
        v,
        targets: targets.to_vec(),
        inverse_temperature: 1.0 / temperature,
    };
    let (mut logp, mut entropy) = (device.zeros(n)?, device.zeros(n)?);
    let (mut argmax, mut log_sum_exp, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let inputs: Vec<&Tensor> = head.all().flat_map(|term| [&term.x, &term.w]).chain(&head.factor).collect();
    let wanted: Vec<bool> = inputs.iter().map(|input| input.needs_grad()).collect();
    for rows in saved.chunks() {
        let m = rows.len();
        let chunk = saved.chunk(rows)?;
        let scored: LogProbs = device.log_probs(&chunk.z, &chunk.targets, m, v)?;
        device.write_rows(&mut logp, &scored.logp, &chunk.index, 1)?;
        device.write_rows(&mut entropy, &scored.entropy, &chunk.index, 1)?;
        argmax.push(scored.argmax);
        log_sum_exp.push(scored.log_sum_exp);
        if wanted.contains(&true) && saved.keeps(&chunk.rows) {
            kept.push(chunk);
        }
    }
    let outputs = [beside(h, logp, &[n]), beside(h, entropy, &[n])];
    let [logp, entropy] =
        record("lm_head", &inputs, outputs, move |gradients| backward(&saved, &log_sum_exp, kept, gradients, &wanted))?;
    Ok(Scored { logp, entropy, argmax })
}

/// The gradients of a head while its chunks are gone through.
struct HeadGradients {
    /// Of each x, where it is wanted.
    x: Vec<Option<Buffer>>,
    /// Of each w, from the first chunk on.
    w: Vec<Option<Buffer>>,
    /// Of c, from the first chunk on.
    factor: Option<Buffer>,
}

/// logp = z_target − log Σ exp z  ⟹  dz = dlogp · (onehot(target) − softmax(z)) / τ, and chunk by chunk of each product
/// dx = s dz' w, dw = s dz'ᵀ x, where dz' = c ∘ dz inside the first sum and dz in the second; dc = Σ_rows dz ∘ Σ s x wᵀ.
fn backward(
    saved: &HeadInputs,
    log_sum_exp: &[Buffer],
    kept: Vec<Chunk>,
    gradients: Vec<Option<Tensor>>,
    wanted: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let [Some(dlogp), None] = &gradients[..] else {
        return Err(Error::NoGradient {
            op: "lm_head",
            detail: "only log-probabilities have a gradient, the entropy has none".into(),
        });
    };
    let (head, device, n) = (&saved.head, &saved.device, saved.targets.len());
    let wants = |input: usize| wanted.get(input) == Some(&true);
    let zeros = |(i, term): (usize, &HeadTerm)| match wants(2 * i) {
        true => device.zeros(n * term.x.matrix().1).map(Some),
        false => Ok(None),
    };
    let mut sums = HeadGradients {
        x: head.all().enumerate().map(zeros).collect::<Result<_>>()?,
        w: head.all().map(|_| None).collect(),
        factor: None,
    };
    let mut kept = kept.into_iter().peekable();
    for (rows, lse) in saved.chunks().zip(log_sum_exp) {
        let m = rows.len();
        let Chunk { xs, targets, index, z, .. } = match kept.next_if(|chunk| chunk.rows == rows) {
            Some(chunk) => chunk,
            None => saved.chunk(rows)?,
        };
        let dlogp = device.gather_rows(dlogp.buffer(), &index, 1)?;
        let dz = device.log_probs_backward(
            z,
            LogProbsBackward {
                targets: &targets,
                log_sum_exp: lse,
                dlogp: &dlogp,
                m,
                v: saved.v,
                scale: saved.inverse_temperature,
            },
        )?;
        sums.add_chunk(saved, &dz, &xs, &index, &wants)?;
    }
    let mut all = Vec::new();
    for (term, (dx, dw)) in head.all().zip(sums.x.into_iter().zip(sums.w)) {
        debug_assert!(dw.is_none() || term.w.dtype() == DType::F32);
        all.extend([dx.map(|b| beside(&term.x, b, term.x.shape())), dw.map(|b| beside(&term.x, b, term.w.shape()))]);
    }
    all.extend(head.factor.as_ref().map(|c| sums.factor.map(|b| beside(c, b, c.shape()))));
    Ok(all)
}

impl HeadGradients {
    /// Adds what the rows of one chunk give; dz [m, V].
    fn add_chunk(
        &mut self,
        saved: &HeadInputs,
        dz: &Buffer,
        xs: &[Buffer],
        index: &RowIndex,
        wants: &impl Fn(usize) -> bool,
    ) -> Result<()> {
        let (head, device, v, m) = (&saved.head, &saved.device, saved.v, index.len());
        let scaled = match &head.factor {
            Some(c) => Some(device.binary(Binary::Mul, dz, c.buffer(), m * v, v)?),
            None => None,
        };
        for (i, (HeadTerm { w, scale, .. }, x)) in head.all().zip(xs).enumerate() {
            let dz = scaled.as_ref().filter(|_| i < head.terms.len()).unwrap_or(dz);
            let k = w.matrix().1;
            if let Some(dx) = &mut self.x[i] {
                let product = Product { layout: Layout::NN, m, n: k, k: v, alpha: *scale };
                device.write_rows(dx, &device.matmul(product, dz, w.buffer(), None)?, index, k)?;
            }
            if wants(2 * i + 1) {
                let product = Product { layout: Layout::TN, m: v, n: k, k: m, alpha: *scale };
                self.w[i] = Some(device.matmul(product, dz, x, self.w[i].take())?);
            }
        }
        if head.factor.is_some() && wants(2 * xs.len()) {
            // A product with ones sums over rows as dw does, whatever the chunks.
            let raw = sum_of(&head.terms, xs, m, v, 1.0, None)?;
            let each = device.binary(Binary::Mul, dz, &raw, m * v, m * v)?;
            let ones = device.upload(Host::F32(vec![1.0; m]))?;
            let product = Product { layout: Layout::TN, m: v, n: 1, k: m, alpha: 1.0 };
            self.factor = Some(device.matmul(product, &each, &ones, self.factor.take())?);
        }
        Ok(())
    }
}
