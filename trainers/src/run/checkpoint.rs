//! Checkpoints: `checkpoint-N/` is complete or not there, whenever the machine stops.
//!
//! A checkpoint is written into `.checkpoint-N.partial` beside, its files are hashed and flushed, and the directory is
//! renamed. What a crash leaves behind is cleared away when the next run begins.
use super::durable::{self, FileHash, hash_file, io_error, sibling};
use super::optimizer_file::OptimizerState;
use super::state::TrainerState;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `files.json`: what belongs to a checkpoint. Written last.
#[derive(Debug, Serialize, Deserialize)]
struct FileList {
    files: BTreeMap<String, FileHash>,
}

const FILE_LIST: &str = "files.json";

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// Optimiser steps done.
    pub step: u64,
}

impl Checkpoint {
    /// The checkpoints of a run, complete or not, oldest first.
    pub fn list(run: &Path) -> Result<Vec<Checkpoint>> {
        let mut found = Vec::new();
        if !run.is_dir() {
            return Ok(found);
        }
        for entry in fs::read_dir(run).map_err(|e| io_error(run, "read", e))? {
            let path = entry.map_err(|e| io_error(run, "read", e))?.path();
            if let Some(step) = step_of(&path).filter(|_| path.is_dir()) {
                found.push(Checkpoint { path, step });
            }
        }
        found.sort_by_key(|checkpoint| checkpoint.step);
        Ok(found)
    }

    /// The newest checkpoint of a run whose files are all there with the content that was written, and what is wrong with
    /// the newer ones, a line each.
    pub fn last_good(run: &Path) -> Result<(Option<Checkpoint>, Vec<String>)> {
        let mut damaged = Vec::new();
        for checkpoint in Self::list(run)?.into_iter().rev() {
            match Self::open(&checkpoint.path) {
                Ok(checkpoint) => return Ok((Some(checkpoint), damaged)),
                Err(error) => damaged.push(error.to_string()),
            }
        }
        Ok((None, damaged))
    }

    /// A checkpoint by its path, every file compared with its hash.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if !path.is_dir() {
            let detail = "there is no such checkpoint directory";
            return Err(Error::Input(format!("resume_from_checkpoint: {}: {detail}", path.display())));
        }
        // The path as given may be "." or a link; the state knows the step.
        let checkpoint = Checkpoint { path: path.to_path_buf(), step: 0 };
        let list = checkpoint.check_sizes()?;
        for (name, expected) in &list.files {
            let file = path.join(name);
            if hash_file(&file)? != *expected {
                let advice = "its content is not what was written; take another checkpoint";
                return Err(Error::Input(format!("{}: damaged: {advice}", file.display())));
            }
        }
        let step = TrainerState::read(path)?.global_step;
        Ok(Checkpoint { step, ..checkpoint })
    }

    /// Compares names and sizes with the list.
    fn check_sizes(&self) -> Result<FileList> {
        let path = self.path.join(FILE_LIST);
        let incomplete = |detail: String| {
            let shown = self.path.display();
            Error::Input(format!("{shown}: incomplete checkpoint: {detail}; take another one"))
        };
        let text = fs::read_to_string(&path).map_err(|_| incomplete(format!("{FILE_LIST} is missing")))?;
        let list: FileList =
            serde_json::from_str(&text).map_err(|e| incomplete(format!("{FILE_LIST} is damaged ({e})")))?;
        if !list.files.contains_key(TrainerState::FILE_NAME) {
            return Err(incomplete(format!("{FILE_LIST} does not name {}", TrainerState::FILE_NAME)));
        }
        for (name, expected) in &list.files {
            match fs::metadata(self.path.join(name)) {
                Err(_) => return Err(incomplete(format!("{name} is missing"))),
                Ok(found) if found.len() != expected.bytes => {
                    let (is, was) = (found.len(), expected.bytes);
                    return Err(incomplete(format!("{name} has {is} bytes instead of {was}")));
                }
                Ok(_) => {}
            }
        }
        Ok(list)
    }

    /// Where the run was.
    pub fn state(&self) -> Result<TrainerState> {
        TrainerState::read(&self.path)
    }
    /// The optimiser's moments.
    pub fn optimizer(&self) -> Result<OptimizerState> {
        OptimizerState::read(&self.path)
    }
}

/// Where the checkpoint of a step lies in its run's directory.
pub fn path_of(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoint-{step}"))
}

/// N of a path that ends in checkpoint-N.
fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()
}

/// Flushes every file of a directory, and of the directories in it, to the disk. Returns their hashes by path:
/// `critic/optimizer.safetensors`.
fn flush_and_hash(partial: &Path) -> Result<BTreeMap<String, FileHash>> {
    let mut files: BTreeMap<String, FileHash> = durable::hash_files(partial)?.into_iter().collect();
    for entry in fs::read_dir(partial).map_err(|e| io_error(partial, "read", e))? {
        let entry = entry.map_err(|e| io_error(partial, "read", e))?;
        if entry.path().is_dir() {
            let directory = entry.file_name().to_string_lossy().into_owned();
            let inside = durable::hash_files(&entry.path())?;
            files.extend(inside.into_iter().map(|(name, hash)| (format!("{directory}/{name}"), hash)));
            durable::sync_directory(&entry.path());
        }
    }
    for name in files.keys() {
        durable::sync_file(&partial.join(name))?;
    }
    Ok(files)
}

/// A checkpoint that is being written. Dropped without [`CheckpointWriter::commit`], it was never there.
#[derive(Debug)]
pub struct CheckpointWriter {
    partial: PathBuf,
    target: PathBuf,
    step: u64,
    is_committed: bool,
}

impl CheckpointWriter {
    /// Begins to write checkpoint-`step` beside its place.
    pub fn begin(run: &Path, step: u64) -> Result<Self> {
        let target = path_of(run, step);
        let partial = sibling(&target, "partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(|e| io_error(&partial, "removed", e))?;
        }
        fs::create_dir(&partial).map_err(|e| io_error(&partial, "made", e))?;
        Ok(CheckpointWriter { partial, target, step, is_committed: false })
    }

    /// Where to put the model's or adapter's files and side files; a directory in it holds files alone.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Adds the state, makes everything durable, and puts the checkpoint in its place.
    pub fn commit(mut self, state: &TrainerState, optimizer: &OptimizerState) -> Result<Checkpoint> {
        if state.global_step != self.step {
            let (ours, theirs) = (self.step, state.global_step);
            return Err(Error::Internal(format!("checkpoint-{ours} with the state of step {theirs}")));
        }
        optimizer.write(&self.partial)?;
        let state_path = self.partial.join(TrainerState::FILE_NAME);
        fs::write(&state_path, state.to_json()?).map_err(|e| io_error(&state_path, "written", e))?;
        let files = flush_and_hash(&self.partial)?;
        let list = serde_json::to_vec_pretty(&FileList { files }).map_err(|e| Error::Internal(e.to_string()))?;
        durable::write_file(&self.partial.join(FILE_LIST), &list)?;
        self.put_in_place()?;
        self.is_committed = true;
        Ok(Checkpoint { path: self.target.clone(), step: self.step })
    }

    fn put_in_place(&self) -> Result<()> {
        let old = sibling(&self.target, "old");
        let replaces = self.target.exists();
        if replaces {
            // A run that was resumed from an earlier step comes by here again.
            fs::rename(&self.target, &old).map_err(|e| io_error(&self.target, "moved", e))?;
        }
        fs::rename(&self.partial, &self.target).map_err(|e| io_error(&self.target, "put in place", e))?;
        durable::sync_parent(&self.target);
        if replaces {
            fs::remove_dir_all(&old).map_err(|e| io_error(&old, "removed", e))?;
        }
        Ok(())
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.is_committed {
            // What cannot be removed now is cleared away when the next run begins.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Removes the oldest checkpoints until `limit` are left. The newest stays, and so do those of `keep` (the one that the run
/// was resumed from, the best), beyond the limit if need be.
pub fn rotate(run: &Path, limit: Option<usize>, keep: &[PathBuf]) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let all = Checkpoint::list(run)?;
    let n_old = all.len().saturating_sub(limit.max(1));
    let canonical = |path: &Path| path.canonicalize().ok();
    let kept: Vec<PathBuf> = keep.iter().filter_map(|path| canonical(path)).collect();
    for checkpoint in &all[..n_old] {
        if canonical(&checkpoint.path).is_none_or(|path| !kept.contains(&path)) {
            remove(&checkpoint.path)?;
        }
    }
    Ok(())
}

/// Removes a checkpoint: first out of its place in one move, so that no half of it is ever taken for a checkpoint.
pub fn remove(path: &Path) -> Result<()> {
    let aside = sibling(path, "removed");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(|e| io_error(&aside, "removed", e))?;
    }
    fs::rename(path, &aside).map_err(|e| io_error(path, "removed", e))?;
    fs::remove_dir_all(&aside).map_err(|e| io_error(&aside, "removed", e))
}

/// The file that `.name.N.tmp` was to become: what a run that was killed has left of it.
fn half_written(name: &str) -> Option<&str> {
    let (target, number) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_ours = [".safetensors", ".json", ".jsonl", ".yaml", ".html"].iter().any(|end| target.ends_with(end));
    (is_ours && number.parse::<u32>().is_ok()).then_some(target)
}

/// Clears away what an interrupted run left half done; brings back a checkpoint whose replacement did not get into place.
pub fn clear_leftovers(run: &Path) -> Result<()> {
    for entry in fs::read_dir(run).map_err(|e| io_error(run, "read", e))? {
        let path = entry.map_err(|e| io_error(run, "read", e))?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if half_written(&name).is_some() {
            fs::remove_file(&path).map_err(|e| io_error(&path, "removed", e))?;
            continue;
        }
        let Some((number, suffix)) = name.strip_prefix(".checkpoint-").and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let target = run.join(format!("checkpoint-{number}"));
        match suffix {
            "old" if !target.exists() => fs::rename(&path, &target).map_err(|e| io_error(&path, "moved", e))?,
            "old" | "partial" | "removed" => fs::remove_dir_all(&path).map_err(|e| io_error(&path, "removed", e))?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    fn run() -> TempDir {
        tempdir().expect("directory")
    }
    fn last_good(run: &Path) -> Option<u64> {
        Checkpoint::last_good(run).expect("found").0.map(|checkpoint| checkpoint.step)
    }
    fn state(step: u64) -> TrainerState {
        TrainerState { global_step: step, ..TrainerState::new() }
    }
    fn save(run: &Path, step: u64) -> Checkpoint {
        let writer = CheckpointWriter::begin(run, step).expect("begun");
        fs::write(writer.path().join("model.safetensors"), format!("weights {step}")).expect("written");
        writer.commit(&state(step), &OptimizerState { step, ..Default::default() }).expect("committed")
    }
    fn steps(run: &Path) -> Vec<u64> {
        Checkpoint::list(run).expect("listed").iter().map(|checkpoint| checkpoint.step).collect()
    }
    fn names(run: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(run)
            .expect("listed")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn saved_and_opened() {
        let run = run();
        let saved = save(run.path(), 20);
        save(run.path(), 100);
        save(run.path(), 3);
        assert_eq!(steps(run.path()), [3, 20, 100]);
        assert_eq!(Checkpoint::open(&saved.path).expect("whole"), saved);
        assert_eq!(saved.state().expect("read").global_step, 20);
        assert_eq!(saved.optimizer().expect("read").step, 20);
        assert_eq!(last_good(run.path()), Some(100));
        assert_eq!(last_good(&run.path().join("none")), None);
    }

    #[test]
    fn an_uncommitted_checkpoint_was_never_there() {
        let run = run();
        save(run.path(), 10);
        let writer = CheckpointWriter::begin(run.path(), 20).expect("begun");
        fs::write(writer.path().join("model.safetensors"), "half").expect("written");
        assert_eq!(steps(run.path()), [10]);
        drop(writer);
        assert_eq!(names(run.path()), ["checkpoint-10"]);
        let writer = CheckpointWriter::begin(run.path(), 20).expect("begun");
        assert!(matches!(writer.commit(&state(21), &OptimizerState::default()), Err(Error::Internal(_))));
        assert_eq!(names(run.path()), ["checkpoint-10"]);
    }

    /// The states a crash can leave: while writing, between the two renames, while removing.
    #[test]
    fn leftovers_of_a_crash() {
        let run = run();
        save(run.path(), 10);
        save(run.path(), 20);
        fs::create_dir(run.path().join(".checkpoint-30.partial")).expect("made");
        fs::write(run.path().join(".checkpoint-30.partial/model.safetensors"), "half").expect("written");
        fs::create_dir(run.path().join(".checkpoint-5.removed")).expect("made");
        fs::rename(run.path().join("checkpoint-20"), run.path().join(".checkpoint-20.old")).expect("moved");
        fs::write(run.path().join("notes.txt"), "mine").expect("written");
        fs::write(run.path().join(".model.safetensors.1234.tmp"), "half").expect("written");
        assert_eq!(last_good(run.path()), Some(10));
        clear_leftovers(run.path()).expect("cleared");
        assert_eq!(names(run.path()), ["checkpoint-10", "checkpoint-20", "notes.txt"]);
        assert_eq!(last_good(run.path()), Some(20));
        // The same step again, as in a resumed run.
        fs::write(run.path().join("checkpoint-20/old"), "").expect("written");
        save(run.path(), 20);
        assert!(!run.path().join("checkpoint-20/old").exists());
        assert_eq!(names(run.path()), ["checkpoint-10", "checkpoint-20", "notes.txt"]);
    }

    #[test]
    fn incomplete_and_damaged_checkpoints_are_told() {
        let run = run();
        save(run.path(), 10);
        let newest = save(run.path(), 20);
        let told = |path: &Path| Checkpoint::open(path).expect_err("is wrong").to_string();
        let model = newest.path.join("model.safetensors");

        fs::write(&model, "weights 2X").expect("written");
        assert!(told(&newest.path).contains("model.safetensors: damaged"), "{}", told(&newest.path));
        fs::write(&model, "weights").expect("written");
        assert!(told(&newest.path).contains("model.safetensors has 7 bytes instead of 10"));
        fs::remove_file(&model).expect("removed");
        assert!(told(&newest.path).contains("model.safetensors is missing"));
        assert_eq!(last_good(run.path()), Some(10));
        fs::write(newest.path.join(FILE_LIST), "{").expect("written");
        assert!(told(&newest.path).contains("files.json is damaged"));
        fs::write(newest.path.join(FILE_LIST), "{\"files\":{}}").expect("written");
        assert!(told(&newest.path).contains("does not name trainer_state.json"));
        fs::remove_file(newest.path.join(FILE_LIST)).expect("removed");
        assert!(told(&newest.path).contains("files.json is missing"));
        assert!(told(&run.path().join("checkpoint-99")).contains("there is no such checkpoint directory"));
    }

    /// Every bit of every file of a small checkpoint flipped in turn, and every file cut off at every byte: what is taken
    /// for a checkpoint then says what was written.
    #[test]
    fn a_bit_that_flips_and_a_file_that_is_cut_are_seen() {
        let run = run();
        let saved = save(run.path(), 10);
        let before = saved.state().expect("read").to_json().expect("written");
        let is_told = |place: &str| match Checkpoint::open(&saved.path) {
            Err(_) => true,
            // Blanks of the list of files may change without changing what it says.
            Ok(found) => {
                assert_eq!(found.state().expect("read").to_json().expect("written"), before, "{place}");
                false
            }
        };
        for name in names(&saved.path) {
            let path = saved.path.join(&name);
            let whole = fs::read(&path).expect("read");
            let mut unseen = 0;
            for (i, bit) in (0..whole.len()).flat_map(|i| (0..8).map(move |bit| (i, bit))) {
                let mut flipped = whole.clone();
                flipped[i] ^= 1 << bit;
                fs::write(&path, &flipped).expect("written");
                unseen += usize::from(!is_told(&format!("{name}: bit {bit} of byte {i}")));
            }
            assert!(unseen == 0 || name == FILE_LIST, "{name}: {unseen} bits");
            for n in 0..whole.len() {
                fs::write(&path, &whole[..n]).expect("written");
                assert!(is_told(&format!("{name} cut at {n}")), "{name} cut at {n}");
            }
            fs::write(&path, &whole).expect("written");
        }
        assert!(!is_told("put back"));
    }

    /// A critic's files lie in a directory of their own.
    #[test]
    fn files_in_a_directory_belong_to_a_checkpoint() {
        let run = run();
        let writer = CheckpointWriter::begin(run.path(), 10).expect("begun");
        fs::create_dir(writer.path().join("critic")).expect("made");
        fs::write(writer.path().join("critic/weights"), "critic").expect("written");
        let saved = writer.commit(&state(10), &OptimizerState { step: 10, ..Default::default() }).expect("committed");
        assert_eq!(Checkpoint::open(&saved.path).expect("whole").step, 10);
        let inside = saved.path.join("critic/weights");
        fs::write(&inside, "critiX").expect("written");
        let told = Checkpoint::open(&saved.path).expect_err("damaged").to_string();
        assert!(told.contains("weights: damaged"), "{told}");
        fs::remove_file(&inside).expect("removed");
        assert_eq!(last_good(run.path()), None);
    }

    #[test]
    fn rotation() {
        let run = run();
        for step in [10, 20, 30, 40] {
            save(run.path(), step);
        }
        rotate(run.path(), None, &[]).expect("rotated");
        assert_eq!(steps(run.path()), [10, 20, 30, 40]);
        rotate(run.path(), Some(3), &[]).expect("rotated");
        assert_eq!(steps(run.path()), [20, 30, 40]);
        rotate(run.path(), Some(1), &[run.path().join("checkpoint-20")]).expect("rotated");
        assert_eq!(steps(run.path()), [20, 40]);
        rotate(run.path(), Some(0), &[]).expect("rotated");
        assert_eq!(steps(run.path()), [40]);
        assert_eq!(names(run.path()), ["checkpoint-40"]);
    }
}
