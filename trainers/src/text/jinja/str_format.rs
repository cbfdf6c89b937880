//! `"{} {name!r:>8}".format(…)` as the sandbox runs it.
use super::attributes::{attribute, item};
use super::fault::{Fault, FaultKind, R, fault, value_fault};
use super::format_spec::format_value;
use super::run::Rendering;
use super::show::{ascii, escape, repr, text};
use super::values::{Dict, Value};

struct Formatter<'a> {
    run: &'a Rendering,
    positional: &'a [Value],
    named: &'a Dict,
    escaped: bool,
    /// The number of the next `{}`; nothing once fields are numbered by hand.
    automatic: Option<usize>,
    started: bool,
}

/// Formats a string's fields with the arguments of a call.
pub(super) fn format(run: &Rendering, format: &Value, positional: &[Value], named: &Dict) -> R<Value> {
    let escaped = matches!(format, Value::Markup(_));
    let mut formatter = Formatter { run, positional, named, escaped, automatic: Some(0), started: false };
    let shown = formatter.expand(format.as_str().unwrap_or(""), 2)?;
    run.charge(shown.len())?;
    Ok(if escaped { Value::Markup(shown.into()) } else { Value::str(shown) })
}

fn wrong(message: &str) -> Fault {
    value_fault(message)
}

impl Formatter<'_> {
    fn expand(&mut self, format: &str, depth: usize) -> R<String> {
        if depth == 0 {
            return Err(wrong("Max string recursion exceeded"));
        }
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let bracket = &rest[at..=at];
            let tail = &rest[at + 1..];
            if let Some(after) = tail.strip_prefix(bracket) {
                out.push_str(bracket);
                rest = after;
                continue;
            }
            if bracket == "}" {
                return Err(wrong("Single '}' encountered in format string"));
            }
            let end = field_end(tail).ok_or_else(|| {
                wrong(if tail.is_empty() {
                    "Single '{' encountered in format string"
                } else {
                    "expected '}' before end of string"
                })
            })?;
            let shown = self.field(&tail[..end], depth)?;
            out.push_str(&shown);
            self.run.charge(shown.len() + 8)?;
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn field(&mut self, field: &str, depth: usize) -> R<String> {
        // The name may hold brackets with anything in them; `!` and `:` end it outside of them.
        let mut brackets = 0;
        let name_end = field.find(|c| {
            brackets += i32::from(c == '[') - i32::from(c == ']');
            brackets <= 0 && matches!(c, '!' | ':')
        });
        let (name, tail) = field.split_at(name_end.unwrap_or(field.len()));
        if name.contains('{') {
            return Err(wrong("unexpected '{' in field name"));
        }
        let (conversion, spec) = match tail.strip_prefix('!') {
            Some(tail) => {
                let mut chars = tail.chars();
                let conversion =
                    chars.next().ok_or_else(|| wrong("end of string while looking for conversion specifier"))?;
                let rest = chars.as_str();
                match rest.strip_prefix(':') {
                    Some(spec) => (Some(conversion), spec),
                    None if rest.is_empty() => (Some(conversion), ""),
                    None => return Err(wrong("expected ':' after conversion specifier")),
                }
            }
            None => (None, tail.strip_prefix(':').unwrap_or("")),
        };
        let value = self.value(name)?;
        let value = match conversion {
            None => value,
            Some('s') => Value::str(text(self.run, &value)?),
            Some('r') => Value::str(repr(self.run, &value)?),
            Some('a') => Value::str(ascii(&repr(self.run, &value)?)),
            Some(c) => return Err(wrong(&format!("Unknown conversion specifier {c}"))),
        };
        let spec =
            self.expand(spec, depth - 1).or_else(|e| if spec.is_empty() { Ok(String::new()) } else { Err(e) })?;
        if self.escaped {
            if let Value::Markup(text) = &value {
                if !spec.is_empty() {
                    return Err(wrong("Unsupported format specification for Markup."));
                }
                return Ok(text.to_string());
            }
            return escape(self.run, &Value::str(format_value(self.run, &value, &spec)?));
        }
        format_value(self.run, &value, &spec)
    }

    fn value(&mut self, name: &str) -> R<Value> {
        let first_end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(first_end);
        let is_number = !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit());
        let mut value = if first.is_empty() || is_number {
            let index = if first.is_empty() {
                let Some(n) = self.automatic else {
                    return Err(wrong("cannot switch from manual field specification to automatic field numbering"));
                };
                self.started = true;
                self.automatic = Some(n + 1);
                n
            } else {
                if self.started {
                    return Err(wrong("cannot switch from manual field specification to automatic field numbering"));
                }
                self.automatic = None;
                first.parse().unwrap_or(usize::MAX)
            };
            let missing = || {
                fault(FaultKind::Runtime, format!("Replacement index {index} out of range for positional args tuple"))
            };
            self.positional.get(index).cloned().ok_or_else(missing)?
        } else {
            let missing = || fault(FaultKind::Runtime, format!("KeyError: '{first}'"));
            self.named.get_str(first).cloned().ok_or_else(missing)?
        };
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('.') {
                let end = tail.find(['.', '[']).unwrap_or(tail.len());
                if end == 0 {
                    return Err(wrong("Empty attribute in format string"));
                }
                value = attribute(self.run, &value, &tail[..end])?;
                rest = &tail[end..];
            } else if let Some(tail) = rest.strip_prefix('[') {
                let end = tail.find(']').ok_or_else(|| wrong("Missing ']' in format string"))?;
                let key = &tail[..end];
                if key.is_empty() {
                    return Err(wrong("Empty attribute in format string"));
                }
                let key = match key.parse::<u64>() {
                    Ok(n) if key.bytes().all(|b| b.is_ascii_digit()) => Value::int(n),
                    _ => Value::str(key),
                };
                value = item(self.run, &value, &key)?;
                rest = &tail[end + 1..];
            } else {
                return Err(wrong("Only '.' or '[' may follow ']' in format field specifier"));
            }
        }
        Ok(value)
    }
}

/// Where the bracket that opened a field closes.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut in_index = false;
    text.find(|c| {
        match c {
            '[' if depth == 1 => in_index = true,
            ']' => in_index = false,
            '{' if !in_index => depth += 1,
            '}' if !in_index => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}
