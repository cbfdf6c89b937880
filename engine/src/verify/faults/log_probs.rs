//! Mistakes of log-probabilities of targets, and the reference with one of them.
use super::Fault::LmHead as Of;
use super::*;
use crate::verify::log_probs::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    NextTarget,
    LastMaximum,
    EntropyOfTarget,
    LogProbsUpstream,
    LogProbsScale,
    SoftmaxForgotten,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(NextTarget), "log_probs", cases),
    (Of(LastMaximum), "log_probs", cases),
    (Of(EntropyOfTarget), "log_probs", cases),
    (Of(LogProbsUpstream), "log_probs_backward", cases),
    (Of(LogProbsScale), "log_probs_backward", cases),
    (Of(SoftmaxForgotten), "log_probs_backward", cases),
];

impl LmHead for Faulty {
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        let mut p = Reference.log_probs(logits, targets, m, v)?;
        match self.0 {
            Of(NextTarget) => {
                let next = targets.u32()?.iter().map(|&t| (t + 1) % v as u32).collect();
                p.logp = Reference.log_probs(logits, &Buffer::host(Host::U32(next)), m, v)?.logp;
            }
            Of(LastMaximum) => {
                let last = |x: &[f32]| (0..v).max_by(|&i, &j| x[i].total_cmp(&x[j])).unwrap_or(0) as u32;
                p.argmax = Buffer::host(Host::U32(logits.f32()?.chunks(v).map(last).collect()));
            }
            Of(EntropyOfTarget) => p.entropy = changed(&p.logp, |x| x.iter_mut().for_each(|x| *x = -*x))?,
            _ => {}
        }
        Ok(p)
    }

    fn log_probs_backward(&self, logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer> {
        let (all, infinite) = (ones(inputs.m), Buffer::from_f32(vec![f32::INFINITY; inputs.m]));
        let mut inputs = inputs;
        match self.0 {
            Of(LogProbsUpstream) => inputs.dlogp = &all,
            Of(LogProbsScale) => inputs.scale = 1.0,
            Of(SoftmaxForgotten) => inputs.log_sum_exp = &infinite,
            _ => {}
        }
        Reference.log_probs_backward(logits, inputs)
    }
}
