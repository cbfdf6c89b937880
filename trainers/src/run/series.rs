//! A run's metrics over its steps, read back from its `metrics.jsonl`.
use super::metrics::MetricsLog;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A metric of a run: (step, value), in the order in which they were logged.
pub type Series = Vec<(f64, f64)>;

/// The objects of a file of JSON lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonLines {
    /// Those that can be read, in their order.
    pub objects: Vec<Value>,
    /// A sentence about each line that cannot, with its place. One bad line is no reason to hide the others.
    pub left_out: Vec<String>,
}

impl JsonLines {
    /// Reads a file. Empty lines do not matter. Errors: there is no such file.
    pub fn open(path: &Path) -> Result<JsonLines> {
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut read = JsonLines::default();
        let torn = if text.ends_with('\n') { None } else { text.lines().count().checked_sub(1) };
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = match serde_json::from_str(line) {
                Ok(object @ Value::Object(_)) => {
                    read.objects.push(object);
                    continue;
                }
                _ if Some(i) == torn => "the last line is not whole: it is being written, or was cut off".into(),
                Ok(_) => "is no JSON object".into(),
                Err(e) => format!("is no JSON: {e}"),
            };
            read.left_out.push(format!("{}:{}: {wrong}; it is left out", path.display(), i + 1));
        }
        Ok(read)
    }
}

/// The logged lines of a run.
#[derive(Clone, Debug, Default)]
pub struct MetricsFile {
    /// Where they were read.
    pub path: PathBuf,
    lines: Vec<Value>,
    left_out: Vec<String>,
}

impl MetricsFile {
    /// Reads a run's directory, or a file of its lines. Errors: it is missing.
    pub fn open(given: &Path) -> Result<MetricsFile> {
        let path = if given.is_dir() { given.join(MetricsLog::FILE_NAME) } else { given.to_path_buf() };
        let JsonLines { objects, left_out } = JsonLines::open(&path)?;
        Ok(MetricsFile { path, lines: objects, left_out })
    }

    /// A sentence about each line that could not be read.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The lines as they stand.
    pub fn lines(&self) -> &[Value] {
        &self.lines
    }

    /// The names of the metrics that have a number anywhere, in the order in which they first come.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, value) in self.lines.iter().filter_map(Value::as_object).flatten() {
            if value.is_number() && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// A metric against the steps; empty where the run has none of that name. Values that are no finite numbers are left
    /// out.
    pub fn series(&self, metric: &str) -> Series {
        let number = |line: &Value, name: &str| line.get(name).and_then(Value::as_f64).filter(|x| x.is_finite());
        self.lines.iter().filter_map(|line| Some((number(line, "step")?, number(line, metric)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_against_steps() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"step\": 1, \"loss\": 2.5}\n\n{\"step\": 1, \"eval_loss\": 3}\n{\"step\": 2, \"loss\": null}\n";
        std::fs::write(dir.path().join("metrics.jsonl"), text).unwrap();
        let file = MetricsFile::open(dir.path()).unwrap();
        assert_eq!(file.names(), ["step", "loss", "eval_loss"]);
        assert_eq!(file.series("loss"), [(1.0, 2.5)]);
        assert_eq!(file.series("none"), []);
        assert!(file.left_out().is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_left_out_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let text = b"{\"step\": 1}\n{\"step\": 2,\n7\n{\"step\": \xff}\n\n{\"step\": 6}\n{\"st";
        std::fs::write(&path, text).unwrap();
        let file = MetricsFile::open(dir.path()).unwrap();
        assert_eq!(file.series("step"), [(1.0, 1.0), (6.0, 6.0)]);
        for (said, told) in file.left_out().iter().zip([
            "metrics.jsonl:2: is no JSON: ",
            "metrics.jsonl:3: is no JSON object; it is left out",
            "metrics.jsonl:4: is no JSON: ",
            "metrics.jsonl:7: the last line is not whole",
        ]) {
            assert!(said.contains(told), "{said}");
        }
        assert_eq!(file.left_out().len(), 4);
        // A last line that is whole needs no line end.
        std::fs::write(&path, "{\"step\": 1}").unwrap();
        assert_eq!(JsonLines::open(&path).unwrap().objects.len(), 1);
    }
}
