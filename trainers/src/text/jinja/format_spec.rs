//! Python's format specifications (`{:>8.2f}`) for numbers and strings; `printf` uses the digits too.
use num_bigint::{BigInt, Sign};

use super::fault::{Fault, FaultKind, R, fault, unsupported, value_fault};
use super::number::{float_text, int_to_float};
use super::run::Rendering;
use super::show::text;
use super::values::Value;

/// Widths and precisions beyond this are refused.
pub(super) const MAX_WIDTH: usize = 1 << 20;

#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    no_minus_zero: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn parse(text: &str, type_name: &str) -> R<Spec> {
    let chars: Vec<char> = text.chars().collect();
    let mut spec = Spec::default();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| matches!(c, '<' | '>' | '=' | '^'));
    if is_align(chars.get(1)) {
        (spec.fill, spec.align, at) = (Some(chars[0]), Some(chars[1]), 2);
    } else if is_align(chars.first()) {
        (spec.align, at) = (Some(chars[0]), 1);
    }
    let mut take = |wanted: &[char]| {
        let found = chars.get(at).copied().filter(|c| wanted.contains(c));
        at += usize::from(found.is_some());
        found
    };
    spec.sign = take(&['+', '-', ' ']);
    spec.no_minus_zero = take(&['z']).is_some();
    spec.alternate = take(&['#']).is_some();
    spec.zero = take(&['0']).is_some();
    let number = |at: &mut usize| -> R<Option<usize>> {
        let digits: String = chars[*at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        *at += digits.len();
        match digits.parse::<usize>() {
            _ if digits.is_empty() => Ok(None),
            Ok(n) if n <= MAX_WIDTH => Ok(Some(n)),
            _ => Err(fault(FaultKind::Limit, format!("a format width may be at most {MAX_WIDTH}"))),
        }
    };
    spec.width = number(&mut at)?.unwrap_or(0);
    spec.grouping = chars.get(at).copied().filter(|c| matches!(c, ',' | '_'));
    at += usize::from(spec.grouping.is_some());
    if chars.get(at) == Some(&'.') {
        at += 1;
        spec.precision = number(&mut at)?;
        if spec.precision.is_none() {
            return Err(value_fault("Format specifier missing precision"));
        }
    }
    spec.kind = chars.get(at).copied();
    at += usize::from(spec.kind.is_some());
    if at < chars.len() {
        return Err(value_fault(format!("Invalid format specifier '{text}' for object of type '{type_name}'")));
    }
    Ok(spec)
}

/// Python's `format(value, spec)`.
pub(super) fn format_value(run: &Rendering, value: &Value, spec_text: &str) -> R<String> {
    if spec_text.is_empty() {
        return text(run, value);
    }
    let formatted = match value {
        Value::Str(s) | Value::Markup(s) => string(s, parse(spec_text, "str")?)?,
        Value::Float(x) => float(*x, &parse(spec_text, "float")?)?,
        Value::Int(_) | Value::Bool(_) => {
            whole(&value.as_int().unwrap_or_default(), &parse(spec_text, value.type_name())?)?
        }
        Value::Chance(what) => return Err(unsupported(*what)),
        _ => {
            return Err(super::fault::type_fault(format!(
                "unsupported format string passed to {}.__format__",
                value.type_name()
            )));
        }
    };
    run.charge(formatted.len())?;
    Ok(formatted)
}

fn unknown(kind: char, type_name: &str) -> Fault {
    value_fault(format!("Unknown format code '{kind}' for object of type '{type_name}'"))
}

fn string(text: &str, spec: Spec) -> R<String> {
    if let Some(kind) = spec.kind.filter(|k| *k != 's') {
        return Err(unknown(kind, "str"));
    }
    let forbidden = [
        (spec.sign.is_some(), "Sign not allowed in string format specifier"),
        (
            spec.no_minus_zero,
            "Negative zero coercion (z) not allowed in format specifier with integer presentation type",
        ),
        (spec.alternate, "Alternate form (#) not allowed in string format specifier"),
        (spec.align == Some('='), "'=' alignment not allowed in string format specifier"),
        (spec.grouping.is_some(), "Cannot specify ',' or '_' with 's'."),
    ];
    if let Some((_, message)) = forbidden.iter().find(|(is, _)| *is) {
        return Err(value_fault(*message));
    }
    let shown: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    Ok(pad(&shown, spec.width, spec.align.unwrap_or('<'), fill))
}

fn pad(text: &str, width: usize, align: char, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let left = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    let fills = |n: usize| fill.to_string().repeat(n);
    fills(left) + text + &fills(missing - left)
}

/// Puts sign, prefix and digits together, grouped and padded.
fn assemble(negative: bool, prefix: &str, digits: &str, tail: &str, spec: &Spec, group: usize) -> String {
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (_, Some('+')) => "+",
        (_, Some(' ')) => " ",
        _ => "",
    };
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    let align = spec.align.unwrap_or(if spec.zero { '=' } else { '>' });
    let mut digits = digits.to_string();
    if let Some(separator) = spec.grouping {
        // Zeros that fill up to the width are grouped with the digits.
        let room = if fill == '0' && align == '=' {
            spec.width.saturating_sub(sign.len() + prefix.len() + tail.len())
        } else {
            0
        };
        digits = grouped(&digits, separator, group, room);
    }
    let body = format!("{digits}{tail}");
    if align == '=' {
        let missing = spec.width.saturating_sub(sign.len() + prefix.len() + body.chars().count());
        return format!("{sign}{prefix}{}{body}", fill.to_string().repeat(missing));
    }
    pad(&format!("{sign}{prefix}{body}"), spec.width, align, fill)
}

fn grouped(digits: &str, separator: char, group: usize, room: usize) -> String {
    let mut reversed = String::new();
    let mut source = digits.chars().rev();
    let mut n = 0;
    loop {
        let next = source.next();
        if next.is_none() && reversed.len() >= room {
            break;
        }
        if n > 0 && n % group == 0 {
            reversed.push(separator);
        }
        reversed.push(next.unwrap_or('0'));
        n += 1;
    }
    reversed.chars().rev().collect()
}

fn whole(n: &BigInt, spec: &Spec) -> R<String> {
    let kind = spec.kind.unwrap_or('d');
    if matches!(kind, 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') {
        return float(int_to_float(n)?, spec);
    }
    if spec.precision.is_some() {
        return Err(value_fault("Precision not allowed in integer format specifier"));
    }
    if spec.no_minus_zero {
        return Err(value_fault(
            "Negative zero coercion (z) not allowed in format specifier with integer presentation type",
        ));
    }
    if kind == 'c' {
        let c = u32::try_from(n).ok().and_then(char::from_u32);
        let c = c.ok_or_else(|| fault(FaultKind::Arithmetic, "%c arg not in range(0x110000)"))?;
        if spec.sign.is_some() || spec.grouping.is_some() || spec.alternate {
            return Err(value_fault("Sign or grouping not allowed with integer format specifier 'c'"));
        }
        let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
        return Ok(pad(&c.to_string(), spec.width, spec.align.unwrap_or('<'), fill));
    }
    let (radix, prefix, group) = match kind {
        'd' | 'n' => (10, "", 3),
        'b' => (2, "0b", 4),
        'o' => (8, "0o", 4),
        'x' => (16, "0x", 4),
        'X' => (16, "0X", 4),
        _ => return Err(unknown(kind, "int")),
    };
    if spec.grouping == Some(',') && kind != 'd' || spec.grouping.is_some() && kind == 'n' {
        return Err(value_fault(format!("Cannot specify ',' with '{kind}'.")));
    }
    let mut digits = n.magnitude().to_str_radix(radix);
    if kind == 'X' {
        digits = digits.to_uppercase();
    }
    let prefix = if spec.alternate { prefix } else { "" };
    Ok(assemble(n.sign() == Sign::Minus, prefix, &digits, "", spec, group))
}

fn float(x: f64, spec: &Spec) -> R<String> {
    let kind = spec.kind.unwrap_or(' ');
    if spec.grouping.is_some() && kind == 'n' {
        return Err(value_fault("Cannot specify ',' with 'n'."));
    }
    let (scaled, tail) = if kind == '%' { (x * 100.0, "%") } else { (x, "") };
    let digits = float_digits(scaled.abs(), kind, spec.precision, spec.alternate)?;
    let zero = !digits.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(&b));
    let negative = x.is_sign_negative() && !x.is_nan() && !(spec.no_minus_zero && zero && x.is_finite());
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if whole == 0 {
        // inf and nan are not grouped.
        let plain = Spec {
            grouping: None,
            fill: spec.fill,
            align: spec.align,
            sign: spec.sign,
            zero: spec.zero,
            width: spec.width,
            ..Spec::default()
        };
        return Ok(assemble(negative, "", &digits, tail, &plain, 3));
    }
    Ok(assemble(negative, "", &digits[..whole], &format!("{}{tail}", &digits[whole..]), spec, 3))
}

/// A float that is not negative, by a presentation type (a blank: like `repr`, or `g` with a precision).
pub(super) fn float_digits(x: f64, kind: char, precision: Option<usize>, alternate: bool) -> R<String> {
    if !x.is_finite() {
        let word = if x.is_nan() { "nan" } else { "inf" };
        return Ok(if kind.is_ascii_uppercase() { word.to_uppercase() } else { word.into() });
    }
    let digits = precision.unwrap_or(6);
    Ok(match kind {
        'f' | 'F' | '%' => {
            let shown = format!("{x:.digits$}");
            if alternate && digits == 0 { shown + "." } else { shown }
        }
        'e' | 'E' => {
            let shown = exponential(&format!("{x:.digits$e}"), alternate && digits == 0);
            if kind == 'E' { shown.to_uppercase() } else { shown }
        }
        'g' | 'G' | 'n' => {
            let shown = general(x, digits.max(1), alternate, 0);
            if kind == 'G' { shown.to_uppercase() } else { shown }
        }
        ' ' => match precision {
            None => {
                let shown = float_text(x);
                match shown.find('e') {
                    Some(at) if alternate && !shown[..at].contains('.') => format!("{}.{}", &shown[..at], &shown[at..]),
                    _ => shown,
                }
            }
            // As `g`, but with a digit behind the point, and exponents one earlier.
            Some(digits) => general(x, digits.max(1), alternate, 1),
        },
        other => return Err(unknown(other, "float")),
    })
}

/// Rust's `1.5e7` as C's `1.5e+07`.
fn exponential(shown: &str, point: bool) -> String {
    let (digits, exponent) = shown.split_once('e').unwrap_or((shown, "0"));
    let e: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}{}e{}{:02}", if point { "." } else { "" }, if e < 0 { '-' } else { '+' }, e.abs())
}

/// `%g`: `precision` significant digits, without trailing zeros, with an exponent where it is small or large.
fn general(x: f64, precision: usize, alternate: bool, point_digits: usize) -> String {
    let scientific = format!("{x:.*e}", precision - 1);
    let e: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let limit = precision as i32 - point_digits as i32 * i32::from(precision > 0);
    let trim = |digits: &str| {
        if alternate || !digits.contains('.') {
            return digits.to_string();
        }
        digits.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    if e < -4 || e >= limit.max(if point_digits > 0 { 0 } else { i32::MIN }) {
        let (digits, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
        return exponential(&format!("{}e{e}", trim(digits)), alternate && precision == 1);
    }
    let decimals = (precision as i32 - 1 - e).max(0) as usize;
    let mut shown = trim(&format!("{x:.decimals$}"));
    if (point_digits > 0 || alternate) && !shown.contains('.') {
        shown.push('.');
        if point_digits > 0 {
            shown.push('0');
        }
    }
    shown
}
