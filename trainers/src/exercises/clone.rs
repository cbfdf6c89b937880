//! The clone that exercises are taken from: where it is, and copies of its sources to search for bugs in.
use super::{DIRECTORY, Exercise};
use crate::error::{Error, Result};
use engine::files::atomic::{create_directory, mark_changed, replace_json};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory below the exercises for copies and for how far a reader is; git ignores it.
pub const WORK: &str = "work";
/// What a copy has: all that cargo builds and tests. The exercises are not among it.
const SOURCES: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "rustfmt.toml",
    "rust-toolchain.toml",
    ".cargo",
    "benches",
    "engine",
    "examples",
    "shaders",
    "tests",
    "trainers",
];
/// Directories inside these that cargo or Python make.
const MADE: [&str; 2] = ["target", "__pycache__"];

/// The clone that `from` lies in. Errors: there is none.
pub fn find(from: &Path) -> Result<PathBuf> {
    let is_clone = |path: &&Path| path.join(DIRECTORY).is_dir() && path.join("engine/src/lib.rs").is_file();
    from.ancestors().find(is_clone).map(Path::to_path_buf).ok_or_else(|| {
        let detail =
            "is in no clone of lapidary's repository, whose sources the exercises copy; clone it with git and go there";
        Error::file(from, detail)
    })
}

/// How far a reader is with an exercise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Where the copy is.
    pub directory: PathBuf,
    /// Hints given so far.
    pub hints: usize,
}

fn progress_file(clone: &Path, exercise: &Exercise) -> PathBuf {
    clone.join(DIRECTORY).join(WORK).join(format!("{}.json", exercise.name()))
}

impl Attempt {
    /// How far it is; None where it has not been begun.
    pub fn find(clone: &Path, exercise: &Exercise) -> Result<Option<Self>> {
        let path = progress_file(clone, exercise);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::file(&path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file(&path, e)),
        }
    }

    /// Keeps it beside the copies.
    pub fn save(&self, clone: &Path, exercise: &Exercise) -> Result<()> {
        create_directory(&clone.join(DIRECTORY).join(WORK))?;
        Ok(replace_json(&progress_file(clone, exercise), self)?)
    }
}

/// Where the copy of an exercise goes if nothing else is said.
pub fn usual_directory(clone: &Path, exercise: &Exercise) -> PathBuf {
    clone.join(DIRECTORY).join(WORK).join(exercise.name())
}

/// Copies the sources of a clone to `to`, over what is there of them: files that the clone does not have are removed from the
/// directories that are copied, everything else in `to` stays.
/// Errors: `to` is inside what is copied.
pub fn copy_sources(clone: &Path, to: &Path) -> Result<()> {
    create_directory(to)?;
    let real = |path: &Path| path.canonicalize().map_err(|e| Error::file(path, e));
    let (real_clone, real_to) = (real(clone)?, real(to)?);
    if let Some(name) = SOURCES.iter().find(|name| real_to.starts_with(real_clone.join(name))) {
        return Err(Error::file(to, format!("is inside {name}, which is copied; give a directory outside")));
    }
    for name in SOURCES {
        let (source, target) = (clone.join(name), to.join(name));
        if target.is_dir() {
            fs::remove_dir_all(&target).map_err(|e| Error::file(&target, e))?;
        }
        if source.exists() {
            copy(&source, &target)?;
        }
    }
    Ok(())
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    if !source.is_dir() {
        fs::copy(source, target).map_err(|e| Error::file(source, format!("cannot be copied: {e}")))?;
        mark_changed();
        return Ok(());
    }
    create_directory(target)?;
    for entry in fs::read_dir(source).map_err(|e| Error::file(source, e))? {
        let entry = entry.map_err(|e| Error::file(source, e))?;
        if !MADE.iter().any(|name| entry.file_name() == *name) {
            copy(&entry.path(), &target.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_sources_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (clone, to) = (dir.path().join("clone"), dir.path().join("clone/exercises/work/01"));
        for path in ["engine/src/lib.rs", "engine/target/debug/a", "trainers/src/b.rs", "exercises/01-a/x", "models/m"]
        {
            let path = clone.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "new").unwrap();
        }
        fs::write(clone.join("Cargo.toml"), "new").unwrap();
        fs::create_dir_all(to.join("engine/src")).unwrap();
        fs::write(to.join("engine/src/lib.rs"), "old").unwrap();
        fs::write(to.join("engine/src/gone.rs"), "old").unwrap();
        fs::write(to.join("notes.txt"), "mine").unwrap();
        copy_sources(&clone, &to).unwrap();
        let has = |path: &str| fs::read_to_string(to.join(path)).ok();
        assert_eq!(has("engine/src/lib.rs").as_deref(), Some("new"));
        assert_eq!((has("trainers/src/b.rs").as_deref(), has("Cargo.toml").as_deref()), (Some("new"), Some("new")));
        assert_eq!((has("engine/src/gone.rs"), has("engine/target/debug/a")), (None, None));
        assert!(!to.join("exercises").exists() && !to.join("models").exists());
        assert_eq!(has("notes.txt").as_deref(), Some("mine"));
        assert_eq!(find(&to).unwrap(), clone);
        let told = copy_sources(&clone, &clone.join("engine/../engine/copy")).unwrap_err().to_string();
        assert!(told.contains("inside engine"), "{told}");
        let told = find(Path::new("/")).unwrap_err().to_string();
        assert!(told.contains("clone it with git"), "{told}");
    }
}
