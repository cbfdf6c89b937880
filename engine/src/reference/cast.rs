//! Change of element type.
use super::check::decode;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use half::{bf16, f16};

/// The first `n` elements of `x` as `to`, rounded to the nearest, ties to even. Halves and blocks widen exactly.
pub fn cast(x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
    let values = decode("cast", "x", x, 0, n)?;
    if matches!(x.dtype(), DType::Quant(_)) && to != DType::F32 {
        return Err(Error::Unsupported(format!("cast: {} goes to float32 only", x.dtype().name())));
    }
    match to {
        DType::F32 => Ok(Buffer::from_f32(values)),
        DType::F16 => {
            let bits = values.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
            Ok(Buffer::host(Host::Half(to, bits)))
        }
        DType::BF16 => {
            let bits = values.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
            Ok(Buffer::host(Host::Half(to, bits)))
        }
        DType::U32 | DType::Quant(_) => {
            Err(Error::Unsupported(format!("cast: to {}; float32, float16 and bfloat16 are possible", to.name())))
        }
    }
}
