//! Host memory, and change of element type.
use super::Reference;
use super::check::decode;
use crate::backend::Memory;
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use half::{bf16, f16};

impl Memory for Reference {
    fn upload(&self, values: Host) -> Result<Buffer> {
        Ok(Buffer::host(values))
    }

    fn download(&self, x: &Buffer) -> Result<Host> {
        x.as_host().cloned()
    }

    fn zeros(&self, n: usize) -> Result<Buffer> {
        Ok(Buffer::from_f32(vec![0.0; n]))
    }

    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        xs.iter().map(|x| x.f32().map(<[f32]>::to_vec)).collect()
    }

    /// The first `n` elements of `x` as `to`, rounded to the nearest, ties to even. Halves and blocks widen exactly.
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
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
}
