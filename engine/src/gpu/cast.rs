//! Change of element type, and how kernels number the types.
use super::counting::Cost;
use super::recorder::Call;
use super::{Gpu, GpuBuffer, word};
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};

impl Gpu {
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
                cost: Cost::MOVES,
            })?;
        }
        Ok(y)
    }
}

/// Element types that kernels decode, and of these the float types, which come first.
pub(super) const TYPES: u32 = 11;
pub(super) const FLOAT_TYPES: u32 = 3;

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
