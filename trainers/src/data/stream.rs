//! Rows of data that may be larger than memory: read one at a time, again in each pass.
use super::interleave::Interleaving;
use super::load::{DataSet, left_out_note, no_rows};
use super::mixture::{MixturePart, select};
use super::others::{Calls, adopt, adopt_alone, are_in_turns};
use super::read::Row;
use super::row_reader::RowReader;
use super::splits::files_of;
use crate::error::Result;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// So many rows at the beginning of a data set decide what the others are. It is also how many rows are shuffled or packed
/// together, as by default in the datasets library (`shuffle`'s buffer, `map`'s batches).
pub const BLOCK: usize = 1000;

/// The files of one data set and what becomes of their rows.
#[derive(Clone, Debug)]
struct StreamedSet {
    files: Vec<PathBuf>,
    columns: Option<Vec<String>>,
    /// None: rows stay as they stand.
    calls: Option<Calls>,
    in_turns: bool,
}

/// Data sets that are read row by row, as one.
pub struct RowStream {
    sets: Vec<Arc<StreamedSet>>,
    interleaving: Option<Interleaving>,
    /// What a person should know about the rows at the beginning, a line each.
    pub notes: Vec<String>,
}

/// The rows of one pass over all data.
pub type Pass = Box<dyn Iterator<Item = Result<Row>>>;

impl RowStream {
    /// Errors: nothing there, no such split, a file that is no rows, a data set without rows; and what is wrong with the
    /// first rows of each.
    pub fn open(parts: &[MixturePart], interleaving: Option<Interleaving>, calls: Calls) -> Result<Self> {
        Self::open_as(parts, interleaving, Some(calls))
    }

    /// A data set whose rows are not made rows of TRL's formats.
    pub fn as_they_stand(set: DataSet) -> Result<Self> {
        let part = MixturePart {
            paths: vec![set.path.to_path_buf()],
            config: set.config.map(str::to_string),
            split: set.split.to_string(),
            columns: None,
            fraction: None,
        };
        Self::open_as(&[part], None, None)
    }

    fn open_as(parts: &[MixturePart], interleaving: Option<Interleaving>, calls: Option<Calls>) -> Result<Self> {
        let (mut sets, mut notes) = (Vec::new(), Vec::new());
        for part in parts {
            for path in &part.paths {
                let found = files_of(path, part.config.as_deref(), &part.split)?;
                notes.extend(found.notes);
                let mut set = StreamedSet { files: found.files, columns: part.columns.clone(), calls, in_turns: false };
                let (first, more) = beginning(&set.files)?;
                notes.extend(more);
                if first.is_empty() {
                    return Err(no_rows(path));
                }
                set.in_turns = are_in_turns(&first);
                if let Some(calls) = calls {
                    notes.extend(adopt(first, calls)?.1);
                }
                sets.push(Arc::new(set));
            }
        }
        Ok(RowStream { sets, interleaving, notes })
    }

    /// All rows from the first on, in the same order in each pass.
    pub fn pass(&self) -> Result<Pass> {
        let sets = self.sets.clone();
        let rows = move |i: usize| Ok(SetRows { set: sets[i].clone(), next_file: 0, open: None });
        match &self.interleaving {
            Some(how) => Ok(Box::new(how.open(self.sets.len(), rows)?)),
            None => Ok(Box::new((0..self.sets.len()).filter_map(move |i| rows(i).ok()).flatten())),
        }
    }
}

/// The first rows of files as they stand there, and what a person should know about them.
fn beginning(files: &[PathBuf]) -> Result<(Vec<Row>, Vec<String>)> {
    let (mut rows, mut notes): (Vec<Row>, Vec<String>) = Default::default();
    for file in files {
        let (mut reader, mut left_out) = (RowReader::open(file)?, BTreeSet::new());
        if reader.is_whole() {
            notes.push(format!(
                "{}: is no JSON object a line, so it is read whole; lapidary data convert writes JSON lines",
                file.display()
            ));
        }
        for row in reader.by_ref().take(BLOCK - rows.len()) {
            rows.push(row?);
        }
        left_out.append(&mut reader.left_out);
        if !left_out.is_empty() {
            notes.push(left_out_note(file, &left_out));
        }
        if rows.len() == BLOCK {
            break;
        }
    }
    Ok((rows, notes))
}

/// The rows of a data set, one at a time.
struct SetRows {
    set: Arc<StreamedSet>,
    next_file: usize,
    open: Option<RowReader>,
}

impl SetRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.open.as_mut().and_then(Iterator::next) {
                let mut row = row?;
                if let Some(calls) = self.set.calls {
                    row = adopt_alone(row, calls, self.set.in_turns)?;
                }
                if let Some(columns) = &self.set.columns {
                    select(&mut row, columns)?;
                }
                return Ok(Some(row));
            }
            let Some(file) = self.set.files.get(self.next_file) else { return Ok(None) };
            self.open = Some(RowReader::open(file)?);
            self.next_file += 1;
        }
    }
}

impl Iterator for SetRows {
    type Item = Result<Row>;
    fn next(&mut self) -> Option<Result<Row>> {
        self.next_row().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixture::load_mixture;
    use super::*;
    use crate::data::interleave::StoppingStrategy;

    fn part(path: PathBuf) -> MixturePart {
        MixturePart { paths: vec![path], config: None, split: "train".into(), columns: None, fraction: None }
    }

    fn rows(stream: &RowStream) -> Vec<Row> {
        stream.pass().unwrap().collect::<Result<_>>().unwrap()
    }

    /// One after the other, with columns taken, and drawn: the rows that are read into memory, in each pass.
    #[test]
    fn rows_are_those_that_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).unwrap();
            part(dir.path().join(name))
        };
        let texts = |n: usize| (0..n).map(|i| format!("{{\"text\": \"row {i}\", \"n\": {i}}}\n")).collect::<String>();
        let alpaca = "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"c\", \"output\": \"d\", \"system\": \"s\"}\n";
        std::fs::create_dir(dir.path().join("split")).unwrap();
        file("split/train-1.jsonl", texts(3));
        file("split/train-2.jsonl", texts(2));
        let mut parts = vec![
            MixturePart { columns: Some(vec!["text".into()]), ..file("a.jsonl", texts(7)) },
            file("b.jsonl", alpaca.into()),
            part(dir.path().join("split")),
        ];
        for probabilities in [None, Some(vec![0.5, 0.2, 0.3])] {
            let how = probabilities.map(|probabilities| Interleaving {
                probabilities,
                stopping: StoppingStrategy::AllExhausted,
                seed: 3,
            });
            let whole = load_mixture(&parts, how.as_ref(), Calls::AsCalls).unwrap().rows;
            let stream = RowStream::open(&parts, how.clone(), Calls::AsCalls).unwrap();
            assert_eq!(rows(&stream), whole);
            assert_eq!(rows(&stream), whole, "the second pass");
            assert!(how.is_some() || whole.len() == 7 + 2 + 5);
        }
        parts.push(file("c.jsonl", "\n".into()));
        let told = RowStream::open(&parts, None, Calls::AsCalls).err().unwrap().to_string();
        assert!(told.contains("c.jsonl: the data set has no rows"), "{told}");
    }

    /// The first rows decide what Alpaca's rows become; one that cannot become that is told.
    #[test]
    fn a_late_row_in_turns_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let plain = "{\"instruction\": \"a\", \"output\": \"b\"}\n".repeat(BLOCK);
        std::fs::write(&path, plain + "{\"instruction\": \"c\", \"output\": \"d\", \"system\": \"s\"}\n").unwrap();
        let stream = RowStream::open(&[part(path)], None, Calls::AsCalls).unwrap();
        let told = stream.pass().unwrap().find_map(|row| row.err()).unwrap().to_string();
        assert!(told.contains("a.jsonl:1001: has system or history"), "{told}");
    }
}
