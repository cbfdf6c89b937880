//! Rows written to a file, of the kind that its name says: JSON lines, CSV, TSV or Parquet.
use super::parquet_writer::{ColumnShape, write_parquet};
use super::read::FileKind;
use crate::error::{Error, Result};
use crate::text::exact_json;
use engine::files::atomic;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value as Json};
use std::io::{self, Write};
use std::path::Path;

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsAs {
    /// A JSON object a line.
    JsonLines,
    /// Fields with this byte between them.
    Table(u8),
    /// Columns.
    Parquet,
}

/// A file to write rows to.
#[derive(Clone, Copy, Debug)]
pub struct RowFile<'a> {
    path: &'a Path,
    kind: RowsAs,
    packs: bool,
}

/// What columns are, in the order in which they first come.
pub type Columns = Vec<Column>;

/// A column's name and what its values are.
pub type Column = (String, ColumnShape);

/// Takes the columns of a further row in.
pub fn see_columns(columns: &mut Columns, row: &Map<String, Json>) {
    for (name, value) in row {
        match columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, shape)) => shape.see(value),
            None => {
                let mut shape = ColumnShape::default();
                shape.see(value);
                columns.push((name.clone(), shape));
            }
        }
    }
}

impl<'a> RowFile<'a> {
    /// Errors: a name that says no kind that is written.
    pub fn of(path: &'a Path) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let packs = name.ends_with(".gz");
        let kind = match FileKind::of(path) {
            Some(FileKind::Json) if !name.trim_end_matches(".gz").ends_with(".json") => RowsAs::JsonLines,
            Some(FileKind::Csv) => RowsAs::Table(b','),
            Some(FileKind::Tsv) => RowsAs::Table(b'\t'),
            Some(FileKind::Parquet) if !packs => RowsAs::Parquet,
            _ => {
                return Err(Error::file(
                    path,
                    "is written as its name says: .jsonl, .csv, .tsv (or these with .gz), .parquet",
                ));
            }
        };
        if name.ends_with(".zst") {
            return Err(Error::file(path, "Zstandard is read, not written; give a name with .gz, or without"));
        }
        Ok(RowFile { path, kind, packs })
    }

    /// Whether the columns of all rows must be known before the first is written.
    pub fn needs_columns(&self) -> bool {
        self.kind != RowsAs::JsonLines
    }

    /// What of these columns becomes something else in this file, a line each.
    pub fn notes(&self, columns: &[Column]) -> Vec<String> {
        let named = |is: fn(&ColumnShape) -> bool| -> Vec<&str> {
            columns.iter().filter(|(_, shape)| is(shape)).map(|(name, _)| name.as_str()).collect()
        };
        let (names, what) = match self.kind {
            RowsAs::JsonLines => return Vec::new(),
            RowsAs::Table(_) => (
                named(|shape| matches!(shape, ColumnShape::List(_) | ColumnShape::Object(_) | ColumnShape::Mixed)),
                "lists and objects are written as their JSON text, which is read back as text",
            ),
            RowsAs::Parquet => (named(ColumnShape::is_mixed), "values of several types are written as their JSON text"),
        };
        if names.is_empty() { Vec::new() } else { vec![format!("{what}: {}", names.join(", "))] }
    }

    /// Writes all rows, or leaves the file as it was. `columns`: those of all rows, where they are needed.
    pub fn write(&self, columns: &[Column], rows: impl Iterator<Item = Result<Map<String, Json>>>) -> Result<()> {
        let mut failure = None;
        let written = atomic::replace_file(self.path, |file| {
            let done = if self.packs {
                let mut packed = GzEncoder::new(file, Compression::default());
                self.write_to(columns, rows, &mut packed).and_then(|()| packed.finish().map(|_| ()).map_err(told))
            } else {
                self.write_to(columns, rows, file)
            };
            done.map_err(|e| {
                failure = Some(e);
                io::Error::other("the rows ended early")
            })
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(written?),
        }
    }

    fn write_to(
        &self,
        columns: &[Column],
        rows: impl Iterator<Item = Result<Map<String, Json>>>,
        to: &mut dyn Write,
    ) -> Result<()> {
        match self.kind {
            RowsAs::JsonLines => {
                for row in rows {
                    writeln!(to, "{}", exact_json::to_text(&Json::Object(row?))).map_err(told)?;
                }
                Ok(())
            }
            RowsAs::Table(separator) => write_table(columns, rows, separator, to),
            RowsAs::Parquet => write_parquet(columns, rows, to),
        }
    }
}

fn told(e: io::Error) -> Error {
    Error::Output(format!("cannot be written: {e}"))
}

/// A header, then a record a row; null and what a row does not have are empty fields.
fn write_table(
    columns: &[Column],
    rows: impl Iterator<Item = Result<Map<String, Json>>>,
    separator: u8,
    to: &mut dyn Write,
) -> Result<()> {
    let failed = |e: csv::Error| Error::Output(format!("cannot be written: {e}"));
    let mut table = csv::WriterBuilder::new().delimiter(separator).from_writer(to);
    table.write_record(columns.iter().map(|(name, _)| name)).map_err(failed)?;
    for row in rows {
        let row = row?;
        let field = |(name, _): &Column| match row.get(name) {
            None | Some(Json::Null) => String::new(),
            Some(Json::String(text)) => text.clone(),
            Some(other) => exact_json::to_text(other),
        };
        table.write_record(columns.iter().map(field)).map_err(failed)?;
    }
    table.flush().map_err(told)
}

#[cfg(test)]
mod tests {
    use super::super::read::{Row, read_file};
    use super::*;
    use serde_json::json;

    fn written(name: &str, rows: &[Json]) -> (Vec<Json>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let rows: Vec<Map<String, Json>> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        let mut columns = Columns::new();
        rows.iter().for_each(|row| see_columns(&mut columns, row));
        let file = RowFile::of(&path).unwrap();
        file.write(&columns, rows.into_iter().map(Ok)).unwrap();
        let mut read: Vec<Row> = Vec::new();
        read_file(&path, &mut read).unwrap();
        (read.into_iter().map(|row| Json::Object(row.fields)).collect(), file.notes(&columns))
    }

    fn rows() -> Vec<Json> {
        let call = json!([{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]);
        vec![
            json!({"id": 1, "text": "a \"b\",\n c", "ok": true, "x": 0.5, "tags": ["p", "q"], "nested": [[1, 2], [], [3]],
                   "messages": [{"role": "user", "content": "u", "tool_calls": null}, {"role": "assistant", "content": "é", "tool_calls": call}]}),
            json!({"id": -2, "text": "", "ok": null, "x": 2.0, "tags": [], "nested": null,
                   "messages": [{"role": "user", "content": null, "tool_calls": []}]}),
            json!({"id": null, "text": "z", "ok": false, "x": null, "tags": [null, "r"], "nested": [null, [4]], "messages": null}),
        ]
    }

    #[test]
    fn nested_values_come_back_from_parquet_and_json_lines() {
        for name in ["a.parquet", "a.jsonl", "a.jsonl.gz"] {
            let (read, notes) = written(name, &rows());
            assert_eq!((read, notes), (rows(), vec![]), "{name}");
        }
        // More rows than are laid out together.
        let many: Vec<Json> = (0..10_003).map(|i| json!({"n": i, "list": (0..i % 4).collect::<Vec<_>>()})).collect();
        assert_eq!(written("b.parquet", &many).0, many);
    }

    /// What a row does not have is null; values of several types are text, and that is said.
    #[test]
    fn what_parquet_cannot_hold_is_said() {
        let (read, notes) = written("a.parquet", &[json!({"a": 1, "b": "x"}), json!({"a": "one"}), json!({"c": {}})]);
        assert_eq!(read[0], json!({"a": "1", "b": "x", "c": null}));
        assert_eq!(read[1], json!({"a": "one", "b": null, "c": null}));
        assert_eq!(read[2], json!({"a": null, "b": null, "c": "{}"}));
        assert_eq!(notes, ["values of several types are written as their JSON text: a, c"]);
    }

    #[test]
    fn tables() {
        let flat = [json!({"id": 1, "text": "a \"b\",\n c", "x": 0.5}), json!({"id": 2, "text": "d", "x": null})];
        assert_eq!(written("a.csv", &flat).0, flat);
        assert_eq!(written("a.tsv", &flat).0, flat);
        let (read, notes) = written("a.csv", &[json!({"m": [1, 2]}), json!({"m": null})]);
        assert_eq!(read[0], json!({"m": "[1,2]"}));
        assert!(notes[0].starts_with("lists and objects are written as their JSON text"), "{notes:?}");
    }

    /// An error leaves the file as it was, and nothing beside it.
    #[test]
    fn rows_that_end_early_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "mine\n").unwrap();
        let rows = [Ok(Map::new()), Err(Error::input("the second row is wrong"))];
        let told = RowFile::of(&path).unwrap().write(&[], rows.into_iter()).unwrap_err().to_string();
        assert_eq!(told, "the second row is wrong");
        assert_eq!(
            (std::fs::read_to_string(&path).unwrap().as_str(), std::fs::read_dir(dir.path()).unwrap().count()),
            ("mine\n", 1)
        );
        for name in ["a.json", "a.jsonl.zst", "a.txt", "a", "a.parquet.gz"] {
            assert!(RowFile::of(Path::new(name)).is_err(), "{name}");
        }
    }
}
