//! Rows of Parquet files as JSON objects, as the datasets library's `to_list` gives them.
use super::zstd_pages::Group;
use crate::error::{Error, Result};
use crate::text::exact_json;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
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

/// The objects of a file, one at a time and in order.
///
/// Dates and times become text, decimals too; everything else is what it is.
pub struct ParquetRows {
    rows: RowIter<'static>,
    path: PathBuf,
    /// The columns of which something was left out so far: bytes that are no text.
    pub left_out: BTreeSet<String>,
}

/// A file in which column chunks compressed by Zstandard can be read too.
struct AnyCodec {
    inner: SerializedFileReader<File>,
    again: Arc<File>,
}

impl FileReader for AnyCodec {
    fn metadata(&self) -> &ParquetMetaData {
        self.inner.metadata()
    }
    fn num_row_groups(&self) -> usize {
        self.inner.num_row_groups()
    }
    fn get_row_group(&self, i: usize) -> parquet::errors::Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Group { inner: self.inner.get_row_group(i)?, file: self.again.clone() }))
    }
    fn get_row_iter(&self, projection: Option<Type>) -> parquet::errors::Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

fn damaged(path: &Path) -> Error {
    Error::file(path, "cannot be read as a Parquet file (its values contradict each other); is it whole?")
}

fn broken(path: &Path, e: &ParquetError) -> Error {
    let text = e.to_string().replace('\n', " ");
    if let Some((_, codec)) = text.split_once("Disabled feature at compile time: ") {
        return Error::file(path, format!("is compressed by {codec}; write it with snappy, gzip, lz4 or zstd"));
    }
    let text = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
    Error::file(path, format!("cannot be read as a Parquet file ({text}); is it whole?"))
}

impl ParquetRows {
    /// Errors: no Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || File::open(path).map_err(|e| Error::file(path, e));
        let (file, again) = (open()?, Arc::new(open()?));
        let rows = caught(|| {
            let inner = SerializedFileReader::new(file)?;
            Ok(RowIter::from_file_into(Box::new(AnyCodec { inner, again })))
        });
        let rows = rows.ok_or_else(|| damaged(path))?.map_err(|e| broken(path, &e))?;
        Ok(ParquetRows { rows, path: path.to_path_buf(), left_out: BTreeSet::new() })
    }
}

/// Errors: values that cannot be read, a compression that is not known.
impl Iterator for ParquetRows {
    type Item = Result<Map<String, Json>>;
    fn next(&mut self) -> Option<Self::Item> {
        let (rows, left_out) = (&mut self.rows, &mut self.left_out);
        let Some(record) = caught(|| rows.next().map(|record| record.map(|record| object(&record, left_out)))) else {
            return Some(Err(damaged(&self.path)));
        };
        record.map(|record| record.map_err(|e| broken(&self.path, &e)))
    }
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
