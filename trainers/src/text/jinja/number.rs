//! Python's numbers: whole ones of any size, floats, and how both are written, read and divided.
use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

use super::fault::{FaultKind, R, fault, value_fault};

/// Digits of a whole number that Python writes or reads at most.
const MAX_DIGITS: usize = 4300;
/// Bits that a power may have.
const MAX_BITS: u64 = 1 << 20;

/// A float as `repr` writes it: the shortest digits that read back, exponents below 1e-4 and from 1e16 on.
pub(super) fn float_text(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = shortest(x);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let e: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&e) {
        let n_digits = digits.bytes().filter(u8::is_ascii_digit).count() as i32;
        let decimals = (n_digits - 1 - e).max(1) as usize;
        return plain(digits, e, decimals);
    }
    format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
}

/// The shortest digits that read back, in the form 1.5e7; of several the nearest, and the even one of two that are as near.
fn shortest(x: f64) -> String {
    let found = format!("{x:e}");
    let digits = found.split('e').next().map_or(0, |d| d.bytes().filter(u8::is_ascii_digit).count());
    let nearest = format!("{x:.*e}", digits.saturating_sub(1));
    if nearest.parse() == Ok(x) { nearest } else { found }
}

/// Digits such as -1.25 with an exponent, written out with a point.
fn plain(digits: &str, exponent: i32, decimals: usize) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    let all: String = digits.chars().filter(char::is_ascii_digit).collect();
    let at = |i: i32| usize::try_from(i).ok().and_then(|i| all.as_bytes().get(i)).map_or('0', |b| char::from(*b));
    let whole: String = if exponent < 0 { "0".into() } else { (0..=exponent).map(at).collect() };
    let fraction: String = (exponent + 1..=exponent + decimals as i32).map(at).collect();
    format!("{sign}{whole}.{fraction}")
}

/// A whole number in decimal. Errors: more digits than Python writes.
pub(super) fn int_text(n: &BigInt) -> R<String> {
    let text = n.to_string();
    if text.len() > MAX_DIGITS + 1 {
        return Err(value_fault(format!("a whole number of more than {MAX_DIGITS} digits cannot be written out")));
    }
    Ok(text)
}

/// The nearest float. Errors: beyond the range of floats.
pub(super) fn int_to_float(n: &BigInt) -> R<f64> {
    let x = nearest(n);
    if x.is_infinite() {
        return Err(fault(FaultKind::Arithmetic, "int too large to convert to float"));
    }
    Ok(x)
}

fn nearest(n: &BigInt) -> f64 {
    match i64::try_from(n) {
        Ok(small) if small.unsigned_abs() < 1 << 53 => small as f64,
        _ if n.bits() > 1100 => {
            if n.sign() == Sign::Minus {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        _ => n.to_string().parse().unwrap_or(f64::NAN),
    }
}

/// A float without its fraction. Errors: NaN and infinities.
pub(super) fn float_to_int(x: f64) -> R<BigInt> {
    if x.is_nan() {
        return Err(value_fault("cannot convert float NaN to integer"));
    }
    if x.is_infinite() {
        return Err(fault(FaultKind::Arithmetic, "cannot convert float infinity to integer"));
    }
    Ok(format!("{:.0}", x.trunc()).parse().unwrap_or_default())
}

/// Exact comparison of a whole number with a float; nothing for NaN.
pub(super) fn compare_int_float(n: &BigInt, x: f64) -> Option<Ordering> {
    if x.is_nan() {
        return None;
    }
    if x.is_infinite() {
        return Some(if x > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = float_to_int(x.floor()).ok()?;
    Some(n.cmp(&floor).then(if x.floor() < x { Ordering::Less } else { Ordering::Equal }))
}

/// `int(text, base)`; nothing where Python raises ValueError.
pub(super) fn parse_int(text: &str, base: u32) -> Option<BigInt> {
    let text = text.trim_matches(super::unicode::is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixed = |prefix: &str| lower.strip_prefix(prefix).map(|d| d.strip_prefix('_').unwrap_or(d).to_string());
    let (radix, digits) = match base {
        0 | 16 if lower.starts_with("0x") => (16, prefixed("0x")?),
        0 | 8 if lower.starts_with("0o") => (8, prefixed("0o")?),
        0 | 2 if lower.starts_with("0b") => (2, prefixed("0b")?),
        0 if lower.starts_with('0') && lower.bytes().any(|b| !matches!(b, b'0' | b'_')) => return None,
        0 => (10, lower),
        _ => (base, lower),
    };
    let digits = plain_digits(&digits, radix > 10)?;
    if radix == 10 && digits.len() > MAX_DIGITS {
        return None;
    }
    let n = BigInt::parse_bytes(digits.as_bytes(), radix)?;
    Some(if negative { -n } else { n })
}

/// Digits without single underscores between them; digits of other scripts become ASCII.
fn plain_digits(text: &str, letters: bool) -> Option<String> {
    let mut out = String::new();
    let mut gap = true;
    for c in text.chars() {
        if c == '_' {
            if gap {
                return None;
            }
            gap = true;
            continue;
        }
        gap = false;
        match super::unicode::decimal_value(c) {
            Some(d) => out.push(char::from(b'0' + d)),
            None if letters && c.is_ascii_alphabetic() => out.push(c),
            None => return None,
        }
    }
    if gap { None } else { Some(out) }
}

/// `float(text)`; nothing where Python raises ValueError.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::unicode::is_space);
    let mut plain = String::new();
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '_' {
            if !before.is_ascii_digit() || !chars.peek().is_some_and(char::is_ascii_digit) {
                return None;
            }
            continue;
        }
        before = match super::unicode::decimal_value(c) {
            Some(d) => char::from(b'0' + d),
            None => c,
        };
        plain.push(before);
    }
    plain.parse().ok()
}

/// Whole quotient towards minus infinity and the remainder with the divisor's sign.
pub(super) fn int_divmod(a: &BigInt, b: &BigInt) -> R<(BigInt, BigInt)> {
    if b.sign() == Sign::NoSign {
        return Err(fault(FaultKind::Arithmetic, "integer division or modulo by zero"));
    }
    let (q, r) = (a / b, a % b);
    if r.sign() != Sign::NoSign && (r.sign() == Sign::Minus) != (b.sign() == Sign::Minus) {
        return Ok((q - 1, r + b));
    }
    Ok((q, r))
}

/// Floor division and remainder of floats, as CPython's `_float_div_mod` computes them.
pub(super) fn float_divmod(a: f64, b: f64) -> R<(f64, f64)> {
    if b == 0.0 {
        return Err(fault(FaultKind::Arithmetic, "float floor division or modulo by zero"));
    }
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder != 0.0 {
        if (b < 0.0) != (remainder < 0.0) {
            remainder += b;
            quotient -= 1.0;
        }
    } else {
        remainder = 0.0f64.copysign(b);
    }
    if quotient == 0.0 {
        return Ok((0.0f64.copysign(a / b), remainder));
    }
    let floor = quotient.floor();
    Ok((if quotient - floor > 0.5 { floor + 1.0 } else { floor }, remainder))
}

/// `a / b`: the float nearest to the quotient of two whole numbers.
pub(super) fn int_true_division(a: &BigInt, b: &BigInt) -> R<f64> {
    if b.sign() == Sign::NoSign {
        return Err(fault(FaultKind::Arithmetic, "division by zero"));
    }
    if a.bits() <= 53 && b.bits() <= 53 {
        return Ok(nearest(a) / nearest(b));
    }
    let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
    let (a, b) = (BigInt::from(a.magnitude().clone()), BigInt::from(b.magnitude().clone()));
    // 66 bits of quotient and a sticky bit below them round as the exact quotient does, unless the result is subnormal.
    let shift = 66 - (a.bits() as i64 - b.bits() as i64);
    let (scaled_a, scaled_b) = if shift >= 0 { (a << shift as usize, b) } else { (a, b << (-shift) as usize) };
    let sticky = &scaled_a % &scaled_b != BigInt::ZERO;
    let quotient = (scaled_a / scaled_b) * 2 + u8::from(sticky);
    let exponent = (-(shift + 1)).clamp(-2200, 2200) as i32;
    let x = nearest(&quotient) * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
    if x.is_infinite() {
        return Err(fault(FaultKind::Arithmetic, "integer division result too large for a float"));
    }
    Ok(if negative { -x } else { x })
}

/// `base ** exponent` of whole numbers with an exponent that is not negative.
pub(super) fn int_power(base: &BigInt, exponent: &BigInt) -> R<BigInt> {
    let too_large = || fault(FaultKind::Limit, format!("a power may have at most {MAX_BITS} bits"));
    if base.magnitude().bits() <= 1 {
        // 0, 1 and -1 to any power.
        let odd = exponent % 2 != BigInt::ZERO;
        return Ok(match exponent.sign() {
            Sign::NoSign => BigInt::from(1),
            _ if odd => base.clone(),
            _ => base * base,
        });
    }
    let n = u32::try_from(exponent).map_err(|_| too_large())?;
    if base.bits().saturating_mul(u64::from(n)) > MAX_BITS {
        return Err(too_large());
    }
    Ok(base.pow(n))
}

/// `base ** exponent` of floats.
pub(super) fn float_power(base: f64, exponent: f64) -> R<f64> {
    if base == 0.0 && exponent < 0.0 {
        return Err(fault(FaultKind::Arithmetic, "0.0 cannot be raised to a negative power"));
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(super::fault::unsupported("a complex number (a negative number to a power with a fraction)"));
    }
    let x = base.powf(exponent);
    if x.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(fault(FaultKind::Arithmetic, "the result of ** is too large"));
    }
    Ok(x)
}

/// `round(x, digits)`: the decimal nearest to the exact value, ties to even, read back as a float.
pub(super) fn round_float(x: f64, digits: i64) -> R<f64> {
    if !x.is_finite() || x == 0.0 || digits > 330 {
        return Ok(x);
    }
    if digits < -310 {
        return Ok(0.0f64.copysign(x));
    }
    if digits >= 0 {
        return Ok(format!("{x:.*}", digits as usize).parse().unwrap_or(x));
    }
    // The digits before the point, with a fraction that only says on which side of a tie the value lies.
    let scale = BigInt::from(10).pow((-digits) as u32);
    let twice = float_to_int(x.abs().trunc())? * 2 + u8::from(x.fract() != 0.0);
    let rounded = round_half_even(&twice, &(scale.clone() * 2)) * scale;
    let y = nearest(&rounded);
    if y.is_infinite() {
        return Err(fault(FaultKind::Arithmetic, "rounded value too large to represent"));
    }
    Ok(y.copysign(x))
}

/// `round(n, digits)` of a whole number.
pub(super) fn round_int(n: &BigInt, digits: i64) -> R<BigInt> {
    if digits >= 0 {
        return Ok(n.clone());
    }
    if (-digits) as u64 > n.bits() {
        return Ok(BigInt::ZERO);
    }
    let scale = BigInt::from(10).pow((-digits) as u32);
    let magnitude = BigInt::from(n.magnitude().clone());
    let rounded = round_half_even(&magnitude, &scale) * scale;
    Ok(if n.sign() == Sign::Minus { -rounded } else { rounded })
}

/// `n / unit` rounded to a whole number, ties to even; both at least 0.
fn round_half_even(n: &BigInt, unit: &BigInt) -> BigInt {
    let (q, r) = (n / unit, n % unit);
    let up = match BigInt::cmp(&(r * 2u8), unit) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => &q % 2 != BigInt::ZERO,
    };
    if up { q + 1 } else { q }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the shortest digits that read back Python takes the nearest, and the even one of two that are as near.
    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (x, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (-2.5e-5, "-2.5e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (-0.0, "-0.0"),
            (123456789.125, "123456789.125"),
            (1275031047177637.25, "1275031047177637.2"),
            (89802177733976.625, "89802177733976.62"),
            (1000000000000045.25, "1000000000000045.2"),
        ] {
            assert_eq!(float_text(x), text);
        }
    }

    #[test]
    fn whole_numbers_divide_to_the_nearest_float() {
        let n = |text: &str| text.parse::<BigInt>().expect("digits");
        let third = int_true_division(&n("123456789012345678901234567890"), &n("3")).expect("a float");
        assert_eq!(third, 4.115226300411523e28);
        assert_eq!(int_true_division(&n("-1"), &n("3")).expect("a float"), -1.0 / 3.0);
        assert!(int_true_division(&n(&"9".repeat(400)), &n("7")).is_err());
        assert_eq!(int_divmod(&n("-7"), &n("2")).expect("numbers"), (n("-4"), n("1")));
        assert_eq!(round_float(2.675, 2).expect("a float"), 2.67);
        assert_eq!(round_float(1250.0, -2).expect("a float"), 1200.0);
    }
}
