//! One run a directory: a lock that ends with the process that holds it, however that ends.
use super::durable::io_error;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// A run's directory, held against other runs. The lock is the operating system's, on a hidden file: a run that is killed
/// leaves the file, but no lock.
#[derive(Debug)]
pub struct DirectoryLock {
    path: PathBuf,
    /// Closing it frees the lock.
    _file: File,
}

impl DirectoryLock {
    /// The file that is locked.
    pub const FILE_NAME: &str = ".lock";

    /// Takes the directory. Errors: another run is writing there. A file system without locks is used without one.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join(Self::FILE_NAME);
        loop {
            let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = open.map_err(|e| io_error(&path, "opened", e))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let shown = directory.display();
                    return Err(Error::Input(format!(
                        "output_dir: another run is writing to {shown} now; wait for it, or give another directory"
                    )));
                }
                // Another run may have removed the file at its end, between the two calls above: then it is not the one
                // that the next run would lock.
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(DirectoryLock { path, _file: file }),
            }
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Where it cannot be removed, it lies there as after a crash: without effect.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the open file is the one that lies at the path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere an open file is not removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().expect("directory");
        let first = DirectoryLock::take(dir.path()).expect("free");
        let told = DirectoryLock::take(dir.path()).expect_err("held").to_string();
        assert!(told.contains("another run is writing"), "{told}");
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
        DirectoryLock::take(dir.path()).expect("free again");
        // What a run that was killed leaves.
        fs::write(dir.path().join(DirectoryLock::FILE_NAME), "").expect("written");
        DirectoryLock::take(dir.path()).expect("no lock is left");
    }
}
