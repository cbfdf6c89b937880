//! Norms of rows: RMSNorm, alone and with the sum before it.
use super::counting::Cost;
use super::recorder::Call;
use super::{Gpu, shared, word};
use crate::backend::{Norms, RmsNormBackward};
use crate::buffer::Buffer;
use crate::error::Result;

/// Rows that one partial sum of RMSNorm's weight gradient covers.
const ROW_BLOCK: usize = 64;

impl Norms for Gpu {
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
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
                cost: Cost::flops(4 * rows * d),
            })?;
        }
        Ok((shared(y), shared(rstd)))
    }

    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)> {
        let RmsNormBackward { dy, x, w, rstd, m, d, need_dw } = inputs;
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
                cost: Cost::flops(8 * rows * d).in_place(adds == 1),
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
                cost: Cost::flops(3 * rows * d),
            })?;
        }
        if !need_dw {
            return Ok((to_x, None));
        }
        let dw = if blocks == 1 { partial } else { self.sum_rows_of(&partial, blocks, d)? };
        Ok((to_x, Some(shared(dw))))
    }

    fn add_rms_norm(
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
                cost: Cost::flops(5 * rows * d).reading_again(part(s)),
            })?;
        }
        Ok((f, shared(y), shared(rstd)))
    }

    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let op = "row_norms";
        let x = self.f32(op, x, m * n)?;
        let y = self.new_f32(m)?;
        for (first, rows) in self.row_blocks(op, m, n)? {
            self.dispatch(Call {
                shader: shaders::ROW_NORMS,
                constants: &[],
                params: &[rows as u32, word(op, n)?],
                binds: &[self.window(x, first * n, rows * n, 4).bind, self.window(&y, first, rows, 4).bind],
                groups: self.groups(rows),
                cost: Cost::flops(2 * rows * n),
            })?;
        }
        Ok(shared(y))
    }

    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let op = "row_norms_backward";
        let (dy, x, y) = (self.f32(op, dy, m)?, self.f32(op, x, m * n)?, self.f32(op, y, m)?);
        let dx = self.new_f32(m * n)?;
        for (first, rows) in self.row_blocks(op, m, n)? {
            let (all, row) = (|x| self.window(x, first * n, rows * n, 4).bind, |x| self.window(x, first, rows, 4).bind);
            self.dispatch(Call {
                shader: shaders::ROW_NORMS_BACKWARD,
                constants: &[],
                params: &[word(op, rows * n)?, word(op, n)?],
                binds: &[row(dy), all(x), row(y), all(&dx)],
                groups: self.groups((rows * n).div_ceil(64)),
                cost: Cost::flops(2 * rows * n),
            })?;
        }
        Ok(shared(dx))
    }
}
