//! Quantised weights: GGUF's blocks decoded to f32, and f32 encoded as Q8_0.
//!
//! A row is cut into blocks of 32 (legacy types) or 256 (K types) weights; every block carries its own scale. With
//! `d`, `m` half-precision numbers of the block, `s` small integer scales of the 16 or 32 weights around a weight
//! and `q` the weight's unsigned integer:
//!
//! ```text
//! Q4_0  w = d·(q − 8)           Q4_1  w = d·q + m
//! Q5_0  w = d·(q − 16)          Q5_1  w = d·q + m
//! Q8_0  w = d·q (q signed)      Q6_K  w = (d·s)·(q − 32)
//! Q4_K, Q5_K  w = (d·s)·q − (dmin·s')
//! ```
//!
//! The layouts are those of ggml (`block_q4_0` … in ggml-common.h); all numbers in a file are little-endian.
use crate::dtype::Quant;
use crate::error::{Error, Result};
use half::f16;
use rayon::prelude::*;

/// Decodes whole blocks to f32. `blocks` holds `out.len() / block_len` blocks of `block_bytes` each; a row, or any
/// number of rows whose length is a multiple of the block. An error when the two lengths do not fit.
pub fn decode_row(q: Quant, blocks: &[u8], out: &mut [f32]) -> Result<()> {
    let (len, bytes) = (q.block_len(), q.block_bytes());
    if !out.len().is_multiple_of(len) || blocks.len() != out.len() / len * bytes {
        return Err(Error::shape(
            "decode_row",
            format!("{} weights in {} bytes are not blocks of {len} weights in {bytes} bytes", out.len(), blocks.len()),
        ));
    }
    match q {
        Quant::Q4_0 => each(blocks, out, decode_q4_0),
        Quant::Q4_1 => each(blocks, out, decode_q4_1),
        Quant::Q5_0 => each(blocks, out, decode_q5_0),
        Quant::Q5_1 => each(blocks, out, decode_q5_1),
        Quant::Q8_0 => each(blocks, out, decode_q8_0),
        Quant::Q4_K => each(blocks, out, decode_q4_k),
        Quant::Q5_K => each(blocks, out, decode_q5_k),
        Quant::Q6_K => each(blocks, out, decode_q6_k),
    }
    Ok(())
}

#[inline(always)]
fn each<const B: usize, const N: usize>(blocks: &[u8], out: &mut [f32], decode: impl Fn(&[u8; B], &mut [f32; N])) {
    let (blocks, _) = blocks.as_chunks::<B>();
    let (out, _) = out.as_chunks_mut::<N>();
    for (block, values) in blocks.iter().zip(out) {
        decode(block, values);
    }
}

#[inline(always)]
fn half_at<const B: usize>(block: &[u8; B], i: usize) -> f32 {
    f16::from_le_bytes([block[i], block[i + 1]]).to_f32()
}

/// Q4_0, 18 bytes: d, then 16 bytes whose low nibbles are weights 0..16 and high nibbles weights 16..32.
#[inline(always)]
pub fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..16 {
        let byte = block[2 + i];
        out[i] = d * (i32::from(byte & 15) - 8) as f32;
        out[i + 16] = d * (i32::from(byte >> 4) - 8) as f32;
    }
}

/// Q4_1, 20 bytes: d, m, then nibbles as in Q4_0.
#[inline(always)]
pub fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        let byte = block[4 + i];
        out[i] = d * f32::from(byte & 15) + m;
        out[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// Q5_0, 22 bytes: d, 32 fifth bits (bit i is weight i's), then nibbles as in Q4_0.
#[inline(always)]
pub fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for i in 0..16 {
        let byte = u32::from(block[6 + i]);
        let lower = (byte & 15) | (((high >> i) & 1) << 4);
        let upper = (byte >> 4) | (((high >> (i + 16)) & 1) << 4);
        out[i] = d * (lower as i32 - 16) as f32;
        out[i + 16] = d * (upper as i32 - 16) as f32;
    }
}

/// Q5_1, 24 bytes: d, m, 32 fifth bits, then nibbles as in Q4_0.
#[inline(always)]
pub fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for i in 0..16 {
        let byte = u32::from(block[8 + i]);
        let lower = (byte & 15) | (((high >> i) & 1) << 4);
        let upper = (byte >> 4) | (((high >> (i + 16)) & 1) << 4);
        out[i] = d * lower as f32 + m;
        out[i + 16] = d * upper as f32 + m;
    }
}

/// Q8_0, 34 bytes: d, then 32 signed bytes.
#[inline(always)]
pub fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..32 {
        out[i] = d * f32::from(block[2 + i] as i8);
    }
}

/// Scale and minimum of group `j` (of eight) from the 12 bytes where Q4_K and Q5_K pack them at 6 bits each: groups
/// 0..4 in the low six bits of bytes j and j + 4; groups 4..8 in the nibbles of byte j + 4, topped up by the
/// two high bits of bytes j − 4 and j.
#[inline(always)]
pub(crate) fn k_scale(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let nibbles = packed[j + 4];
        ((nibbles & 15) | ((packed[j - 4] >> 6) << 4), (nibbles >> 4) | ((packed[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(min))
}

/// Q4_K, 144 bytes: d, dmin, 12 bytes of scales, then four times 32 bytes: low nibbles are one group of 32 weights,
/// high nibbles the next.
#[inline(always)]
pub fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, nibbles) = (&block[4..16], &block[16..]);
    for pair in 0..4 {
        let (s0, m0) = k_scale(scales, 2 * pair);
        let (s1, m1) = k_scale(scales, 2 * pair + 1);
        let (d0, d1, m0, m1) = (d * s0, d * s1, dmin * m0, dmin * m1);
        for i in 0..32 {
            let byte = nibbles[32 * pair + i];
            out[64 * pair + i] = d0 * f32::from(byte & 15) - m0;
            out[64 * pair + 32 + i] = d1 * f32::from(byte >> 4) - m1;
        }
    }
}

/// Q5_K, 176 bytes: d, dmin, 12 bytes of scales, 32 bytes of fifth bits (bit g of byte i is weight i of group g),
/// then nibbles as in Q4_K.
#[inline(always)]
pub fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, nibbles) = (&block[4..16], &block[16..48], &block[48..]);
    for pair in 0..4 {
        let (s0, m0) = k_scale(scales, 2 * pair);
        let (s1, m1) = k_scale(scales, 2 * pair + 1);
        let (d0, d1, m0, m1) = (d * s0, d * s1, dmin * m0, dmin * m1);
        for i in 0..32 {
            let byte = nibbles[32 * pair + i];
            let lower = (byte & 15) | (((high[i] >> (2 * pair)) & 1) << 4);
            let upper = (byte >> 4) | (((high[i] >> (2 * pair + 1)) & 1) << 4);
            out[64 * pair + i] = d0 * f32::from(lower) - m0;
            out[64 * pair + 32 + i] = d1 * f32::from(upper) - m1;
        }
    }
}

/// Q6_K, 210 bytes: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales (one for 16 weights), d.
/// Each half of the block is four groups of 32 weights: nibbles low, low, high, high of bytes 0..32, 32..64, 0..32,
/// 32..64; bit pair g of byte i belongs to weight i of group g.
#[inline(always)]
pub fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for part in 0..2 {
        let (low, high, scales) = (&block[64 * part..], &block[128 + 32 * part..], &block[192 + 8 * part..]);
        for group in 0..4 {
            for i in 0..32 {
                let nibble = (low[32 * (group & 1) + i] >> (4 * (group >> 1))) & 15;
                let q = i32::from(nibble | (((high[i] >> (2 * group)) & 3) << 4)) - 32;
                let scale = d * f32::from(scales[2 * group + i / 16] as i8);
                out[128 * part + 32 * group + i] = scale * q as f32;
            }
        }
    }
}

/// Q8_0 blocks of finite weights, a multiple of 32 of them: d = max|w| / 127 as float16, q = w / d (d as it was before
/// rounding) rounded half away from zero. As ggml's reference: the same bytes as the `gguf` package.
pub fn encode_q8_0(weights: &[f32]) -> Result<Vec<u8>> {
    let (blocks, rest) = weights.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Error::shape("encode_q8_0", format!("{} weights are no blocks of 32", weights.len())));
    }
    let mut out = vec![0; 34 * blocks.len()];
    let (places, _) = out.as_chunks_mut::<34>();
    places.par_iter_mut().zip(blocks).for_each(|(place, weights)| {
        let d = weights.iter().fold(0f32, |most, w| most.max(w.abs())) / 127.0;
        // A scale so small that it has no inverse stands for 0, in float16 too.
        let inverse = Some(1.0 / d).filter(|x| x.is_finite()).unwrap_or(0.0);
        place[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        for (byte, w) in place[2..].iter_mut().zip(weights) {
            *byte = (w * inverse).round() as i8 as u8;
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTS: [Quant; 8] =
        [Quant::Q4_0, Quant::Q4_1, Quant::Q5_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q5_K, Quant::Q6_K];

    /// Random blocks and what the `gguf` package decodes them to, bit for bit (tests/data/make_quant_blocks.py).
    #[test]
    fn decodes_as_the_gguf_package_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/quant_blocks.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for q in QUANTS {
            let name = crate::dtype::DType::Quant(q).name();
            let blocks = file.tensor(&format!("{name}.blocks")).unwrap();
            let want = file.tensor(&format!("{name}.values")).unwrap();
            let mut got = vec![0f32; want.data().len() / 4];
            assert!(got.len() >= 4 * q.block_len());
            decode_row(q, blocks.data(), &mut got).unwrap();
            let want: Vec<u32> =
                want.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            let got: Vec<u32> = got.iter().map(|v| v.to_bits()).collect();
            assert_eq!(got, want, "{name}");
        }
    }

    /// Weights and the blocks that the `gguf` package makes of them, byte for byte (tests/data/make_q8_0.py).
    #[test]
    fn encodes_as_the_gguf_package_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/q8_0.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let weights = file.tensor("weights").unwrap();
        let weights: Vec<f32> =
            weights.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert!(weights.len() > 1000);
        assert_eq!(encode_q8_0(&weights).unwrap(), file.tensor("blocks").unwrap().data());
        assert!(encode_q8_0(&weights[1..]).is_err());
        assert_eq!(encode_q8_0(&[1e-44; 32]).unwrap(), [0; 34]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        for q in QUANTS {
            let (n, b) = (q.block_len(), q.block_bytes());
            assert!(decode_row(q, &vec![0; 2 * b], &mut vec![0.0; 2 * n]).is_ok());
            assert!(decode_row(q, &[], &mut []).is_ok());
            for (bytes, values) in [(b, 2 * n), (2 * b, n), (b - 1, n), (b, n - 1), (b, 0), (0, n)] {
                assert!(decode_row(q, &vec![0; bytes], &mut vec![0.0; values]).is_err(), "{q:?} {bytes} {values}");
            }
        }
    }
}
