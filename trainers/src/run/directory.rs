//! The output directory of a run: looked at before training, made when everything else is known to be right.
use super::checkpoint::{self, Checkpoint};
use super::durable::{self, FileHash, io_error, write_file};
use super::lock::DirectoryLock;
use super::metrics::MetricsLog;
use super::tensorboard::EventFile;
use crate::error::{Error, Result};
use crate::hub::{HubName, RepoKind, is_commit};
use crate::options::ResumeFrom;
use engine::files::atomic::mark_changed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What will be done with the output directory. Making a plan touches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    path: PathBuf,
    resume: Option<Checkpoint>,
    clear: bool,
    notes: Vec<String>,
}

/// What a run is, for its manifest and config file.
#[derive(Clone, Debug)]
pub struct Begin<'a> {
    /// sft …
    pub command: &'a str,
    /// Every option with its value ([`crate::options::resolved`]).
    pub options: &'a Map<String, Value>,
    /// The device's own name.
    pub device: &'a str,
    /// Of all random numbers.
    pub seed: u64,
    /// The files that are read, by role (model, data …), with their hashes.
    pub inputs: &'a BTreeMap<String, Vec<(String, FileHash)>>,
}

/// `manifest.json`: where the results come from. Times are UTC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program.
    pub lapidary: String,
    /// What it was built for and with: operating system, processor, features.
    #[serde(default)]
    pub build: String,
    /// sft …
    pub command: String,
    /// The device's own name, with the processor's instruction set.
    pub device: String,
    /// Of all random numbers.
    pub seed: u64,
    /// When the run began.
    pub started: String,
    resumed: Vec<Resumed>,
    /// When it came to its end; None: it has not.
    pub finished: Option<String>,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The commit of each repository that was read from the hub: `models/org/name`, `datasets/org/name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hub: BTreeMap<String, String>,
    /// By role and file name; what came from the hub by its name and commit.
    pub inputs: BTreeMap<String, BTreeMap<String, FileHash>>,
    /// The finished model's files (and those beside it) by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, FileHash>,
}

impl Manifest {
    /// That of a run's directory; None where it has none, or none of this program's.
    pub fn of(run: &Path) -> Option<Manifest> {
        let text = fs::read_to_string(run.join(MANIFEST)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// What this program was built for and with.
fn build() -> String {
    let gpu = if cfg!(feature = "gpu") { ", gpu" } else { "" };
    format!("{} {}{gpu}", std::env::consts::OS, std::env::consts::ARCH)
}

/// What a finished run took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Since the run began, or was resumed last.
    pub seconds: f64,
    /// Tokens a second in that time.
    pub tokens_per_second: f64,
    /// Bytes at the peak of host memory.
    pub peak_bytes: Option<u64>,
    /// As they were predicted before the run.
    pub predicted_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Resumed {
    from_step: u64,
    at: String,
    device: String,
    lapidary: String,
}

/// What a run was made from and with, in its directory.
pub const MANIFEST: &str = "manifest.json";
/// Every completion that a run has learnt from, with its rewards.
pub const SAMPLES: &str = "samples.jsonl";
/// The first rows token by token, for the report.
pub const PREVIEW: &str = "preview.json";
/// The report.
pub const REPORT: &str = "report.html";
/// What a run writes down about itself as it goes on.
const RECORDS: [&str; 4] = [MetricsLog::FILE_NAME, SAMPLES, PREVIEW, REPORT];
/// Files that a run leaves in its directory and in its checkpoints, beside the model.
pub const OF_A_RUN: [&str; 10] = [
    REPORT,
    PREVIEW,
    SAMPLES,
    MetricsLog::FILE_NAME,
    EventFile::DIRECTORY,
    MANIFEST,
    CONFIG,
    "trainer_state.json",
    "files.json",
    "optimizer.safetensors",
];

/// The options of a run, in its directory: with `--config` they begin it again, or go on with it.
pub const CONFIG: &str = "config.yaml";
/// Options about starting a run, which a config file to repeat it must not hold.
const ABOUT_STARTING: [&str; 2] = ["resume_from_checkpoint", "overwrite_output_dir"];

/// A run's output directory, made and its own.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    manifest: Manifest,
    resume: Option<Checkpoint>,
    /// Held as long as the run lasts.
    _lock: DirectoryLock,
    /// When a run that is resumed was finished, and what it took.
    earlier: Option<(String, Outcome)>,
}

impl RunDirectory {
    /// Looks whether a run may use `output_dir`; errors say what stands there and what to do. A run that was finished or
    /// has checkpoints is not written over unless `overwrite` is given; nothing is cleared that no run of this program
    /// wrote, or that is among `inputs` (the paths the run reads).
    pub fn plan(output_dir: &Path, resume: &ResumeFrom, overwrite: bool, inputs: &[&Path]) -> Result<RunPlan> {
        check_is_possible(output_dir)?;
        let shown = output_dir.display();
        let (resume, damaged) = match resume {
            ResumeFrom::Auto if overwrite || is_finished(output_dir) => (None, vec![]),
            ResumeFrom::Auto => Checkpoint::last_good(output_dir)?,
            ResumeFrom::Nothing => (None, vec![]),
            ResumeFrom::Path(path) => (Some(Checkpoint::open(path)?), vec![]),
            ResumeFrom::Last => match Checkpoint::last_good(output_dir)? {
                (None, damaged) => {
                    let told = format!("resume_from_checkpoint: {shown} has no complete checkpoint");
                    return Err(Error::Input([vec![told], damaged].concat().join("\n")));
                }
                found => found,
            },
        };
        let notes: Vec<String> = damaged.iter().map(|said| format!("note: left aside: {said}")).collect();
        let plan = |resume, clear| Ok(RunPlan { path: output_dir.into(), resume, clear, notes: notes.clone() });
        if resume.as_ref().is_some_and(|checkpoint| lies_in(&checkpoint.path, output_dir)) {
            return plan(resume, false);
        }
        let weights = weight_files(output_dir)?;
        let last = Checkpoint::list(output_dir)?.pop();
        let holds = match (weights.first(), &last) {
            (Some(file), _) => file.display().to_string(),
            (None, Some(checkpoint)) => checkpoint.path.display().to_string(),
            (None, None) => return plan(resume, false),
        };
        if !overwrite || resume.is_some() {
            let advice = match (&resume, &last) {
                (Some(_), _) => "give another output_dir, or resume a checkpoint of this one",
                (None, Some(_)) => {
                    "give --resume_from_checkpoint last to go on with it, another output_dir, or --overwrite_output_dir"
                }
                (None, None) => "give another output_dir, or --overwrite_output_dir",
            };
            let told = format!("output_dir: {shown} holds an earlier run ({holds}); {advice}");
            return Err(Error::Input([vec![told], damaged].concat().join("\n")));
        }
        if !output_dir.join(MANIFEST).is_file() {
            let detail = "and no manifest.json, so it is not a run's output and is not written over; give another one";
            return Err(Error::Input(format!("output_dir: {shown} holds {holds} {detail}")));
        }
        if let Some(input) = inputs.iter().find(|input| lies_in(input, output_dir)) {
            let input = input.display();
            return Err(Error::Input(format!(
                "overwrite_output_dir would clear {shown}, but the run reads {input} there; give another output_dir"
            )));
        }
        plan(None, true)
    }

    /// Where the run writes.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The checkpoint the run goes on from.
    pub fn resumed_from(&self) -> Option<&Checkpoint> {
        self.resume.as_ref()
    }

    /// Opens `metrics.jsonl`, cut back to the step the run is resumed from.
    pub fn metrics(&self) -> Result<MetricsLog> {
        MetricsLog::open(&self.path, self.resume.as_ref().map(|checkpoint| checkpoint.step))
    }

    /// Removes old checkpoints, those that the run still may need excepted, and that of step `best`.
    pub fn rotate(&self, save_total_limit: Option<usize>, best: Option<u64>) -> Result<()> {
        let resumed = self.resume.as_ref().map(|checkpoint| checkpoint.path.clone());
        let best = self.checkpoint_of(best)?.map(|checkpoint| checkpoint.path);
        checkpoint::rotate(&self.path, save_total_limit, &resumed.into_iter().chain(best).collect::<Vec<_>>())
    }

    /// The checkpoint that was written after so many steps, if there is one.
    pub fn checkpoint_of(&self, step: Option<u64>) -> Result<Option<Checkpoint>> {
        Ok(Checkpoint::list(&self.path)?.into_iter().find(|checkpoint| Some(checkpoint.step) == step))
    }

    /// Says in the manifest that the run has come to its end.
    pub fn finish(&mut self, outcome: Outcome) -> Result<()> {
        (self.manifest.finished, self.manifest.outcome) = (Some(now()), Some(outcome));
        // What goes on changing, or names itself, is not among them.
        let settled = |name: &str| !RECORDS.contains(&name) && name != MANIFEST;
        let files = durable::hash_files(&self.path)?.into_iter();
        self.manifest.outputs = files.filter(|(name, _)| settled(name)).collect();
        self.write_manifest()
    }

    /// Says of a run that was resumed with nothing left to train that it has ended as it had before; `outcome` where no end of it is
    /// known.
    pub fn finish_again(&mut self, outcome: Outcome) -> Result<()> {
        match self.earlier.take() {
            Some((finished, outcome)) => {
                (self.manifest.finished, self.manifest.outcome) = (Some(finished), Some(outcome));
                self.write_manifest()
            }
            None => self.finish(outcome),
        }
    }

    fn write_manifest(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(|e| Error::Internal(e.to_string()))?;
        write_file(&self.path.join(MANIFEST), &text)
    }
}

impl RunPlan {
    /// The checkpoint to go on from: compare its state before anything is written.
    pub fn resumes_from(&self) -> Option<&Checkpoint> {
        self.resume.as_ref()
    }

    /// What a person should know about it: checkpoints that are damaged and left aside.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Makes the directory, clears away what an interrupted or overwritten run left, and writes `config.yaml` and
    /// `manifest.json`.
    pub fn begin(self, about: &Begin) -> Result<RunDirectory> {
        fs::create_dir_all(&self.path).map_err(|e| io_error(&self.path, "made", e))?;
        mark_changed();
        let lock = DirectoryLock::take(&self.path)?;
        checkpoint::clear_leftovers(&self.path)?;
        if self.clear {
            clear(&self.path)?;
        }
        if self.resume.is_none() {
            clear_records(&self.path)?;
        }
        let mut options = about.options.clone();
        for name in ABOUT_STARTING {
            options.shift_remove(name);
        }
        let yaml = serde_saphyr::to_string(&options).map_err(|e| Error::Internal(format!("{CONFIG}: {e}")))?;
        write_file(&self.path.join(CONFIG), yaml.as_bytes())?;
        let (manifest, earlier) = self.manifest(about);
        let run = RunDirectory { manifest, path: self.path, resume: self.resume, earlier, _lock: lock };
        run.write_manifest()?;
        Ok(run)
    }

    /// A new manifest, or the one of the run that is resumed, with a line about that; and how that run had ended, if it had.
    fn manifest(&self, about: &Begin) -> (Manifest, Option<(String, Outcome)>) {
        let by_name = |files: &Vec<(String, FileHash)>| files.iter().cloned().collect();
        let mut manifest = Manifest {
            lapidary: env!("CARGO_PKG_VERSION").into(),
            build: build(),
            command: about.command.into(),
            device: about.device.into(),
            seed: about.seed,
            started: now(),
            resumed: Vec::new(),
            finished: None,
            outcome: None,
            hub: commits(about.inputs),
            inputs: about.inputs.iter().map(|(role, files)| (role.clone(), by_name(files))).collect(),
            outputs: BTreeMap::new(),
        };
        let mut ended = None;
        if let Some(checkpoint) = &self.resume {
            if let Some(earlier) = Manifest::of(&self.path) {
                (manifest.started, manifest.resumed) = (earlier.started, earlier.resumed);
                (manifest.device, manifest.lapidary) = (earlier.device, earlier.lapidary);
                ended = earlier.finished.zip(earlier.outcome);
            }
            manifest.resumed.push(Resumed {
                from_step: checkpoint.step,
                at: now(),
                device: about.device.into(),
                lapidary: env!("CARGO_PKG_VERSION").into(),
            });
        }
        (manifest, ended)
    }
}

/// Whether a run has come to its end there.
fn is_finished(run: &Path) -> bool {
    Manifest::of(run).is_some_and(|manifest| manifest.finished.is_some())
}

/// The repositories among the inputs, with their commits.
fn commits(inputs: &BTreeMap<String, Vec<(String, FileHash)>>) -> BTreeMap<String, String> {
    let one = |(role, name): (&String, &String)| {
        let kind = if role.ends_with("data") { RepoKind::Dataset } else { RepoKind::Model };
        let name = HubName::parse(name, kind)?.ok()?;
        let commit = name.revision.filter(|revision| is_commit(revision))?;
        Some((format!("{}/{}", kind.plural(), name.repo.id), commit))
    };
    let names = inputs.iter().flat_map(|(role, files)| files.iter().map(move |(name, _)| (role, name)));
    names.filter_map(one).collect()
}

/// Whether the path is, or can be made, a directory.
pub(super) fn check_is_possible(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Error::Input("output_dir is empty; give a directory".into()));
    }
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    match existing {
        Some(ancestor) if !ancestor.is_dir() => {
            let (path, file) = (path.display(), ancestor.display());
            Err(Error::Input(format!("output_dir: {path} cannot be a directory: {file} is a file")))
        }
        _ => Ok(()),
    }
}

/// Files of model or adapter weights that lie directly in a directory, by name.
pub(super) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| io_error(directory, "read", e))? {
        let path = entry.map_err(|e| io_error(directory, "read", e))?.path();
        let is_weights = path.extension().is_some_and(|ext| ext == "safetensors" || ext == "gguf" || ext == "bin");
        if is_weights || path.file_name().is_some_and(|name| name == "model.safetensors.index.json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what an earlier run has written down: another's completions must not stand in this run's report.
fn clear_records(path: &Path) -> Result<()> {
    for file in RECORDS.iter().map(|name| path.join(name)).filter(|file| file.exists()) {
        fs::remove_file(&file).map_err(|e| io_error(&file, "removed", e))?;
    }
    EventFile::clear(path)
}

/// Removes an earlier run's weights and checkpoints. Other files stay, or are written over one by one.
fn clear(path: &Path) -> Result<()> {
    for file in weight_files(path)? {
        fs::remove_file(&file).map_err(|e| io_error(&file, "removed", e))?;
    }
    Checkpoint::list(path)?.iter().try_for_each(|checkpoint| checkpoint::remove(&checkpoint.path))
}

fn lies_in(path: &Path, directory: &Path) -> bool {
    match (path.canonicalize(), directory.canonicalize()) {
        (Ok(path), Ok(directory)) => path.starts_with(directory),
        _ => false,
    }
}

/// The present time as 2026-11-05T13:45:07Z.
fn now() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since_1970.as_secs())
}

/// Seconds since 1970 as date and time of the Gregorian calendar, UTC. Years begin in March here, so that the leap day
/// comes last: the first 153·m + 2 over 5 days of such a year are its first m months.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
