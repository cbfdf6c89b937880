//! Reads a config file: YAML, so JSON too. One flat mapping from option names to values.
use super::value::Raw;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Spanned};
use std::fmt;
use std::path::Path;

/// An entry of the mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As written, not yet looked up among the options.
    pub key: String,
    /// What stands behind the colon.
    pub raw: Raw,
    /// Line of the key, counted from 1.
    pub line: u64,
}

/// A mapping's entries in the order of the file, repeated keys included.
struct KeyedValues(Vec<(Spanned<String>, Spanned<Value>)>);

impl<'de> Deserialize<'de> for KeyedValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = KeyedValues;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a mapping from option names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<KeyedValues, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key()? {
                    pairs.push((key, map.next_value()?));
                }
                Ok(KeyedValues(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A config file as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    /// Every key once, in the order of the file.
    pub entries: Vec<Entry>,
    /// A line about each key that is given again.
    pub repeated: Vec<String>,
}

/// The entries of a config file. Errors name file and line.
pub fn read(path: &Path) -> Result<Entries> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::InvalidData => "is not UTF-8 text; save the file as UTF-8".to_string(),
            _ => format!("cannot be read: {e}"),
        };
        Error::Input(format!("--config {}: {why}", path.display()))
    })?;
    parse(path, &text)
}

/// The entries of a config file's text.
pub fn parse(path: &Path, text: &str) -> Result<Entries> {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.with_snippet = false;
    if is_empty(text) {
        return Ok(Entries::default());
    }
    let pairs: KeyedValues = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let line = e.location().map_or(String::new(), |at| format!("{}:", at.line()));
        let detail = in_words(&e.without_snippet().to_string().replace('\n', " "));
        Error::Input(format!("{}:{line} {detail}", path.display()))
    })?;
    let (mut seen, mut repeated): (Vec<Entry>, Vec<String>) = Default::default();
    for (key, value) in pairs.0 {
        let line = key.referenced.line();
        if let Some(first) = seen.iter().find(|entry| entry.key == key.value) {
            let first_line = first.line;
            repeated.push(format!(
                "{}:{line}: {} is given twice (also in line {first_line})",
                path.display(),
                key.value
            ));
            continue;
        }
        let written = written_scalar(text, &value);
        seen.push(Entry { key: key.value, raw: to_raw(value.value, written), line });
    }
    Ok(Entries { entries: seen, repeated })
}

/// The YAML reader's message in the words of who writes the file.
fn in_words(text: &str) -> String {
    let told = [
        (
            "multiple YAML documents",
            "a second document begins here (after a line of ---); a config file is one: keep the one that is meant",
        ),
        ("expected mapping start", "a config file is lines of NAME: VALUE; this is something else"),
        ("expected string scalar", "the name of an option must be a plain word"),
        ("invalid u64", "the value is not of the type that its tag (!!int …) says"),
        ("invalid i64", "the value is not of the type that its tag (!!int …) says"),
        ("invalid f64", "the value is not of the type that its tag (!!float …) says"),
    ];
    let known = told.iter().find(|(part, _)| text.contains(part)).map(|(_, words)| words.to_string());
    let text = text.split(" at line ").next().unwrap_or(text);
    known.unwrap_or_else(|| text.replace("scalar", "text").replace("mapping values are", "a second colon is"))
}

/// Nothing but comments, blank lines and document marks.
fn is_empty(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

/// A number exactly as it stands in the file ("1.10" stays "1.10", which matters if the option is a name).
fn written_scalar<'a>(text: &'a str, value: &Spanned<Value>) -> Option<&'a str> {
    let span = value.defined.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    text.get(start..start.checked_add(length)?)
}

fn to_raw(value: Value, written: Option<&str>) -> Raw {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    match &value {
        Value::Null => Raw::Null,
        Value::Number(n) => Raw::Text(written.map_or_else(|| n.to_string(), str::to_string)),
        Value::Array(items) => match items.iter().map(scalar).collect::<Option<Vec<_>>>() {
            Some(texts) => Raw::List(texts),
            None => Raw::Other(value.to_string()),
        },
        Value::Object(_) => Raw::Other(value.to_string()),
        other => scalar(other).map_or(Raw::Null, Raw::Text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, Raw, u64)> {
        let read = parse(Path::new("run.yaml"), text).expect("parses");
        assert_eq!(read.repeated, Vec::<String>::new());
        read.entries.into_iter().map(|e| (e.key, e.raw, e.line)).collect()
    }
    fn error(text: &str) -> String {
        parse(Path::new("run.yaml"), text).expect_err("is wrong").to_string()
    }
    fn word(s: &str) -> Raw {
        Raw::Text(s.into())
    }

    #[test]
    fn every_kind_of_value() {
        let text = "# a run\nlearning_rate: 2.0e-5\nlr: 5e-7\npacking: true\nmax_length: null\neval_strategy: no\n\n\
                    modules: [q_proj, v_proj]\nlist:\n  - 1\n  - b\nname: 1.10\nseed: 42 # answer\nquoted: \"a: b\"\nkwargs: {a: 1}\n";
        let expected = [
            ("learning_rate", word("2.0e-5"), 2),
            ("lr", word("5e-7"), 3),
            ("packing", word("true"), 4),
            ("max_length", Raw::Null, 5),
            ("eval_strategy", word("false"), 6),
            ("modules", Raw::List(vec!["q_proj".into(), "v_proj".into()]), 8),
            ("list", Raw::List(vec!["1".into(), "b".into()]), 9),
            ("name", word("1.10"), 12),
            ("seed", word("42"), 13),
            ("quoted", word("a: b"), 14),
            ("kwargs", Raw::Other("{\"a\":1}".into()), 15),
        ];
        for (got, want) in entries(text).iter().zip(&expected) {
            assert_eq!((got.0.as_str(), &got.1, got.2), (want.0, &want.1, want.2));
        }
        assert_eq!(entries(text).len(), expected.len());
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\n  \"learning_rate\": 1e-4,\n  \"packing\": false,\n  \"output_dir\": \"run\"\n}\n";
        assert_eq!(
            entries(text),
            [
                ("learning_rate".to_string(), word("1e-4"), 2),
                ("packing".to_string(), word("false"), 3),
                ("output_dir".to_string(), word("run"), 4)
            ]
        );
    }

    #[test]
    fn empty_files() {
        assert_eq!(entries(""), []);
        assert_eq!(entries("# nothing\n---\n"), []);
    }

    #[test]
    fn errors_name_the_line() {
        let twice = parse(Path::new("run.yaml"), "a: 1\nb: 2\na: 3\n").expect("parses");
        assert_eq!(twice.repeated, ["run.yaml:3: a is given twice (also in line 1)"]);
        assert_eq!(twice.entries.len(), 2);
        for (text, start) in
            [("a: [1, 2\n", "run.yaml:"), ("- a\n- b\n", "run.yaml:1:"), ("just text\n", "run.yaml:1:")]
        {
            let message = error(text);
            assert!(message.starts_with(start) && !message.contains('\n'), "{message}");
        }
        let several = error("a: 1\n---\nb: 2\n");
        assert!(several.starts_with("run.yaml:3: a second document begins here"), "{several}");
        for text in ["- a\n", "a: 1\n---\nb: 2\n", "a: !!int x\n", "? [a]\n: b\n", "a: *y\n", "a: @x\n", "a: \"x\n"] {
            let message = error(text);
            let foreign = ["from_str", "u64", "mapping", "scalar", "enum", "::", " at line "];
            assert!(!foreign.iter().any(|word| message.contains(word)), "{message}");
        }
        let missing = read(Path::new("no/such/run.yaml")).expect_err("is missing").to_string();
        assert!(missing.contains("no/such/run.yaml"), "{missing}");
    }
}
