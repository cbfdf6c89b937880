//! Operands checked before they are read: an error names the op, the operand and both sizes.
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::quant::decode_row;

/// The product of `factors`, an error where it does not fit in memory's address range.
pub fn size(op: &'static str, factors: &[usize]) -> Result<usize> {
    let product = factors.iter().try_fold(1usize, |n, &f| n.checked_mul(f));
    product.ok_or_else(|| Error::shape(op, format!("the shape {factors:?} is larger than memory can be")))
}

/// The first `n` values of an f32 operand.
pub fn values<'a>(op: &'static str, what: &str, x: &'a Buffer, n: usize) -> Result<&'a [f32]> {
    match x.as_host()? {
        Host::F32(v) => v.get(..n).ok_or_else(|| too_short(op, what, v.len(), n)),
        other => Err(wrong_type(op, what, "float32", other.dtype())),
    }
}

/// The first `n` values of an f32 operand, to change; copied first if anyone else holds them.
pub fn values_mut<'a>(op: &'static str, what: &str, x: &'a mut Buffer, n: usize) -> Result<&'a mut [f32]> {
    values(op, what, x, n)?;
    x.f32_mut()?.get_mut(..n).ok_or_else(|| too_short(op, what, 0, n))
}

/// The first `n` values of a u32 operand.
pub fn indices<'a>(op: &'static str, what: &str, x: &'a Buffer, n: usize) -> Result<&'a [u32]> {
    match x.as_host()? {
        Host::U32(v) => v.get(..n).ok_or_else(|| too_short(op, what, v.len(), n)),
        other => Err(wrong_type(op, what, "uint32", other.dtype())),
    }
}

/// Elements `start .. start + n` of a weight of any float type, as f32. In a quantised weight both are whole blocks.
pub fn decode(op: &'static str, what: &str, x: &Buffer, start: usize, n: usize) -> Result<Vec<f32>> {
    let end = start.checked_add(n).ok_or_else(|| Error::shape(op, format!("{what}: {start} + {n} elements")))?;
    match x.as_host()? {
        Host::F32(v) => v.get(start..end).map(<[f32]>::to_vec).ok_or_else(|| too_short(op, what, v.len(), end)),
        Host::Half(dtype, v) => {
            let bits = v.get(start..end).ok_or_else(|| too_short(op, what, v.len(), end))?;
            match dtype {
                DType::F16 => Ok(bits.iter().map(|&b| half::f16::from_bits(b).to_f32()).collect()),
                DType::BF16 => Ok(bits.iter().map(|&b| half::bf16::from_bits(b).to_f32()).collect()),
                other => Err(wrong_type(op, what, "float16 or bfloat16", *other)),
            }
        }
        Host::Blocks(DType::Quant(quant), blocks) => {
            let (len, bytes) = (quant.block_len(), quant.block_bytes());
            if !start.is_multiple_of(len) || !n.is_multiple_of(len) {
                let detail = format!("{what}: elements {start} .. {end} are no whole {} blocks", x.dtype().name());
                return Err(Error::shape(op, detail));
            }
            let found = blocks.len() / bytes * len;
            let blocks = blocks.get(start / len * bytes..end / len * bytes);
            let mut values = vec![0.0; n];
            decode_row(*quant, blocks.ok_or_else(|| too_short(op, what, found, end))?, &mut values)?;
            Ok(values)
        }
        other => Err(wrong_type(op, what, "a float type", other.dtype())),
    }
}

/// The error of an operand that ends too early.
pub fn too_short(op: &'static str, what: &str, found: usize, needed: usize) -> Error {
    Error::shape(op, format!("{what} has {found} elements, {needed} needed"))
}

fn wrong_type(op: &'static str, what: &str, needed: &str, found: DType) -> Error {
    Error::shape(op, format!("{what} is {}, {needed} needed", found.name()))
}
