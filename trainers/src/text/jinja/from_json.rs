//! JSON to a template's values, with numbers of any size.
use std::rc::Rc;

use serde_json::Value as Json;

use super::fault::R;
use super::values::{Dict, Value};
use crate::text::exact_json::exact_number;

/// The value that Python's `json.loads` would make.
pub(super) fn from_json(json: &Json) -> R<Value> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::int(n),
            (_, Some(n)) => Value::int(n),
            _ => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::str(s),
        Json::Array(items) => Value::list(items.iter().map(from_json).collect::<R<_>>()?)?,
        Json::Object(fields) => match exact_number(json) {
            Some("NaN") => Value::Float(f64::NAN),
            Some("Infinity") => Value::Float(f64::INFINITY),
            Some("-Infinity") => Value::Float(f64::NEG_INFINITY),
            Some(digits) => Value::Int(digits.parse().unwrap_or_default()),
            None => {
                let mut dict = Dict::default();
                for (key, value) in fields {
                    dict.insert(Value::str(key), from_json(value)?)?;
                }
                Value::Dict(Rc::new(dict))
            }
        },
    })
}
