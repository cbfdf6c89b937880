//! What the LM head says about its targets: log-probability, entropy, log-sum-exp and argmax of each row of logits. On a
//! GPU these are `log_probs.wgsl` and `log_probs_backward.wgsl`.
use super::map::{Map, map_part, map_self};
use super::reduce::{Fold, fold};
use super::threads::{Shared, build};
use super::{Cpu, check, math};
use crate::backend::{LmHead, LogProbs, LogProbsBackward};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::portable::ln;
use pulp::{Simd, WithSimd};

/// Logits whose sums are formed in f32 before they are added up in f64.
const BLOCK: usize = 1024;

fn check_targets<'a>(op: &'static str, targets: &'a Buffer, m: usize, v: usize) -> Result<&'a [u32]> {
    let targets = check::u32s(op, "targets", targets, m)?;
    match targets.iter().find(|&&t| t as usize >= v) {
        Some(t) => Err(Error::shape(op, format!("target {t} in a vocabulary of {v}"))),
        None => Ok(targets),
    }
}

#[derive(Clone, Copy)]
struct Largest;

impl Fold<1, 1> for Largest {
    const START: f32 = f32::NEG_INFINITY;
    const PAD: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, [x]: [S::f32s; 1], [max]: [S::f32s; 1]) -> [S::f32s; 1] {
        [math::max(simd, x, max)]
    }
    fn combine(a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
}

/// Σ eᵈ and Σ d eᵈ with d = x − max; where eᵈ is 0 both terms are.
#[derive(Clone, Copy)]
struct Likelihoods {
    max: f32,
}

impl Fold<1, 2> for Likelihoods {
    const START: f32 = 0.0;
    const PAD: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn step<S: Simd>(self, simd: S, [x]: [S::f32s; 1], [sum, weighted]: [S::f32s; 2]) -> [S::f32s; 2] {
        let d = simd.sub_f32s(x, simd.splat_f32s(self.max));
        let d = math::max(simd, simd.splat_f32s(-1000.0), d);
        let e = math::exp(simd, d);
        [simd.add_f32s(sum, e), simd.mul_add_f32s(d, e, weighted)]
    }
}

/// One row of logits x.
struct Row<'a>(&'a [f32]);

/// What a row comes to, with d = x − max.
struct RowSums {
    max: f32,
    argmax: u32,
    /// ln Σ eᵈ
    log_sum: f64,
    /// Σ d eᵈ / Σ eᵈ
    mean: f64,
}

impl WithSimd for Row<'_> {
    type Output = RowSums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let (mut max, mut best) = (f32::NEG_INFINITY, 0);
        for (i, block) in self.0.chunks(BLOCK).enumerate() {
            let [largest] = fold(simd, [block], Largest);
            if largest > max {
                (max, best) = (largest, i);
            }
        }
        let block = self.0.chunks(BLOCK).nth(best).unwrap_or(&[]);
        let inside = block.iter().position(|&x| x == max).unwrap_or(0);
        let (mut sum, mut weighted) = (0f64, 0f64);
        for block in self.0.chunks(BLOCK) {
            let [s, w] = fold(simd, [block], Likelihoods { max });
            sum += f64::from(s);
            weighted += f64::from(w);
        }
        RowSums { max, argmax: (best * BLOCK + inside) as u32, log_sum: ln(sum), mean: weighted / sum }
    }
}

/// −c e^(x − lse)
#[derive(Clone, Copy)]
struct LogProbsGradient {
    c: f32,
    lse: f32,
}

impl Map<1, 1> for LogProbsGradient {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [x]: [S::f32s; 1]) -> [S::f32s; 1] {
        let p = math::exp(simd, simd.sub_f32s(x, simd.splat_f32s(self.lse)));
        [simd.mul_f32s(simd.splat_f32s(-self.c), p)]
    }
}

impl LmHead for Cpu {
    /// For each row x of logits [m, v] and its target t:
    ///
    /// ```text
    /// lse = log Σ eˣ       logp = x[t] − lse       entropy = −Σ p log p = log Σ eᵈ − Σ p d,  d = x − max
    /// ```
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        let x = check::f32s("log_probs", "logits", logits, check::size("log_probs", &[m, v])?)?;
        let targets = check_targets("log_probs", targets, m, v)?;
        let (mut logp, mut entropy, mut log_sum_exp) = (vec![0f32; m], vec![0f32; m], vec![0f32; m]);
        let mut argmax = vec![0u32; m];
        let to = [&mut logp, &mut entropy, &mut log_sum_exp].map(|y| Shared::of(y));
        let argmax_to = Shared::of(&mut argmax);
        self.threads.each(m, |i| {
            let x = &x[i * v..][..v];
            let RowSums { max, argmax: best, log_sum, mean } = self.level.run(Row(x));
            let lse = f64::from(max) + log_sum;
            // SAFETY: task i owns element i of each.
            unsafe {
                to[0].ptr().add(i).write((f64::from(x[targets[i] as usize]) - lse) as f32);
                to[1].ptr().add(i).write((log_sum - mean) as f32);
                to[2].ptr().add(i).write(lse as f32);
                argmax_to.ptr().add(i).write(best);
            }
        });
        Ok(LogProbs {
            logp: Buffer::from_f32(logp),
            entropy: Buffer::from_f32(entropy),
            log_sum_exp: Buffer::from_f32(log_sum_exp),
            argmax: Buffer::host(Host::U32(argmax)),
        })
    }

    /// The forward was logp = x[t] − log Σ eˣ, so dx = c (onehot(t) − e^(x − lse)), c = scale · dlogp.
    /// In place if nobody else holds the logits.
    fn log_probs_backward(&self, mut logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer> {
        let LogProbsBackward { targets, log_sum_exp, dlogp, m, v, scale } = inputs;
        let op = "log_probs_backward";
        let n = check::size(op, &[m, v])?;
        check::f32s(op, "logits", &logits, n)?;
        let targets = check_targets(op, targets, m, v)?;
        let (lse, dlogp) = (check::f32s(op, "log_sum_exp", log_sum_exp, m)?, check::f32s(op, "dlogp", dlogp, m)?);
        let f = |i: usize| LogProbsGradient { c: scale * dlogp[i], lse: lse[i] };
        if logits.is_sole() {
            let to = Shared::of(check::f32s_mut(op, "logits", &mut logits, n)?);
            self.threads.each(m, |i| {
                // SAFETY: task i owns row i.
                let row = unsafe { to.written(i * v, v) };
                if f(i).c == 0.0 {
                    row.fill(0.0);
                } else {
                    map_self(self.level, row, f(i));
                    row[targets[i] as usize] += f(i).c;
                }
            });
            return Ok(logits);
        }
        let x = check::f32s(op, "logits", &logits, n)?;
        // SAFETY: task i owns row i and writes all of it.
        let dx = unsafe {
            build(n, |to| {
                self.threads.each(m, |i| {
                    if f(i).c == 0.0 {
                        to.part(i * v, v).fill(std::mem::MaybeUninit::new(0.0));
                    } else {
                        map_part(self.level, [&x[i * v..][..v]], [to.part(i * v, v)], f(i));
                        to.written(i * v, v)[targets[i] as usize] += f(i).c;
                    }
                });
            })?
        };
        Ok(Buffer::from_f32(dx))
    }
}
