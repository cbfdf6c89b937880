//! Typed reading of a JSON object: a value of the wrong kind is an error that names file and field.
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The fields of a JSON object that stands in the file `source`. A field that is null counts as absent.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    source: &'a Path,
}

impl<'a> Fields<'a> {
    pub fn new(object: &'a Map<String, Value>, source: &'a Path) -> Self {
        Fields { object, source }
    }
    pub fn source(&self) -> &'a Path {
        self.source
    }
    pub fn error(&self, detail: impl std::fmt::Display) -> Error {
        Error::file(self.source, detail)
    }
    pub fn unsupported(&self, detail: impl std::fmt::Display) -> Error {
        Error::Unsupported(format!("{}: {detail}", self.source.display()))
    }
    /// Whether the key is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    fn get<T>(&self, key: &str, kind: &str, parse: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| {
                let mut text: String = value.to_string().chars().take(60).collect();
                if text.len() < value.to_string().len() {
                    text.push('…');
                }
                self.error(format!("`{key}` is {text}, {kind} is needed"))
            }),
        }
    }
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key, "a string", Value::as_str)
    }
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }
    /// True only where the field is `true`.
    pub fn is_on(&self, key: &str) -> bool {
        self.object.get(key) == Some(&Value::Bool(true))
    }
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", Value::as_f64)
    }
    pub fn needed_number(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| self.error(format!("`{key}` is missing")))
    }
    /// A whole number from 0; 4096.0 is accepted for 4096.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number from 0", |v| {
            let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x < 9e15).then_some(x as u64);
            v.as_u64().or_else(|| v.as_f64().and_then(whole)).and_then(|x| usize::try_from(x).ok())
        })
    }
    /// A whole number in 1 ..= max that must be there.
    pub fn size(&self, key: &str, max: usize) -> Result<usize> {
        match self.count(key)? {
            None => Err(self.error(format!("`{key}` is missing"))),
            Some(n) if n == 0 || n > max => Err(self.error(format!("`{key}` is {n}; 1 to {max} is possible"))),
            Some(n) => Ok(n),
        }
    }
    /// A whole number in 1 ..= max, or `default` where it is absent.
    pub fn size_or(&self, key: &str, max: usize, default: usize) -> Result<usize> {
        if self.count(key)?.is_none() { Ok(default) } else { self.size(key, max) }
    }
    /// A list of whole numbers from 0.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let one = |v: &Value| v.as_u64().and_then(|x| usize::try_from(x).ok());
        self.get(key, "a list of whole numbers from 0", |v| v.as_array()?.iter().map(one).collect())
    }
    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.get(key, "an object", Value::as_object)
    }
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.get(key, "a list of strings", |v| v.as_array()?.iter().map(Value::as_str).collect())
    }
    /// A token id, a list of them, or nothing. Negative ids, which some old files use for "none", are left out.
    pub fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let one = |v: &Value| v.as_i64().filter(|&id| id <= i64::from(u32::MAX));
        let ids = self.get(key, "a token id or a list of them", |v| match v {
            Value::Array(list) => list.iter().map(one).collect::<Option<Vec<i64>>>(),
            v => one(v).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default().into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
    }
}
