//! What is worth keeping between runs on one device: compiled pipelines, and which product kernel was fastest.
//!
//! Both only save time; results are the same without them. Files that cannot be read or written are as good as none.
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that names the directory; `off` for none.
pub const VARIABLE: &str = "LAPIDARY_CACHE";

/// Where the user keeps such things: `$LAPIDARY_CACHE`, or `lapidary` in `$XDG_CACHE_HOME`, `~/.cache` or `%LOCALAPPDATA%`.
pub fn default_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    match variable(VARIABLE) {
        Some(off) if off == Path::new("off") => None,
        Some(directory) => Some(directory),
        None => variable("XDG_CACHE_HOME")
            .or_else(|| Some(variable("HOME")?.join(".cache")))
            .or_else(|| variable("LOCALAPPDATA"))
            .map(|directory| directory.join("lapidary")),
    }
}

/// The files of one device and driver.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Below `root`, by the device's name and driver.
    pub(super) fn at(root: &Path, device: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        Cache { directory: root.join(device.chars().map(plain).collect::<String>()) }
    }

    pub(super) fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.join(file)).ok()
    }

    /// Written beside and renamed, so that nobody reads half a file.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) {
        let part = self.directory.join(format!("{file}.{}", std::process::id()));
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| fs::write(&part, bytes))
            .and_then(|()| fs::rename(&part, self.directory.join(file)));
        if written.is_err() {
            // Nothing depends on it, nor on whether the rest of it can be removed.
            let _ = fs::remove_file(part);
        }
    }
}
