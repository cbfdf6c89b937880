//! exp, ln, tanh and σ as our own polynomials, without branches: one definition for every instruction set, so the bits
//! agree. The errors are below 2 units in the last place (σ and tanh: 3), tested against f64.
//!
//! The coefficients interpolate the function at Chebyshev nodes of the reduced range.
use pulp::Simd;

/// 2¹² · 3072: adding it rounds a small f32 to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// Σ c[i] xⁱ by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut y = simd.splat_f32s(c[N - 1]);
    for i in (0..N - 1).rev() {
        y = simd.mul_add_f32s(y, x, simd.splat_f32s(c[i]));
    }
    y
}

#[inline(always)]
fn bits<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
    simd.transmute_u32s_f32s(x)
}

/// The larger of both; `b` where either is not a number.
#[inline(always)]
pub(crate) fn max<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.select_f32s(simd.greater_than_f32s(a, b), a, b)
}

/// The smaller of both; `b` where either is not a number.
#[inline(always)]
pub(crate) fn min<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.select_f32s(simd.less_than_f32s(a, b), a, b)
}

/// eˣ = 2ⁿ · eʳ with n = round(x / ln 2), |r| ≤ ln 2 / 2. Zero below −104, ∞ above 88.73.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = max(simd, simd.splat_f32s(-104.0), min(simd, simd.splat_f32s(89.0), x));
    let rounded = simd.mul_add_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_HIGH), x);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_LOW), r);
    // eʳ = 1 + (r + r² q(r))
    let q = polynomial(simd, r, [0.5, 0.166_665_76, 0.041_666_552, 0.008_363_233, 0.001_392_625]);
    let y = simd.mul_add_f32s(simd.mul_f32s(r, r), q, r);
    let y = simd.add_f32s(y, simd.splat_f32s(1.0));
    // 2ⁿ as 2^⌊n/2⌋ · 2^⌈n/2⌉, so that both factors are normal numbers; n + 256 is kept to stay positive.
    let n = simd.sub_u32s(bits(simd, rounded), simd.splat_u32s(ROUND.to_bits() - 256));
    let half = simd.wrapping_dyn_shr_u32s(n, simd.splat_u32s(1));
    let power = |n: S::u32s| {
        let biased = simd.sub_u32s(n, simd.splat_u32s(1));
        simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(biased, simd.splat_u32s(23)))
    };
    simd.mul_f32s(simd.mul_f32s(y, power(half)), power(simd.sub_u32s(n, half)))
}

/// ln x: x = 2ⁿ · m with √½ ≤ m < √2, ln m = f − f²/2 + f³ p(f) with f = m − 1. −∞ at 0, not a number below.
#[inline(always)]
pub(crate) fn ln<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    // Subnormal numbers are scaled up by 2²³ first.
    let tiny = simd.less_than_f32s(x, simd.splat_f32s(f32::MIN_POSITIVE));
    let scaled = simd.select_f32s(tiny, simd.mul_f32s(x, simd.splat_f32s(8_388_608.0)), x);
    let shift = simd.select_f32s(tiny, simd.splat_f32s(23.0), zero);
    // Counting from the bits of √½ puts the carry into the exponent just where m wraps around.
    let sqrt_half = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let b = simd.sub_u32s(bits(simd, scaled), simd.splat_u32s(sqrt_half));
    // The arithmetic shift by 23, moved up by 512 to stay positive.
    let up = simd.add_u32s(b, simd.splat_u32s(512 << 22));
    let n = simd.wrapping_dyn_shr_u32s(up, simd.splat_u32s(23));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.sub_u32s(n, simd.splat_u32s(256)), simd.splat_u32s(23));
    let m = simd.transmute_f32s_u32s(simd.sub_u32s(bits(simd, scaled), exponent));
    let n = simd.sub_f32s(
        simd.transmute_f32s_u32s(simd.add_u32s(n, simd.splat_u32s(ROUND.to_bits()))),
        simd.splat_f32s(ROUND + 256.0),
    );
    let n = simd.sub_f32s(n, shift);
    let f = simd.sub_f32s(m, simd.splat_f32s(1.0));
    let p = polynomial(
        simd,
        f,
        [
            0.333_333_3,
            -0.25,
            0.200_007_17,
            -0.166_678_07,
            0.142_490_07,
            -0.124_255_23,
            0.116_857_85,
            -0.114_812_12,
            0.069_725_186,
        ],
    );
    let f2 = simd.mul_f32s(f, f);
    let y = simd.mul_f32s(simd.mul_f32s(f2, f), p);
    let y = simd.mul_add_f32s(n, simd.splat_f32s(LN_2_LOW), y);
    let y = simd.mul_add_f32s(f2, simd.splat_f32s(-0.5), y);
    let y = simd.mul_add_f32s(n, simd.splat_f32s(LN_2_HIGH), simd.add_f32s(f, y));
    let y = simd.select_f32s(simd.equal_f32s(x, zero), simd.splat_f32s(f32::NEG_INFINITY), y);
    let y = simd.select_f32s(simd.equal_f32s(x, simd.splat_f32s(f32::INFINITY)), x, y);
    simd.select_f32s(simd.greater_than_or_equal_f32s(x, zero), y, simd.splat_f32s(f32::NAN))
}

/// ln(1 + t) for t ≥ 0, exact for small t: ln(u) · t / (u − 1) with u = 1 + t
/// (W. Kahan; N. Higham, "Accuracy and Stability of Numerical Algorithms", §1.14.1).
#[inline(always)]
pub(crate) fn ln_1p<S: Simd>(simd: S, t: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let u = simd.add_f32s(one, t);
    let y = simd.mul_f32s(ln(simd, u), simd.div_f32s(t, simd.sub_f32s(u, one)));
    simd.select_f32s(simd.equal_f32s(u, one), t, y)
}

/// tanh x = x + x³ p(x²) below 0.625, sign(x) · (1 − 2 / (e^{2|x|} + 1)) above.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let magnitude = simd.abs_f32s(x);
    let e = exp(simd, simd.add_f32s(magnitude, magnitude));
    let large = simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(e, one)));
    let z = simd.mul_f32s(x, x);
    let p = polynomial(simd, z, [-0.333_333_28, 0.133_327_69, -0.053_850_908, 0.020_997_18, -0.006_096_714]);
    let small = simd.mul_add_f32s(simd.mul_f32s(z, magnitude), p, magnitude);
    let y = simd.select_f32s(simd.less_than_f32s(magnitude, simd.splat_f32s(0.625)), small, large);
    let sign = simd.and_u32s(bits(simd, x), simd.splat_u32s(0x8000_0000));
    simd.transmute_f32s_u32s(simd.or_u32s(bits(simd, y), sign))
}

/// σ(x) = 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.sub_f32s(simd.splat_f32s(0.0), x));
    simd.div_f32s(one, simd.add_f32s(one, e))
}

/// log σ(x) = min(x, 0) − ln(1 + e^{−|x|})
#[inline(always)]
pub(crate) fn log_sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let e = exp(simd, simd.sub_f32s(zero, simd.abs_f32s(x)));
    simd.sub_f32s(min(simd, zero, x), ln_1p(simd, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::level::Level;
    use crate::cpu::map::{Map, apply};
    use crate::cpu::threads::Threads;

    macro_rules! functions {
        ($($name:ident),*) => {$(
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy)]
            struct $name;
            impl Map<1, 1> for $name {
                #[inline(always)]
                fn map<S: Simd>(self, simd: S, [x]: [S::f32s; 1]) -> [S::f32s; 1] {
                    [super::$name(simd, x)]
                }
            }
        )*};
    }
    functions!(exp, ln, ln_1p, tanh, sigmoid, log_sigmoid);

    fn values<F: Map<1, 1>>(level: Level, f: F, x: &[f32]) -> Vec<f32> {
        let [y] = apply(&Threads::new(Some(1)).unwrap(), level, x.len(), [x], f).unwrap();
        y
    }

    /// The largest error in units of the last place of the true value, and the same bits at every level.
    fn worst_ulp<F: Map<1, 1>>(f: F, truth: impl Fn(f64) -> f64, x: &[f32]) -> f64 {
        let y = values(Level::Scalar, f, x);
        for level in Level::available() {
            let same = values(level, f, x).iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{} differs from scalar", level.name());
        }
        let mut worst: f64 = 0.0;
        for (&x, &y) in x.iter().zip(&y) {
            let t = truth(f64::from(x));
            let near = (t as f32).abs().max(f32::MIN_POSITIVE);
            let ulp = f64::from(f32::from_bits(near.to_bits() + 1) - near);
            let error = (f64::from(y) - t).abs() / ulp;
            assert!(error.is_finite(), "at {x}: {y}, should be {t}");
            worst = worst.max(error);
        }
        worst
    }

    fn grid(lo: f32, hi: f32) -> Vec<f32> {
        let n = 100_003;
        (0..n).map(|i| lo + (hi - lo) * i as f32 / n as f32).collect()
    }

    #[test]
    fn errors_are_a_few_units_in_the_last_place() {
        let mut positive: Vec<f32> = (0..100_000u32).map(|i| f32::from_bits(i * 21_389 + 1)).collect();
        positive.retain(|x| x.is_finite());
        let check = |name: &str, worst: f64, limit: f64| assert!(worst <= limit, "{name}: {worst} units");
        check("exp", worst_ulp(exp, f64::exp, &grid(-87.0, 88.7)), 1.5);
        check("ln", worst_ulp(ln, f64::ln, &positive), 1.5);
        check("ln near 1", worst_ulp(ln, f64::ln, &grid(0.4, 2.5)), 1.5);
        check("ln_1p", worst_ulp(ln_1p, f64::ln_1p, &grid(0.0, 1.0)), 3.0);
        check("tanh", worst_ulp(tanh, f64::tanh, &grid(-10.0, 10.0)), 3.0);
        let sigmoid_f64 = |x: f64| 1.0 / (1.0 + (-x).exp());
        check("sigmoid", worst_ulp(sigmoid, sigmoid_f64, &grid(-80.0, 30.0)), 3.0);
        let log_sigmoid_f64 = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
        check("log_sigmoid", worst_ulp(log_sigmoid, log_sigmoid_f64, &grid(-40.0, 80.0)), 3.0);
    }

    #[test]
    fn special_values() {
        for level in Level::available() {
            let x = [0.0, -0.0, f32::NEG_INFINITY, -200.0, f32::INFINITY, 100.0, -103.0];
            let y = values(level, exp, &x);
            assert_eq!(y[..6], [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY]);
            assert!(y[6] > 0.0 && y[6] < f32::MIN_POSITIVE);
            assert!(values(level, exp, &[f32::NAN])[0].is_nan());
            let y = values(level, ln, &[1.0, 0.0, f32::INFINITY, -1.0, f32::NAN]);
            assert_eq!(y[..3], [0.0, f32::NEG_INFINITY, f32::INFINITY]);
            assert!(y[3].is_nan() && y[4].is_nan());
            assert_eq!(values(level, tanh, &[100.0, -100.0, 0.0]), [1.0, -1.0, 0.0]);
            assert_eq!(values(level, sigmoid, &[200.0, -200.0, 0.0]), [1.0, 0.0, 0.5]);
            assert_eq!(values(level, log_sigmoid, &[200.0, -200.0]), [0.0, -200.0]);
        }
    }
}
