//! TRL's `datasets`: a list of data sets that are trained on as one.
use super::given::suggestion;
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
        parts(text).ok().map(Datasets)
    }
    fn complaint(raw: &Raw) -> Option<String> {
        let wanted = "a list of mappings is wanted, each entry as in: - path: rows.jsonl";
        match raw {
            Raw::List(items) => {
                let first = items.first()?;
                Some(format!("its entries are texts; {wanted}, so - path: {first} here"))
            }
            Raw::Text(text) if !text.trim_start().starts_with(['[', '{']) => Some(format!("is a text; {wanted}")),
            Raw::Text(text) | Raw::Other(text) => parts(text).err(),
            Raw::Null => None,
        }
    }
    fn write(&self) -> Value {
        Value::Array(self.0.iter().map(written).collect())
    }
}

/// The data sets that JSON text lists, or what is wrong with it.
fn parts(text: &str) -> Result<Vec<MixturePart>, String> {
    let items = match serde_json::from_str(text) {
        Ok(Value::Array(items)) => items,
        Ok(Value::Object(_)) => {
            return Err("is one mapping; a list of them is wanted: begin it with a dash, - path: …".into());
        }
        Ok(_) => return Err("is no list of mappings".into()),
        Err(e) => return Err(format!("is no JSON: {e}")),
    };
    let one = |(i, item): (usize, &Value)| {
        let fields =
            item.as_object().ok_or_else(|| format!("is {item}, but a mapping is wanted, as - path: rows.jsonl"));
        fields.and_then(part).map_err(|detail| format!("entry {} {detail}", i + 1))
    };
    let parts: Vec<MixturePart> = items.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    match parts.iter().position(|part| part.fraction.is_none()) {
        Some(i) if parts.iter().any(|part| part.fraction.is_some()) => {
            Err(format!("entry {} has no fraction, but others have: give it for all data sets or for none", i + 1))
        }
        _ => Ok(parts),
    }
}

fn part(fields: &Map<String, Value>) -> Result<MixturePart, String> {
    if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let near = suggestion(key, "", KEYS);
        return Err(format!("has the key {key}, which is none of {}{near}", KEYS.join(", ")));
    }
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let text = |name: &str| match given(name) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("has {name}: {other}, but a text is wanted")),
        None => Ok(None),
    };
    let texts = |name: &str| match given(name) {
        Some(value) => texts(value)
            .map(Some)
            .ok_or_else(|| format!("has {name}: {value}, but a text or a list of texts is wanted")),
        None => Ok(None),
    };
    let path = text("path")?.filter(|path| !path.is_empty()).ok_or("has no path")?;
    let (path, files) = (with_home(&path), texts("data_files")?);
    let base = match text("data_dir")? {
        Some(dir) => Path::new(&path).join(dir),
        None if files.is_some() && KINDS.contains(&path.as_str()) => PathBuf::new(),
        None => PathBuf::from(path),
    };
    let fraction = match given("fraction") {
        Some(value) => match value.as_f64().filter(|f| *f >= 0.0) {
            Some(fraction) => Some(fraction),
            None => return Err(format!("has fraction: {value}, but a number that is not negative is wanted")),
        },
        None => None,
    };
    Ok(MixturePart {
        paths: files.map_or(vec![base.clone()], |files| files.iter().map(|file| base.join(with_home(file))).collect()),
        config: text("name")?,
        split: text("split")?.unwrap_or_else(|| "train".into()),
        columns: texts("columns")?,
        fraction,
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

    /// Each wrong shape is told with what is wrong and what is wanted.
    #[test]
    fn complaints() {
        let of = |json: &str| Datasets::complaint(&Raw::Other(json.into())).expect("is wrong");
        for (wrong, said) in [
            (r#"{"path": "a"}"#, "begin it with a dash"),
            (r#"[{"path": "a"}, {"name": "x"}]"#, "entry 2 has no path"),
            (r#"[{"path": "a", "colums": ["x"]}]"#, "did you mean columns?"),
            (r#"[{"path": "a", "columns": []}]"#, "has columns: [], but a text or a list of texts is wanted"),
            (r#"[{"path": 7}]"#, "has path: 7, but a text is wanted"),
            (r#"[{"path": "a", "fraction": -1}]"#, "a number that is not negative"),
            (r#"[{"path": "a", "fraction": 0.5}, {"path": "b"}]"#, "entry 2 has no fraction"),
            (r#"[["a"]]"#, "entry 1 is [\"a\"], but a mapping is wanted"),
        ] {
            assert!(of(wrong).contains(said), "{wrong}: {}", of(wrong));
        }
        let texts = Datasets::complaint(&Raw::List(vec!["a.jsonl".into(), "b.jsonl".into()])).expect("is wrong");
        assert!(texts.contains("its entries are texts") && texts.ends_with("so - path: a.jsonl here"), "{texts}");
        assert!(Datasets::complaint(&Raw::Text("a.jsonl".into())).expect("is wrong").starts_with("is a text"));
        assert_eq!(Datasets::complaint(&Raw::Other(r#"[{"path": "a"}]"#.into())), None);
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
