//! Values as Python prints them, within the memory budget of a rendering.
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Bytes of text that one rendering may make in all, intermediate strings included.
pub const MEMORY_BUDGET: u64 = 256 << 20;
/// How deep a value may be nested that is printed or measured.
pub(super) const MAX_DEPTH: usize = 64;

/// What is left of the memory budget of the rendering under way.
struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: MEMORY_BUDGET }
    }
}

pub(super) fn fail(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

pub(super) fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let budget = state.get_or_insert_extension_with(Budget::default);
    match budget.left.checked_sub(bytes as u64) {
        Some(left) => {
            budget.left = left;
            Ok(())
        }
        None => Err(fail(format!("the template makes more than {} MiB of text", MEMORY_BUDGET >> 20))),
    }
}

/// Bytes of the strings in a value; at most `nodes` values are looked at.
pub(super) fn size(value: &Value, nodes: &mut usize, depth: usize) -> Result<usize, Error> {
    if *nodes == 0 || depth > MAX_DEPTH {
        return Err(fail("a value of the template is too deep or has too many parts"));
    }
    *nodes -= 1;
    match value.kind() {
        ValueKind::String => Ok(value.as_str().map_or(0, str::len)),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut total = 16;
            let is_map = value.kind() == ValueKind::Map;
            for item in value.try_iter()? {
                total += if is_map {
                    size(&value.get_item(&item)?, nodes, depth + 1)?
                } else {
                    size(&item, nodes, depth + 1)?
                };
            }
            Ok(total)
        }
        _ => Ok(8),
    }
}

/// `str(value)` of Python.
pub(super) fn to_text(state: &mut State, value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match value.as_str() {
        Some(s) => text.push_str(s),
        None => repr(state, value, &mut text, 0)?,
    }
    charge(state, text.len())?;
    Ok(text)
}

/// `repr(value)` of Python, appended to `out`.
fn repr(state: &mut State, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(fail("a value to print is nested too deeply"));
    }
    charge(state, 8)?;
    match value.kind() {
        ValueKind::String => repr_string(value.as_str().unwrap_or(""), out),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(state, &item, out, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(state, &key, out, depth + 1)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Undefined => {}
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7F => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// A number as Python writes it: the shortest digits that read back, exponents below 1e-4 and from 1e16 on.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(x) = f64::try_from(value.clone()) else { return value.to_string() };
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let e: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&e) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_python_writes_them() {
        for (x, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5e-5, "-2.5e-05"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (123456789.125, "123456789.125"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(number(&Value::from(x)), text);
        }
        assert_eq!(number(&Value::from(7)), "7");
    }
}
