//! The filter `tojson` as transformers has it: Python's `json.dumps` without HTML escaping.
use super::arguments::{Args, index};
use super::fault::{FaultKind, R, fault, type_fault, unsupported};
use super::number::{float_text, int_text};
use super::run::Rendering;
use super::values::{MAX_DEPTH, Value};

/// `value | tojson(ensure_ascii, indent, separators, sort_keys)`.
pub(super) fn tojson(run: &Rendering, value: &Value, args: Args) -> R<Value> {
    let [ascii, indent, separators, sort] =
        args.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"], 0)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(v) => Some(match v.as_str() {
            Some(s) => s.to_string(),
            None => {
                let n = usize::try_from(index(&v)?).unwrap_or(0);
                run.charge(n)?;
                " ".repeat(n)
            }
        }),
    };
    let (item, key) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
        Some(pair) => match &pair.items()?[..] {
            [item, key] => {
                let text =
                    |v: &Value| v.as_str().map(String::from).ok_or_else(|| type_fault("separators must be strings"));
                (text(item)?, text(key)?)
            }
            _ => return Err(type_fault("separators must be a pair of strings")),
        },
    };
    let truth = |v: Option<Value>| v.is_some_and(|v| v.truth());
    let mut json =
        Json { run, indent, item, key, sort_keys: truth(sort), ensure_ascii: truth(ascii), out: String::new() };
    json.write(value, 0)?;
    run.charge(json.out.len())?;
    Ok(Value::str(json.out))
}

struct Json<'a> {
    run: &'a Rendering,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
    ensure_ascii: bool,
    out: String,
}

fn json_float(x: f64) -> String {
    match float_text(x).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.into(),
    }
}

impl Json<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> R<()> {
        if depth > MAX_DEPTH {
            return Err(fault(FaultKind::Limit, "tojson: a value is nested too deeply"));
        }
        self.run.step()?;
        self.run.charge(8 + self.indent.as_ref().map_or(0, |s| s.len() * depth))?;
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => self.out.push_str(&int_text(n)?),
            Value::Float(x) => self.out.push_str(&json_float(*x)),
            Value::Str(s) | Value::Markup(s) => self.string(s),
            Value::List(l) | Value::Tuple(l) | Value::Group(l) => {
                self.container(('[', ']'), &l.items, depth, |json, item| json.write(item, depth + 1))?;
            }
            Value::Dict(dict) => {
                let mut entries: Vec<(Value, Value)> = dict.iter().cloned().collect();
                if self.sort_keys {
                    let mut keyed = Vec::new();
                    for (key, value) in entries {
                        keyed.push((key.clone(), Value::tuple(vec![key, value])?));
                    }
                    entries = Vec::new();
                    for pair in super::compare::sort(self.run, keyed, false)? {
                        if let [key, value] = &pair.items()?[..] {
                            entries.push((key.clone(), value.clone()));
                        }
                    }
                }
                self.container(('{', '}'), &entries, depth, |json, (key, value)| {
                    match key {
                        Value::Str(s) | Value::Markup(s) => json.string(s),
                        Value::Float(x) => json.string(&json_float(*x)),
                        Value::None => json.string("null"),
                        Value::Bool(b) => json.string(if *b { "true" } else { "false" }),
                        Value::Int(n) => json.string(&int_text(n)?),
                        key => {
                            let name = key.type_name();
                            let message = format!("keys must be str, int, float, bool or None, not {name}");
                            return Err(type_fault(message));
                        }
                    }
                    let colon = json.key.clone();
                    json.out.push_str(&colon);
                    json.write(value, depth + 1)
                })?;
            }
            Value::Chance(what) => return Err(unsupported(*what)),
            value => return Err(type_fault(format!("Object of type {} is not JSON serializable", value.type_name()))),
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        brackets: (char, char),
        items: &[T],
        depth: usize,
        mut write: impl FnMut(&mut Self, &T) -> R<()>,
    ) -> R<()> {
        self.out.push(brackets.0);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                let comma = self.item.clone();
                self.out.push_str(&comma);
            }
            self.line(depth + 1);
            write(self, item)?;
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
