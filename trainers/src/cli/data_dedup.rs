//! `lapidary data dedup`: rows without those that say the same as an earlier one.
use super::data_convert::new_file;
use crate::data::Row;
use crate::data::duplicates::{Duplicate, SeenTexts, with_single_blanks};
use crate::data::row_writer::{Columns, see_columns};
use crate::data::stream::RowStream;
use crate::error::{Error, Result};
use crate::options::{DataDedupOptions, DeduplicatedOptions};
use crate::run::durable::write_file;
use crate::text::exact_json;
use serde_json::{Map, Value as Json, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Rows that are named on standard error.
const NAMED: usize = 10;

/// Where a row stands.
type Place = (Arc<PathBuf>, usize);

/// Writes the rows that are left, and says which went and why. Rows are read one at a time, twice.
pub fn run(options: &DataDedupOptions) -> Result<()> {
    let asked = &options.deduplicated;
    let file = new_file(&asked.output_file, asked.overwrite_output_file)?;
    if let Some(path) = asked.removed_file.as_deref().filter(|path| path.exists() && !asked.overwrite_output_file) {
        return Err(Error::file(path, "is there already; --overwrite_output_file writes over it"));
    }
    let stream = RowStream::as_they_stand(options.split.of(&asked.dataset_name))?;
    stream.notes.iter().for_each(|note| tell!("note: {note}"));
    let (mut seen, mut columns) = (SeenTexts::new(asked.near), Columns::new());
    let (mut places, mut goes, mut removed, mut said): (Vec<Place>, Vec<bool>, String, Vec<String>) =
        Default::default();
    for row in stream.pass()? {
        let row = row?;
        let duplicate = seen.check(places.len(), &compared(&row, asked)?);
        match duplicate {
            None => see_columns(&mut columns, &row.fields),
            Some(duplicate) => {
                let (_, line) = places.get(duplicate.of).ok_or_else(|| Error::internal("a duplicate of no row"))?;
                if said.len() < NAMED {
                    said.push(format!("line {}: {} line {line}", row.line, likeness(duplicate)));
                }
                if asked.removed_file.is_some() {
                    removed += &(about(&row, duplicate, &places) + "\n");
                }
            }
        }
        places.push((row.path.clone(), row.line));
        goes.push(duplicate.is_some());
    }
    let n = goes.iter().filter(|goes| **goes).count();
    let kept = stream.pass()?.zip(goes.iter()).filter(|(_, goes)| !**goes).map(|(row, _)| row.map(|row| row.fields));
    file.write(&columns, kept)?;
    if let Some(path) = &asked.removed_file {
        write_file(path, removed.as_bytes())?;
    }
    said.iter().for_each(|said| tell!("removed: {said}"));
    if n > said.len() {
        tell!("removed: {} more (--removed_file names them all)", n - said.len());
    }
    tell!("{} rows read, {n} removed, {} written to {}", goes.len(), goes.len() - n, asked.output_file.display());
    Ok(())
}

/// The text of a row that is compared. Errors: a column that it does not have.
fn compared(row: &Row, asked: &DeduplicatedOptions) -> Result<String> {
    let value = |name: &String| match row.fields.get(name) {
        Some(value) => Ok((name.clone(), value.clone())),
        None => {
            let has: Vec<&String> = row.fields.keys().collect();
            Err(row.error(format!("columns: there is no column {name:?} (the row has {has:?})")))
        }
    };
    let fields: Map<String, Json> = match &asked.columns {
        None => row.fields.clone(),
        Some(names) => names.iter().map(value).collect::<Result<_>>()?,
    };
    let fields = if asked.normalize_whitespace { with_blanks(&Json::Object(fields)) } else { Json::Object(fields) };
    let values = fields.as_object().into_iter().flat_map(Map::values);
    Ok(match asked.near {
        // Names of keys make no rows alike.
        Some(_) => values.map(words).collect::<Vec<_>>().join("\n"),
        None => values.map(exact_json::to_text).collect::<Vec<_>>().join("\n"),
    })
}

/// The value, with single blanks in all its texts.
fn with_blanks(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::from(with_single_blanks(text)),
        Json::Array(list) => list.iter().map(with_blanks).collect(),
        Json::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_blanks(value))).collect(),
        other => other.clone(),
    }
}

/// The texts of a value, whatever is around them.
fn words(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(list) => list.iter().map(words).collect::<Vec<_>>().join("\n"),
        Json::Object(fields) if exact_json::exact_number(value).is_none() => {
            fields.values().map(words).collect::<Vec<_>>().join("\n")
        }
        other => exact_json::to_text(other),
    }
}

fn likeness(duplicate: Duplicate) -> String {
    match duplicate.similarity {
        1.0 => "the same as".into(),
        similarity => format!("near (similarity {similarity:.3}) to"),
    }
}

/// A row that was removed, as a line of removed_file.
fn about(row: &Row, duplicate: Duplicate, places: &[Place]) -> String {
    let (path, line) = &places[duplicate.of];
    let value = json!({
        "path": row.path.to_string_lossy(),
        "line": row.line,
        "duplicate_of": {"path": path.to_string_lossy(), "line": line},
        "similarity": duplicate.similarity,
        "row": row.fields,
    });
    exact_json::to_text(&value)
}
