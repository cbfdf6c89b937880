//! Rows of Parquet files as JSON objects, as the datasets library's `to_list` gives them.
use super::zstd_pages::Group;
use crate::error::{Error, Result};
use crate::text::exact_json;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Value as Json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Once};

thread_local! {
    /// Whether this thread turns panics into errors, so that nothing is to be printed about them.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `read` returns, or None where it panicked: the parquet crate does on some damaged files.
fn caught<T>(read: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info)
            }
        }));
    });
    CAUGHT.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    CAUGHT.set(false);
    outcome.ok()
}

/// The objects of a file, in order, and the columns of which something was left out: bytes that are no text.
///
/// Dates and times become text, decimals too; everything else is what it is. Errors: no whole Parquet file, a compression
/// that is not known.
pub fn read(path: &Path) -> Result<(Vec<Map<String, Json>>, BTreeSet<String>)> {
    let damaged =
        || Error::file(path, "cannot be read as a Parquet file (its values contradict each other); is it whole?");
    caught(|| read_whole(path)).unwrap_or_else(|| Err(damaged()))
}

fn read_whole(path: &Path) -> Result<(Vec<Map<String, Json>>, BTreeSet<String>)> {
    let broken = |e: parquet::errors::ParquetError| {
        let text = e.to_string().replace('\n', " ");
        if let Some((_, codec)) = text.split_once("Disabled feature at compile time: ") {
            return Error::file(path, format!("is compressed by {codec}; write it with snappy, gzip, lz4 or zstd"));
        }
        let text = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
        Error::file(path, format!("cannot be read as a Parquet file ({text}); is it whole?"))
    };
    let open = || File::open(path).map_err(|e| Error::file(path, e));
    let (file, again) = (SerializedFileReader::new(open()?).map_err(broken)?, Arc::new(open()?));
    let (mut rows, mut left_out) = (Vec::new(), BTreeSet::new());
    for i in 0..file.num_row_groups() {
        let group = Group { inner: file.get_row_group(i).map_err(broken)?, file: again.clone() };
        for record in group.get_row_iter(None).map_err(broken)? {
            rows.push(object(&record.map_err(broken)?, &mut left_out));
        }
    }
    Ok((rows, left_out))
}

fn object(record: &Record, left_out: &mut BTreeSet<String>) -> Map<String, Json> {
    let mut fields = Map::new();
    for (name, field) in record.get_column_iter() {
        match value(field) {
            Some(value) => drop(fields.insert(name.clone(), value)),
            None => drop(left_out.insert(name.clone())),
        }
    }
    fields
}

/// A field as JSON; None of bytes that are no text, whole or inside of it.
fn value(field: &Field) -> Option<Json> {
    Some(match field {
        Field::Null => Json::Null,
        Field::Bool(x) => Json::from(*x),
        Field::Byte(x) => Json::from(*x),
        Field::Short(x) => Json::from(*x),
        Field::Int(x) => Json::from(*x),
        Field::Long(x) => Json::from(*x),
        Field::UByte(x) => Json::from(*x),
        Field::UShort(x) => Json::from(*x),
        Field::UInt(x) => Json::from(*x),
        Field::ULong(x) => Json::from(*x),
        Field::Float16(x) => exact_json::of_float(f64::from(f32::from(*x))),
        Field::Float(x) => exact_json::of_float(f64::from(*x)),
        Field::Double(x) => exact_json::of_float(*x),
        Field::Str(text) => Json::from(text.as_str()),
        Field::Bytes(bytes) => Json::from(bytes.as_utf8().ok()?),
        Field::Group(record) => {
            let mut missing = BTreeSet::new();
            let fields = object(record, &mut missing);
            Json::Object(Some(fields).filter(|_| missing.is_empty())?)
        }
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Option<Json>>()?,
        Field::MapInternal(map) => {
            let key = |key: &Field| match value(key)? {
                Json::String(text) => Some(text),
                other => Some(exact_json::to_text(&other)),
            };
            let pair = |(k, v): &(Field, Field)| Some((key(k)?, value(v)?));
            Json::Object(map.entries().iter().map(pair).collect::<Option<_>>()?)
        }
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_)
        | Field::Decimal(_) => Json::from(field.to_string()),
    })
}
