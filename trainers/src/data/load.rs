//! The rows of a data set: of which files, read, and in TRL's formats.
use super::others::{Calls, adopt};
use super::read::{Row, read_file};
use super::splits::{TRAIN, files_of, splits_of};
use crate::error::{Error, Result};
use crate::hub::Hub;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A data set on disk and which part of it is wanted.
#[derive(Clone, Copy, Debug)]
pub struct DataSet<'a> {
    /// A file of rows, or a directory of them.
    pub path: &'a Path,
    /// Which of a directory's configurations.
    pub config: Option<&'a str>,
    /// Which split of a directory.
    pub split: &'a str,
}

impl<'a> DataSet<'a> {
    /// A file, or the training rows of a directory.
    pub fn of(path: &'a Path) -> Self {
        DataSet { path, config: None, split: TRAIN }
    }
}

/// Rows, and what a person should know about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// In the order of the files and of their rows.
    pub rows: Vec<Row>,
    /// A line each.
    pub notes: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads rows to evaluate on: of a directory with one split only that one, whatever it is called.
pub fn load_evaluation(set: DataSet, calls: Calls) -> Result<Loaded> {
    match &splits_of(set.path, set.config)?[..] {
        [only] => load(DataSet { split: only, ..set }, calls),
        _ => load(set, calls),
    }
}

/// Reads a data set. `calls`: what the model's chat template does with calls of functions.
///
/// Errors: nothing there, no such split, a file that is no rows or whose rows are broken (with line), no row at all.
pub fn load(set: DataSet, calls: Calls) -> Result<Loaded> {
    let found = files_of(set.path, set.config, set.split)?;
    Hub::of_environment().complete(&found.files)?;
    let (mut rows, mut notes, mut left_out) = (Vec::new(), found.notes, BTreeSet::new());
    for file in &found.files {
        left_out.extend(read_file(file, &mut rows)?);
    }
    if !left_out.is_empty() {
        notes.push(left_out_note(set.path, &left_out));
    }
    if rows.is_empty() {
        return Err(no_rows(set.path));
    }
    let (rows, more) = adopt(rows, calls)?;
    notes.extend(more);
    Ok(Loaded { rows, notes, files: found.files })
}

/// The error of a data set without rows.
pub(super) fn no_rows(path: &Path) -> Error {
    Error::file(path, "the data set has no rows; each line must be a JSON object such as {\"text\": \"…\"}")
}

/// What a person is told about columns that hold bytes.
pub(super) fn left_out_note(path: &Path, columns: &BTreeSet<String>) -> String {
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    format!("{}: columns that hold bytes are not read: {}", path.display(), names.join(", "))
}
