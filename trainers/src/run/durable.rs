//! Files that are either whole or not there: written beside, flushed to the disk, renamed; and their hashes.
use crate::error::{Error, Result};
use engine::files::atomic::replace_file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// "path: cannot be …: why" for a failed file operation.
pub fn io_error(path: &Path, doing: &str, error: impl std::fmt::Display) -> Error {
    Error::Input(format!("{}: cannot be {doing}: {error}", path.display()))
}

/// Writes a file so that a crash leaves the old content or the new, never a part.
pub fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    Ok(replace_file(path, |file| file.write_all(content))?)
}

/// `.name.suffix` in the same directory.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Flushes a file's content to the disk.
pub fn sync_file(path: &Path) -> Result<()> {
    // Some systems only flush through a handle that may write.
    let open = || fs::OpenOptions::new().write(true).open(path)?.sync_all();
    open().map_err(|e| io_error(path, "flushed to the disk", e))
}

/// Makes a rename survive a power cut, where the system lets a directory be flushed; elsewhere it does so by itself.
pub fn sync_parent(path: &Path) {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_directory(parent);
    } else {
        sync_directory(Path::new("."));
    }
}

/// Makes a rename in this directory last; best effort, since not every system can.
pub fn sync_directory(path: &Path) {
    // Windows cannot open a directory; nothing is lost by not flushing it there.
    if let Ok(directory) = File::open(path) {
        let _ = directory.sync_all();
    }
}

/// Size and SHA-256 (hexadecimal) of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Size of the file.
    pub bytes: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Reads a file through once.
pub fn hash_file(path: &Path) -> Result<FileHash> {
    let mut file = File::open(path).map_err(|e| io_error(path, "read", e))?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut block).map_err(|e| io_error(path, "read", e))?;
        if n == 0 {
            break;
        }
        hasher.update(&block[..n]);
        bytes += n as u64;
    }
    Ok(FileHash { bytes, sha256: hexadecimal(&hasher.finalize()) })
}

/// The hash of a text, as of a file that holds it.
pub fn hash_text(text: &str) -> FileHash {
    FileHash { bytes: text.len() as u64, sha256: hexadecimal(&Sha256::digest(text.as_bytes())) }
}

/// The files of `path` (a file, or a directory and what lies directly in it, hidden files left out), in the order of
/// their names, with their hashes.
pub fn hash_files(path: &Path) -> Result<Vec<(String, FileHash)>> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| io_error(path, "read", e))? {
            let entry = entry.map_err(|e| io_error(path, "read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && !name.starts_with('.') {
                files.push((name, entry.path()));
            }
        }
        files.sort();
    } else {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        files.push((name, path.to_path_buf()));
    }
    files.into_iter().map(|(name, path)| hash_file(&path).map(|hash| (name, hash))).collect()
}

/// As [`hash_files`], with what lies in the directories below, by its path from `path`: a data set and its splits.
pub fn hash_tree(path: &Path) -> Result<Vec<(String, FileHash)>> {
    let mut files = hash_files(path)?;
    if path.is_dir() {
        let mut below = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| io_error(path, "read", e))? {
            let entry = entry.map_err(|e| io_error(path, "read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && !name.starts_with('.') {
                below.push((name, entry.path()));
            }
        }
        below.sort();
        for (name, directory) in below {
            files.extend(hash_tree(&directory)?.into_iter().map(|(file, hash)| (format!("{name}/{file}"), hash)));
        }
    }
    Ok(files)
}

/// One hash for several files: of their names and hashes in order.
pub fn combined_hash(files: &[(String, FileHash)]) -> String {
    let mut hasher = Sha256::new();
    for (name, hash) in files {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update(hash.sha256.as_bytes());
        hasher.update([0]);
    }
    hexadecimal(&hasher.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_hashed_whole() {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["b.jsonl", "train/a.jsonl", "train/deep/c.jsonl", ".hidden/d.jsonl"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, name).expect("written");
        }
        let names: Vec<String> = hash_tree(dir.path()).expect("hashed").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b.jsonl", "train/a.jsonl", "train/deep/c.jsonl"]);
    }

    #[test]
    fn known_hash() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a.txt");
        write_file(&path, b"abc").expect("written");
        let hash = hash_file(&path).expect("hashed");
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.bytes, 3);
        write_file(&path, b"abcd").expect("written again");
        assert_eq!(fs::read(&path).expect("read"), b"abcd");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn directories_in_order_of_names() {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["b", "a", ".hidden"] {
            write_file(&dir.path().join(name), name.as_bytes()).expect("written");
        }
        let files = hash_files(dir.path()).expect("hashed");
        assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let mut other = files.clone();
        other.swap(0, 1);
        assert_ne!(combined_hash(&files), combined_hash(&other));
        assert!(hash_file(&dir.path().join("missing")).is_err());
    }
}
