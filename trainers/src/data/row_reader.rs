//! The rows of a file, one at a time: data may be larger than memory.
use super::csv_rows::CsvRows;
use super::parquet_rows::ParquetRows;
use super::read::{FileKind, Row, beginning, json_line, misnamed, read_file};
use crate::error::{Error, Result};
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rows that [`read_file`] would give, with one in memory at a time.
///
/// JSON that is no object a line (an array, an object over several lines) is read whole.
pub struct RowReader {
    path: Arc<PathBuf>,
    rows: OpenRows,
    /// The columns of which something was left out so far.
    pub left_out: BTreeSet<String>,
}

enum OpenRows {
    Lines(JsonLineReader),
    Csv(CsvRows),
    Parquet(usize, Box<ParquetRows>),
    Whole(std::vec::IntoIter<Row>),
}

impl RowReader {
    /// Errors: no such file, one that is something else than rows.
    pub fn open(path: &Path) -> Result<Self> {
        let beginning = beginning(path)?;
        let mut left_out = BTreeSet::new();
        let text = || open_text(path, &beginning);
        let table = |separator| CsvRows::open(path, Box::new(text()?), Box::new(text()?), separator).map(OpenRows::Csv);
        let rows = match FileKind::of(path) {
            _ if beginning.starts_with(b"PAR1") => OpenRows::Parquet(0, Box::new(ParquetRows::open(path)?)),
            Some(FileKind::Parquet) => return Err(misnamed(path)),
            Some(FileKind::Csv) => table(b',')?,
            Some(FileKind::Tsv) => table(b'\t')?,
            Some(FileKind::Json) | None => {
                let mut lines = JsonLineReader::of(path, text()?);
                if lines.begins_a_longer_value()? {
                    let mut rows = Vec::new();
                    left_out = read_file(path, &mut rows)?;
                    OpenRows::Whole(rows.into_iter())
                } else {
                    OpenRows::Lines(JsonLineReader::of(path, text()?))
                }
            }
        };
        Ok(RowReader { path: Arc::new(path.to_path_buf()), rows, left_out })
    }

    /// Whether the whole file is in memory, since it cannot be read row by row.
    pub fn is_whole(&self) -> bool {
        matches!(self.rows, OpenRows::Whole(_))
    }
}

impl Iterator for RowReader {
    type Item = Result<Row>;
    fn next(&mut self) -> Option<Result<Row>> {
        let row = match &mut self.rows {
            OpenRows::Whole(rows) => return rows.next().map(Ok),
            OpenRows::Lines(lines) => lines.next_object().transpose()?,
            OpenRows::Csv(rows) => rows.next()?,
            OpenRows::Parquet(n, rows) => {
                *n += 1;
                let row = rows.next()?.map(|fields| (*n, fields));
                if rows.left_out.len() > self.left_out.len() {
                    self.left_out.clone_from(&rows.left_out);
                }
                row
            }
        };
        Some(row.map(|(line, fields)| Row { path: self.path.clone(), line, fields }))
    }
}

/// A JSON object a line. A byte-order mark, CRLF and blank lines are passed over.
struct JsonLineReader {
    text: Box<dyn BufRead>,
    path: PathBuf,
    line: usize,
    bytes: Vec<u8>,
    current: String,
}

impl JsonLineReader {
    fn of(path: &Path, text: Box<dyn BufRead>) -> Self {
        JsonLineReader { text, path: path.to_path_buf(), line: 0, bytes: Vec::new(), current: String::new() }
    }

    /// Reads the next line that is not blank into `current`; false at the end.
    fn next_line(&mut self) -> Result<bool> {
        loop {
            self.bytes.clear();
            let n = self.text.read_until(b'\n', &mut self.bytes).map_err(|e| Error::file(&self.path, e))?;
            if n == 0 {
                return Ok(false);
            }
            self.line += 1;
            let line = std::str::from_utf8(&self.bytes)
                .map_err(|_| Error::data(&self.path, self.line, "is not UTF-8 text; save the file as UTF-8"))?;
            if !line.trim().is_empty() {
                self.current.clear();
                self.current.push_str(line.strip_suffix('\n').unwrap_or(line));
                return Ok(true);
            }
        }
    }

    fn next_object(&mut self) -> Result<Option<(usize, Map<String, Json>)>> {
        if !self.next_line()? {
            return Ok(None);
        }
        json_line(&self.current, &self.path, self.line).map(|fields| Some((self.line, fields)))
    }

    /// Whether the file is an array, or its name says JSON and its first line is not whole.
    fn begins_a_longer_value(&mut self) -> Result<bool> {
        let name = self.path.to_string_lossy().to_ascii_lowercase();
        let is_lines = [".jsonl", ".ndjson"].iter().any(|end| name.contains(end));
        let there = self.next_line()?;
        let is_array = self.current.trim_start().starts_with('[');
        Ok(there && (is_array || !is_lines && json_line(&self.current, &self.path, 1).is_err()))
    }
}

/// The text of a file, decompressed as it is read, behind its byte-order mark.
fn open_text(path: &Path, beginning: &[u8]) -> Result<Box<dyn BufRead>> {
    let failed = |e: io::Error| Error::file(path, e);
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let mut text: Box<dyn BufRead> = if beginning.starts_with(b"\x1F\x8B") {
        Box::new(BufReader::new(Unpacked("gzip", MultiGzDecoder::new(file))))
    } else if beginning.starts_with(b"\x28\xB5\x2F\xFD") {
        Box::new(BufReader::new(Unpacked("Zstandard", ZstdFrames { source: Some(file), frame: None })))
    } else {
        Box::new(file)
    };
    if text.fill_buf().map_err(failed)?.starts_with(b"\xEF\xBB\xBF") {
        text.consume(3);
    }
    Ok(text)
}

/// What cannot be decompressed is told as such.
struct Unpacked<R>(&'static str, R);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let told = |e| io::Error::other(format!("cannot be decompressed ({}: {e}); is the file whole?", self.0));
        self.1.read(to).map_err(told)
    }
}

/// Frames of Zstandard, one behind the other.
struct ZstdFrames {
    source: Option<BufReader<File>>,
    frame: Option<StreamingDecoder<BufReader<File>, FrameDecoder>>,
}

impl Read for ZstdFrames {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let n = frame.read(to)?;
                if n > 0 || to.is_empty() {
                    return Ok(n);
                }
            }
            let source = self.frame.take().map(StreamingDecoder::into_inner).or_else(|| self.source.take());
            let Some(mut source) = source else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(StreamingDecoder::new(source).map_err(io::Error::other)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
    }

    /// The same rows, places and left-out columns as where a file is read whole, for every kind of file.
    #[test]
    fn rows_are_those_of_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            dir.path().join(name)
        };
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(b"id,text\n1,a\n,b\n").unwrap();
        let table = b"\xEF\xBB\xBFid,text,n\n1,\"a\nb\",007\n,c,8\n3,d,x\n";
        let files = [
            made(
                "a.jsonl",
                b"\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n  \n{\"text\": \"b\", \"n\": 123456789012345678901}",
            ),
            made("a.json", b"[{\"text\": \"a\"},\n {\"text\": \"b\"}]"),
            made("b.json", b"{\n \"text\": \"a\"\n}\n"),
            made("c.json", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n"),
            made("a.csv", table),
            made("b.csv.gz", &gz.finish().unwrap()),
            golden("data_files/rows.jsonl.gz"),
            golden("data_files/rows.jsonl.zst"),
            golden("data_files/bytes.parquet"),
            golden("data_files/snappy.parquet"),
            golden("data_files/zstd-2.parquet"),
        ];
        for file in files {
            let mut whole = Vec::new();
            let left_out = read_file(&file, &mut whole).unwrap();
            let mut reader = RowReader::open(&file).unwrap();
            let rows: Vec<Row> = (&mut reader).collect::<Result<_>>().unwrap();
            assert_eq!((rows, &reader.left_out), (whole, &left_out), "{}", file.display());
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(reader.is_whole(), ["a.json", "b.json"].contains(&name.as_str()), "{name}");
        }
    }

    /// What is wrong is told with the words of the whole file's reader.
    #[test]
    fn errors_are_those_of_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let zst = std::fs::read(golden("data_files/rows.jsonl.zst")).unwrap();
        for (name, bytes) in [
            ("a.jsonl", &b"{\"text\": \"a\"}\n{\"text\": \n"[..]),
            ("b.jsonl", b"{\"text\": \"a\"}\n7\n"),
            ("c.jsonl", b"{\"text\": \"a\"}\n\xFF\xFE"),
            ("d.csv", b"a,b\n1,2\n1,2,3\n"),
            ("e.parquet", b"{\"text\": \"a\"}\n"),
            ("f.jsonl", b"PK\x03\x04"),
            ("g.jsonl", b"PAR1 no"),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let whole = read_file(&path, &mut Vec::new()).unwrap_err().to_string();
            let told = RowReader::open(&path).and_then(|rows| rows.collect::<Result<Vec<Row>>>()).unwrap_err();
            assert_eq!(told.to_string(), whole, "{name}");
        }
        let cut = dir.path().join("h.jsonl.zst");
        std::fs::write(&cut, &zst[..zst.len() - 8]).unwrap();
        let told = RowReader::open(&cut).and_then(|rows| rows.collect::<Result<Vec<Row>>>()).unwrap_err().to_string();
        assert!(told.contains("cannot be decompressed (Zstandard"), "{told}");
    }
}
