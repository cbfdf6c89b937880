//! `lapidary data convert`: rows as another kind of file, or in another format.
use crate::data::Row;
use crate::data::reshape::{Losses, RowFormat, reshape};
use crate::data::row_writer::{Columns, RowFile, see_columns};
use crate::data::stream::{Pass, RowStream};
use crate::error::{Error, Result};
use crate::options::DataConvertOptions;
use serde_json::{Map, Value as Json};
use std::path::Path;

/// A row as it is written.
type Fields = Map<String, Json>;

/// Writes the file and says what was read, written and lost. Rows are read one at a time, twice.
pub fn run(options: &DataConvertOptions) -> Result<()> {
    let asked = &options.converted;
    let file = new_file(&asked.output_file, asked.overwrite_output_file)?;
    let stream = RowStream::as_they_stand(options.split.of(&asked.dataset_name))?;
    stream.notes.iter().for_each(|note| tell!("note: {note}"));
    // Everything is read, and everything wrong told, before a file is touched.
    let (mut columns, mut losses, mut read, mut written) = (Columns::new(), Losses::default(), 0, 0);
    for row in stream.pass()? {
        read += 1;
        for fields in made(row?, asked.to, &mut losses)? {
            written += 1;
            see_columns(&mut columns, &fields);
        }
    }
    let losses = losses.notes();
    if written == 0 {
        let why = losses.first().map_or(String::new(), |why| format!("; {why}"));
        return Err(Error::input(format!("{}: none of its {read} rows can be written so{why}", asked.dataset_name)));
    }
    file.write(&columns, written_rows(stream.pass()?, asked.to))?;
    losses.into_iter().chain(file.notes(&columns)).for_each(|note| tell!("note: {note}"));
    tell!("{read} rows read, {written} written to {}", asked.output_file.display());
    Ok(())
}

/// A file that is to be written. Errors: it is there, or its name says no kind that is written.
pub(super) fn new_file(path: &Path, overwrites: bool) -> Result<RowFile<'_>> {
    if path.exists() && !overwrites {
        return Err(Error::file(path, "is there already; --overwrite_output_file writes over it"));
    }
    RowFile::of(path)
}

fn made(row: Row, to: Option<RowFormat>, losses: &mut Losses) -> Result<Vec<Fields>> {
    match to {
        None => Ok(vec![row.fields]),
        Some(format) => reshape(row, format, losses),
    }
}

/// The rows of a pass as they are written.
fn written_rows(pass: Pass, to: Option<RowFormat>) -> impl Iterator<Item = Result<Fields>> {
    let mut losses = Losses::default();
    pass.flat_map(move |row| match row.and_then(|row| made(row, to, &mut losses)) {
        Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    })
}
