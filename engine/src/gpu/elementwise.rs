//! Kernels that treat every element alike, and sums over rows.
use super::recorder::{Bind, Call, Constants};
use super::{Gpu, GpuBuffer, shared, word};
use crate::backend::{Binary, Unary};
use crate::buffer::Buffer;
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use crate::random::Stream;
use shaders::Shader;

/// Rows that one partial sum covers.
const ROW_BLOCK: usize = 128;

impl Gpu {
    /// Runs a kernel over n elements of tensors of four-byte elements that move in step, window by window. `params` gives
    /// the kernel's scalars for a window of (first element, number of elements).
    pub(super) fn elementwise(
        &self,
        shader: Shader,
        constants: &Constants,
        n: usize,
        tensors: &[&GpuBuffer],
        params: impl Fn(u32, u32) -> Vec<u32>,
    ) -> Result<()> {
        self.elementwise_by(1, shader, constants, n, tensors, params)
    }

    /// The same for a kernel whose threads take four elements each.
    fn elementwise_in_fours(
        &self,
        shader: Shader,
        n: usize,
        tensors: &[&GpuBuffer],
        params: impl Fn(u32, u32) -> Vec<u32>,
    ) -> Result<()> {
        self.elementwise_by(4, shader, &[], n, tensors, params)
    }

    fn elementwise_by(
        &self,
        per_thread: usize,
        shader: Shader,
        constants: &Constants,
        n: usize,
        tensors: &[&GpuBuffer],
        params: impl Fn(u32, u32) -> Vec<u32>,
    ) -> Result<()> {
        word(shader.name, n)?;
        for (first, len) in Gpu::ranges(n, self.elements_per_window()) {
            let binds: Vec<Bind<'_>> = tensors.iter().map(|t| self.window(t, first, len, 4).bind).collect();
            self.dispatch(Call {
                shader,
                constants,
                params: &params(first as u32, len as u32),
                binds: &binds,
                groups: self.groups(len.div_ceil(64 * per_thread)),
            })?;
        }
        Ok(())
    }

    pub(super) fn run_unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let x = self.f32("unary", x, n)?;
        let y = self.new_f32(n)?;
        let (code, a, b) = unary_code(op);
        self.elementwise(shaders::UNARY, &[("OP", code)], n, &[x, &y], |_, len| vec![len, a.to_bits(), b.to_bits()])?;
        Ok(shared(y))
    }

    pub(super) fn run_unary_backward(
        &self,
        op: Unary,
        x: &Buffer,
        y: &Buffer,
        dy: &Buffer,
        n: usize,
    ) -> Result<Buffer> {
        let name = "unary_backward";
        let (x, y, dy) = (self.f32(name, x, n)?, self.f32(name, y, n)?, self.f32(name, dy, n)?);
        let dx = self.new_f32(n)?;
        let (code, a, b) = unary_code(op);
        self.elementwise(shaders::UNARY_BACKWARD, &[("OP", code)], n, &[x, y, dy, &dx], |_, len| {
            vec![len, a.to_bits(), b.to_bits()]
        })?;
        Ok(shared(dx))
    }

    pub(super) fn run_binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
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
            })?;
        }
        Ok(shared(y))
    }

    pub(super) fn run_add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        self.f32("add_scaled", y, n)?;
        let x = self.f32("add_scaled", x, n)?;
        let y = self.own("add_scaled", y)?;
        self.elementwise_in_fours(shaders::ADD_SCALED, n, &[x, y], |_, len| vec![len, alpha.to_bits()])
    }

    pub(super) fn run_dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
        }
        let x = self.f32("dropout", x, n)?;
        let y = self.new_f32(n)?;
        let keep_scale = 1.0 / (1.0 - p);
        self.elementwise(shaders::DROPOUT, &[], n, &[x, &y], |first, len| {
            vec![len, first, stream.key[0], stream.key[1], p.to_bits(), keep_scale.to_bits()]
        })?;
        Ok(shared(y))
    }

    pub(super) fn run_cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        let x = self.gpu_buffer("cast", x)?;
        if x.len() < n {
            return Err(Error::shape("cast", format!("{n} elements needed, {} found", x.len())));
        }
        let y = self.cast_of(x, 0, n, to)?;
        Ok(shared(y))
    }

    /// Elements `start .. start + n` of `x` in another type; in a quantised tensor both are whole blocks.
    pub(super) fn cast_of(&self, x: &GpuBuffer, start: usize, n: usize, to: DType) -> Result<GpuBuffer> {
        let from = x.dtype();
        let constants = [("TYPE", type_code("cast", from)?), ("TO", float_code("cast", to)?)];
        let y = self.new_buffer(to, n)?;
        word("cast", n)?;
        for (first, len) in Gpu::ranges(n, self.elements_per_window()) {
            let threads = if to == DType::F32 { len } else { len.div_ceil(2) };
            let source = self.typed_window(x, start + first, len);
            self.dispatch(Call {
                shader: shaders::CAST,
                constants: &constants,
                params: &[len as u32, source.offset],
                binds: &[source.bind, self.window(&y, first, len, to.bytes(1)).bind],
                groups: self.groups(threads.div_ceil(64)),
            })?;
        }
        Ok(y)
    }

    pub(super) fn run_sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = self.f32("sum_rows", x, m * n)?;
        Ok(shared(self.sum_rows_of(x, m, n)?))
    }

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
            })?;
        }
        if blocks == 1 { Ok(y) } else { self.sum_rows_of(&y, blocks, n) }
    }
}

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

/// How cast.wgsl and gather_rows.wgsl number the element types that they decode.
pub(super) fn type_code(op: &'static str, dtype: DType) -> Result<u32> {
    Ok(match dtype {
        DType::Quant(Quant::Q4_0) => 3,
        DType::Quant(Quant::Q4_1) => 4,
        DType::Quant(Quant::Q5_0) => 5,
        DType::Quant(Quant::Q5_1) => 6,
        DType::Quant(Quant::Q8_0) => 7,
        DType::Quant(Quant::Q4_K) => 8,
        DType::Quant(Quant::Q5_K) => 9,
        DType::Quant(Quant::Q6_K) => 10,
        float => float_code(op, float)?,
    })
}

/// How kernels number the float types.
pub(super) fn float_code(op: &'static str, dtype: DType) -> Result<u32> {
    match dtype {
        DType::F32 => Ok(0),
        DType::F16 => Ok(1),
        DType::BF16 => Ok(2),
        other => {
            Err(Error::Unsupported(format!("{op}: {} where a GPU takes float32, float16 or bfloat16", other.name())))
        }
    }
}
