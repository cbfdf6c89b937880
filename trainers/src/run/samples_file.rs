//! `samples.jsonl`: what a run's model has said, a line an answer, by step.
use super::directory::SAMPLES;
use super::durable::io_error;
use crate::error::Result;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The open file.
#[derive(Debug)]
pub struct SamplesFile {
    path: PathBuf,
    file: File,
}

impl SamplesFile {
    /// Starts anew, or with `resumed_step` goes on after what was said in the first so many steps.
    pub fn open(run: &Path, resumed_step: Option<u64>) -> Result<Self> {
        let path = run.join(SAMPLES);
        let kept = match resumed_step {
            Some(step) if path.exists() => {
                let text = std::fs::read_to_string(&path).map_err(|e| io_error(&path, "read", e))?;
                let of = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
                text.lines().filter(|l| of(l).is_some_and(|s| s <= step)).map(|l| format!("{l}\n")).collect()
            }
            _ => String::new(),
        };
        std::fs::write(&path, kept).map_err(|e| io_error(&path, "written", e))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| io_error(&path, "opened", e))?;
        Ok(SamplesFile { path, file })
    }

    /// Adds lines, each an object with its `step`.
    pub fn write(&mut self, lines: &[Value]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.file.write_all(text.as_bytes()).map_err(|e| io_error(&self.path, "written", e))
    }
}
