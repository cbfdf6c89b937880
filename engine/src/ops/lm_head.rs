//! The LM head: from hidden rows to log-probabilities of targets, without ever building all logits.
//!
//! ```text
//! z = (h Wᵀ + s l Bᵀ) / τ,   logp[i] = z[i, target_i] − log Σ_v exp z[i, v],   entropy[i] = −Σ_v p[i, v] log p[i, v]
//! ```
//! The second product is that of an adapter beside the head, with l = h Aᵀ; most heads have none. Rows are taken in chunks. The backward starts where the forward ended: logits of the last chunks, up to `LOGITS_KEPT` bytes,
//! wait for it; those of the chunks before are computed anew, one chunk at a time. So a short batch pays for its logits
//! once, and peak memory does not grow with rows × vocabulary.
use super::beside;
use crate::backend::{Layout, LogProbs, LogProbsBackward, Product, RowIndex};
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

/// A low-rank adapter beside the head.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// l [N, R]
    pub low: &'a Tensor,
    /// B [V, R]
    pub b: &'a Tensor,
    /// s
    pub scale: f32,
}

/// One chunk: its rows of h and of l, its targets, and its logits z.
struct Chunk {
    rows: Range<usize>,
    h: Buffer,
    low: Option<Buffer>,
    targets: Buffer,
    index: RowIndex,
    z: Buffer,
}

/// The saved inputs of the head.
struct HeadInputs {
    h: Tensor,
    w: Tensor,
    /// l, B and s.
    beside: Option<(Tensor, Tensor, f32)>,
    targets: Vec<u32>,
    inverse_temperature: f32,
}

impl HeadInputs {
    fn chunk(&self, rows: Range<usize>) -> Result<Chunk> {
        let (device, ((_, d), (v, _))) = (self.h.device(), (self.h.matrix(), self.w.matrix()));
        let m = rows.len();
        let index = RowIndex::new(&**device, &(rows.start as u32..rows.end as u32).collect::<Vec<_>>())?;
        let whole = m == self.targets.len();
        let rows_of = |x: &Tensor, width: usize| match whole {
            true => Ok(x.buffer().clone()),
            false => device.gather_rows(x.buffer(), &index, width),
        };
        let h = rows_of(&self.h, d)?;
        let targets = device.upload(Host::U32(self.targets[rows.clone()].to_vec()))?;
        let product = Product { layout: Layout::NT, m, n: v, k: d, alpha: self.inverse_temperature };
        let mut z = device.matmul(product, &h, self.w.buffer(), None)?;
        let mut low = None;
        if let Some((l, b, scale)) = &self.beside {
            let (r, part) = (l.matrix().1, rows_of(l, l.matrix().1)?);
            let product = Product { layout: Layout::NT, m, n: v, k: r, alpha: scale * self.inverse_temperature };
            z = device.matmul(product, &part, b.buffer(), Some(z))?;
            low = Some(part);
        }
        Ok(Chunk { rows, h, low, targets, index, z })
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, c) = (self.targets.len(), chunk_rows(self.w.matrix().0, self.h.device().is_host()));
        (0..n).step_by(c).map(move |start| start..(start + c).min(n))
    }

    /// Whether the logits of these rows wait for the backward.
    fn keeps(&self, rows: &Range<usize>) -> bool {
        (self.targets.len() - rows.start).saturating_mul(4 * self.w.matrix().0) <= LOGITS_KEPT
    }
}

/// h [N, D], w [V, D] of any dtype, targets [N], temperature τ → [`Scored`].
pub fn lm_head(h: &Tensor, w: &Tensor, targets: &[u32], temperature: f32) -> Result<Scored> {
    adapted_lm_head(h, w, None, targets, temperature)
}

/// [`lm_head`] with an adapter beside it.
pub fn adapted_lm_head(
    h: &Tensor,
    w: &Tensor,
    adapter: Option<Beside>,
    targets: &[u32],
    temperature: f32,
) -> Result<Scored> {
    let ((n, d), (v, d_w)) = (h.matrix(), w.matrix());
    if d != d_w || n != targets.len() || n == 0 || temperature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        let detail = format!(
            "hidden {:?}, weight {:?}, {} targets, temperature {temperature}",
            h.shape(),
            w.shape(),
            targets.len()
        );
        return Err(Error::shape("lm_head", detail));
    }
    if let Some(t) = targets.iter().find(|&&t| t as usize >= v) {
        return Err(Error::shape("lm_head", format!("target {t} in a vocabulary of {v}")));
    }
    if let Some(Beside { low, b, .. }) = adapter
        && (low.matrix().0 != n || b.matrix() != (v, low.matrix().1))
    {
        return Err(Error::shape(
            "lm_head",
            format!("{n} rows, weight {:?}, beside it {:?} and {:?}", w.shape(), low.shape(), b.shape()),
        ));
    }
    let device = h.device().clone();
    let head = HeadInputs {
        h: h.detach(),
        w: w.detach(),
        beside: adapter.map(|a| (a.low.detach(), a.b.detach(), a.scale)),
        targets: targets.to_vec(),
        inverse_temperature: 1.0 / temperature,
    };
    let (mut logp, mut entropy) = (device.zeros(n)?, device.zeros(n)?);
    let (mut argmax, mut log_sum_exp, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let inputs: Vec<&Tensor> = [h, w].into_iter().chain(adapter.into_iter().flat_map(|a| [a.low, a.b])).collect();
    let wanted: Vec<bool> = inputs.iter().map(|input| input.needs_grad()).collect();
    for rows in head.chunks() {
        let m = rows.len();
        let chunk = head.chunk(rows)?;
        let scored: LogProbs = device.log_probs(&chunk.z, &chunk.targets, m, v)?;
        device.write_rows(&mut logp, &scored.logp, &chunk.index, 1)?;
        device.write_rows(&mut entropy, &scored.entropy, &chunk.index, 1)?;
        argmax.push(scored.argmax);
        log_sum_exp.push(scored.log_sum_exp);
        if wanted.contains(&true) && head.keeps(&chunk.rows) {
            kept.push(chunk);
        }
    }
    let outputs = [beside(h, logp, &[n]), beside(h, entropy, &[n])];
    let [logp, entropy] =
        record("lm_head", &inputs, outputs, move |gradients| backward(&head, &log_sum_exp, kept, gradients, &wanted))?;
    Ok(Scored { logp, entropy, argmax })
}

/// logp = z_target − log Σ exp z, z = h Wᵀ / τ  ⟹  dz = dlogp · (onehot(target) − softmax(z)),
/// dh = dz W / τ,  dW = dzᵀ h / τ,  dl = s dz B / τ,  dB = s dzᵀ l / τ, chunk by chunk.
fn backward(
    head: &HeadInputs,
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
    let (device, (n, d), (v, _)) = (head.h.device(), head.h.matrix(), head.w.matrix());
    let wants = |input: usize| wanted.get(input) == Some(&true);
    let (to_h, to_w, to_low, to_b) = (wants(0), wants(1), wants(2), wants(3));
    let r = head.beside.as_ref().map_or(0, |(low, ..)| low.matrix().1);
    let mut dh = if to_h { Some(device.zeros(n * d)?) } else { None };
    let mut dlow = if to_low { Some(device.zeros(n * r)?) } else { None };
    let (mut dw, mut db): (Option<Buffer>, Option<Buffer>) = (None, None);
    let mut kept = kept.into_iter().peekable();
    for (rows, lse) in head.chunks().zip(log_sum_exp) {
        let m = rows.len();
        let Chunk { h, low, targets, index, z, .. } = match kept.next_if(|chunk| chunk.rows == rows) {
            Some(chunk) => chunk,
            None => head.chunk(rows)?,
        };
        let dlogp = device.gather_rows(dlogp.buffer(), &index, 1)?;
        let dz = device.log_probs_backward(
            z,
            LogProbsBackward {
                targets: &targets,
                log_sum_exp: lse,
                dlogp: &dlogp,
                m,
                v,
                scale: head.inverse_temperature,
            },
        )?;
        if let Some(dh) = &mut dh {
            let part =
                device.matmul(Product { layout: Layout::NN, m, n: d, k: v, alpha: 1.0 }, &dz, head.w.buffer(), None)?;
            device.write_rows(dh, &part, &index, d)?;
        }
        if to_w {
            dw = Some(device.matmul(
                Product { layout: Layout::TN, m: v, n: d, k: m, alpha: 1.0 },
                &dz,
                &h,
                dw.take(),
            )?);
        }
        let (Some((_, b, scale)), Some(low)) = (&head.beside, low) else { continue };
        if let Some(dlow) = &mut dlow {
            let product = Product { layout: Layout::NN, m, n: r, k: v, alpha: *scale };
            let part = device.matmul(product, &dz, b.buffer(), None)?;
            device.write_rows(dlow, &part, &index, r)?;
        }
        if to_b {
            let product = Product { layout: Layout::TN, m: v, n: r, k: m, alpha: *scale };
            db = Some(device.matmul(product, &dz, &low, db.take())?);
        }
    }
    debug_assert!(!to_w || head.w.dtype() == DType::F32);
    let as_h = |buffer: Option<Buffer>, shape: &[usize]| buffer.map(|b| beside(&head.h, b, shape));
    let mut all = vec![as_h(dh, head.h.shape()), as_h(dw, head.w.shape())];
    if let Some((low, b, _)) = &head.beside {
        all.extend([as_h(dlow, low.shape()), as_h(db, b.shape())]);
    }
    Ok(all)
}
