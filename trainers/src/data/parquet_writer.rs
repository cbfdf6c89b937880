//! Rows as a Parquet file: the types of columns from all values, and values laid out by column.
//!
//! A nested value becomes leaves with two numbers each, which say how much of its path is there and which list goes on
//! (S. Melnik et al., "Dremel: interactive analysis of web-scale datasets", VLDB 2010, section 4).
use crate::error::{Error, Result};
use crate::text::exact_json;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use serde_json::{Map, Value as Json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Rows that are laid out together.
const GROUP: usize = 10_000;

/// What the values of a column, or of a place in them, are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ColumnShape {
    /// Only null so far.
    #[default]
    Nothing,
    /// true and false
    Truth,
    /// Whole numbers within 64 bits.
    Whole,
    /// Floating-point numbers.
    Number,
    /// Text.
    Text,
    /// Lists.
    List(Box<ColumnShape>),
    /// Objects, by key in the order in which they come.
    Object(Vec<(String, ColumnShape)>),
    /// Values of several kinds: their JSON text.
    Mixed,
}

impl ColumnShape {
    /// The shape of one value.
    fn of(value: &Json) -> ColumnShape {
        match value {
            Json::Null => ColumnShape::Nothing,
            Json::Bool(_) => ColumnShape::Truth,
            Json::Number(n) if n.as_i64().is_some() => ColumnShape::Whole,
            Json::Number(n) if n.is_f64() => ColumnShape::Number,
            Json::Number(_) => ColumnShape::Mixed,
            Json::String(_) => ColumnShape::Text,
            Json::Array(list) => {
                let mut shape = ColumnShape::Nothing;
                list.iter().for_each(|item| shape.add(ColumnShape::of(item)));
                ColumnShape::List(Box::new(shape))
            }
            Json::Object(fields) => match exact_json::exact_number(value) {
                Some(number) => match number.trim_start_matches(['-', '0']).chars().all(|c| c.is_ascii_digit()) {
                    true => ColumnShape::Mixed,
                    false => ColumnShape::Number,
                },
                // There is no group without columns.
                None if fields.is_empty() => ColumnShape::Mixed,
                None => ColumnShape::Object(fields.iter().map(|(k, v)| (k.clone(), ColumnShape::of(v))).collect()),
            },
        }
    }

    /// Takes a further value in.
    pub fn see(&mut self, value: &Json) {
        self.add(ColumnShape::of(value));
    }

    fn add(&mut self, other: ColumnShape) {
        use ColumnShape::*;
        match (&mut *self, other) {
            (_, Nothing) => {}
            (Nothing, other) => *self = other,
            (Whole, Number) => *self = Number,
            (Number, Whole) => {}
            (List(mine), List(other)) => mine.add(*other),
            (Object(mine), Object(others)) => {
                for (key, shape) in others {
                    match mine.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, known)) => known.add(shape),
                        None => mine.push((key, shape)),
                    }
                }
            }
            (mine, other) if *mine == other => {}
            _ => *self = Mixed,
        }
    }

    /// Whether values here, or somewhere in them, are written as their JSON text.
    pub fn is_mixed(&self) -> bool {
        match self {
            ColumnShape::Mixed => true,
            ColumnShape::List(items) => items.is_mixed(),
            ColumnShape::Object(fields) => fields.iter().any(|(_, shape)| shape.is_mixed()),
            _ => false,
        }
    }

    /// As Parquet's schema has it, under this name.
    fn schema(&self, name: &str) -> parquet::errors::Result<Arc<Type>> {
        let leaf = |kind| Type::primitive_type_builder(name, kind).with_repetition(Repetition::OPTIONAL);
        let made = match self {
            ColumnShape::Truth => leaf(Physical::BOOLEAN).build(),
            ColumnShape::Whole => leaf(Physical::INT64).build(),
            ColumnShape::Number => leaf(Physical::DOUBLE).build(),
            ColumnShape::Nothing | ColumnShape::Text | ColumnShape::Mixed => leaf(Physical::BYTE_ARRAY)
                .with_logical_type(Some(LogicalType::String))
                .with_converted_type(ConvertedType::UTF8)
                .build(),
            ColumnShape::List(items) => {
                let list = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![items.schema("element")?])
                    .build()?;
                Type::group_type_builder(name)
                    .with_repetition(Repetition::OPTIONAL)
                    .with_logical_type(Some(LogicalType::List))
                    .with_converted_type(ConvertedType::LIST)
                    .with_fields(vec![Arc::new(list)])
                    .build()
            }
            ColumnShape::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, shape)| shape.schema(name)).collect::<parquet::errors::Result<_>>()?;
                Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL).with_fields(fields).build()
            }
        };
        made.map(Arc::new)
    }

    /// Empty leaves, in the order of the schema.
    fn leaves(&self, to: &mut Vec<Leaf>) {
        match self {
            ColumnShape::List(items) => items.leaves(to),
            ColumnShape::Object(fields) => fields.iter().for_each(|(_, shape)| shape.leaves(to)),
            other => to.push(Leaf { values: Values::of(other), definitions: vec![], repetitions: vec![] }),
        }
    }

    /// Lays a value out over the leaves from `at` on; returns the leaf behind its own. `definition`: how much of the path is
    /// there; `repetition`: which list goes on, of `depth` around it.
    fn lay(
        &self,
        value: Option<&Json>,
        (definition, repetition, depth): (i16, i16, i16),
        leaves: &mut [Leaf],
        at: usize,
    ) -> usize {
        let value = value.filter(|value| !value.is_null());
        match (self, value) {
            (ColumnShape::Object(fields), value) => {
                let definition = definition + i16::from(value.is_some());
                fields.iter().fold(at, |at, (name, shape)| {
                    shape.lay(value.and_then(|v| v.get(name)), (definition, repetition, depth), leaves, at)
                })
            }
            (ColumnShape::List(items), Some(Json::Array(list))) if !list.is_empty() => {
                let mut end = at;
                for (i, item) in list.iter().enumerate() {
                    let repetition = if i == 0 { repetition } else { depth + 1 };
                    end = items.lay(Some(item), (definition + 2, repetition, depth + 1), leaves, at);
                }
                end
            }
            (ColumnShape::List(items), value) => {
                items.lay(None, (definition + i16::from(value.is_some()), repetition, depth + 1), leaves, at)
            }
            (_, value) => {
                if let Some(leaf) = leaves.get_mut(at) {
                    let there = value.is_some_and(|value| leaf.values.push(value));
                    leaf.definitions.push(definition + i16::from(there));
                    leaf.repetitions.push(repetition);
                }
                at + 1
            }
        }
    }
}

/// The values of a leaf of the schema.
struct Leaf {
    values: Values,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

enum Values {
    Truth(Vec<bool>),
    Whole(Vec<i64>),
    Number(Vec<f64>),
    Text(Vec<ByteArray>),
}

impl Values {
    fn of(shape: &ColumnShape) -> Values {
        match shape {
            ColumnShape::Truth => Values::Truth(vec![]),
            ColumnShape::Whole => Values::Whole(vec![]),
            ColumnShape::Number => Values::Number(vec![]),
            _ => Values::Text(vec![]),
        }
    }

    /// Whether it is a value of this kind, which all are where the shape has seen them.
    fn push(&mut self, value: &Json) -> bool {
        match self {
            Values::Truth(all) => value.as_bool().map(|x| all.push(x)).is_some(),
            Values::Whole(all) => value.as_i64().map(|x| all.push(x)).is_some(),
            Values::Number(all) => float(value).map(|x| all.push(x)).is_some(),
            Values::Text(all) => {
                let text = value.as_str().map_or_else(|| exact_json::to_text(value), str::to_string);
                all.push(text.into_bytes().into());
                true
            }
        }
    }
}

fn float(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| match exact_json::exact_number(value)? {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    })
}

/// What the writer has made and nobody has taken yet: it wants a sink that another thread could have.
#[derive(Clone, Default)]
struct MadeFile(Arc<Mutex<Vec<u8>>>);

impl MadeFile {
    fn take(&self) -> Vec<u8> {
        self.0.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default()
    }
}

impl Write for MadeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("a lock was left"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes rows with these columns, compressed by snappy. Values that no column names are left out.
pub fn write_parquet(
    columns: &[(String, ColumnShape)],
    rows: impl Iterator<Item = Result<Map<String, Json>>>,
    to: &mut dyn Write,
) -> Result<()> {
    let failed = |e: ParquetError| Error::Input(format!("cannot be written as Parquet: {e}"));
    let fields = columns
        .iter()
        .map(|(name, shape)| shape.schema(name))
        .collect::<parquet::errors::Result<_>>()
        .map_err(failed)?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build().map_err(failed)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let made = MadeFile::default();
    let mut writer = SerializedFileWriter::new(made.clone(), Arc::new(schema), Arc::new(properties)).map_err(failed)?;
    let mut send = |bytes: Vec<u8>| to.write_all(&bytes).map_err(|e| Error::Output(format!("cannot be written: {e}")));
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let mut leaves = Vec::new();
        columns.iter().for_each(|(_, shape)| shape.leaves(&mut leaves));
        for row in rows.by_ref().take(GROUP) {
            let row = row?;
            columns.iter().fold(0, |at, (name, shape)| shape.lay(row.get(name), (0, 0, 0), &mut leaves, at));
        }
        let mut group = writer.next_row_group().map_err(failed)?;
        for leaf in &leaves {
            let column = group.next_column().map_err(failed)?;
            let column = column.ok_or_else(|| Error::internal("a leaf without a column"))?;
            write_leaf(leaf, column).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        send(made.take())?;
    }
    writer.close().map_err(failed)?;
    send(made.take())
}

fn write_leaf(leaf: &Leaf, mut column: SerializedColumnWriter) -> parquet::errors::Result<()> {
    let (definitions, repetitions) = (Some(&leaf.definitions[..]), Some(&leaf.repetitions[..]));
    match &leaf.values {
        Values::Truth(x) => column.typed::<BoolType>().write_batch(x, definitions, repetitions)?,
        Values::Whole(x) => column.typed::<Int64Type>().write_batch(x, definitions, repetitions)?,
        Values::Number(x) => column.typed::<DoubleType>().write_batch(x, definitions, repetitions)?,
        Values::Text(x) => column.typed::<ByteArrayType>().write_batch(x, definitions, repetitions)?,
    };
    column.close()
}
