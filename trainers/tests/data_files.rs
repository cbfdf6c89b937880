//! Files and directories of rows against the datasets library and pyarrow: what `tests/golden/generator/data_files.py` wrote.
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use trainers::data::splits::splits_of;
use trainers::data::{Calls, DataSet, Loaded, load};
use trainers::text::exact_json;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/data_files").join(name)
}

fn json(name: &str) -> Json {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn read(path: &Path, split: &str, config: Option<&str>) -> trainers::Result<Loaded> {
    load(DataSet { path, config, split }, Calls::AsCalls)
}

/// Rows as the golden file has them: NaN and infinities by Python's names.
fn objects(rows: &Loaded) -> Json {
    fn named(value: &Json) -> Json {
        match (exact_json::exact_number(value), value) {
            (Some("NaN"), _) => serde_json::json!({"float": "nan"}),
            (Some("Infinity"), _) => serde_json::json!({"float": "inf"}),
            (Some("-Infinity"), _) => serde_json::json!({"float": "-inf"}),
            (_, Json::Array(list)) => list.iter().map(named).collect(),
            (_, Json::Object(fields)) => Json::Object(fields.iter().map(|(k, v)| (k.clone(), named(v))).collect()),
            _ => value.clone(),
        }
    }
    rows.rows.iter().map(|row| named(&Json::Object(row.fields.clone()))).collect()
}

#[test]
fn csv_columns_have_the_types_that_pandas_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    for case in json("cases.json")["csv"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        fs::write(&path, text).unwrap();
        assert_eq!(objects(&read(&path, "train", None).unwrap()), case["rows"], "{text:?}");
    }
    fs::write(&path, "text,n\nx,1\n\"y\nz\",1\nb,1,3\n").unwrap();
    let told = read(&path, "train", None).unwrap_err().to_string();
    assert!(told.contains("a.csv:5: the row has 3 fields, the header 2"), "{told}");
    fs::write(&path, b"text\nx\n\xFF\n").unwrap();
    let told = read(&path, "train", None).unwrap_err().to_string();
    assert!(told.contains("a.csv:3: is not UTF-8"), "{told}");
}

#[test]
fn directories_have_the_splits_that_the_datasets_library_finds() {
    for case in json("cases.json")["directories"].as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in case["files"].as_object().unwrap() {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.as_str().unwrap()).unwrap();
        }
        let config = case["config"].as_str();
        let Some(splits) = case["splits"].as_object() else {
            let told = read(dir.path(), "train", config).unwrap_err().to_string();
            assert!(told.contains("one, two"), "{told}");
            continue;
        };
        let mut names: Vec<&String> = splits.keys().collect();
        names.sort();
        assert_eq!(splits_of(dir.path(), config).unwrap().iter().collect::<Vec<_>>(), names, "{case}");
        for (split, rows) in splits {
            let loaded = read(dir.path(), split, config).unwrap();
            assert_eq!(&objects(&loaded), rows, "{split}: {case}");
            let said = &loaded.notes[0];
            for name in names.iter().filter(|name| **name != split) {
                assert!(said.contains(&format!("{name} (")), "{name} is left out without a word: {said}");
            }
        }
        let told = read(dir.path(), "missing", config).unwrap_err().to_string();
        assert!(names.iter().all(|name| told.contains(name.as_str())), "{told}");
    }
}

#[test]
fn parquet_in_every_codec_that_is_rust() {
    let rows = json("rows.json");
    for name in ["none", "snappy", "gzip", "lz4", "zstd", "zstd-2", "snappy-2"] {
        let loaded = read(&golden(&format!("{name}.parquet")), "train", None).unwrap();
        assert_eq!(objects(&loaded), rows, "{name}");
        assert_eq!(loaded.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3, 4], "{name}");
    }
    let told = read(&golden("brotli.parquet"), "train", None).unwrap_err().to_string();
    assert!(told.contains("brotli") && !told.contains('\n'), "{told}");
    let loaded = read(&golden("bytes.parquet"), "train", None).unwrap();
    assert_eq!(loaded.rows[1].fields["text"], "b");
    assert!(!loaded.rows[0].fields.contains_key("image"));
    assert!(loaded.notes[0].contains("columns that hold bytes are not read: image"), "{:?}", loaded.notes);
}

/// A file that was cut off, or of which a byte was changed, is an error and never a crash.
#[test]
fn broken_parquet_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for name in ["zstd", "snappy", "gzip", "lz4", "none"] {
        let whole = fs::read(golden(&format!("{name}.parquet"))).unwrap();
        for n in [0, 3, 4, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..n]).unwrap();
            let told = read(&path, "train", None).unwrap_err().to_string();
            assert!(!told.contains('\n') && told.contains("a.parquet"), "{told}");
        }
        for at in (4..whole.len()).step_by(7) {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            fs::write(&path, &broken).unwrap();
            if let Err(told) = read(&path, "train", None) {
                assert!(!told.to_string().contains('\n'), "{told}");
            }
        }
    }
}

#[test]
fn compressed_lines() {
    for name in ["rows.jsonl.gz", "rows.jsonl.zst"] {
        let loaded = read(&golden(name), "train", None).unwrap();
        let texts: Vec<&str> = loaded.rows.iter().filter_map(|row| row.fields["text"].as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"], "{name}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let whole = fs::read(golden(name)).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let told = read(&path, "train", None).unwrap_err().to_string();
        assert!(told.contains("cannot be decompressed"), "{told}");
    }
}
