//! Rows of a data set: JSON objects from `.jsonl` and `.json` files, each with the place it came from.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::text::exact_json;

/// One row and where it stands. `line` counts from 1: the line of a JSONL file, the number of the row in a JSON array.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub path: Arc<PathBuf>,
    pub line: usize,
    pub fields: Map<String, Json>,
}

impl Row {
    /// An error about this row.
    pub fn error(&self, detail: impl Into<String>) -> Error {
        Error::data(self.path.as_ref(), self.line, detail)
    }
}

/// Reads a `.jsonl` or `.json` file, or every such file of a directory in order of their names.
///
/// A `.json` file may hold an array of objects, one object, or JSON lines. A byte-order mark, CRLF and blank lines are
/// passed over. Errors: no such file, no such file in the directory, JSON that does not parse (with its line), a row that is
/// no object, no row at all.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files_of(path)? {
        read_file(&file, &mut rows)?;
    }
    if rows.is_empty() {
        return Err(Error::file(
            path,
            "the data set has no rows; each line must be a JSON object such as {\"text\": \"…\"}",
        ));
    }
    Ok(rows)
}

fn is_json(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| matches!(e, "jsonl" | "json" | "ndjson"))
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.exists() {
        return Err(Error::file(
            path,
            "no such file or directory; --dataset_name takes a .jsonl or .json file or a directory of them",
        ));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| Error::file(path, e))? {
        let file = entry.map_err(|e| Error::file(path, e))?.path();
        if file.is_file() && is_json(&file) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::file(path, "the directory has no .jsonl or .json file"));
    }
    Ok(files)
}

fn read_file(path: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::data(path, line, "is not UTF-8 text; save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let path = Arc::new(path.to_path_buf());
    if text.trim_start().starts_with('[') {
        return read_array(text, path, rows);
    }
    if let Ok(Json::Object(fields)) = exact_json::parse(text) {
        // One object over several lines, or a file with a single row.
        let line = 1 + text[..text.len() - text.trim_start().len()].matches('\n').count();
        rows.push(Row { path, line, fields });
        return Ok(());
    }
    for (index, line) in text.split('\n').enumerate() {
        let line_number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        match exact_json::parse(line) {
            Ok(Json::Object(fields)) => rows.push(Row { path: path.clone(), line: line_number, fields }),
            Ok(other) => return Err(not_an_object(&path, line_number, &other)),
            Err(e) => {
                return Err(Error::data(
                    path.as_ref(),
                    line_number,
                    format!("bad JSON at column {}: {}", e.column(), cause(&e)),
                ));
            }
        }
    }
    Ok(())
}

fn read_array(text: &str, path: Arc<PathBuf>, rows: &mut Vec<Row>) -> Result<()> {
    let items = exact_json::parse(text).map_err(|e| {
        Error::data(path.as_ref(), e.line(), format!("bad JSON at column {}: {}", e.column(), cause(&e)))
    })?;
    let Json::Array(items) = items else { return Err(not_an_object(&path, 1, &items)) };
    for (index, item) in items.into_iter().enumerate() {
        match item {
            Json::Object(fields) => rows.push(Row { path: path.clone(), line: index + 1, fields }),
            other => return Err(not_an_object(&path, index + 1, &other)),
        }
    }
    Ok(())
}

/// serde_json's message without the position, which is said elsewhere.
fn cause(e: &serde_json::Error) -> String {
    let text = e.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

fn not_an_object(path: &Path, line: usize, found: &Json) -> Error {
    Error::data(path, line, format!("a row must be a JSON object, found {}", kind(found)))
}

/// What a value is, for messages: its type and the beginning of it.
pub fn kind(value: &Json) -> String {
    let name = match value {
        Json::Null => return "null".into(),
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) if exact_json::exact_number(value).is_some() => "a number",
        Json::Object(_) => "an object",
    };
    let text = exact_json::to_text(value);
    let short: String = text.chars().take(40).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{name} ({short}{dots})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        read_rows(&path)
    }

    #[test]
    fn lines_with_bom_crlf_and_blanks() {
        let rows = read("a.jsonl", b"\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n  \n{\"text\": \"b\"}").unwrap();
        assert_eq!(rows.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(rows[1].fields["text"], "b");
    }

    #[test]
    fn arrays_and_single_objects() {
        assert_eq!(read("a.json", b"\n[{\"text\": \"a\"}, {\"text\": \"b\"}]").unwrap()[1].line, 2);
        assert_eq!(read("a.json", b"{\n \"text\": \"a\"\n}\n").unwrap().len(), 1);
        assert_eq!(read("a.json", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap().len(), 2);
    }

    #[test]
    fn keys_keep_their_order() {
        let rows = read("a.jsonl", b"{\"z\": 1, \"a\": 2, \"m\": 3}").unwrap();
        assert_eq!(rows[0].fields.keys().collect::<Vec<_>>(), ["z", "a", "m"]);
    }

    #[test]
    fn a_directory_in_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.jsonl"), "{\"text\": \"2\"}").unwrap();
        fs::write(dir.path().join("a.json"), "[{\"text\": \"1\"}]").unwrap();
        fs::write(dir.path().join("note.txt"), "no data").unwrap();
        let rows = read_rows(dir.path()).unwrap();
        assert_eq!(rows.iter().map(|r| r.fields["text"].as_str().unwrap()).collect::<String>(), "12");
    }

    #[test]
    fn errors_name_file_and_line() {
        let text = |r: Result<Vec<Row>>| r.unwrap_err().to_string();
        let bad = text(read("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n"));
        assert!(bad.contains("a.jsonl:2: bad JSON"), "{bad}");
        assert!(
            text(read("a.jsonl", b"{\"text\": \"a\"}\n7\n"))
                .contains("a.jsonl:2: a row must be a JSON object, found a number (7)")
        );
        assert!(text(read("a.json", b"[{\"text\": \"a\"},\n{]")).contains("a.json:2: bad JSON"));
        assert!(text(read("a.jsonl", b"{\"text\": \"a\"}\n\xFF\xFE")).contains("a.jsonl:2: is not UTF-8"));
        assert!(text(read("a.jsonl", b"\n \n")).contains("no rows"));
        assert!(text(read("a.json", b"[]")).contains("no rows"));
        assert!(text(read_rows(Path::new("does/not/exist.jsonl"))).contains("no such file"));
    }
}
