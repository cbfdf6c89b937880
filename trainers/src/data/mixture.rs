//! Several data sets as one, in order: TRL's `datasets` (`get_dataset`), with rows held out for evaluation.
use super::interleave::Interleaving;
use super::load::{DataSet, Loaded, load};
use super::others::Calls;
use super::read::Row;
use crate::error::{Error, Result};
use engine::random::Stream;
use std::path::PathBuf;

/// "split" in ASCII: separates the choice of held-out rows from the other uses of a seed.
const SPLIT: u64 = 0x0073_706C_6974 << 8;

/// One data set of a mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct MixturePart {
    /// A file or directory of rows, or several files.
    pub paths: Vec<PathBuf>,
    /// Which of a directory's configurations.
    pub config: Option<String>,
    /// Which split of a directory.
    pub split: String,
    /// The columns that are taken; None for all.
    pub columns: Option<Vec<String>>,
    /// Its share of the mixture, against those of the others; None where all rows are taken.
    pub fraction: Option<f64>,
}

/// The rows of all parts, one part after the other, or drawn from them as `interleaving` says. With fractions each gives the
/// first round(fᵢ n / Σ f) of its rows, for the largest n at which every part has so many.
pub fn load_mixture(parts: &[MixturePart], interleaving: Option<&Interleaving>, calls: Calls) -> Result<Loaded> {
    let loaded: Vec<Loaded> = parts.iter().map(|part| load_part(part, calls)).collect::<Result<_>>()?;
    if let Some(interleaving) = interleaving {
        return interleaved(loaded, interleaving);
    }
    let counts: Vec<usize> = loaded.iter().map(|part| part.rows.len()).collect();
    let fractions: Option<Vec<f64>> = parts.iter().map(|part| part.fraction).collect();
    let taken = fractions.map_or(counts.clone(), |fractions| shares(&counts, &fractions));
    let mut all = Loaded::default();
    for ((part, taken), about) in loaded.into_iter().zip(taken).zip(parts) {
        let shown: Vec<String> = about.paths.iter().map(|path| path.display().to_string()).collect();
        all.notes.push(format!("datasets: {taken} of {} rows of {}", part.rows.len(), shown.join(", ")));
        all.rows.extend(part.rows.into_iter().take(taken));
        all.notes.extend(part.notes);
        all.files.extend(part.files);
    }
    Ok(all)
}

/// The rows of the parts as they are drawn.
fn interleaved(loaded: Vec<Loaded>, interleaving: &Interleaving) -> Result<Loaded> {
    let mut all = Loaded::default();
    let sources: Vec<Vec<Row>> = loaded
        .into_iter()
        .map(|part| {
            all.notes.extend(part.notes);
            all.files.extend(part.files);
            part.rows
        })
        .collect();
    let indices = |i: usize| Ok((0..sources[i].len()).map(move |row| Ok((i, row))));
    let order: Vec<(usize, usize)> = interleaving.open(sources.len(), indices)?.collect::<Result<_>>()?;
    all.rows = order.into_iter().map(|(i, row)| sources[i][row].clone()).collect();
    all.notes.push(format!("datasets: {} rows, drawn from {} data sets", all.rows.len(), sources.len()));
    Ok(all)
}

/// How many rows each part gives: rounded half to even, as Python does.
fn shares(counts: &[usize], fractions: &[f64]) -> Vec<usize> {
    let sum: f64 = fractions.iter().sum();
    let weights: Vec<f64> = fractions.iter().map(|fraction| fraction / sum).collect();
    let fits = counts.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
    let total = fits.map(|(count, weight)| *count as f64 / weight).fold(f64::INFINITY, f64::min);
    weights
        .iter()
        .zip(counts)
        .map(|(weight, count)| ((weight * total).round_ties_even() as usize).min(*count))
        .collect()
}

fn load_part(part: &MixturePart, calls: Calls) -> Result<Loaded> {
    let mut all = Loaded::default();
    for path in &part.paths {
        let one = load(DataSet { path, config: part.config.as_deref(), split: &part.split }, calls)?;
        all.rows.extend(one.rows);
        all.notes.extend(one.notes);
        all.files.extend(one.files);
    }
    if let Some(columns) = &part.columns {
        all.rows.iter_mut().try_for_each(|row| select(row, columns))?;
    }
    Ok(all)
}

/// Leaves these columns of a row. Errors: it lacks one of them.
pub(super) fn select(row: &mut Row, columns: &[String]) -> Result<()> {
    if let Some(missing) = columns.iter().find(|name| !row.fields.contains_key(*name)) {
        let has: Vec<&String> = row.fields.keys().collect();
        return Err(row.error(format!("the column {missing:?} of datasets is missing (the row has {has:?})")));
    }
    row.fields.retain(|name, _| columns.contains(name));
    Ok(())
}

/// (rows to train on, rows held out), each in the order of the data. `size` below 1 is a share, rounded up, else a number of
/// rows; which ones is drawn from the seed. Errors: one of the two would have no rows.
pub fn hold_out(rows: Vec<Row>, size: f64, seed: u64) -> Result<(Vec<Row>, Vec<Row>)> {
    let n = if size < 1.0 { (rows.len() as f64 * size).ceil() as usize } else { size as usize };
    if n == 0 || n >= rows.len() {
        return Err(Error::Input(format!("test_split_size: {size} of {} rows leaves none to train on", rows.len())));
    }
    let mut is_held = vec![false; rows.len()];
    Stream::new(seed, SPLIT).permutation(rows.len()).into_iter().take(n).for_each(|i| is_held[i] = true);
    let (held, train): (Vec<_>, Vec<_>) = rows.into_iter().zip(is_held).partition(|(_, held)| *held);
    let rows = |pairs: Vec<(Row, bool)>| pairs.into_iter().map(|(row, _)| row).collect();
    Ok((rows(train), rows(held)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn part(path: &std::path::Path) -> MixturePart {
        MixturePart { paths: vec![path.into()], config: None, split: "train".into(), columns: None, fraction: None }
    }

    fn file(dir: &std::path::Path, name: &str, n: usize) -> PathBuf {
        let path = dir.join(name);
        let mut file = std::fs::File::create(&path).expect("made");
        (0..n).for_each(|i| writeln!(file, "{{\"text\": \"{name} {i}\", \"more\": {i}}}").expect("written"));
        path
    }

    #[test]
    fn parts_follow_each_other() {
        let dir = tempfile::tempdir().expect("directory");
        let (a, b) = (file(dir.path(), "a.jsonl", 6), file(dir.path(), "b.jsonl", 10));
        let all = load_mixture(&[part(&a), part(&b)], None, Calls::AsCalls).expect("read");
        assert_eq!((all.rows.len(), all.rows[6].fields["text"].as_str()), (16, Some("b.jsonl 0")));
        let shared = |path, fraction| MixturePart { fraction: Some(fraction), ..part(path) };
        let all = load_mixture(&[shared(&a, 3.0), shared(&b, 1.0)], None, Calls::AsCalls).expect("read");
        // n = 8: all six rows of a, two of b.
        assert_eq!(all.rows.len(), 8);
        let text = MixturePart { columns: Some(vec!["text".into()]), ..part(&a) };
        assert_eq!(load_mixture(&[text], None, Calls::AsCalls).expect("read").rows[0].fields.len(), 1);
        let wrong = MixturePart { columns: Some(vec!["prompt".into()]), ..part(&a) };
        let told = load_mixture(&[wrong], None, Calls::AsCalls).expect_err("has no prompt").to_string();
        assert!(told.contains("a.jsonl:1: the column \"prompt\" of datasets is missing"), "{told}");
    }

    #[test]
    fn shares_of_a_mixture() {
        assert_eq!(shares(&[100, 50], &[0.5, 0.5]), [50, 50]);
        assert_eq!(shares(&[10, 10, 10], &[1.0, 0.0, 0.25]), [10, 0, 2]);
    }

    #[test]
    fn rows_held_out() {
        let dir = tempfile::tempdir().expect("directory");
        let rows = load_mixture(&[part(&file(dir.path(), "a.jsonl", 10))], None, Calls::AsCalls).expect("read").rows;
        let (train, held) = hold_out(rows.clone(), 0.25, 42).expect("enough");
        assert_eq!((train.len(), held.len()), (7, 3));
        assert!(train.windows(2).all(|pair| pair[0].line < pair[1].line));
        assert!(held.iter().all(|row| !train.contains(row)));
        assert_eq!(hold_out(rows.clone(), 4.0, 42).expect("enough").1.len(), 4);
        assert_eq!(hold_out(rows.clone(), 0.25, 42).expect("enough").1, held);
        assert!(hold_out(rows.clone(), 10.0, 42).is_err() && hold_out(rows, 0.0, 42).is_err());
    }
}
