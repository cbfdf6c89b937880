//! Cutting work into pieces that a kernel can see and a dispatch can count.
use super::recorder::Bind;
use super::{Gpu, GpuBuffer, word};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// Consecutive rows of a tensor, bound on their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub bind: Bind<'a>,
    /// Where the first row starts in what is bound, in elements: bindings start at aligned addresses, rows need not.
    pub offset: u32,
}

impl Gpu {
    /// Workgroups in two dimensions that cover `n` of them.
    pub(super) fn groups(&self, n: usize) -> [u32; 3] {
        let x = n.min(self.max_groups as usize).max(1);
        let y = n.div_ceil(x);
        [x as u32, u32::try_from(y).unwrap_or(u32::MAX), if n == 0 { 0 } else { 1 }]
    }

    /// The largest number of rows of `row_bytes` that fit a binding, or an error.
    pub(super) fn rows_per_window(&self, op: &'static str, row_bytes: usize) -> Result<usize> {
        let room = self.max_binding_bytes.saturating_sub(self.alignment) as usize;
        match room / row_bytes.max(1) {
            0 => Err(Error::Unsupported(format!(
                "{op}: one row of {row_bytes} bytes is more than the {} that a kernel sees at once on {}",
                self.max_binding_bytes, self.label
            ))),
            n => Ok(n),
        }
    }

    /// Ranges of rows of `d` four-byte elements that fit a binding. They start at multiples of 64 rows, hence at aligned
    /// addresses whatever d is.
    pub(super) fn row_blocks(
        &self,
        op: &'static str,
        m: usize,
        d: usize,
    ) -> Result<impl Iterator<Item = (usize, usize)>> {
        word(op, m)?;
        let step = self.max_binding_bytes as usize / (4 * d).max(1);
        if step < 64 && step < m {
            return Err(Error::Unsupported(format!("{op}: rows of {d} elements are too long for {}", self.label)));
        }
        Ok(Gpu::ranges(m, if step < 64 { step } else { step / 64 * 64 }))
    }

    /// Elements `first .. first + n` of `x`, whose element takes `element_bytes`.
    pub(super) fn window<'a>(&self, x: &'a GpuBuffer, first: usize, n: usize, element_bytes: usize) -> Window<'a> {
        let first_byte = (first * element_bytes) as u64;
        let start = first_byte / self.alignment * self.alignment;
        let end = (((first + n) * element_bytes) as u64).min(x.bytes() as u64);
        Window {
            bind: x.part(start, end.max(start) - start),
            offset: ((first_byte - start) as usize / element_bytes) as u32,
        }
    }

    /// Elements `first .. first + n` of `x` of any type; of quantised tensors whole blocks, and the offset is in bytes.
    pub(super) fn typed_window<'a>(&self, x: &'a GpuBuffer, first: usize, n: usize) -> Window<'a> {
        match x.dtype() {
            DType::Quant(_) => self.window(x, x.dtype().bytes(first), x.dtype().bytes(n), 1),
            plain => self.window(x, first, n, plain.bytes(1)),
        }
    }

    /// `first .. first + len` ranges that cover 0 .. n in steps of at most `step`.
    pub(super) fn ranges(n: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
        let step = step.max(1);
        (0..n).step_by(step).map(move |first| (first, step.min(n - first)))
    }

    /// Elements of four bytes that an elementwise kernel takes at once: windows of it need no offset.
    pub(super) fn elements_per_window(&self) -> usize {
        (self.max_binding_bytes / 4 / 128 * 128).max(128) as usize
    }
}
