//! Values as text: Python's `str` and `repr`, and HTML escapes.
use super::fault::{FaultKind, R, fault, unsupported};
use super::number::{float_text, int_text};
use super::run::Rendering;
use super::unicode::is_printable;
use super::values::{Dict, Value, View};

/// Python's `str(value)`.
pub(super) fn text(run: &Rendering, value: &Value) -> R<String> {
    if let Some(text) = value.as_str() {
        run.charge(text.len())?;
        return Ok(text.to_string());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    repr(run, value)
}

/// Python's `repr(value)`.
pub(super) fn repr(run: &Rendering, value: &Value) -> R<String> {
    let mut out = String::new();
    write(run, value, &mut out, 0)?;
    run.charge(out.len())?;
    Ok(out)
}

fn write(run: &Rendering, value: &Value, out: &mut String, depth: usize) -> R<()> {
    run.step()?;
    run.charge(8)?;
    if depth > super::values::MAX_DEPTH {
        return Err(fault(FaultKind::Limit, "a value is nested too deeply to be printed"));
    }
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(n) => out.push_str(&int_text(n)?),
        Value::Float(x) => out.push_str(&float_text(*x)),
        Value::Str(text) => quote(text, out),
        Value::Markup(text) => {
            out.push_str("Markup(");
            quote(text, out);
            out.push(')');
        }
        Value::Bytes(bytes) => quote_bytes(bytes, out),
        Value::List(l) => between(run, ("[", "]"), &l.items, out, depth)?,
        Value::Tuple(l) | Value::Group(l) => {
            let end = if l.items.len() == 1 { ",)" } else { ")" };
            between(run, ("(", end), &l.items, out, depth)?;
        }
        Value::Dict(dict) => write_dict(run, dict, out, depth)?,
        Value::View(view, _) => {
            out.push_str(match view {
                View::Keys => "dict_keys(",
                View::Values => "dict_values(",
                View::Items => "dict_items(",
            });
            between(run, ("[", "])"), &value.items()?, out, depth)?;
        }
        Value::Range(r) => {
            out.push_str(&format!("range({}, {}", r.start, r.stop));
            if r.step != 1.into() {
                out.push_str(&format!(", {}", r.step));
            }
            out.push(')');
        }
        Value::Namespace(ns) => {
            out.push_str("<Namespace ");
            write_dict(run, &ns.fields.borrow(), out, depth)?;
            out.push('>');
        }
        Value::Macro(m) => match &m.node.name {
            Some(name) => {
                out.push_str("<Macro ");
                quote(name, out);
                out.push('>');
            }
            None => out.push_str("<Macro 'caller'>"),
        },
        Value::Loop(l) => out.push_str(&format!("<LoopContext {}/{}>", l.index0.get() + 1, l.items.len())),
        _ => {
            return Err(unsupported(format!("printing a {}, which shows where it lies in memory,", value.type_name())));
        }
    }
    Ok(())
}

fn between(run: &Rendering, brackets: (&str, &str), items: &[Value], out: &mut String, depth: usize) -> R<()> {
    out.push_str(brackets.0);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(run, item, out, depth + 1)?;
    }
    out.push_str(brackets.1);
    Ok(())
}

fn write_dict(run: &Rendering, dict: &Dict, out: &mut String, depth: usize) -> R<()> {
    out.push('{');
    for (i, (key, value)) in dict.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(run, key, out, depth + 1)?;
        out.push_str(": ");
        write(run, value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// A string as Python's `repr` quotes it.
pub(super) fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&code(c)),
        }
    }
    out.push(quote);
}

/// A character by its number, as short as Python writes it.
fn code(c: char) -> String {
    match c as u32 {
        n @ ..0x100 => format!("\\x{n:02x}"),
        n @ ..0x10000 => format!("\\u{n:04x}"),
        n => format!("\\U{n:08x}"),
    }
}

/// Python's `ascii(value)` from its `repr`.
pub(super) fn ascii(repr: &str) -> String {
    repr.chars().map(|c| if c.is_ascii() { c.to_string() } else { code(c) }).collect()
}

fn quote_bytes(bytes: &[u8], out: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(quote);
    for b in bytes {
        match b {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if char::from(*b) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*b)),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push(quote);
}

/// MarkupSafe's `escape`: the five signs of HTML; what is marked up already stays.
pub(super) fn escape(run: &Rendering, value: &Value) -> R<String> {
    match value {
        Value::Markup(text) => Ok(text.to_string()),
        value => {
            let text = text(run, value)?;
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '\'' => out.push_str("&#39;"),
                    '"' => out.push_str("&#34;"),
                    c => out.push(c),
                }
            }
            run.charge(out.len())?;
            Ok(out)
        }
    }
}
