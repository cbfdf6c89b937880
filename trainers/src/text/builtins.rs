//! What chat templates may call, with Python's printing and JSON, and with bounds on what they may use up.
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

/// Bytes of text that one rendering may make in all, intermediate strings included.
pub const MEMORY_BUDGET: u64 = 256 << 20;
/// Instructions of one rendering.
pub const FUEL: u64 = 4_000_000;
const MAX_RANGE: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// What is left of the memory budget of the rendering under way.
struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: MEMORY_BUDGET }
    }
}

fn fail(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let budget = state.get_or_insert_extension_with(Budget::default);
    match budget.left.checked_sub(bytes as u64) {
        Some(left) => {
            budget.left = left;
            Ok(())
        }
        None => Err(fail(format!("the template makes more than {} MiB of text", MEMORY_BUDGET >> 20))),
    }
}

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
    env.remove_filter("pprint");
    env.add_function("raise_exception", |text: String| -> Result<Value, Error> { Err(fail(text)) });
    env.add_function("strftime_now", move |state: &mut State, format: &str| -> Result<String, Error> {
        charge(state, format.len() * 16)?;
        strftime(format, now)
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

/// Bytes of the strings in a value; at most `nodes` values are looked at.
fn size(value: &Value, nodes: &mut usize, depth: usize) -> Result<usize, Error> {
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

/// `str(value)` of Python.
fn to_text(state: &mut State, value: &Value) -> Result<String, Error> {
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
fn number(value: &Value) -> String {
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

/// `json.dumps` as transformers' `tojson` calls it: no HTML escaping, keys in their order, Python's separators.
fn tojson(state: &mut State, value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(v) => Some(v),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = match indent {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => match (v.as_str(), v.as_i64()) {
            (Some(s), _) if s.len() <= 100 => Some(s.to_string()),
            (_, Some(n)) if n <= 100 => Some(" ".repeat(n.max(0) as usize)),
            _ => return Err(fail("tojson: indent must be a small number or a short string")),
        },
    };
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(fail("tojson: separators must be a pair of strings")),
        None => (if indent.is_some() { ",".into() } else { ", ".into() }, ": ".into()),
    };
    let mut json = Json {
        indent,
        item,
        key,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        out: String::new(),
    };
    kwargs.assert_all_used()?;
    json.write(state, value, 0)?;
    charge(state, json.out.len())?;
    Ok(json.out)
}

struct Json {
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
    ensure_ascii: bool,
    out: String,
}

impl Json {
    fn write(&mut self, state: &mut State, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(fail("tojson: a value is nested too deeply"));
        }
        charge(state, 8 + self.indent.as_ref().map_or(0, |s| s.len() * depth))?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or("")),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container(state, ('[', ']'), &items, depth, |json, state, item| {
                    json.write(state, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.container(state, ('{', '}'), &keys, depth, |json, state, key| {
                    match key.as_str() {
                        Some(s) => json.string(s),
                        None => {
                            let text = to_text(state, key)?;
                            json.string(&text);
                        }
                    }
                    let colon = json.key.clone();
                    json.out.push_str(&colon);
                    json.write(state, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(fail(format!("tojson: a value of kind {kind} has no JSON"))),
        }
        Ok(())
    }

    fn container(
        &mut self,
        state: &mut State,
        brackets: (char, char),
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut Self, &mut State, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(brackets.0);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                let comma = self.item.clone();
                self.out.push_str(&comma);
            }
            self.line(depth + 1);
            write(self, state, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(brackets.1);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                c if self.ensure_ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
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

/// `strftime` of `seconds` since 1970 in UTC. Proleptic Gregorian days after H. Hinnant, "chrono-compatible low-level date algorithms".
fn strftime(format: &str, seconds: i64) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let era_day = days + 719_468;
    let era = era_day.div_euclid(146_097);
    let day_of_era = era_day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * from_march + 2) / 153;
    let day = from_march - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let day_of_year = if month > 2 { from_march + 60 + i64::from(leap) } else { from_march - 305 };
    let weekday = (days + 4).rem_euclid(7) as usize;
    let month_name = MONTHS[(month - 1).rem_euclid(12) as usize];
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let unpadded = code == Some('-');
        if unpadded {
            code = chars.next();
        }
        let two = |n: i64| if unpadded { n.to_string() } else { format!("{n:02}") };
        match code {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&two(year.rem_euclid(100))),
            Some('m') => out.push_str(&two(month)),
            Some('d') => out.push_str(&two(day)),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('j') => out.push_str(&if unpadded { day_of_year.to_string() } else { format!("{day_of_year:03}") }),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(DAYS[weekday]),
            Some('a') => out.push_str(&DAYS[weekday][..3]),
            Some('w') => out.push_str(&weekday.to_string()),
            Some('H') => out.push_str(&two(hour)),
            Some('I') => out.push_str(&two(hour12)),
            Some('M') => out.push_str(&two(minute)),
            Some('S') => out.push_str(&two(second)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('z') => out.push_str("+0000"),
            Some('%') => out.push('%'),
            other => {
                return Err(fail(format!(
                    "strftime_now: %{} is not known here",
                    other.map_or(String::new(), String::from)
                )));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // date -u -d @N '+%Y-%m-%d %H:%M:%S %a %j'
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 Thu 001"),
            (951_782_400, "2000-02-29 00:00:00 Tue 060"),
            (1_709_251_199, "2024-02-29 23:59:59 Thu 060"),
            (1_735_689_599, "2024-12-31 23:59:59 Tue 366"),
            (1_764_003_723, "2025-11-24 17:02:03 Mon 328"),
            (-1, "1969-12-31 23:59:59 Wed 365"),
        ] {
            assert_eq!(strftime("%Y-%m-%d %H:%M:%S %a %j", seconds).unwrap(), text);
        }
        assert_eq!(strftime("%-d %b %Y %B %%", 1_764_003_723).unwrap(), "24 Nov 2025 November %");
        assert!(strftime("%Q", 0).is_err());
    }

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
