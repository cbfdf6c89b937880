//! Rows from standard input, or from a file of plain lines.
use super::load::{DataSet, Loaded, load};
use super::others::{Calls, adopt};
use super::read::{Row, read_text};
use crate::error::{Error, Result};
use serde_json::Map;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

/// What stands for standard input where a data set is named.
pub const STDIN: &str = "-";

/// As [`load`], with `-` for standard input. Of that, and of a file called `.txt`, each line that is not blank is a row with
/// this column where the first is no JSON; None: lines must be JSON.
pub fn load_or_read(set: DataSet, text_column: Option<&str>, calls: Calls) -> Result<Loaded> {
    let is_text = set.path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt")) && text_column.is_some();
    if set.path != Path::new(STDIN) && !is_text {
        return load(set, calls);
    }
    let (name, bytes) = match is_text {
        true => (set.path.display().to_string(), std::fs::read(set.path).map_err(|e| Error::file(set.path, e))?),
        false => ("standard input".to_string(), standard_input()?),
    };
    let rows = rows_of(&name, &bytes, text_column)?;
    if rows.is_empty() {
        return Err(Error::input(format!("{name} has no rows; each line is to be one")));
    }
    let (rows, notes) = adopt(rows, calls)?;
    Ok(Loaded { rows, notes, files: Vec::new() })
}

/// All that is piped in as one text, without the line's end behind it; None on a terminal and of nothing but blanks.
pub fn piped_text() -> Result<Option<String>> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let text = String::from_utf8(standard_input()?).map_err(|_| Error::input("standard input is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok((!text.trim().is_empty()).then(|| text.to_string()))
}

fn standard_input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| Error::input(format!("standard input cannot be read: {e}")))?;
    Ok(bytes)
}

fn rows_of(name: &str, bytes: &[u8], text_column: Option<&str>) -> Result<Vec<Row>> {
    let path = Arc::new(name.into());
    let text = read_text(Path::new(name), bytes)?;
    let is_json = text.trim_start().starts_with(['{', '[']);
    match text_column.filter(|_| !is_json) {
        None => {
            let mut rows = Vec::new();
            super::read::read_json(text, path, &mut rows)?;
            Ok(rows)
        }
        Some(column) => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let row = |(i, line): (usize, &str)| {
                let fields = Map::from_iter([(column.to_string(), line.into())]);
                Row { path: path.clone(), line: i + 1, fields }
            };
            Ok(lines.map(row).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_or_text() {
        let of = |text: &str, column| rows_of("standard input", text.as_bytes(), column);
        let rows = of("What is 1 + 1?\r\n\nWho?\n", Some("prompt")).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.line, row.fields["prompt"].as_str())).collect::<Vec<_>>(),
            [(1, Some("What is 1 + 1?")), (3, Some("Who?"))]
        );
        for text in ["{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n", "[{\"prompt\": \"a\"}, {\"prompt\": \"b\"}]"] {
            assert_eq!(of(text, Some("prompt")).unwrap()[1].fields["prompt"], "b");
        }
        let told = of("{\"prompt\": \"a\"}\noh\n", Some("prompt")).unwrap_err().to_string();
        assert!(told.starts_with("standard input:2: bad JSON"), "{told}");
        assert!(of("oh\n", None).is_err());
    }

    #[test]
    fn a_file_of_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let rows = load_or_read(DataSet::of(&path), Some("prompt"), Calls::AsCalls).unwrap().rows;
        assert_eq!((rows.len(), rows[1].fields["prompt"].as_str()), (2, Some("two")));
        std::fs::write(&path, "\n").unwrap();
        assert!(load_or_read(DataSet::of(&path), Some("prompt"), Calls::AsCalls).is_err());
    }
}
