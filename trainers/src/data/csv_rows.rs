//! Rows of CSV and TSV files, with the types that pandas and so the datasets library would give their columns.
use crate::error::{Error, Result};
use crate::text::exact_json;
use csv::StringRecord;
use serde_json::{Map, Value as Json};
use std::path::Path;

/// What pandas takes for "nothing here" (`pandas._libs.parsers.STR_NA_VALUES`).
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The objects of a file with the line that each begins in. `separator` parts the fields: a comma, or a tab.
///
/// A column is whole numbers, numbers, truth values or text: the first of these that all its fields are, empty ones left
/// aside; those are null, and make a column of whole numbers one of floats. Errors: text that is not UTF-8, a row with more
/// fields than the header.
pub fn read(path: &Path, bytes: &[u8], separator: u8) -> Result<Vec<(usize, Map<String, Json>)>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(bytes);
    let names = names(reader.headers().map_err(|e| broken(path, &e))?);
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| broken(path, &e))?;
        let line = record.position().map_or(0, |at| at.line() as usize);
        if record.len() > names.len() {
            let (found, known) = (record.len(), names.len());
            return Err(Error::data(
                path,
                line,
                format!(
                    "the row has {found} fields, the header {known}; a field with the separator in it must stand in \
                     double quotes"
                ),
            ));
        }
        records.push((line, record));
    }
    let kinds: Vec<ColumnType> = (0..names.len()).map(|column| ColumnType::of(&records, column)).collect();
    let row = |record: &StringRecord| {
        let fields = names.iter().zip(&kinds).enumerate();
        fields.map(|(i, (name, kind))| (name.clone(), kind.value(record.get(i).unwrap_or_default()))).collect()
    };
    Ok(records.iter().map(|(line, record)| (*line, row(record))).collect())
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

impl ColumnType {
    fn of(records: &[(usize, StringRecord)], column: usize) -> ColumnType {
        let fields = || records.iter().map(|(_, record)| record.get(column).unwrap_or_default());
        let given = || fields().filter(|field| !NOTHING.contains(field));
        let all = |is: &dyn Fn(&str) -> bool| given().all(is);
        if given().next().is_none() {
            ColumnType::Nothing
        } else if all(&|field| field.trim().parse::<i64>().is_ok()) || all(&|field| field.trim().parse::<u64>().is_ok())
        {
            if given().count() == fields().count() { ColumnType::Whole } else { ColumnType::Number }
        } else if all(&|field| number(field).is_some()) {
            // Beyond 64 bits pandas gives up on whole numbers: such a column is text.
            let huge = |field: &str| whole(field) && field.trim().parse::<i64>().is_err();
            if given().any(huge) { ColumnType::Text } else { ColumnType::Number }
        } else if all(&|field| truth(field).is_some()) {
            ColumnType::Truth
        } else {
            ColumnType::Text
        }
    }

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
