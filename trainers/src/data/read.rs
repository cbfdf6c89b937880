//! Rows of a file: JSON objects, CSV or Parquet, compressed or not, each with the place it came from.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::csv_rows::CsvRows;
use super::parquet_rows::ParquetRows;
use crate::error::{Error, Result};
use crate::text::exact_json;

/// One row and where it stands. `line` counts from 1: the line of a JSONL or CSV file, the number of the row in a JSON array
/// or a Parquet file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file it was read from.
    pub path: Arc<PathBuf>,
    /// Its line or number in the file, from 1.
    pub line: usize,
    /// Its columns, in the file's order.
    pub fields: Map<String, Json>,
}

impl Row {
    /// An error about this row.
    pub fn error(&self, detail: impl Into<String>) -> Error {
        Error::data(self.path.as_ref(), self.line, detail)
    }
}

/// What a file of rows is called, by what stands behind the last dot (before `.gz` or `.zst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Values with commas between them.
    Csv,
    /// Values with tabs between them.
    Tsv,
    /// An array of objects, one object, or an object a line.
    Json,
    /// Columns, compressed.
    Parquet,
}

impl FileKind {
    /// The kind that a file's name tells; None where it tells none that is read.
    pub fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "jsonl" | "json" | "ndjson" => Some(FileKind::Json),
            "csv" => Some(FileKind::Csv),
            "tsv" => Some(FileKind::Tsv),
            "parquet" => Some(FileKind::Parquet),
            _ => None,
        }
    }
}

/// First bytes of files that are something else than rows, and what to do about it.
const SOMETHING_ELSE: [(&[u8], &str); 6] = [
    (engine::files::LFS_BEGINNING, engine::files::LFS_POINTER),
    (b"ARROW1", "is an Arrow file; write it as Parquet (in Python: dataset.to_parquet(path)) and give that"),
    (
        b"\xFF\xFF\xFF\xFF",
        "is an Arrow stream (of save_to_disk); write it as Parquet (in Python: dataset.to_parquet(path))",
    ),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"BZh", "is compressed by bzip2; decompress it first (gzip and Zstandard are read as they are)"),
    (b"\xFD7zXZ\x00", "is compressed by xz; decompress it first (gzip and Zstandard are read as they are)"),
];

/// The first bytes of a file. Errors: no such file, one that is something else than rows.
pub(super) fn beginning(path: &Path) -> Result<Vec<u8>> {
    let mut beginning = [0; 64];
    let n = File::open(path).and_then(|mut file| file.read(&mut beginning)).map_err(|e| Error::file(path, e))?;
    let beginning = &beginning[..n];
    match SOMETHING_ELSE.iter().find(|(magic, _)| beginning.starts_with(magic)) {
        Some((_, what)) => Err(Error::file(path, what)),
        None => Ok(beginning.to_vec()),
    }
}

/// A file whose name says Parquet and whose bytes do not.
pub(super) fn misnamed(path: &Path) -> Error {
    Error::file(path, "is called .parquet, but does not begin as a Parquet file does")
}

/// Appends the rows of a file; returns the columns of which something was left out (bytes that are no text).
///
/// What it is shows in its first bytes (Parquet, gzip, Zstandard) or in its name (CSV, TSV); all else is JSON: an array of
/// objects, one object, or JSON lines. A byte-order mark, CRLF and blank lines are passed over. Errors: no such file, another
/// kind of file, JSON that does not parse (with its line), a row that is no object.
pub fn read_file(path: &Path, rows: &mut Vec<Row>) -> Result<BTreeSet<String>> {
    let beginning = beginning(path)?;
    let shown = Arc::new(path.to_path_buf());
    let row = |(line, fields)| Row { path: shown.clone(), line, fields };
    if beginning.starts_with(b"PAR1") {
        let mut objects = ParquetRows::open(path)?;
        for (line, object) in (1..).zip(&mut objects) {
            rows.push(row((line, object?)));
        }
        return Ok(objects.left_out);
    }
    let bytes = decompressed(path, fs::read(path).map_err(|e| Error::file(path, e))?)?;
    let separator = match FileKind::of(path) {
        Some(FileKind::Csv) => b',',
        Some(FileKind::Tsv) => b'\t',
        Some(FileKind::Parquet) => return Err(misnamed(path)),
        Some(FileKind::Json) | None => {
            read_json(read_text(path, &bytes)?, shown, rows)?;
            return Ok(BTreeSet::new());
        }
    };
    let bytes: Arc<[u8]> = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes).into();
    let reader = || Box::new(Cursor::new(bytes.clone()));
    for record in CsvRows::open(path, reader(), reader(), separator)? {
        rows.push(row(record?));
    }
    Ok(BTreeSet::new())
}

/// The bytes themselves, or what gzip or Zstandard (several frames, too) has packed into them.
fn decompressed(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let unpacked = if bytes.starts_with(b"\x1F\x8B") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut all).map_err(|e| format!("gzip: {e}"))
    } else if bytes.starts_with(b"\x28\xB5\x2F\xFD") {
        zstd_frames(&bytes, &mut all).map_err(|e| format!("Zstandard: {e}"))
    } else {
        return Ok(bytes);
    };
    unpacked.map_err(|e| Error::file(path, format!("cannot be decompressed ({e}); is the file whole?")))?;
    Ok(all)
}

fn zstd_frames(mut bytes: &[u8], all: &mut Vec<u8>) -> std::result::Result<usize, String> {
    while !bytes.is_empty() {
        let mut frame = ruzstd::decoding::StreamingDecoder::new(&mut bytes).map_err(|e| e.to_string())?;
        frame.read_to_end(all).map_err(|e| e.to_string())?;
    }
    Ok(all.len())
}

/// A file's bytes as text, behind its byte-order mark.
pub(super) fn read_text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::data(path, line, "is not UTF-8 text; save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

/// The rows of JSON text: an array of objects, one object, or an object a line.
pub(super) fn read_json(text: &str, path: Arc<PathBuf>, rows: &mut Vec<Row>) -> Result<()> {
    if text.trim_start().starts_with('[') {
        return read_array(text, path, rows);
    }
    if let Ok(Json::Object(fields)) = object(text) {
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
        rows.push(Row { path: path.clone(), line: line_number, fields: json_line(line, &path, line_number)? });
    }
    Ok(())
}

/// The object that a line is. Errors: another value, no JSON.
pub(super) fn json_line(line: &str, path: &Path, number: usize) -> Result<Map<String, Json>> {
    match object(line) {
        Ok(Json::Object(fields)) => Ok(fields),
        Ok(other) => Err(not_an_object(path, number, &other)),
        Err(e) => Err(Error::data(path, number, format!("bad JSON at column {}: {}", e.column(), cause(&e)))),
    }
}

/// JSON, a lone number in words: what stands for one is an object, but no row.
fn object(text: &str) -> serde_json::Result<Json> {
    exact_json::parse(text).map(|value| match exact_json::exact_number(&value) {
        Some(number) => Json::from(number),
        None => value,
    })
}

fn read_array(text: &str, path: Arc<PathBuf>, rows: &mut Vec<Row>) -> Result<()> {
    let bad = |e: serde_json::Error| {
        Error::data(path.as_ref(), e.line(), format!("bad JSON at column {}: {}", e.column(), cause(&e)))
    };
    let Json::Array(items) = exact_json::parse(text).map_err(bad)? else {
        return Err(Error::data(path.as_ref(), 1, "begins as a list of rows, but is none"));
    };
    for (index, item) in items.into_iter().enumerate() {
        match item {
            item if exact_json::exact_number(&item).is_some() => return Err(not_an_object(&path, index + 1, &item)),
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
        number if exact_json::exact_number(number).is_some() => "a number",
        Json::Null => return "null".into(),
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
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
        let mut rows = Vec::new();
        read_file(&path, &mut rows).map(|_| rows)
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

    /// Python writes NaN and Infinity, and whole numbers of any size.
    #[test]
    fn numbers_that_python_writes() {
        let rows = read("a.jsonl", b"{\"text\": \"ab\", \"score\": NaN, \"id\": 123456789012345678901}\n").unwrap();
        assert_eq!(rows[0].fields["text"], "ab");
        assert_eq!(kind(&rows[0].fields["score"]), "a number (NaN)");
        assert_eq!(kind(&rows[0].fields["id"]), "a number (123456789012345678901)");
        assert_eq!(read("a.json", b"[{\"x\": -Infinity}]").unwrap().len(), 1);
        assert_eq!(read("a.json", b"{\n\"x\": Infinity}").unwrap().len(), 1);
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
        for (content, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"[..], "Git LFS"),
            (b"ARROW1\0\0", "Arrow"),
            (b"PK\x03\x04", "zip"),
            (b"BZh9", "bzip2"),
            (b"PAR1 no", "Parquet"),
            (b"\x1F\x8B no", "gzip"),
            (b"\x28\xB5\x2F\xFD no", "Zstandard"),
        ] {
            let told = text(read("a.jsonl", content));
            assert!(told.contains(what) && !told.contains('\n'), "{told}");
        }
    }
}
