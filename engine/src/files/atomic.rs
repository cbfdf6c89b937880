//! Files that are there whole or not at all: written beside, flushed to disk, renamed into place.
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this program has changed a file or directory of its user's.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// Says that something on disk is no longer as the program found it.
pub fn mark_changed() {
    CHANGED.store(true, Ordering::Relaxed);
}

/// Whether something on disk is no longer as the program found it: what fails from then on has failed in the middle.
pub fn has_changed() -> bool {
    CHANGED.load(Ordering::Relaxed)
}

/// Removes the temporary file unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes `path` through `write`: a reader sees the old file or the whole new one, whatever fails in between.
pub fn replace_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let failed = |e: std::io::Error| Error::file(path, format!("cannot be written: {e}"));
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not a file name"))?.to_string_lossy();
    let mut temporary =
        Temporary { path: path.with_file_name(format!(".{name}.{}.tmp", std::process::id())), renamed: false };
    let file = File::create(&temporary.path).map_err(failed)?;
    mark_changed();
    let mut writer = BufWriter::with_capacity(1 << 20, &file);
    write(&mut writer).and_then(|()| writer.flush()).map_err(failed)?;
    drop(writer);
    file.sync_all().map_err(failed)?;
    drop(file);
    fs::rename(&temporary.path, path).map_err(failed)?;
    temporary.renamed = true;
    sync_directory(path.parent());
    Ok(())
}

/// Makes a rename last through a power cut, where the system can; elsewhere there is nothing to do.
fn sync_directory(directory: Option<&Path>) {
    #[cfg(unix)]
    if let Some(directory) = directory {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        // The file's bytes are safe already; a file system that cannot do this is no reason to fail.
        let _ = File::open(directory).and_then(|d| d.sync_all());
    }
    #[cfg(not(unix))]
    let _ = directory;
}

/// Writes `value` as indented JSON with a last newline.
pub fn replace_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::file(path, e))?;
    text.push(b'\n');
    replace_file(path, |w| w.write_all(&text))
}

/// Creates `path` and the directories above it.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::file(path, format!("cannot be created: {e}")))?;
    mark_changed();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace_json(&path, &1).unwrap();
        let failed = replace_file(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        replace_json(&path, &2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace_json(&dir.path().join("no/such/directory.json"), &1).is_err());
    }
}
