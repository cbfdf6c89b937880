//! Kernels that treat every element alike.
use super::counting::Cost;
use super::recorder::{Bind, Call, Constants};
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Binary, Elementwise, Unary};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::random::Stream;
use shaders::Shader;

/// A kernel that treats every element alike.
struct Each<'a> {
    shader: Shader,
    constants: &'a Constants,
    /// Elements that a thread takes.
    per_thread: usize,
    /// Operations on an element.
    flops: usize,
    in_place: bool,
}

impl<'a> Each<'a> {
    fn new(shader: Shader, constants: &'a Constants, flops: usize) -> Self {
        Each { shader, constants, per_thread: 1, flops, in_place: false }
    }
}

impl Gpu {
    /// Runs a kernel over n elements of tensors of four-byte elements that move in step, window by window. `params` gives
    /// the kernel's scalars for a window of (first element, number of elements).
    fn each(
        &self,
        kernel: Each<'_>,
        n: usize,
        tensors: &[&GpuBuffer],
        params: impl Fn(u32, u32) -> Vec<u32>,
    ) -> Result<()> {
        let Each { shader, constants, per_thread, flops, in_place } = kernel;
        word(shader.name, n)?;
        for (first, len) in Gpu::ranges(n, self.elements_per_window()) {
            let binds: Vec<Bind<'_>> = tensors.iter().map(|t| self.window(t, first, len, 4).bind).collect();
            self.dispatch(Call {
                shader,
                constants,
                params: &params(first as u32, len as u32),
                binds: &binds,
                groups: self.groups(len.div_ceil(64 * per_thread)),
                cost: Cost::flops(flops * len).in_place(in_place),
            })?;
        }
        Ok(())
    }
}

impl Elementwise for Gpu {
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let x = self.f32("unary", x, n)?;
        let y = self.new_f32(n)?;
        let (code, a, b) = unary_code(op);
        self.each(Each::new(shaders::UNARY, &[("OP", code)], 1), n, &[x, &y], |_, len| {
            vec![len, a.to_bits(), b.to_bits()]
        })?;
        Ok(shared(y))
    }

    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        let name = "unary_backward";
        let (x, y, dy) = (self.f32(name, x, n)?, self.f32(name, y, n)?, self.f32(name, dy, n)?);
        let dx = self.new_f32(n)?;
        let (code, a, b) = unary_code(op);
        self.each(Each::new(shaders::UNARY_BACKWARD, &[("OP", code)], 2), n, &[x, y, dy, &dx], |_, len| {
            vec![len, a.to_bits(), b.to_bits()]
        })?;
        Ok(shared(dx))
    }

    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        let (a, b) = (self.f32("binary", a, n)?, self.f32("binary", b, n_b)?);
        let y = self.new_f32(n)?;
        if n > 0 && n_b == 0 {
            return Err(Error::shape("binary", format!("{n} elements with none")));
        }
        word("binary", n)?;
        let code = match op {
            Binary::Add => 0,
            Binary::Sub => 1,
            Binary::Mul => 2,
            Binary::Div => 3,
            Binary::Min => 4,
            Binary::Max => 5,
        };
        for (first, len) in Gpu::ranges(n, self.elements_per_window()) {
            // b moves in step with a where it is as long, and is seen whole where it repeats.
            let (b_bind, b_len, b_first) =
                if n_b == n { (self.window(b, first, len, 4).bind, len, 0) } else { (b.whole(), n_b, first % n_b) };
            self.dispatch(Call {
                shader: shaders::BINARY,
                constants: &[("OP", code)],
                params: &[len as u32, b_len as u32, b_first as u32],
                binds: &[self.window(a, first, len, 4).bind, b_bind, self.window(&y, first, len, 4).bind],
                groups: self.groups(len.div_ceil(64)),
                cost: Cost::flops(len),
            })?;
        }
        Ok(shared(y))
    }

    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        self.f32("add_scaled", y, n)?;
        let x = self.f32("add_scaled", x, n)?;
        let y = self.own("add_scaled", y)?;
        let kernel = Each { per_thread: 4, in_place: true, ..Each::new(shaders::ADD_SCALED, &[], 2) };
        self.each(kernel, n, &[x, y], |_, len| vec![len, alpha.to_bits()])
    }

    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
        }
        let x = self.f32("dropout", x, n)?;
        let y = self.new_f32(n)?;
        let keep_scale = 1.0 / (1.0 - p);
        self.each(Each::new(shaders::DROPOUT, &[], 1), n, &[x, &y], |first, len| {
            vec![len, first, stream.key[0], stream.key[1], p.to_bits(), keep_scale.to_bits()]
        })?;
        Ok(shared(y))
    }

    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let (gate, up) = (self.f32("swiglu", gate, n)?, self.f32("swiglu", up, n)?);
        let y = self.new_f32(n)?;
        self.each(Each::new(shaders::SWIGLU, &[], 5), n, &[gate, up, &y], |_, len| vec![len])?;
        Ok(shared(y))
    }

    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        let op = "swiglu_backward";
        let (dy, gate, up) = (self.f32(op, dy, n)?, self.f32(op, gate, n)?, self.f32(op, up, n)?);
        let (dgate, dup) = (self.new_f32(n)?, self.new_f32(n)?);
        self.each(Each::new(shaders::SWIGLU_BACKWARD, &[], 10), n, &[dy, gate, up, &dgate, &dup], |_, len| vec![len])?;
        Ok((shared(dgate), shared(dup)))
    }
}

/// Values of OP in unary.wgsl and binary.wgsl.
pub(super) const UNARY_OPS: u32 = 12;
pub(super) const BINARY_OPS: u32 = 6;

/// The OP constant of unary.wgsl, and its two numbers.
fn unary_code(op: Unary) -> (u32, f32, f32) {
    match op {
        Unary::Affine(a, b) => (0, a, b),
        Unary::Exp => (1, 0.0, 0.0),
        Unary::Ln => (2, 0.0, 0.0),
        Unary::Sqrt => (3, 0.0, 0.0),
        Unary::Square => (4, 0.0, 0.0),
        Unary::Abs => (5, 0.0, 0.0),
        Unary::Relu => (6, 0.0, 0.0),
        Unary::Tanh => (7, 0.0, 0.0),
        Unary::Sigmoid => (8, 0.0, 0.0),
        Unary::LogSigmoid => (9, 0.0, 0.0),
        Unary::Silu => (10, 0.0, 0.0),
        Unary::Clamp(lo, hi) => (11, lo, hi),
    }
}
