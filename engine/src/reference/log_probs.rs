//! What the LM head says about its targets: log-probability, entropy, log-sum-exp and argmax of each row of logits.
use super::Reference;
use super::check::{indices, size, values};
use crate::backend::{LmHead, LogProbs, LogProbsBackward};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};

fn checked_targets<'a>(op: &'static str, targets: &'a Buffer, m: usize, v: usize) -> Result<&'a [u32]> {
    let targets = indices(op, "targets", targets, m)?;
    match targets.iter().find(|&&t| t as usize >= v) {
        Some(t) => Err(Error::shape(op, format!("target {t} in a vocabulary of {v}"))),
        None => Ok(targets),
    }
}

impl LmHead for Reference {
    /// For each row x of logits [m, v] and its target t:
    ///
    /// ```text
    /// lse = log Σ eˣ       logp = x[t] − lse       entropy = −Σ p log p = lse − Σ p x,  p = e^(x − lse)
    /// ```
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        let x = values("log_probs", "logits", logits, size("log_probs", &[m, v])?)?;
        let targets = checked_targets("log_probs", targets, m, v)?;
        let (mut logp, mut entropy, mut log_sum_exp) = (vec![0f32; m], vec![0f32; m], vec![0f32; m]);
        let mut argmax = vec![0u32; m];
        for i in 0..m {
            let x = &x[i * v..][..v];
            let mut best = 0;
            for j in 1..v {
                if x[j] > x[best] {
                    best = j;
                }
            }
            let max = f64::from(x[best]);
            let lse = max + x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln();
            // a logit of −∞ has p = 0 and p x = 0
            let expected =
                |&x: &f32| if x == f32::NEG_INFINITY { 0.0 } else { (f64::from(x) - lse).exp() * f64::from(x) };
            logp[i] = (f64::from(x[targets[i] as usize]) - lse) as f32;
            entropy[i] = (lse - x.iter().map(expected).sum::<f64>()) as f32;
            log_sum_exp[i] = lse as f32;
            argmax[i] = best as u32;
        }
        Ok(LogProbs {
            logp: Buffer::from_f32(logp),
            entropy: Buffer::from_f32(entropy),
            log_sum_exp: Buffer::from_f32(log_sum_exp),
            argmax: Buffer::host(Host::U32(argmax)),
        })
    }

    /// The forward was logp = x[t] − log Σ eˣ, so dx = scale · dlogp · (onehot(t) − e^(x − lse)).
    fn log_probs_backward(&self, logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer> {
        let LogProbsBackward { targets, log_sum_exp, dlogp, m, v, scale } = inputs;
        let op = "log_probs_backward";
        let n = size(op, &[m, v])?;
        let (x, targets) = (values(op, "logits", &logits, n)?, checked_targets(op, targets, m, v)?);
        let (lse, dlogp) = (values(op, "log_sum_exp", log_sum_exp, m)?, values(op, "dlogp", dlogp, m)?);
        let mut dx = Vec::with_capacity(n);
        for i in 0..m {
            for j in 0..v {
                let p = (f64::from(x[i * v + j]) - f64::from(lse[i])).exp();
                let onehot = f64::from(u8::from(targets[i] as usize == j));
                dx.push((f64::from(scale) * f64::from(dlogp[i]) * (onehot - p)) as f32);
            }
        }
        Ok(Buffer::from_f32(dx))
    }
}
