//! The arguments of a call, bound to the names of a function as Python binds them.
use super::fault::{R, type_fault};
use super::values::{Dict, Value};

/// Evaluated arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Args {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

impl Args {
    pub fn of(positional: Vec<Value>) -> Self {
        Args { positional, named: Vec::new() }
    }

    /// The named arguments as a dictionary.
    pub fn named_dict(&self) -> R<Dict> {
        let mut dict = Dict::default();
        for (name, value) in &self.named {
            dict.insert(Value::str(name), value.clone())?;
        }
        Ok(dict)
    }

    /// One value per parameter, of which the first `required` must be given. A name that begins with `/` can be given by place alone.
    pub fn bind<const N: usize>(self, function: &str, names: [&str; N], required: usize) -> R<[Option<Value>; N]> {
        let mut bound: [Option<Value>; N] = std::array::from_fn(|_| None);
        if self.positional.len() > N {
            return Err(type_fault(format!(
                "{function} takes at most {N} arguments ({} given)",
                self.positional.len()
            )));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let Some(i) = names.iter().position(|n| *n == name) else {
                return Err(type_fault(format!("{function} got an unexpected keyword argument '{name}'")));
            };
            if bound[i].is_some() {
                return Err(type_fault(format!("{function} got multiple values for argument '{name}'")));
            }
            bound[i] = Some(value);
        }
        match bound.iter().take(required).position(Option::is_none) {
            Some(i) => {
                Err(type_fault(format!("{function} misses its argument '{}'", names[i].trim_start_matches('/'))))
            }
            None => Ok(bound),
        }
    }

    /// No argument at all.
    pub fn none(self, function: &str) -> R<()> {
        self.bind::<0>(function, [], 0).map(|_| ())
    }
}

/// A Python index: an int or a bool, clipped to what a machine word holds.
pub(super) fn index(value: &Value) -> R<i64> {
    match value.as_int() {
        Some(n) => Ok(i64::try_from(&n).unwrap_or(if n < 0.into() { i64::MIN } else { i64::MAX })),
        None => Err(type_fault(format!("'{}' object cannot be interpreted as an integer", value.type_name()))),
    }
}

/// An index that may be left out or None.
pub(super) fn optional_index(value: &Option<Value>) -> R<Option<i64>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => index(value).map(Some),
    }
}

/// A string argument.
pub(super) fn text<'a>(value: &'a Value, function: &str) -> R<&'a str> {
    value.as_str().ok_or_else(|| type_fault(format!("{function} takes a str, not {}", value.type_name())))
}
