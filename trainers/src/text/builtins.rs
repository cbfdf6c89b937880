//! What chat templates may call, with bounds on what it may use up.
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, Output, State, Value};

use super::python::{charge, fail, size, to_text};
use super::strftime::strftime;
use super::tojson::tojson;

/// Instructions of one rendering.
pub const FUEL: u64 = 4_000_000;
const MAX_RANGE: usize = 100_000;

/// Registers the filters, functions and the formatter. `now` is what `strftime_now` tells, in seconds since 1970 UTC.
pub fn register(env: &mut Environment<'static>, now: i64) {
    env.set_fuel(Some(FUEL));
    env.set_formatter(format_value);
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", tojson);
    env.add_filter("string", |state: &mut State, value: &Value| to_text(state, value));
    env.add_filter("join", join);
    env.add_filter("replace", replace);
    env.add_filter("list", list);
    env.add_filter("indent", indent);
    env.add_filter("format", printf);
    env.add_filter("lapidary_size", check_size);
    env.add_filter("lapidary_times", check_times);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.remove_filter("pprint");
    env.add_test("iterable", is_iterable);
    env.add_test("sequence", is_iterable);
    env.add_function("raise_exception", |text: String| -> Result<Value, Error> { Err(fail(text)) });
    env.add_function("strftime_now", move |state: &mut State, format: &str| -> Result<String, Error> {
        charge(state, format.len() * 16)?;
        strftime(format, now).map_err(fail)
    });
    env.add_function("range", range);
}

/// The text of the operand goes against the budget: whoever copies a value on and on runs out.
fn check_size(state: &mut State, value: Value) -> Result<Value, Error> {
    let bytes = size(&value, &mut 100_000, 0)?;
    charge(state, bytes)?;
    Ok(value)
}

/// Left operand of `*`: numbers pass, a string costs a lump (its product is at most 100 MB), lists are not repeated.
fn check_times(state: &mut State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => charge(state, if value.len().unwrap_or(0) <= 8 { 1 << 20 } else { 8 << 20 })?,
        ValueKind::Seq | ValueKind::Iterable => return Err(fail("chat templates may not repeat lists with *")),
        _ => {}
    }
    Ok(value)
}

/// `{{ value }}`: as Python prints it; an undefined value prints nothing.
fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Ok(());
    }
    if let Some(text) = value.as_str() {
        charge(state, text.len())?;
        return out.write_str(text).map_err(Error::from);
    }
    let text = to_text(state, value)?;
    out.write_str(&text).map_err(Error::from)
}

fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<String>,
    attribute: Option<String>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let joiner = joiner.or(kwargs.get::<Option<String>>("d")?).unwrap_or_default();
    let attribute = attribute.or(kwargs.get::<Option<String>>("attribute")?);
    let mut out = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            charge(state, joiner.len())?;
            out.push_str(&joiner);
        }
        let item = match &attribute {
            Some(path) => path.split('.').try_fold(item, |v, name| v.get_attr(name))?,
            None => item,
        };
        if !item.is_undefined() {
            out.push_str(&to_text(state, &item)?);
        }
        charge(state, 1)?;
    }
    Ok(out)
}

fn replace(state: &mut State, text: String, from: String, to: String, count: Option<i64>) -> Result<String, Error> {
    replaced(state, &text, &from, &to, count.unwrap_or(-1))
}

fn replaced(state: &mut State, text: &str, from: &str, to: &str, count: i64) -> Result<String, Error> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let hits = text.matches(from).take(limit).count();
    charge(state, text.len() + hits.saturating_mul(to.len()))?;
    Ok(text.replacen(from, to, limit))
}

/// Python's idea of what can be iterated: strings and undefined values too, None not.
fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain)
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| fail(format!("a value of kind {} has no length", value.kind())))
}

fn list(state: &mut State, value: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        charge(state, 32)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

fn indent(
    state: &mut State,
    text: String,
    width: Option<Value>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(v) => Some(v),
        None => kwargs.get::<Option<Value>>("width")?,
    };
    let pad = match width {
        None => "    ".to_string(),
        Some(v) => match (v.as_str(), v.as_usize()) {
            (Some(s), _) if s.len() <= 1000 => s.to_string(),
            (_, Some(n)) if n <= 1000 => " ".repeat(n),
            _ => return Err(fail("indent: width must be a number up to 1000 or a short string")),
        },
    };
    let first = first.or(kwargs.get::<Option<bool>>("first")?).unwrap_or(false);
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    charge(state, text.len() + (text.matches('\n').count() + 1).saturating_mul(pad.len()))?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if (i > 0 || first) && (blank || i == 0 || !line.is_empty()) {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Field widths in a format string are paid for before the text is made.
fn charge_format(state: &mut State, format: &str, args: &[Value]) -> Result<(), Error> {
    let mut total = 0usize;
    for arg in args {
        total = total.saturating_add(size(arg, &mut 100_000, 0)?);
    }
    for digits in format.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty()) {
        let width: usize = if digits.len() > 6 { usize::MAX / 4 } else { digits.parse().unwrap_or(0) };
        total = total.saturating_add(width);
    }
    // Each field may name any argument again.
    let fields = format.matches(['%', '{']).count();
    charge(state, total.saturating_mul(fields.max(1)).saturating_add(format.len()))
}

fn printf(state: &mut State, format: String, args: Rest<Value>) -> Result<String, Error> {
    charge_format(state, &format, &args)?;
    minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, &format, &args)
}

/// Python's methods on strings, lists and mappings; those that can make long strings are paid for first.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str();
    match (text, name, args) {
        (Some(text), "join", [items]) => {
            join(state, items, Some(text.to_string()), None, Kwargs::from_iter(Vec::<(String, Value)>::new()))
                .map(Value::from)
        }
        (Some(text), "replace", [from, to, rest @ ..]) => {
            let (Some(from), Some(to)) = (from.as_str(), to.as_str()) else {
                return Err(fail("replace takes strings"));
            };
            let count = rest.first().and_then(Value::as_i64).unwrap_or(-1);
            replaced(state, text, from, to, count).map(Value::from)
        }
        (Some(text), "removeprefix", [p]) => {
            Ok(Value::from(p.as_str().and_then(|p| text.strip_prefix(p)).unwrap_or(text)))
        }
        (Some(text), "removesuffix", [p]) => {
            Ok(Value::from(p.as_str().and_then(|p| text.strip_suffix(p)).unwrap_or(text)))
        }
        (Some(text), "partition", [p]) => Ok(partition(text, p.as_str().unwrap_or(""), false)),
        (Some(text), "rpartition", [p]) => Ok(partition(text, p.as_str().unwrap_or(""), true)),
        (Some(text), "rsplit", [p, rest @ ..]) => {
            let separator = p.as_str().filter(|s| !s.is_empty()).ok_or_else(|| fail("rsplit needs a separator"))?;
            let limit = rest.first().and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            let mut parts: Vec<&str> = match limit {
                Some(n) => text.rsplitn(n + 1, separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            Ok(Value::from_iter(parts))
        }
        (Some(text), "format", _) => {
            charge_format(state, text, args)?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
        }
        (Some(text), ..) => {
            charge(state, text.len())?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn partition(text: &str, separator: &str, from_right: bool) -> Value {
    let at = if from_right { text.rfind(separator) } else { text.find(separator) };
    match at {
        Some(i) if !separator.is_empty() => Value::from_iter([&text[..i], separator, &text[i + separator.len()..]]),
        _ if from_right => Value::from_iter(["", "", text]),
        _ => Value::from_iter([text, "", ""]),
    }
}

fn range(state: &mut State, start: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = stop.map_or((0, start), |stop| (start, stop));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(fail("range: the step is 0"));
    }
    let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
    let n = usize::try_from((distance.max(0) as u64).div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX);
    if n > MAX_RANGE {
        return Err(fail(format!("range: {n} numbers are more than the {MAX_RANGE} a template may have")));
    }
    charge(state, n * 8)?;
    Ok(Value::from_iter((0..n as i64).map(|i| start + i * step)))
}
