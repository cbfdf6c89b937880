//! Quantised blocks as integers with a scale and a minimum each group: what all of GGUF's formats are underneath.
//!
//! ```text
//! w = scale · code + minimum,    code in 0 .. 16, 0 .. 32, 0 .. 64 or 0 .. 256
//! ```
//!
//! computed with one rounding (a fused multiply-add) this is the value that [`decode_row`](crate::quant::decode_row) gives
//! (zeros may differ in sign): the products d·s and d·q of the formats have at most 24 bits.
use crate::dtype::Quant;
use half::f16;

/// Weights that share a scale and a minimum.
pub(crate) const fn group_len(q: Quant) -> usize {
    if matches!(q, Quant::Q6_K) { 16 } else { 32 }
}

/// Whether all codes are below 16.
pub(crate) const fn is_four_bits(q: Quant) -> bool {
    matches!(q, Quant::Q4_0 | Quant::Q4_1 | Quant::Q4_K)
}

/// One block: a code for each weight, (scale, minimum) for each group.
///
/// `block` has `block_bytes`, `codes` has `block_len`, `scales` has `block_len / group_len` elements.
pub(crate) fn read(q: Quant, block: &[u8], codes: &mut [u8], scales: &mut [(f32, f32)]) {
    match q {
        Quant::Q4_0 | Quant::Q5_0 => {
            let (d, middle) = (half_at(block, 0), if q == Quant::Q4_0 { 8.0 } else { 16.0 });
            scales[0] = (d, -middle * d);
            legacy(q == Quant::Q5_0, &block[2..], codes);
        }
        Quant::Q4_1 | Quant::Q5_1 => {
            scales[0] = (half_at(block, 0), half_at(block, 2));
            legacy(q == Quant::Q5_1, &block[4..], codes);
        }
        Quant::Q8_0 => {
            let d = half_at(block, 0);
            scales[0] = (d, -128.0 * d);
            codes.iter_mut().zip(&block[2..]).for_each(|(code, byte)| *code = byte ^ 0x80);
        }
        Quant::Q4_K | Quant::Q5_K => {
            let (d, dmin) = (half_at(block, 0), half_at(block, 2));
            for (j, to) in scales.iter_mut().enumerate() {
                let (scale, min) = crate::quant::k_scale(&block[4..16], j);
                *to = (d * scale, -(dmin * min));
            }
            let (high, low) = if q == Quant::Q5_K { (&block[16..48], &block[48..]) } else { (&[][..], &block[16..]) };
            for (codes, low) in codes.chunks_exact_mut(64).zip(low.chunks_exact(32)) {
                nibbles(low, codes);
            }
            for (i, code) in codes.iter_mut().enumerate().filter(|_| !high.is_empty()) {
                *code |= ((high[i % 32] >> (i / 32)) & 1) << 4;
            }
        }
        Quant::Q6_K => {
            let (d, integers) = (half_at(block, 208), &block[192..208]);
            for (to, &s) in scales.iter_mut().zip(integers) {
                let scale = d * f32::from(s as i8);
                *to = (scale, -32.0 * scale);
            }
            for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
                nibbles(&block[64 * half..][..64], codes);
                let high = &block[128 + 32 * half..][..32];
                for (i, code) in codes.iter_mut().enumerate() {
                    *code |= ((high[i % 32] >> (2 * (i / 32))) & 3) << 4;
                }
            }
        }
    }
}

/// The low nibbles, then the high ones.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// 32 codes of the formats with blocks of 32: perhaps 32 fifth bits, then nibbles.
fn legacy(fifth: bool, bytes: &[u8], codes: &mut [u8]) {
    nibbles(if fifth { &bytes[4..] } else { bytes }, codes);
    for (i, code) in codes.iter_mut().enumerate().filter(|_| fifth) {
        *code |= ((bytes[i / 8] >> (i % 8)) & 1) << 4;
    }
}

fn half_at(block: &[u8], i: usize) -> f32 {
    f16::from_le_bytes([block[i], block[i + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::decode_row;

    #[test]
    fn codes_say_what_the_blocks_say() {
        for q in
            [Quant::Q4_0, Quant::Q4_1, Quant::Q5_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q5_K, Quant::Q6_K]
        {
            let (n, bytes, group) = (q.block_len(), q.block_bytes(), group_len(q));
            for seed in 0..200u64 {
                let stream = crate::random::Stream::new(seed, 1);
                let mut block: Vec<u8> = (0..bytes).map(|i| stream.below(i as u64, 256) as u8).collect();
                // Scales that are finite numbers.
                let halves: &[usize] = match q {
                    Quant::Q6_K => &[208],
                    Quant::Q4_0 | Quant::Q5_0 | Quant::Q8_0 => &[0],
                    _ => &[0, 2],
                };
                for (i, &at) in halves.iter().enumerate() {
                    let value = f16::from_f32(3.0 * stream.normal(1000 + i as u64));
                    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
                let (mut codes, mut scales) = (vec![0; n], vec![(0.0, 0.0); n / group]);
                read(q, &block, &mut codes, &mut scales);
                let mut want = vec![0.0; n];
                decode_row(q, &block, &mut want).unwrap();
                for i in 0..n {
                    let (scale, minimum) = scales[i / group];
                    let got = scale.mul_add(f32::from(codes[i]), minimum);
                    assert!(got == want[i], "{q:?} weight {i}: {got} for {}", want[i]);
                    assert!(!is_four_bits(q) || codes[i] < 16);
                }
            }
        }
    }
}
