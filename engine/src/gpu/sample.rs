//! Choosing the next token of each row. Neither logits nor random numbers leave the device or come to it, only the keys of
//! the rows' streams.
use super::counting::Cost;
use super::recorder::Call;
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Choice, Draw, Sample};
use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::Result;
use crate::likelihood::share;

/// Values of MODE in sample.wgsl.
pub(super) const MODES: u32 = 3;

impl Sample for Gpu {
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        let (op, m) = ("sample", draws.len());
        choice.check(v)?;
        self.f32(op, logits, m * v)?;
        word(op, m * v)?;
        let mut penalised = logits.clone();
        if choice.repetition_penalty != 1.0 {
            self.penalise(&mut penalised, v, choice.repetition_penalty, draws)?;
        }
        let x = self.gpu_buffer(op, &penalised)?;
        let counters = |d: &Draw<'_>| [d.stream.key[0], d.stream.key[1], d.index as u32, (d.index >> 32) as u32];
        let numbers = self.upload_u32(&draws.iter().flat_map(counters).collect::<Vec<u32>>())?;
        let tokens = self.new_buffer(DType::U32, m)?;
        let mode = if choice.greedy { 0 } else { 1 + u32::from(!choice.keeps_all(v)) };
        let top_k = if choice.top_k < v { choice.top_k as u32 } else { 0 };
        let top_p = if choice.top_p < 1.0 { share(choice.top_p) } else { 0 };
        for (first, rows) in Gpu::ranges(m, self.rows_per_window(op, 4 * v)?) {
            let window = self.window(x, first * v, rows * v, 4);
            self.dispatch(Call {
                shader: shaders::SAMPLE,
                constants: &[("MODE", mode)],
                params: &[rows as u32, v as u32, first as u32, window.offset, top_k, top_p, choice.min_p.to_bits(), 0],
                binds: &[window.bind, numbers.whole(), tokens.whole()],
                groups: self.groups(rows),
                cost: Cost::flops(3 * rows * v),
            })?;
        }
        Ok(shared(tokens))
    }
}

impl Gpu {
    /// Changes the logits of the tokens seen, in a copy where somebody else holds them.
    fn penalise(&self, logits: &mut Buffer, v: usize, penalty: f32, draws: &[Draw<'_>]) -> Result<()> {
        let (mut elements, mut ends) = (Vec::new(), Vec::with_capacity(draws.len()));
        for (row, draw) in draws.iter().enumerate() {
            let inside = draw.seen.iter().filter(|&&token| (token as usize) < v);
            elements.extend(inside.map(|&token| (row * v) as u32 + token));
            ends.push(elements.len());
        }
        if elements.is_empty() {
            return Ok(());
        }
        let list = self.upload_u32(&elements)?;
        let x = self.own("sample", logits)?;
        for (first, rows) in Gpu::ranges(draws.len(), self.rows_per_window("sample", 4 * v)?) {
            let window = self.window(x, first * v, rows * v, 4);
            let start = if first == 0 { 0 } else { ends[first - 1] };
            let n = ends[first + rows - 1] - start;
            self.dispatch(Call {
                shader: shaders::PENALISE,
                constants: &[],
                params: &[n as u32, start as u32, (first * v) as u32, window.offset, penalty.to_bits()],
                binds: &[window.bind, list.whole()],
                groups: self.groups(n.div_ceil(64)),
                cost: Cost::flops(n).reading(4 * n).writing(4 * n).in_place(true),
            })?;
        }
        Ok(())
    }

    fn upload_u32(&self, values: &[u32]) -> Result<GpuBuffer> {
        self.upload_host(&crate::buffer::Host::U32(values.to_vec()))
    }
}
