//! Where the logged numbers of two runs part.
use super::metrics::is_time;
use super::series::MetricsFile;
use serde_json::{Map, Value};

/// The first number that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Parting {
    /// Optimiser steps done when it was logged.
    pub step: u64,
    /// As it stands in metrics.jsonl.
    pub metric: String,
    /// What the first run has there; None: nothing.
    pub first: Option<Value>,
    /// What the second has.
    pub second: Option<Value>,
}

/// What a comparison has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Numbers that were compared, up to the first that differs.
    pub n_numbers: usize,
    /// The last step of which all numbers agree.
    pub last_step: Option<u64>,
    /// The first number that does not.
    pub parting: Option<Parting>,
}

fn step_of(line: &Map<String, Value>) -> u64 {
    line.get("step").and_then(Value::as_u64).unwrap_or(0)
}

/// Whether two logged values are the same: bit for bit, or for a tolerance above 0 |a − b| ≤ tolerance · max(1, |a|, |b|).
fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) if tolerance > 0.0 => (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    }
}

/// Compares what two runs have logged up to a step, line by line, whatever depends on the clock left out.
pub fn compare(first: &MetricsFile, second: &MetricsFile, until: u64, tolerance: f64) -> Compared {
    let lines = |file: &MetricsFile| {
        let objects = file.lines().iter().filter_map(Value::as_object).cloned();
        objects.filter(|line| step_of(line) <= until).collect::<Vec<_>>()
    };
    let (a, b) = (lines(first), lines(second));
    let mut found = Compared::default();
    for i in 0..a.len().max(b.len()) {
        let nothing = Map::new();
        let (one, other) = (a.get(i).unwrap_or(&nothing), b.get(i).unwrap_or(&nothing));
        let step = a.get(i).or(b.get(i)).map_or(0, step_of);
        for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
            if is_time(name) {
                continue;
            }
            match (one.get(name), other.get(name)) {
                (Some(x), Some(y)) if same(x, y, tolerance) => found.n_numbers += 1,
                (x, y) => {
                    let (first, second) = (x.cloned(), y.cloned());
                    found.parting = Some(Parting { step, metric: name.clone(), first, second });
                    return found;
                }
            }
        }
        found.last_step = Some(step);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> MetricsFile {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, text).expect("written");
        MetricsFile::open(&path).expect("lines")
    }

    const A: &str =
        "{\"step\":1,\"loss\":0.1,\"step_time\":3.0}\n{\"step\":2,\"loss\":0.30000000000000004,\"kl\":null}\n";

    #[test]
    fn equal_but_for_the_clock() {
        let again = file(&A.replace("3.0", "4.5"));
        let found = compare(&file(A), &again, u64::MAX, 0.0);
        assert_eq!(found, Compared { n_numbers: 5, last_step: Some(2), parting: None });
    }

    #[test]
    fn a_single_bit_is_seen() {
        let other = file(&A.replace("0.30000000000000004", "0.3"));
        let found = compare(&file(A), &other, u64::MAX, 0.0);
        let parting = found.parting.expect("a bit differs");
        assert_eq!((parting.step, parting.metric.as_str(), found.last_step), (2, "loss", Some(1)));
        assert_eq!(compare(&file(A), &other, 1, 0.0).parting, None);
        assert_eq!(compare(&file(A), &other, u64::MAX, 1e-6).parting, None);
    }

    #[test]
    fn what_one_run_lacks() {
        let short = file(A.split_inclusive('\n').next().expect("a line"));
        let parting = compare(&file(A), &short, u64::MAX, 0.0).parting.expect("a line is missing");
        assert_eq!((parting.step, parting.second), (2, None));
        let parting = compare(&short, &file(A), u64::MAX, 0.0).parting.expect("a line is missing");
        assert_eq!((parting.step, parting.first), (2, None));
        let without = file(&A.replace(",\"kl\":null", ""));
        let parting = compare(&file(A), &without, u64::MAX, 0.0).parting.expect("a metric is missing");
        assert_eq!((parting.metric.as_str(), parting.first, parting.second), ("kl", Some(Value::Null), None));
    }
}
