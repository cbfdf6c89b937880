//! The LM head's log-probabilities.
use super::counting::Cost;
use super::recorder::Call;
use super::{Gpu, shared, word};
use crate::backend::{LmHead, LogProbs, LogProbsBackward};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::Result;

impl LmHead for Gpu {
    fn log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
        let op = "log_probs";
        let (logits, targets) = (self.f32(op, logits, m * v)?, self.u32(op, targets, m)?);
        let (logp, entropy, log_sum_exp) = (self.new_f32(m)?, self.new_f32(m)?, self.new_f32(m)?);
        let argmax = self.new_buffer(DType::U32, m)?;
        for (first, rows) in Gpu::ranges(m, self.rows_per_window(op, 4 * v)?) {
            let window = self.window(logits, first * v, rows * v, 4);
            self.dispatch(Call {
                shader: shaders::LOG_PROBS,
                constants: &[],
                params: &[rows as u32, word(op, v)?, word(op, first)?, window.offset],
                binds: &[
                    window.bind,
                    targets.whole(),
                    logp.whole(),
                    entropy.whole(),
                    log_sum_exp.whole(),
                    argmax.whole(),
                ],
                groups: self.groups(rows),
                cost: Cost::flops(6 * rows * v),
            })?;
        }
        Ok(LogProbs {
            logp: shared(logp),
            entropy: shared(entropy),
            log_sum_exp: shared(log_sum_exp),
            argmax: shared(argmax),
        })
    }

    fn log_probs_backward(&self, mut logits: Buffer, inputs: LogProbsBackward<'_>) -> Result<Buffer> {
        let LogProbsBackward { targets, log_sum_exp, dlogp, m, v, scale } = inputs;
        let op = "log_probs_backward";
        self.f32(op, &logits, m * v)?;
        let targets = self.u32(op, targets, m)?;
        let (lse, dlogp) = (self.f32(op, log_sum_exp, m)?, self.f32(op, dlogp, m)?);
        let table = self.own(op, &mut logits)?;
        for (first, rows) in Gpu::ranges(m, self.rows_per_window(op, 4 * v)?) {
            let window = self.window(table, first * v, rows * v, 4);
            self.dispatch(Call {
                shader: shaders::LOG_PROBS_BACKWARD,
                constants: &[],
                params: &[rows as u32, word(op, v)?, word(op, first)?, window.offset, scale.to_bits()],
                binds: &[window.bind, targets.whole(), lse.whole(), dlogp.whole()],
                groups: self.groups((rows * v).div_ceil(64)),
                cost: Cost::flops(4 * rows * v).in_place(true),
            })?;
        }
        Ok(logits)
    }
}
