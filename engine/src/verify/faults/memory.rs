//! Mistakes of types and memory, and the reference with one of them.
use super::Fault::Memory as Of;
use super::*;
use crate::verify::elementwise::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    CastTruncates,
}

pub(super) const PLANTED: &[Planted] = &[(Of(CastTruncates), "cast", cases)];

impl Memory for Faulty {
    fn upload(&self, values: Host) -> Result<Buffer> {
        Reference.upload(values)
    }

    fn download(&self, x: &Buffer) -> Result<Host> {
        Reference.download(x)
    }

    fn zeros(&self, n: usize) -> Result<Buffer> {
        Reference.zeros(n)
    }

    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        Reference.download_f32(xs)
    }

    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer> {
        if self.0 == Of(CastTruncates) && to == DType::BF16 {
            let wide = Reference.cast(x, n, DType::F32)?;
            let bits = wide.f32()?.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
            return Ok(Buffer::host(Host::Half(to, bits)));
        }
        Reference.cast(x, n, to)
    }
}
