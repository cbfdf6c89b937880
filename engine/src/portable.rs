//! exp, log, sine and cosine in f64, of additions, multiplications and divisions alone: the same bits on every machine.
//!
//! The standard library's own come from the platform's mathematical library, and differ in the last bit between them.
//! Positions, random numbers, corrections of the optimiser and log-sums stand on these. Errors are a few units in the last place
//! (relative 10⁻¹⁵), so that a result rounded to f32 is all but always the nearest one.

/// log 2 in two parts: the first ends after 32 bits, so that whole numbers up to 2²⁰ times it are exact.
const LN_2: [f64; 2] = [f64::from_bits(0x3FE6_2E42_FEE0_0000), 1.908_214_929_270_587_7e-10];
/// π/2 in three parts, the first two of 33 bits each.
const HALF_PI: [f64; 3] =
    [f64::from_bits(0x3FF9_21FB_5440_0000), f64::from_bits(0x3DD0_B461_1A60_0000), 2.022_266_248_795_950_6e-21];

/// Σ cᵢ xⁱ, by Horner's rule.
fn polynomial<const N: usize>(c: [f64; N], x: f64) -> f64 {
    c.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// 1/0!, 1/1!, 1/2! …
const fn inverse_factorials<const N: usize>() -> [f64; N] {
    let (mut all, mut i) = ([1.0; N], 1);
    let mut factorial = 1.0;
    while i < N {
        factorial *= i as f64;
        all[i] = 1.0 / factorial;
        i += 1;
    }
    all
}

/// Adding and taking away 1.5 · 2⁵² rounds to the nearest whole number, halves to even.
fn nearest(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT) - SHIFT
}

/// 2ⁿ for −1022 ≤ n ≤ 1023.
fn power_of_two(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// eˣ = 2ⁿ · eʳ, n the whole number nearest to x / log 2: |r| ≤ ½ log 2, and the series of eʳ ends after r¹⁶.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    if x < -745.133_219_101_941_2 {
        return 0.0;
    }
    let n = nearest(x * std::f64::consts::LOG2_E);
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    // In two factors, as one of them alone may not be a normal number.
    let half = (n / 2.0).floor();
    polynomial(inverse_factorials::<17>(), r) * power_of_two(half as i64) * power_of_two((n - half) as i64)
}

/// log x for x = 2ⁿ · m, √½ ≤ m < √2: n log 2 + 2 (s + s³/3 + s⁵/5 + …), s = (m − 1)/(m + 1), |s| < 0.172.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // Numbers below the normal ones, made normal.
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * power_of_two(54), -54.0) } else { (x, 0.0) };
    let mut n = ((x.to_bits() >> 52) as i64 - 1023) as f64;
    let mut m = f64::from_bits((x.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    if m > std::f64::consts::SQRT_2 {
        (m, n) = (m / 2.0, n + 1.0);
    }
    let (n, s) = (n + shift, (m - 1.0) / (m + 1.0));
    let odd = [
        1.0 / 3.0,
        1.0 / 5.0,
        1.0 / 7.0,
        1.0 / 9.0,
        1.0 / 11.0,
        1.0 / 13.0,
        1.0 / 15.0,
        1.0 / 17.0,
        1.0 / 19.0,
        1.0 / 21.0,
        1.0 / 23.0,
    ];
    let z = s * s;
    n * LN_2[0] + (2.0 * s + (2.0 * s * z * polynomial(odd, z) + n * LN_2[1]))
}

/// xʸ = e^(y log x) for x > 0; its relative error grows with |y log x|, to 10⁻¹⁴ at 50.
pub fn power(x: f64, y: f64) -> f64 {
    exp(y * ln(x))
}

/// (sin x, cos x) for |x| < 10⁶: x less the nearest multiple of π/2 is at most π/4, and the series end after r¹⁸.
/// Larger angles, which no position reaches, lose digits; they are taken modulo 2π first.
pub fn sin_cos(x: f64) -> (f64, f64) {
    let x = if x.abs() < 1e6 { x } else { x % std::f64::consts::TAU };
    let n = nearest(x * std::f64::consts::FRAC_2_PI);
    let r = ((x - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2];
    let (z, all) = (r * r, inverse_factorials::<20>());
    let (mut sine, mut cosine) = ([0.0; 10], [0.0; 10]);
    for i in 0..10 {
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        (sine[i], cosine[i]) = (sign * all[2 * i + 1], sign * all[2 * i]);
    }
    let (s, c) = (r * polynomial(sine, z), polynomial(cosine, z));
    match (n as i64).rem_euclid(4) {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Numbers of both signs and many sizes up to `largest`.
    fn numbers(largest: f64) -> impl Iterator<Item = f64> {
        let stream = Stream::new(5, 9);
        (0..20_000u64).map(move |i| {
            let (x, y) = (f64::from(stream.uniform(2 * i)), f64::from(stream.uniform(2 * i + 1)));
            (2.0 * x - 1.0) * y * largest / (1 << (i % 12)) as f64
        })
    }

    fn near(found: f64, expected: f64, relative: f64) -> bool {
        (found - expected).abs() <= relative * expected.abs()
    }

    #[test]
    fn they_are_what_they_say() {
        for x in numbers(700.0) {
            assert!(near(exp(x), x.exp(), 1e-15), "exp {x}: {} {}", exp(x), x.exp());
            let y = x.exp();
            assert!(near(ln(y), y.ln(), 1e-15), "ln {y}: {} {}", ln(y), y.ln());
        }
        for x in numbers(0.01) {
            assert!(near(ln(1.0 + x), (1.0 + x).ln(), 1e-15), "ln 1 + {x}");
            assert!(near(power(0.999, 1e4 * x.abs()), 0.999f64.powf(1e4 * x.abs()), 1e-14), "0.999 to {x}");
        }
        for x in numbers(1e6) {
            let ((s, c), (sine, cosine)) = (sin_cos(x), x.sin_cos());
            // Near a multiple of π/2 the angle itself is known to its last bit only.
            let absolute = |a: f64, b: f64| (a - b).abs() <= 3e-16;
            assert!(absolute(s, sine) && absolute(c, cosine), "sin, cos {x}: {s} {c}, {sine} {cosine}");
        }
    }

    #[test]
    fn the_ends_of_their_ranges() {
        assert_eq!((exp(0.0), exp(f64::NEG_INFINITY), exp(f64::INFINITY)), (1.0, 0.0, f64::INFINITY));
        assert!(exp(-740.0) > 0.0 && near(exp(-740.0), (-740f64).exp(), 1e-2) && exp(709.0).is_finite());
        assert_eq!((ln(1.0), ln(0.0), ln(f64::INFINITY)), (0.0, f64::NEG_INFINITY, f64::INFINITY));
        assert!(near(ln(5e-324), 5e-324f64.ln(), 1e-15) && ln(-1.0).is_nan() && exp(f64::NAN).is_nan());
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
    }

    /// Bits, so that a machine that computes others is found out.
    #[test]
    fn the_same_bits_everywhere() {
        let mut bits = 0u64;
        for x in numbers(600.0) {
            let (s, c) = sin_cos(x);
            for y in [exp(x), ln(x.abs()), s, c] {
                assert!(y.is_finite(), "{x}: {y}");
                bits = bits.rotate_left(7) ^ y.to_bits();
            }
        }
        assert_eq!(bits, 0xfff2_26ba_c2c3_3173);
    }
}
