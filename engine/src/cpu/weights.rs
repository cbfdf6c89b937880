//! Weights as they lie in memory, f32, f16, bf16, quantised or packed, and their decoding to f32 a stretch at a time.
use super::check::{host, size, too_short, wrong_type};
use super::panels::Panels;
use crate::buffer::{Buffer, Host};
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use crate::quant;

/// A table of weights in any dtype, row after row.
#[derive(Clone, Copy)]
pub(crate) enum HostWeights<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Bf16(&'a [u16]),
    /// Rows are whole numbers of blocks.
    Blocks(Quant, &'a [u8]),
    /// Packed; a row is a column of its panel.
    Packed(&'a Panels),
}

impl<'a> HostWeights<'a> {
    /// A buffer as `rows` rows of `width` weights.
    pub fn new(op: &'static str, name: &str, x: &'a Buffer, rows: usize, width: usize) -> Result<Self> {
        let n = size(op, &[rows, width])?;
        if let Some(panels) = x.device::<Panels>() {
            return match panels.n * panels.k >= n {
                true => Ok(HostWeights::Packed(panels)),
                false => Err(too_short(op, name, panels.n * panels.k, n)),
            };
        }
        let short = |have: usize| too_short(op, name, have, n);
        match host(op, name, x)? {
            Host::F32(v) => Ok(HostWeights::F32(v.get(..n).ok_or_else(|| short(v.len()))?)),
            Host::Half(DType::F16, v) => Ok(HostWeights::F16(v.get(..n).ok_or_else(|| short(v.len()))?)),
            Host::Half(DType::BF16, v) => Ok(HostWeights::Bf16(v.get(..n).ok_or_else(|| short(v.len()))?)),
            Host::Blocks(DType::Quant(q), v) => {
                if !width.is_multiple_of(q.block_len()) {
                    let detail = format!("rows of {width} weights are no whole number of {} blocks", x.dtype().name());
                    return Err(Error::shape(op, format!("{name}: {detail}")));
                }
                let have = v.len() / q.block_bytes() * q.block_len();
                Ok(HostWeights::Blocks(*q, v.get(..n / q.block_len() * q.block_bytes()).ok_or_else(|| short(have))?))
            }
            _ => Err(wrong_type(op, name, x, "a floating-point type")),
        }
    }

    /// Elements `start .. start + out.len()` of the table as f32.
    #[inline(always)]
    pub fn decode(&self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match *self {
            HostWeights::F32(v) => out.copy_from_slice(&v[start..end]),
            HostWeights::F16(v) => v[start..end].iter().zip(out).for_each(|(&h, o)| *o = f16_to_f32(h)),
            HostWeights::Bf16(v) => v[start..end].iter().zip(out).for_each(|(&h, o)| *o = bf16_to_f32(h)),
            HostWeights::Blocks(q, v) => match q {
                Quant::Q4_0 => blocks(v, start, out, quant::decode_q4_0),
                Quant::Q4_1 => blocks(v, start, out, quant::decode_q4_1),
                Quant::Q5_0 => blocks(v, start, out, quant::decode_q5_0),
                Quant::Q5_1 => blocks(v, start, out, quant::decode_q5_1),
                Quant::Q8_0 => blocks(v, start, out, quant::decode_q8_0),
                Quant::Q4_K => blocks(v, start, out, quant::decode_q4_k),
                Quant::Q5_K => blocks(v, start, out, quant::decode_q5_k),
                Quant::Q6_K => blocks(v, start, out, quant::decode_q6_k),
            },
            HostWeights::Packed(panels) => {
                let mut at = 0;
                while at < out.len() {
                    let (row, inside) = ((start + at) / panels.k, (start + at) % panels.k);
                    let n = (panels.k - inside).min(out.len() - at);
                    panels.row(row, inside, &mut out[at..at + n]);
                    at += n;
                }
            }
        }
    }
}

/// Blocks of N weights in B bytes; the stretch may start and end inside a block.
#[inline(always)]
fn blocks<const B: usize, const N: usize>(
    table: &[u8],
    start: usize,
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (table, _) = table.as_chunks::<B>();
    let mut at = 0;
    while at < out.len() {
        let (block, inside) = ((start + at) / N, (start + at) % N);
        let n = (N - inside).min(out.len() - at);
        match out[at..].first_chunk_mut::<N>() {
            Some(whole) if inside == 0 => decode(&table[block], whole),
            _ => {
                let mut whole = [0f32; N];
                decode(&table[block], &mut whole);
                out[at..at + n].copy_from_slice(&whole[inside..inside + n]);
            }
        }
        at += n;
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
    fn a_stretch_of_blocks_is_part_of_the_row() {
        for q in [Quant::Q4_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q6_K] {
            let n = 1024;
            let bytes: Vec<u8> = (0..n / q.block_len() * q.block_bytes()).map(|i| (i * 37 % 61) as u8).collect();
            let mut whole = vec![0f32; n];
            quant::decode_row(q, &bytes, &mut whole).unwrap();
            let weights = HostWeights::Blocks(q, &bytes);
            for (start, len) in [(0, n), (0, 256), (33, 500), (256, 1), (1000, 24), (31, 2)] {
                let mut part = vec![0f32; len];
                weights.decode(start, &mut part);
                assert_eq!(part, whole[start..start + len], "{q:?} {start} {len}");
            }
        }
    }

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
