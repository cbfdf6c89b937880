//! Sums over rows, and of the squares of all gradients at once, several tensors in a dispatch.
//!
//! A tensor is a piece, or several where it does not fit a binding. Pieces are taken in order, as many as the kernel has
//! slots for; a device that shows a kernel too few buffers gets them one by one. Sizes are data of the dispatch.
use super::counting::Cost;
use super::recorder::{Bind, Call};
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::Sums;
use crate::buffer::Buffer;
use crate::error::Result;

/// Rows that one partial sum covers.
const ROW_BLOCK: usize = 128;
/// Elements that one partial sum of squares covers; sum_squares.wgsl says the same.
const SQUARE_BLOCK: usize = 4096;
/// Tensors that sum_squares_many.wgsl takes: with the partial sums 16 buffers, what DX12 shows at least.
const SQUARES_SLOTS: usize = 15;

impl Sums for Gpu {
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = self.f32("sum_rows", x, m * n)?;
        Ok(shared(self.sum_rows_of(x, m, n)?))
    }

    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        let op = "sum_squares";
        let blocks: Vec<usize> = xs.iter().map(|(_, n)| n.div_ceil(SQUARE_BLOCK)).collect();
        let partials = self.new_f32(blocks.iter().sum())?;
        let step = (self.elements_per_window() / SQUARE_BLOCK * SQUARE_BLOCK).max(SQUARE_BLOCK);
        let mut pieces: Vec<(Bind<'_>, u32)> = Vec::with_capacity(xs.len());
        for &(x, n) in xs {
            let x = self.f32(op, x, n)?;
            for (first, len) in Gpu::ranges(n, step) {
                pieces.push((self.window(x, first, len, 4).bind, word(op, len)?));
            }
        }
        let many = self.max_bindings > SQUARES_SLOTS;
        let (shader, slots) = if many { (shaders::SUM_SQUARES_MANY, SQUARES_SLOTS) } else { (shaders::SUM_SQUARES, 1) };
        let mut first_block = 0;
        for pieces in pieces.chunks(slots) {
            let n: usize = pieces.iter().map(|(_, n)| *n as usize).sum();
            let n_blocks = pieces.iter().map(|(_, n)| (*n as usize).div_ceil(SQUARE_BLOCK)).sum();
            let mut params: Vec<u32> = pieces.iter().map(|(_, n)| *n).collect();
            params.resize(slots, 0);
            params.extend([word(op, first_block)?, word(op, n_blocks)?]);
            let mut binds: Vec<Bind<'_>> = pieces.iter().map(|(bind, _)| *bind).collect();
            binds.resize(slots, binds[0]);
            binds.push(partials.whole());
            self.dispatch(Call {
                shader,
                constants: &[],
                params: &params,
                binds: &binds,
                groups: self.groups(n_blocks),
                cost: Cost::flops(2 * n).reading(4 * n).writing(4 * n_blocks),
            })?;
            first_block += n_blocks;
        }
        let bytes = self.read(&[&partials])?.pop().unwrap_or_default();
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let mut rest = &values[..];
        Ok(blocks
            .iter()
            .map(|&n| {
                let (own, others) = rest.split_at(n.min(rest.len()));
                rest = others;
                own.iter().map(|&v| f64::from(v)).sum()
            })
            .collect())
    }
}

impl Gpu {
    /// Σ over rows of x [m, n]: blocks of 128 rows first, then the blocks' sums likewise until one row is left.
    pub(super) fn sum_rows_of(&self, x: &GpuBuffer, m: usize, n: usize) -> Result<GpuBuffer> {
        let blocks = m.div_ceil(ROW_BLOCK);
        let y = self.new_f32(blocks.max(1) * n)?;
        if m == 0 {
            self.clear(&y)?;
            return Ok(y);
        }
        let fitting = self.rows_per_window("sum_rows", 4 * n)?;
        let step = if m <= fitting { m } else { fitting / ROW_BLOCK * ROW_BLOCK };
        if step == 0 {
            return Err(self.too_long("sum_rows", n));
        }
        for (first, rows) in Gpu::ranges(m, step) {
            // Window starts are rounded down to the alignment; a block of 128 rows starts at a multiple of 512 bytes.
            let out = self.window(&y, first / ROW_BLOCK * n, rows.div_ceil(ROW_BLOCK) * n, 4);
            self.dispatch(Call {
                shader: shaders::SUM_ROWS,
                constants: &[],
                params: &[rows as u32, word("sum_rows", n)?, ROW_BLOCK as u32, out.offset],
                binds: &[self.window(x, first * n, rows * n, 4).bind, out.bind],
                groups: [n.div_ceil(64) as u32, rows.div_ceil(ROW_BLOCK) as u32, 1],
                cost: Cost::flops(rows * n),
            })?;
        }
        if blocks == 1 { Ok(y) } else { self.sum_rows_of(&y, blocks, n) }
    }
}
