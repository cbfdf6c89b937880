//! TRL's `datasets`: a list of data sets that are trained on as one.
use super::value::{Kind, OptionValue, Range, Raw, with_home};
use crate::data::mixture::MixturePart;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Data sets that are read one after the other; empty where none is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Datasets(pub Vec<MixturePart>);

/// What TRL's DatasetConfig has.
const KEYS: [&str; 7] = ["path", "name", "data_dir", "data_files", "split", "columns", "fraction"];
/// Names of the datasets library for kinds of files, which stand for `path` beside `data_files`.
const KINDS: [&str; 4] = ["json", "csv", "parquet", "text"];

impl OptionValue for Datasets {
    const KIND: Kind = Kind::Form(
        "a list of data sets such as [{\"path\": \"rows.jsonl\", \"columns\": [\"messages\"], \"fraction\": 0.5}], each with \
         path and, where wanted, name, data_dir, data_files, split, columns, fraction (of all or of none)",
    );
    const OPTIONAL: bool = true;
    fn parse(raw: &Raw, _: Range) -> Option<Self> {
        let text = match raw {
            Raw::Null => return Some(Datasets::default()),
            Raw::Text(text) if matches!(text.trim(), "none" | "null") => return Some(Datasets::default()),
            Raw::List(items) => return items.is_empty().then(Datasets::default),
            Raw::Text(text) | Raw::Other(text) => text,
        };
        let items: Vec<Map<String, Value>> = serde_json::from_str(text).ok()?;
        let parts: Vec<MixturePart> = items.iter().map(part).collect::<Option<_>>()?;
        let with = parts.iter().filter(|part| part.fraction.is_some()).count();
        (with == 0 || with == parts.len()).then_some(Datasets(parts))
    }
    fn write(&self) -> Value {
        Value::Array(self.0.iter().map(written).collect())
    }
}

fn part(fields: &Map<String, Value>) -> Option<MixturePart> {
    if fields.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return None;
    }
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    // None where it is not given, Some(None) where it is of another type.
    let text = |name: &str| given(name).map(|value| value.as_str().map(str::to_string));
    let path = with_home(fields.get("path")?.as_str().filter(|path| !path.is_empty())?);
    let files = given("data_files").map(texts).map_or(Some(None), |files| files.map(Some))?;
    let base = match text("data_dir") {
        Some(dir) => Path::new(&path).join(dir?),
        None if files.is_some() && KINDS.contains(&path.as_str()) => PathBuf::new(),
        None => PathBuf::from(path),
    };
    let fraction = given("fraction").map(Value::as_f64);
    Some(MixturePart {
        paths: files.map_or(vec![base.clone()], |files| files.iter().map(|file| base.join(with_home(file))).collect()),
        config: text("name").map_or(Some(None), |name| name.map(Some))?,
        split: text("split").unwrap_or(Some("train".into()))?,
        columns: given("columns").map(texts).map_or(Some(None), |columns| columns.map(Some))?,
        fraction: match fraction {
            Some(fraction) => Some(fraction.filter(|f| *f >= 0.0)?),
            None => None,
        },
    })
}

/// A text, or a list of them that is not empty.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| item.as_str().map(str::to_string)).collect()
        }
        _ => None,
    }
}

/// As `part` reads it back.
fn written(part: &MixturePart) -> Value {
    let mut fields = Map::new();
    let shown = |path: &PathBuf| Value::from(path.to_string_lossy());
    match &part.paths[..] {
        [one] => fields.insert("path".into(), shown(one)),
        several => {
            fields.insert("path".into(), KINDS[0].into());
            fields.insert("data_files".into(), several.iter().map(shown).collect())
        }
    };
    fields.extend(part.config.as_deref().map(|name| ("name".to_string(), Value::from(name))));
    fields.insert("split".into(), part.split.as_str().into());
    fields.extend(part.columns.clone().map(|columns| ("columns".to_string(), Value::from(columns))));
    fields.extend(part.fraction.map(|fraction| ("fraction".to_string(), Value::from(fraction))));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::super::value::ANY;
    use super::*;

    fn parsed(json: &str) -> Option<Vec<MixturePart>> {
        Datasets::parse(&Raw::Other(json.into()), ANY).map(|all| all.0)
    }

    #[test]
    fn ways_to_say_where_rows_are() {
        let paths = |json: &str| -> Vec<String> {
            let all = parsed(json).expect("fits");
            all[0].paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(paths(r#"[{"path": "a.jsonl", "name": null}]"#), ["a.jsonl"]);
        assert_eq!(paths(r#"[{"path": "json", "data_files": "b.jsonl"}]"#), ["b.jsonl"]);
        assert_eq!(paths(r#"[{"path": "dir", "data_files": ["a.jsonl", "b.jsonl"]}]"#), ["dir/a.jsonl", "dir/b.jsonl"]);
        assert_eq!(paths(r#"[{"path": "dir", "data_dir": "sub"}]"#), ["dir/sub"]);
    }

    #[test]
    fn what_does_not_fit() {
        for wrong in [
            r#"[{"name": "x"}]"#,
            r#"[{"path": "a", "colums": ["x"]}]"#,
            r#"[{"path": "a", "columns": []}]"#,
            r#"[{"path": "a", "fraction": "half"}]"#,
            r#"[{"path": "a", "fraction": 0.5}, {"path": "b"}]"#,
            r#"{"path": "a"}"#,
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(Datasets::parse(&Raw::Null, ANY), Some(Datasets::default()));
        assert_eq!(Datasets::parse(&Raw::List(vec![]), ANY), Some(Datasets::default()));
    }

    #[test]
    fn what_is_written_reads_back() {
        let all = Datasets::parse(
            &Raw::Text(
                r#"[{"path": "a", "split": "x", "columns": ["p"], "fraction": 1}, {"path": "json", "data_files": ["b", "c"],
                    "name": "n", "fraction": 0.5}]"#
                    .into(),
            ),
            ANY,
        );
        let all = all.expect("fits");
        assert_eq!(Datasets::parse(&Raw::Other(all.write().to_string()), ANY), Some(all));
    }
}
