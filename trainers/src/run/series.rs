//! A run's metrics over its steps, read back from its `metrics.jsonl`.
use super::metrics::MetricsLog;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A metric of a run: (step, value), in the order in which they were logged.
pub type Series = Vec<(f64, f64)>;

/// A file of JSON lines without a last one that is not whole: it is being written, or a crash cut it off.
pub fn whole_lines(text: &str) -> &str {
    let (before, last) = text.rsplit_once('\n').unwrap_or(("", text));
    if last.is_empty() || serde_json::from_str::<Value>(last).is_ok() { text } else { before }
}

/// The logged lines of a run.
#[derive(Clone, Debug, Default)]
pub struct MetricsFile {
    /// Where they were read.
    pub path: PathBuf,
    lines: Vec<Value>,
}

impl MetricsFile {
    /// Reads a run's directory, or a file of its lines. Errors: it is missing, or a line is no JSON.
    pub fn open(given: &Path) -> Result<MetricsFile> {
        let path = if given.is_dir() { given.join(MetricsLog::FILE_NAME) } else { given.to_path_buf() };
        let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        let text = whole_lines(&text);
        let line = |(i, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| Error::data(&path, i + 1, format!("is no JSON: {e}")))
        };
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(line).collect::<Result<_>>()?;
        Ok(MetricsFile { path, lines })
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
        std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1}\n{\"st").unwrap();
        assert_eq!(MetricsFile::open(dir.path()).unwrap().series("step"), [(1.0, 1.0)]);
        std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": 1}\n{\n").unwrap();
        assert!(MetricsFile::open(dir.path()).unwrap_err().to_string().contains("metrics.jsonl:2: is no JSON"));
    }
}
