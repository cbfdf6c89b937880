//! Rows of CSV and TSV files, with the types that pandas and so the datasets library would give their columns.
use crate::error::{Error, Result};
use crate::text::exact_json;
use csv::StringRecord;
use serde_json::{Map, Value as Json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What pandas takes for "nothing here" (`pandas._libs.parsers.STR_NA_VALUES`).
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The objects of a file, one at a time, each with the line that it begins in.
///
/// A column is whole numbers, numbers, truth values or text: the first of these that all its fields are, empty ones left
/// aside; those are null, and make a column of whole numbers one of floats. So a file is read twice: for the types, then
/// for the rows.
pub struct CsvRows {
    reader: csv::Reader<Box<dyn Read>>,
    record: StringRecord,
    path: PathBuf,
    names: Vec<String>,
    kinds: Vec<ColumnType>,
}

impl CsvRows {
    /// `first` and `again` give the same bytes, each once; `separator` parts the fields: a comma, or a tab.
    ///
    /// Errors: text that is not UTF-8, a row with more fields than the header.
    pub fn open(path: &Path, first: Box<dyn Read>, again: Box<dyn Read>, separator: u8) -> Result<Self> {
        let reader = |bytes| csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(bytes);
        let mut reading = reader(first);
        let names = names(reading.headers().map_err(|e| broken(path, &e))?);
        let (mut seen, mut record) = (vec![FieldCounts::default(); names.len()], StringRecord::new());
        while next(&mut reading, &mut record, path, names.len())?.is_some() {
            seen.iter_mut().enumerate().for_each(|(i, seen)| seen.add(record.get(i).unwrap_or_default()));
        }
        let kinds = seen.iter().map(FieldCounts::kind).collect();
        Ok(CsvRows { reader: reader(again), record, path: path.to_path_buf(), names, kinds })
    }
}

impl Iterator for CsvRows {
    type Item = Result<(usize, Map<String, Json>)>;
    fn next(&mut self) -> Option<Self::Item> {
        let line = match next(&mut self.reader, &mut self.record, &self.path, self.names.len()) {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let fields = self.names.iter().zip(&self.kinds).enumerate();
        let value = |(i, (name, kind)): (usize, (&String, &ColumnType))| {
            (name.clone(), kind.value(self.record.get(i).unwrap_or_default()))
        };
        Some(Ok((line, fields.map(value).collect())))
    }
}

/// Reads the next record and gives its line; None at the end.
fn next(
    reader: &mut csv::Reader<Box<dyn Read>>,
    record: &mut StringRecord,
    path: &Path,
    known: usize,
) -> Result<Option<usize>> {
    if !reader.read_record(record).map_err(|e| broken(path, &e))? {
        return Ok(None);
    }
    let (line, found) = (record.position().map_or(0, |at| at.line() as usize), record.len());
    if found > known {
        return Err(Error::data(
            path,
            line,
            format!(
                "the row has {found} fields, the header {known}; a field with the separator in it must stand in double \
                 quotes"
            ),
        ));
    }
    Ok(Some(line))
}

fn broken(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, |at| at.line() as usize);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => Error::data(path, line, "is not UTF-8 text; save the file as UTF-8"),
        _ => Error::data(path, line, format!("cannot be read as CSV: {error}")),
    }
}

/// The header's names, made different where they are not, and made up where they are missing, as pandas does.
fn names(header: &StringRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, name) in header.iter().enumerate() {
        let name = if name.is_empty() { format!("Unnamed: {i}") } else { name.to_string() };
        let numbered = (1..).map(|n| format!("{name}.{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
        names.push(free.unwrap_or(name));
    }
    names
}

/// What all fields of a column are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ColumnType {
    Nothing,
    Whole,
    Number,
    Truth,
    Text,
}

/// What the fields of a column were so far.
#[derive(Clone, Debug, Default)]
struct FieldCounts {
    fields: usize,
    given: usize,
    /// Fields that are whole numbers within i64, within u64, and beyond i64.
    signed: usize,
    unsigned: usize,
    huge: usize,
    numbers: usize,
    truths: usize,
}

impl FieldCounts {
    fn add(&mut self, field: &str) {
        self.fields += 1;
        if NOTHING.contains(&field) {
            return;
        }
        let signed = field.trim().parse::<i64>().is_ok();
        self.given += 1;
        self.signed += usize::from(signed);
        self.unsigned += usize::from(field.trim().parse::<u64>().is_ok());
        self.huge += usize::from(whole(field) && !signed);
        self.numbers += usize::from(number(field).is_some());
        self.truths += usize::from(truth(field).is_some());
    }

    fn kind(&self) -> ColumnType {
        if self.given == 0 {
            ColumnType::Nothing
        } else if self.signed == self.given || self.unsigned == self.given {
            if self.given == self.fields { ColumnType::Whole } else { ColumnType::Number }
        } else if self.numbers == self.given {
            // Beyond 64 bits pandas gives up on whole numbers: such a column is text.
            if self.huge > 0 { ColumnType::Text } else { ColumnType::Number }
        } else if self.truths == self.given {
            ColumnType::Truth
        } else {
            ColumnType::Text
        }
    }
}

impl ColumnType {
    fn value(self, field: &str) -> Json {
        if NOTHING.contains(&field) {
            return Json::Null;
        }
        let value = match self {
            ColumnType::Nothing => None,
            ColumnType::Whole => {
                let field = field.trim();
                field.parse::<i64>().map(Json::from).or_else(|_| field.parse::<u64>().map(Json::from)).ok()
            }
            ColumnType::Number => number(field).map(exact_json::of_float),
            ColumnType::Truth => truth(field).map(Json::from),
            ColumnType::Text => None,
        };
        value.unwrap_or_else(|| Json::from(field))
    }
}

fn whole(field: &str) -> bool {
    let digits = field.trim().trim_start_matches(['+', '-']);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Rust's floats are pandas' (`1.`, `.5`, `1e3`, `-inf`, `Infinity`), but for "nan", which is none there.
fn number(field: &str) -> Option<f64> {
    field.trim().parse::<f64>().ok().filter(|x| !x.is_nan())
}

fn truth(field: &str) -> Option<bool> {
    match field {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}
