//! Where a command puts files that it needs for a while.
use crate::error::{Error, Result};
use crate::run::interrupt;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that is kept, or a temporary one that is removed at the end, a signal's too.
pub struct WorkPlace {
    /// The directory; it is there.
    pub path: PathBuf,
    /// Whether it is removed.
    pub temporary: bool,
}

impl WorkPlace {
    /// The directory that is to be kept, or one of the system's temporary ones, called after the command.
    pub fn new(command: &str, kept: Option<&Path>) -> Result<Self> {
        let temporary = || std::env::temp_dir().join(format!("lapidary-{command}-{}", std::process::id()));
        let place = WorkPlace { path: kept.map_or_else(temporary, PathBuf::from), temporary: kept.is_none() };
        fs::create_dir_all(&place.path).map_err(|e| Error::file(&place.path, e))?;
        interrupt::leaves(place.temporary.then(|| place.path.clone()));
        Ok(place)
    }
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
        interrupt::leaves(None);
    }
}
