//! RMSNorm, rotary positions, SwiGLU, and the LM head's log-probabilities.
use super::recorder::Call;
use super::{Gpu, shared, word};
use crate::backend::LogProbs;
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Rows that one partial sum of RMSNorm's weight gradient covers.
const ROW_BLOCK: usize = 64;

/// Sizes of a rotary embedding: x [t, heads, e], the first `rotary` of e turned.
pub(super) struct RopeShape {
    pub t: usize,
    pub heads: usize,
    pub e: usize,
    pub rotary: usize,
    pub inverse: bool,
}

impl Gpu {
    pub(super) fn run_rms_norm(
        &self,
        x: &Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer)> {
        let (x, w) = (self.f32("rms_norm", x, m * d)?, self.f32("rms_norm", w, d)?);
        let (y, rstd) = (self.new_f32(m * d)?, self.new_f32(m)?);
        for (first, rows) in self.row_blocks("rms_norm", m, d)? {
            let part = |x| self.window(x, first * d, rows * d, 4).bind;
            self.dispatch(Call {
                shader: shaders::RMS_NORM,
                constants: &[],
                params: &[rows as u32, word("rms_norm", d)?, epsilon.to_bits()],
                binds: &[part(x), w.whole(), part(&y), self.window(&rstd, first, rows, 4).bind],
                groups: self.groups(rows),
            })?;
        }
        Ok((shared(y), shared(rstd)))
    }

    pub(super) fn run_add_rms_norm(
        &self,
        x: &Buffer,
        mut f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let op = "add_rms_norm";
        let (x, w) = (self.f32(op, x, m * d)?, self.f32(op, w, d)?);
        self.f32(op, &f, m * d)?;
        let s = self.own(op, &mut f)?;
        let (y, rstd) = (self.new_f32(m * d)?, self.new_f32(m)?);
        for (first, rows) in self.row_blocks(op, m, d)? {
            let part = |x| self.window(x, first * d, rows * d, 4).bind;
            self.dispatch(Call {
                shader: shaders::ADD_RMS_NORM,
                constants: &[],
                params: &[rows as u32, word(op, d)?, epsilon.to_bits()],
                binds: &[part(x), w.whole(), part(s), part(&y), self.window(&rstd, first, rows, 4).bind],
                groups: self.groups(rows),
            })?;
        }
        Ok((f, shared(y), shared(rstd)))
    }

    pub(super) fn run_rms_norm_backward(
        &self,
        [dy, x, w, rstd]: [&Buffer; 4],
        onto: Option<Buffer>,
        m: usize,
        d: usize,
        need_dw: bool,
    ) -> Result<(Buffer, Option<Buffer>)> {
        let op = "rms_norm_backward";
        let (dy, x, w) = (self.f32(op, dy, m * d)?, self.f32(op, x, m * d)?, self.f32(op, w, d)?);
        let rstd = self.f32(op, rstd, m)?;
        let adds = u32::from(onto.is_some());
        let mut to_x = match onto {
            Some(onto) => onto,
            None => shared(self.new_f32(m * d)?),
        };
        self.f32(op, &to_x, m * d)?;
        let dx = self.own(op, &mut to_x)?;
        let blocks = m.div_ceil(ROW_BLOCK);
        let partial = self.new_f32(if need_dw { blocks * d } else { 0 })?;
        for (first, rows) in self.row_blocks(op, m, d)? {
            let part = |x| self.window(x, first * d, rows * d, 4).bind;
            let scales = self.window(rstd, first, rows, 4).bind;
            self.dispatch(Call {
                shader: shaders::RMS_NORM_BACKWARD,
                constants: &[],
                params: &[rows as u32, word(op, d)?, adds],
                binds: &[part(dy), part(x), w.whole(), scales, part(dx)],
                groups: self.groups(rows),
            })?;
            if !need_dw {
                continue;
            }
            let window_blocks = rows.div_ceil(ROW_BLOCK);
            let out = self.window(&partial, first / ROW_BLOCK * d, window_blocks * d, 4);
            self.dispatch(Call {
                shader: shaders::RMS_NORM_BACKWARD_WEIGHT,
                constants: &[],
                params: &[rows as u32, word(op, d)?, ROW_BLOCK as u32, out.offset],
                binds: &[part(dy), part(x), scales, out.bind],
                groups: [d.div_ceil(64) as u32, window_blocks as u32, 1],
            })?;
        }
        if !need_dw {
            return Ok((to_x, None));
        }
        let dw = if blocks == 1 { partial } else { self.sum_rows_of(&partial, blocks, d)? };
        Ok((to_x, Some(shared(dw))))
    }

    pub(super) fn run_rope(&self, x: &Buffer, cos_sin: &Buffer, positions: &Buffer, s: RopeShape) -> Result<Buffer> {
        let n = s.t * s.heads * s.e;
        let (x, cos_sin) = (self.f32("rope", x, n)?, self.f32("rope", cos_sin, 0)?);
        let positions = self.u32("rope", positions, s.t)?;
        if s.rotary > s.e || s.rotary % 2 == 1 {
            return Err(Error::shape("rope", format!("{} rotary entries of a head of {}", s.rotary, s.e)));
        }
        let y = self.new_f32(n)?;
        let size = |n: usize| word("rope", n);
        let direction: f32 = if s.inverse { -1.0 } else { 1.0 };
        let d = s.heads * s.e;
        for (first, rows) in self.row_blocks("rope", s.t, d)? {
            let part = |x| self.window(x, first * d, rows * d, 4).bind;
            let places = self.window(positions, first, rows, 4).bind;
            self.dispatch(Call {
                shader: shaders::ROPE,
                constants: &[],
                params: &[size(rows * d)?, size(s.heads)?, size(s.e)?, size(s.rotary)?, direction.to_bits()],
                binds: &[part(x), cos_sin.whole(), places, part(&y)],
                groups: self.groups((rows * d).div_ceil(64)),
            })?;
        }
        Ok(shared(y))
    }

    pub(super) fn run_swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let (gate, up) = (self.f32("swiglu", gate, n)?, self.f32("swiglu", up, n)?);
        let y = self.new_f32(n)?;
        self.elementwise(shaders::SWIGLU, &[], n, &[gate, up, &y], |_, len| vec![len])?;
        Ok(shared(y))
    }

    pub(super) fn run_swiglu_backward(
        &self,
        dy: &Buffer,
        gate: &Buffer,
        up: &Buffer,
        n: usize,
    ) -> Result<(Buffer, Buffer)> {
        let op = "swiglu_backward";
        let (dy, gate, up) = (self.f32(op, dy, n)?, self.f32(op, gate, n)?, self.f32(op, up, n)?);
        let (dgate, dup) = (self.new_f32(n)?, self.new_f32(n)?);
        self.elementwise(shaders::SWIGLU_BACKWARD, &[], n, &[dy, gate, up, &dgate, &dup], |_, len| vec![len])?;
        Ok((shared(dgate), shared(dup)))
    }

    pub(super) fn run_log_probs(&self, logits: &Buffer, targets: &Buffer, m: usize, v: usize) -> Result<LogProbs> {
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
            })?;
        }
        Ok(LogProbs {
            logp: shared(logp),
            entropy: shared(entropy),
            log_sum_exp: shared(log_sum_exp),
            argmax: shared(argmax),
        })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn run_log_probs_backward(
        &self,
        mut logits: Buffer,
        targets: &Buffer,
        log_sum_exp: &Buffer,
        dlogp: &Buffer,
        m: usize,
        v: usize,
        scale: f32,
    ) -> Result<Buffer> {
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
            })?;
        }
        Ok(logits)
    }
}
