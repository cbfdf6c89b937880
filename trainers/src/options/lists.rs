//! Option values with several parts: lists of words or numbers, parted by commas or blanks or as YAML and JSON write them, and
//! mappings.
use super::value::{Kind, OptionValue, Range, Raw};
use crate::named::Named;
use serde_json::{Map, Value};

/// An option's value that may stand in a [`List`].
pub trait ListItem: OptionValue {
    /// What the list takes.
    const LIST: Kind;
}

impl<T: Named> ListItem for T {
    const LIST: Kind = Kind::Choices(T::NAMES);
}

/// One or several values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: ListItem> OptionValue for List<T> {
    const KIND: Kind = T::LIST;
    fn parse(raw: &Raw, range: Range) -> Option<Self> {
        let parts = match raw {
            Raw::Text(text) => vec![text.clone()],
            Raw::List(items) => items.clone(),
            _ => return None,
        };
        let outer = |c: char| matches!(c, '[' | ']' | '"' | '\'');
        let words = parts.iter().flat_map(|part| part.split(|c: char| c == ',' || c.is_whitespace()));
        let words = words.map(|word| word.trim_matches(outer)).filter(|word| !word.is_empty());
        let items: Option<Vec<T>> = words.map(|word| T::parse(&Raw::Text(word.into()), range)).collect();
        items.filter(|items| !items.is_empty()).map(List)
    }
    fn write(&self) -> Value {
        Value::Array(self.0.iter().map(T::write).collect())
    }
}

impl ListItem for f64 {
    const LIST: Kind = Kind::Form("numbers parted by commas or blanks");
}

impl ListItem for usize {
    const LIST: Kind = Kind::Form("whole numbers parted by commas or blanks");
}

/// Names with values, as a YAML mapping or JSON; empty where nothing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping(pub Map<String, Value>);

impl OptionValue for Mapping {
    const KIND: Kind = Kind::Form("a mapping such as {\"num_cycles\": 2}");
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        match raw {
            Raw::Null => Some(Mapping::default()),
            Raw::Text(text) if matches!(text.trim(), "none" | "null") => Some(Mapping::default()),
            Raw::Text(text) | Raw::Other(text) => serde_json::from_str(text).ok().map(Mapping),
            Raw::List(_) => None,
        }
    }
    fn write(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::ANY;
    use super::*;

    #[test]
    fn ways_to_write_a_list() {
        let numbers = |raw: Raw| List::<f64>::parse(&raw, ANY).map(|list| list.0);
        for text in ["0.8, 0.2", "[0.8, 0.2]", "0.8 0.2", "[\"0.8\",\"0.2\"]"] {
            assert_eq!(numbers(Raw::Text(text.into())), Some(vec![0.8, 0.2]), "{text}");
        }
        assert_eq!(numbers(Raw::List(vec!["0.8".into(), "0.2".into()])), Some(vec![0.8, 0.2]));
        assert_eq!(numbers(Raw::Text("0.8, x".into())), None);
        assert_eq!(numbers(Raw::Text("[]".into())), None);
    }

    #[test]
    fn mappings() {
        let of = |raw: Raw| Mapping::parse(&raw, ANY).map(|mapping| mapping.write().to_string());
        assert_eq!(of(Raw::Other("{\"min_lr\":1e-6}".into())).as_deref(), Some("{\"min_lr\":1e-6}"));
        assert_eq!(of(Raw::Text("{\"num_cycles\": 2}".into())).as_deref(), Some("{\"num_cycles\":2}"));
        assert_eq!(of(Raw::Null).as_deref(), Some("{}"));
        assert_eq!(of(Raw::Text("num_cycles: 2".into())), None);
        assert_eq!(of(Raw::List(vec![])), None);
    }
}
