//! `%` formatting of strings: `"%05d|%s" % (42, x)` and the filter `format`.
use super::fault::{FaultKind, R, fault, type_fault, unsupported, value_fault};
use super::format_spec::{MAX_WIDTH, float_digits};
use super::number::{float_to_int, int_to_float};
use super::run::Rendering;
use super::show::{ascii, escape, repr, text};
use super::values::{Dict, Value};

/// The values that a format takes from: one by one, or by name.
enum PrintfArguments<'a> {
    Each {
        items: Vec<Value>,
        next: usize,
    },
    Named(&'a Dict, &'a Value),
    /// A list, range … : Python counts it as a mapping and lets it go unused.
    Unused(&'a Value, bool),
}

/// Python's `format % values`.
pub(super) fn modulo(run: &Rendering, format: &Value, values: &Value) -> R<Value> {
    let escaped = matches!(format, Value::Markup(_));
    let shown = printf(run, format.as_str().unwrap_or(""), values, escaped)?;
    Ok(if escaped { Value::Markup(shown.into()) } else { Value::str(shown) })
}

fn printf(run: &Rendering, format: &str, values: &Value, escaped: bool) -> R<String> {
    let mut source = match values {
        Value::Tuple(items) | Value::Group(items) => PrintfArguments::Each { items: items.items.clone(), next: 0 },
        Value::Dict(dict) => PrintfArguments::Named(dict, values),
        Value::List(_) | Value::Range(_) | Value::Bytes(_) | Value::Undefined(_) => {
            PrintfArguments::Unused(values, false)
        }
        other => PrintfArguments::Each { items: vec![other.clone()], next: 0 },
    };
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = field(run, &rest[at + 1..], &mut source, escaped, &mut out)?;
        run.charge(out.len() / 16)?;
    }
    out.push_str(rest);
    run.charge(out.len())?;
    match source {
        PrintfArguments::Each { items, next } if next < items.len() => {
            Err(type_fault("not all arguments converted during string formatting"))
        }
        _ => Ok(out),
    }
}

impl PrintfArguments<'_> {
    fn next(&mut self) -> R<Value> {
        let missing = || type_fault("not enough arguments for format string");
        match self {
            PrintfArguments::Each { items, next } => {
                *next += 1;
                items.get(*next - 1).cloned().ok_or_else(missing)
            }
            PrintfArguments::Named(_, whole) => Ok((*whole).clone()),
            PrintfArguments::Unused(_, true) => Err(missing()),
            PrintfArguments::Unused(value, used) => {
                *used = true;
                Ok((*value).clone())
            }
        }
    }
}

/// Formats the field behind a `%`; what follows it.
fn field<'a>(
    run: &Rendering,
    field: &'a str,
    source: &mut PrintfArguments,
    escaped: bool,
    out: &mut String,
) -> R<&'a str> {
    let mut rest = field;
    let mut named = None;
    if let Some(tail) = rest.strip_prefix('(') {
        let mut depth = 1;
        let end = tail.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let end = end.ok_or_else(|| value_fault("incomplete format key"))?;
        let PrintfArguments::Named(dict, _) = source else { return Err(type_fault("format requires a mapping")) };
        let key = Value::str(&tail[..end]);
        let found = dict.get(&key)?.cloned();
        named = Some(found.ok_or_else(|| fault(FaultKind::Runtime, format!("KeyError: '{}'", &tail[..end])))?);
        rest = &tail[end + 1..];
    }
    let flags: String = rest.chars().take_while(|c| matches!(c, '-' | '+' | ' ' | '#' | '0')).collect();
    rest = &rest[flags.len()..];
    let number = |rest: &mut &'a str, source: &mut PrintfArguments| -> R<Option<i64>> {
        if let Some(tail) = rest.strip_prefix('*') {
            *rest = tail;
            let n = source.next()?;
            let n = n.as_int().ok_or_else(|| type_fault("* wants int"))?;
            return i64::try_from(&n).map(Some).map_err(|_| fault(FaultKind::Arithmetic, "width too big"));
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (shown, tail) = rest.split_at(digits);
        *rest = tail;
        if digits == 0 {
            return Ok(None);
        }
        shown.parse().map(Some).map_err(|_| fault(FaultKind::Limit, "a format width is too large"))
    };
    let width = number(&mut rest, source)?.unwrap_or(0);
    let precision = match rest.strip_prefix('.') {
        Some(tail) => {
            rest = tail;
            Some(number(&mut rest, source)?.unwrap_or(0).max(0))
        }
        None => None,
    };
    if width.unsigned_abs() > MAX_WIDTH as u64 || precision.is_some_and(|p| p > MAX_WIDTH as i64) {
        return Err(fault(FaultKind::Limit, format!("a format width may be at most {MAX_WIDTH}")));
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let kind = rest.chars().next().ok_or_else(|| value_fault("incomplete format"))?;
    rest = &rest[kind.len_utf8()..];
    if kind == '%' {
        out.push('%');
        return Ok(rest);
    }
    let value = match named {
        Some(value) => value,
        None => source.next()?,
    };
    let precision = precision.map(|p| p as usize);
    let shown = converted(run, kind, &value, precision, escaped, flags.contains('#'))?;
    let left = flags.contains('-') || width < 0;
    let (sign, body) = match shown {
        Converted::Text(text) => ("", text),
        Converted::Number(negative, digits) => {
            let sign = match (negative, flags.contains('+'), flags.contains(' ')) {
                (true, ..) => "-",
                (_, true, _) => "+",
                (_, _, true) => " ",
                _ => "",
            };
            if flags.contains('0') && !left {
                let prefix = ["0x", "0X", "0o"].iter().find(|p| digits.starts_with(**p)).map_or(0, |p| p.len());
                let missing = (width.unsigned_abs() as usize).saturating_sub(sign.len() + digits.len());
                out.push_str(&format!("{sign}{}{}{}", &digits[..prefix], "0".repeat(missing), &digits[prefix..]));
                return Ok(rest);
            }
            (sign, digits)
        }
    };
    let missing = (width.unsigned_abs() as usize).saturating_sub(sign.len() + body.chars().count());
    let blanks = " ".repeat(missing);
    out.push_str(&if left { format!("{sign}{body}{blanks}") } else { format!("{blanks}{sign}{body}") });
    Ok(rest)
}

enum Converted {
    Text(String),
    /// Whether it is negative, and the digits without a sign.
    Number(bool, String),
}

fn converted(
    run: &Rendering,
    kind: char,
    value: &Value,
    precision: Option<usize>,
    escaped: bool,
    alternate: bool,
) -> R<Converted> {
    let cut = |text: String| match precision {
        Some(n) => text.chars().take(n).collect(),
        None => text,
    };
    let safe = |text: String| if escaped { escape(run, &Value::str(text)) } else { Ok(text) };
    let wanted = |what: &str| type_fault(format!("%{kind} format: {what} is required, not {}", value.type_name()));
    if let (Value::Chance(what), _) = (value, ()) {
        return Err(unsupported(*what));
    }
    Ok(match kind {
        's' if escaped => Converted::Text(cut(escape(run, value)?)),
        's' => Converted::Text(cut(text(run, value)?)),
        'r' => Converted::Text(cut(safe(repr(run, value)?)?)),
        'a' => Converted::Text(cut(safe(ascii(&repr(run, value)?))?)),
        'c' => Converted::Text(match value.as_str() {
            Some(s) if s.chars().count() == 1 => s.to_string(),
            _ => {
                let n = value.as_int().ok_or_else(|| type_fault("%c requires int or char"))?;
                let c = u32::try_from(&n).ok().and_then(char::from_u32);
                c.ok_or_else(|| fault(FaultKind::Arithmetic, "%c arg not in range(0x110000)"))?.to_string()
            }
        }),
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let n = match value {
                Value::Float(x) if matches!(kind, 'd' | 'i' | 'u') => float_to_int(*x)?,
                value => value.as_int().ok_or_else(|| {
                    wanted(if matches!(kind, 'd' | 'i' | 'u') { "a real number" } else { "an integer" })
                })?,
            };
            let (radix, prefix) = match kind {
                'x' => (16, "0x"),
                'X' => (16, "0X"),
                'o' => (8, "0o"),
                _ => (10, ""),
            };
            let mut digits = n.magnitude().to_str_radix(radix);
            if kind == 'X' {
                digits = digits.to_uppercase();
            }
            if let Some(n) = precision {
                digits = "0".repeat(n.saturating_sub(digits.len())) + &digits;
            }
            let prefix = if alternate { prefix } else { "" };
            Converted::Number(n.sign() == num_bigint::Sign::Minus, format!("{prefix}{digits}"))
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let x = match value {
                Value::Float(x) => *x,
                value => match value.as_int() {
                    Some(n) => int_to_float(&n)?,
                    None if value.is_undefined() => {
                        return Err(fault(FaultKind::Undefined, "an undefined value is no number"));
                    }
                    None => return Err(type_fault(format!("must be real number, not {}", value.type_name()))),
                },
            };
            let negative = x.is_sign_negative() && !x.is_nan();
            Converted::Number(negative, float_digits(x.abs(), kind, Some(precision.unwrap_or(6)), alternate)?)
        }
        other => {
            return Err(value_fault(format!("unsupported format character '{other}' (0x{:x})", other as u32)));
        }
    })
}
