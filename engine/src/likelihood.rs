//! What sampling counts in: the order of logits, and how likely a token is, as a whole number.
//!
//! Sums of whole numbers are exact in any order, so that every backend keeps the same tokens and draws the same one from
//! the same logits. `shaders/sample.wgsl` computes the same numbers bit for bit.
use crate::error::{Error, Result};

/// The likeliest token weighs 2⁴⁴.
const WEIGHT_BITS: i32 = 44;

/// Tokens of a vocabulary whose weights can be added up in 64 bits.
pub const LARGEST_VOCABULARY: usize = 1 << 19;

/// The key of −∞: what has this key or a smaller one is never drawn.
const NEVER: u32 = !0xFF80_0000;

/// A number whose order is that of the logits; −0 is 0, and NaN is below all.
pub fn key(z: f32) -> u32 {
    let bits = (z + 0.0).to_bits();
    match bits >> 31 {
        _ if z.is_nan() => 0,
        0 => bits | 1 << 31,
        _ => !bits,
    }
}

/// The index of the largest logit, the lowest among equals.
pub fn argmax(z: &[f32]) -> usize {
    let above = |best: (usize, u32), (i, z): (usize, &f32)| if key(*z) > best.1 { (i, key(*z)) } else { best };
    z.iter().enumerate().fold((0, 0), above).0
}

/// The logit of a token that was seen before: z / penalty where it is positive, else z · penalty.
/// N. S. Keskar et al., "CTRL", 2019, §4.1.
pub fn penalised(z: f32, penalty: f32) -> f32 {
    if z > 0.0 { z / penalty } else { z * penalty }
}

/// eˣ for x ≤ 0, to about 10⁻⁷ relative: 2ⁿ · eʳ with |r| ≤ ½ ln 2 and a Taylor polynomial; at least e⁻⁸⁷. The same bits
/// on every machine, and free of branches.
pub fn exp(x: f32) -> f32 {
    let x = x.max(-87.0);
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// How many times as likely a token is as the likeliest one: e^(z − largest), 0 for −∞ and NaN.
pub fn likelihood(z: f32, largest: f32) -> f32 {
    let (key, top) = (key(z), key(largest));
    if key <= NEVER {
        0.0
    } else if key == top {
        1.0
    } else if largest == f32::INFINITY {
        0.0
    } else {
        exp(z - largest)
    }
}

/// ⌊2⁴⁴ x⌋ for a likelihood x in [0, 1].
pub fn weight(likelihood: f32) -> u64 {
    let bits = likelihood.to_bits();
    // x = mantissa · 2^(exponent − 150)
    let (mantissa, exponent) = (u64::from(bits & 0x7F_FFFF | 0x80_0000), (bits >> 23) as i32);
    match exponent - (150 - WEIGHT_BITS) {
        up @ 0.. => mantissa << up,
        down @ -23..0 => mantissa >> -down,
        _ => 0,
    }
}

/// The share p < 1 of a sum in units of 2⁻³², rounded up.
pub fn share(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0).ceil() as u32
}

/// The least whole number that is at least p · total, where `share` is p in units of 2⁻³².
pub fn needed(total: u64, share: u32) -> u64 {
    ((u128::from(total) * u128::from(share) + u128::from(u32::MAX)) >> 32) as u64
}

/// ⌊u · total⌋ with u = (number + ½) / 2³²: the token is the first at which the running sum is larger.
pub fn aim(total: u64, number: u32) -> u64 {
    ((u128::from(total) * u128::from(number) + u128::from(total >> 1)) >> 32) as u64
}

/// An error if no token can be chosen from a vocabulary of `v`.
pub fn check_vocabulary(v: usize) -> Result<()> {
    match v {
        0 => Err(Error::shape("sample", "a vocabulary without tokens")),
        1..=LARGEST_VOCABULARY => Ok(()),
        _ => Err(Error::Unsupported(format!("sample: a vocabulary of {v}; at most {LARGEST_VOCABULARY} tokens"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential() {
        for i in 0..2000 {
            let x = -0.04 * i as f32;
            approx::assert_relative_eq!(exp(x), f64::from(x).exp() as f32, max_relative = 3e-7);
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn keys_are_in_the_order_of_the_logits() {
        let z = [f32::NAN, f32::NEG_INFINITY, f32::MIN, -1.0, -1e-45, 0.0, 1e-45, 1.0, f32::MAX, f32::INFINITY];
        assert!(z.windows(2).all(|z| key(z[0]) < key(z[1])));
        assert_eq!((key(-0.0), key(-f32::NAN)), (key(0.0), 0));
        assert_eq!(key(f32::NEG_INFINITY), NEVER);
        assert_eq!(argmax(&[f32::NAN, -0.0, 0.0, -1.0]), 1);
        assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn weights_are_whole_parts_of_the_largest() {
        for i in 0..2000 {
            let x = exp(-0.02 * i as f32);
            assert_eq!(weight(x), (f64::from(x) * f64::from(1u32 << 22).powi(2)) as u64, "{x}");
        }
        let all = [f32::NEG_INFINITY, f32::NAN, -200.0, 3.0];
        assert_eq!(all.map(|z| likelihood(z, 3.0)), [0.0, 0.0, exp(-87.0), 1.0]);
        assert_eq!(all.map(|z| weight(likelihood(z, 3.0))), [0, 0, 0, 1 << 44]);
        assert_eq!([3.0, f32::INFINITY].map(|z| likelihood(z, f32::INFINITY)), [0.0, 1.0]);
        assert_eq!([f32::NEG_INFINITY, f32::NAN].map(|z| likelihood(z, f32::NEG_INFINITY)), [0.0, 0.0]);
    }

    #[test]
    fn shares_of_sums() {
        assert_eq!((needed(10, share(0.5)), needed(11, share(0.5)), needed(7, share(1e-12))), (5, 6, 1));
        assert_eq!((needed(u64::MAX, share(0.5)), needed(0, share(0.5))), (1 << 63, 0));
        // u is never 0 nor 1
        assert_eq!(
            (aim(1, 0), aim(1, u32::MAX), aim(1 << 33, 0), aim(u64::MAX, u32::MAX)),
            (0, 0, 1, u64::MAX - (1 << 31))
        );
    }
}
