//! The report of a run: one HTML file that is read without a network. Curves with what they mean, completions along the
//! way, what was trained on, what to look at, options, time and memory.
//!
//! ```text
//! metrics.jsonl, samples.jsonl, preview.json, config.yaml, manifest.json → report.html
//! ```
pub mod chart;
pub mod page;

use crate::error::{Error, Result};
use crate::run::durable::write_file;
use crate::run::series::JsonLines;
use crate::run::{CONFIG, MANIFEST, MetricsFile, MetricsLog, PREVIEW, REPORT, SAMPLES};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a report is made from.
#[derive(Debug)]
pub struct Run {
    /// How it is called in legends.
    pub label: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its curves.
    pub metrics: MetricsFile,
    /// manifest.json; null where there is none.
    pub manifest: Value,
    /// config.yaml as it stands.
    pub config: String,
    /// Lines of samples.jsonl.
    pub samples: Vec<Value>,
    /// A sentence about each line of these files that could not be read.
    pub left_out: Vec<String>,
    /// Rows of preview.json: `{"title": …, "pieces": [[text, trained], …]}`.
    pub preview: Vec<Value>,
}

impl Run {
    /// Reads a run's directory. Errors: it has no metrics, or its manifest or preview is damaged.
    pub fn open(directory: &Path) -> Result<Run> {
        if !directory.is_dir() {
            return Err(Error::file(directory, "is no directory of a run"));
        }
        if !directory.join(MetricsLog::FILE_NAME).is_file() {
            return Err(Error::file(
                directory,
                format!("is no directory of a run: it has no {}", MetricsLog::FILE_NAME),
            ));
        }
        let metrics = MetricsFile::open(directory)?;
        let manifest = match text(&directory.join(MANIFEST))? {
            Some(text) => json(&directory.join(MANIFEST), 1, &text)?,
            None => Value::Null,
        };
        let samples = Some(directory.join(SAMPLES)).filter(|path| path.exists());
        let samples = samples.map(|path| JsonLines::open(&path)).transpose()?.unwrap_or_default();
        let left_out = metrics.left_out().iter().chain(&samples.left_out).cloned().collect();
        let preview = match text(&directory.join(PREVIEW))? {
            Some(text) => json(&directory.join(PREVIEW), 1, &text)?.as_array().cloned().unwrap_or_default(),
            None => vec![],
        };
        Ok(Run {
            label: directory
                .file_name()
                .map_or_else(|| directory.display().to_string(), |n| n.to_string_lossy().into()),
            directory: directory.to_path_buf(),
            metrics,
            manifest,
            config: text(&directory.join(CONFIG))?.unwrap_or_default(),
            samples: samples.objects,
            left_out,
            preview,
        })
    }

    /// A few completions along the run: of up to five generations from the first to the last, the best and the worst.
    pub fn shown_samples(&self) -> Vec<&Value> {
        let step = |sample: &Value| sample["step"].as_u64().unwrap_or(0);
        let mut steps: Vec<u64> = self.samples.iter().map(step).collect();
        steps.dedup();
        let n = steps.len();
        let mut chosen: Vec<u64> =
            [0, n / 4, n / 2, 3 * n / 4, n.saturating_sub(1)].iter().filter_map(|i| steps.get(*i)).copied().collect();
        chosen.dedup();
        let reward = |sample: &&Value| sample["reward"].as_f64();
        let mut shown = Vec::new();
        for at in chosen {
            let of_step = || self.samples.iter().filter(|s| step(s) == at && reward(s).is_some());
            let best = of_step().max_by(|a, b| reward(a).unwrap_or(0.0).total_cmp(&reward(b).unwrap_or(0.0)));
            let worst = of_step().min_by(|a, b| reward(a).unwrap_or(0.0).total_cmp(&reward(b).unwrap_or(0.0)));
            shown.extend(best);
            shown.extend(worst.filter(|w| best.is_some_and(|b| reward(&b) != reward(w))));
        }
        shown
    }
}

impl Run {
    /// What was answered to held-out prompts at up to three evaluations: the first, one in the middle, the last.
    pub fn shown_answers(&self) -> Vec<&Value> {
        let answers = || self.samples.iter().filter(|sample| sample.get("reference").is_some());
        let mut steps: Vec<u64> = answers().filter_map(|sample| sample["step"].as_u64()).collect();
        steps.dedup();
        let at: Vec<u64> =
            [0, steps.len() / 2, steps.len().saturating_sub(1)].iter().filter_map(|i| steps.get(*i)).copied().collect();
        answers().filter(|sample| sample["step"].as_u64().is_some_and(|step| at.contains(&step))).collect()
    }
}

/// The runs of several directories. Those of one name are called by their whole paths.
pub fn open_all(directories: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = directories.iter().map(|dir| Run::open(dir)).collect::<Result<Vec<Run>>>()?;
    let labels: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    for run in &mut runs {
        if labels.iter().filter(|label| **label == run.label).count() > 1 {
            run.label = run.directory.display().to_string();
        }
    }
    Ok(runs)
}

/// Writes the report of a run into its directory; returns where.
pub fn write(directory: &Path) -> Result<PathBuf> {
    let path = directory.join(REPORT);
    write_file(&path, page::of(&[Run::open(directory)?], None)?.as_bytes())?;
    Ok(path)
}

/// What a file holds, if it is there.
fn text(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    std::fs::read_to_string(path).map(Some).map_err(|e| Error::file(path, e))
}

fn json(path: &Path, line: usize, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::data(path, line, format!("is no JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(samples: &str) -> (tempfile::TempDir, Run) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("metrics.jsonl"),
            "{\"step\": 1, \"loss\": 2.0}\n{\"step\": 2, \"loss\": 1.5}\n",
        )
        .unwrap();
        std::fs::write(dir.path().join(SAMPLES), samples).unwrap();
        let preview = r#"[{"title": "row 1", "pieces": [["<b>", false], ["yes", true]]}]"#;
        std::fs::write(dir.path().join(PREVIEW), preview).unwrap();
        std::fs::write(dir.path().join(CONFIG), "learning_rate: 0.5\n").unwrap();
        let run = Run::open(dir.path()).unwrap();
        (dir, run)
    }

    #[test]
    fn samples_along_the_run() {
        let line = |step: u64, reward: &str, text: &str| {
            format!("{{\"step\": {step}, \"prompt\": \"p\", \"completion\": \"{text}\", \"reward\": {reward}}}\n")
        };
        let all =
            [line(1, "0.0", "a"), line(1, "1.0", "b"), line(1, "null", "c"), line(2, "0.5", "d"), line(2, "0.5", "e")];
        let (_dir, run) = run_with(&all.concat());
        let texts: Vec<&str> = run.shown_samples().iter().filter_map(|s| s["completion"].as_str()).collect();
        assert_eq!(texts, ["b", "a", "e"]);
    }

    /// Everything of the run stands in its page, and nothing in the page is code or comes from elsewhere.
    #[test]
    fn a_page_has_all_of_its_run_and_needs_no_network() {
        let (dir, run) = run_with(
            "{\"step\": 1, \"prompt\": \"<script>alert(1)</script>\", \"completion\": \"c\", \"reward\": 1}\n",
        );
        let page = page::of(&[run], None).unwrap();
        for part in
            ["<svg", "What is minimised", "learning_rate: 0.5", "&lt;script&gt;", "&lt;b&gt;", "2.0000 → 1.5000"]
        {
            assert!(page.contains(part), "{part} is not in the page");
        }
        for part in ["<script", "http://", "https://", "src=", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(part), "{part} is in the page");
        }
        let path = write(dir.path()).unwrap();
        assert_eq!(path, dir.path().join(REPORT));
    }
}
