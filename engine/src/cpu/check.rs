//! Checks of what comes in: a buffer shorter than the shapes say is an error that names both, never a panic.
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The product of sizes; an error where it does not fit in memory's address range.
pub(crate) fn size(op: &'static str, sizes: &[usize]) -> Result<usize> {
    let n = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    n.filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| Error::shape(op, format!("{sizes:?} is too large")))
}

fn too_short(op: &'static str, name: &str, have: usize, need: usize) -> Error {
    Error::shape(op, format!("{name} has {have} elements, the shapes say {need}"))
}

/// The first n f32 values of a buffer.
pub(crate) fn f32s<'a>(op: &'static str, name: &str, x: &'a Buffer, n: usize) -> Result<&'a [f32]> {
    let Host::F32(v) = host(op, name, x)? else { return Err(wrong_type(op, name, x, "float32")) };
    v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))
}

/// The first n f32 values of a buffer, to change; copied first if someone else holds the buffer.
pub(crate) fn f32s_mut<'a>(op: &'static str, name: &str, x: &'a mut Buffer, n: usize) -> Result<&'a mut [f32]> {
    f32s(op, name, x, n)?;
    let v = x.f32_mut()?;
    let have = v.len();
    v.get_mut(..n).ok_or_else(|| too_short(op, name, have, n))
}

/// The first n u32 values of a buffer.
pub(crate) fn u32s<'a>(op: &'static str, name: &str, x: &'a Buffer, n: usize) -> Result<&'a [u32]> {
    let Host::U32(v) = host(op, name, x)? else { return Err(wrong_type(op, name, x, "uint32")) };
    v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))
}

/// The host values of a buffer.
pub(crate) fn host<'a>(op: &'static str, name: &str, x: &'a Buffer) -> Result<&'a Host> {
    x.as_host().map_err(|_| Error::shape(op, format!("{name} lies in GPU memory, the CPU needs it in host memory")))
}

fn wrong_type(op: &'static str, name: &str, x: &Buffer, need: &str) -> Error {
    Error::shape(op, format!("{name} is {}, {need} is needed", x.dtype().name()))
}

/// A table of weights in any dtype, row after row.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Bf16(&'a [u16]),
}

/// A buffer as `rows` rows of `width` weights.
pub(crate) fn weights<'a>(
    op: &'static str,
    name: &str,
    x: &'a Buffer,
    rows: usize,
    width: usize,
) -> Result<Weights<'a>> {
    let n = size(op, &[rows, width])?;
    match host(op, name, x)? {
        Host::F32(v) => Ok(Weights::F32(v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))?)),
        Host::Half(DType::F16, v) => Ok(Weights::F16(v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))?)),
        Host::Half(DType::BF16, v) => Ok(Weights::Bf16(v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))?)),
        Host::Blocks(d, _) => Err(Error::Unsupported(format!("{op}: {name} as {} blocks", d.name()))),
        _ => Err(wrong_type(op, name, x, "a floating-point type")),
    }
}

impl Weights<'_> {
    /// Elements `start .. start + out.len()` of the table as f32.
    #[inline(always)]
    pub fn decode(&self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match self {
            Weights::F32(v) => out.copy_from_slice(&v[start..end]),
            Weights::F16(v) => v[start..end].iter().zip(out).for_each(|(&h, o)| *o = f16_to_f32(h)),
            Weights::Bf16(v) => v[start..end].iter().zip(out).for_each(|(&h, o)| *o = bf16_to_f32(h)),
        }
    }
}

#[inline(always)]
pub(crate) fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// Without branches, so that loops over it vectorise: the exponent is moved by a product with 2¹¹², which also
/// normalises subnormal numbers; infinity and NaN keep their full exponent.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u16) -> f32 {
    let magnitude = u32::from(h & 0x7fff) << 13;
    let sign = u32::from(h & 0x8000) << 16;
    let finite = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let bits = if magnitude >= 0x0f80_0000 { special } else { finite };
    f32::from_bits(bits | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_decode_exactly() {
        for h in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(h), half::f16::from_bits(h).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{h:#x}: {ours} {theirs}");
            let (ours, theirs) = (bf16_to_f32(h), half::bf16::from_bits(h).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{h:#x}: {ours} {theirs}");
        }
    }
}
