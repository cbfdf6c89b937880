//! The `tojson` filter as transformers has it: Python's `json.dumps` without HTML escaping.
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

use super::python::{MAX_DEPTH, charge, fail, number, to_text};

/// `json.dumps` as transformers' `tojson` calls it: no HTML escaping, keys in their order, Python's separators.
pub(super) fn tojson(state: &mut State, value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
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
