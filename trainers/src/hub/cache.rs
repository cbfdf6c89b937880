//! The cache on disk, in the layout of Hugging Face's own tools, which read and write it too.
//!
//! ```text
//! models--org--name/refs/main                       the commit that main was, when it was last looked up
//!                   blobs/ETAG                      a file's bytes; ETAG.incomplete while they come
//!                   snapshots/COMMIT/config.json    a link to its blob
//!                   trees/COMMIT.json               every file of the commit, fetched or not
//! .locks/models--org--name/ETAG.lock                held while a file is fetched
//! ```
use super::listing::Listing;
use super::names::{HubName, Repo, is_commit, is_inside};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A repository's directory in the cache.
#[derive(Clone, Debug)]
pub struct RepoCache {
    cache: PathBuf,
    folder: String,
}

/// What a path in the cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePlace {
    /// Of which repository.
    pub repo: Repo,
    /// At which commit.
    pub commit: String,
    /// Which file or directory in it, by its path from the root; empty for the root.
    pub below: String,
}

impl CachePlace {
    /// Where a path lies in the cache; None elsewhere.
    pub fn of(cache: &Path, path: &Path) -> Option<CachePlace> {
        let inside = path.strip_prefix(cache).ok()?;
        let mut parts = inside.components().map(|part| part.as_os_str().to_str());
        let repo = Repo::of_folder(parts.next()??)?;
        let commit = parts.next()?.filter(|name| *name == "snapshots").and(parts.next()??.into())?;
        let below: Option<Vec<&str>> = parts.collect();
        let below = below?.join("/");
        let is_place = is_commit(commit) && (below.is_empty() || is_inside(&below));
        is_place.then(|| CachePlace { repo, commit: commit.to_string(), below })
    }

    /// As it can be given again: `org/name@commit`, or a file of it.
    pub fn name(&self) -> HubName {
        let file = (!self.below.is_empty()).then(|| self.below.clone());
        HubName { repo: self.repo.clone(), revision: Some(self.commit.clone()), file }
    }
}

fn failed(path: &Path, doing: &str, error: io::Error) -> Error {
    let advice =
        if error.kind() == io::ErrorKind::StorageFull { "; HF_HOME names another place for the cache" } else { "" };
    Error::Output(format!("{}: cannot be {doing}: {error}{advice}", path.display()))
}

/// Makes a directory and those above it.
pub fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| failed(path, "made", e))
}

/// Writes a file whole: beside, then renamed.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.with_file_name(format!("{name}.{}.tmp", std::process::id()));
    let written = fs::write(&beside, content).and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| failed(path, "written", e))
}

impl RepoCache {
    /// Where `repo` lies, or will.
    pub fn new(cache: &Path, repo: &Repo) -> Self {
        RepoCache { cache: cache.to_path_buf(), folder: repo.folder() }
    }

    fn path(&self) -> PathBuf {
        self.cache.join(&self.folder)
    }
    /// The directory of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }
    /// Where the bytes of a file are kept.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(etag)
    }

    /// The commit that a branch or tag was when it was last looked up.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return self.snapshot(revision).is_dir().then(|| revision.to_string());
        }
        let text = fs::read_to_string(self.path().join("refs").join(revision)).ok()?;
        Some(text.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Keeps which commit a branch or tag is.
    pub fn keep_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&self.path().join("refs").join(revision), commit.as_bytes())
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.path().join("trees").join(format!("{commit}.json"))
    }
    /// Every file of a commit, where that is known.
    pub fn listing(&self, commit: &str) -> Option<Listing> {
        Listing::of_cache(&fs::read_to_string(self.tree(commit)).ok()?)
    }
    /// Keeps every file of a commit: it never changes.
    pub fn keep_listing(&self, commit: &str, listing: &Listing) -> Result<()> {
        replace(&self.tree(commit), listing.to_cache().as_bytes())
    }

    /// The paths of a commit's files that have been fetched, by whichever tool.
    pub fn fetched(&self, commit: &str) -> Vec<String> {
        let (mut found, mut open) = (Vec::new(), vec![(self.snapshot(commit), String::new())]);
        while let Some((directory, prefix)) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match entry.path().is_dir() {
                    true => open.push((entry.path(), format!("{name}/"))),
                    false => found.push(name),
                }
            }
        }
        found.sort();
        found
    }

    /// Waits until no other process fetches this file, ours or another tool's; others wait until the lock is dropped.
    pub fn lock(&self, etag: &str, file: &str) -> Result<File> {
        let path = self.cache.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| failed(&path, "opened", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                tell!("waiting for another program that fetches {file} ({})", path.display());
                lock.lock().map_err(|e| failed(&path, "locked", e))?;
            }
            // A file system without locks: each file is still put in its place whole.
            Err(fs::TryLockError::Error(_)) => {}
        }
        Ok(lock)
    }

    /// Puts a blob in a commit's directory under its name: a link, or where there are none a copy.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        if path.exists() {
            return Ok(path);
        }
        // One that leads nowhere: its blob was removed.
        let _ = fs::remove_file(&path);
        let up = "../".repeat(2 + file.matches('/').count());
        let linked = symlink(&format!("{up}blobs/{etag}"), &path);
        let made = linked.or_else(|e| match path.exists() {
            true => Ok(()),
            false => fs::copy(self.blob(etag), &path).map(|_| ()).map_err(|_| e),
        });
        made.map_err(|e| failed(&path, "linked", e))?;
        Ok(path)
    }

    /// What marks a cache for programs that make backups.
    pub fn tag(&self) {
        let path = self.cache.join("CACHEDIR.TAG");
        if !path.exists() {
            let _ = fs::write(
                path,
                "Signature: 8a477f597d28d172789f06886806bc55\n# Files fetched from the Hugging Face hub.\n",
            );
        }
    }
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &str, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), path)
}

#[cfg(test)]
mod tests {
    use super::super::names::RepoKind;
    use super::*;

    #[test]
    fn places_in_the_cache() {
        let cache = Path::new("/c/hub");
        let commit = "a".repeat(40);
        let of = |rest: &str| CachePlace::of(cache, &cache.join(rest.replace("COMMIT", &commit)));
        let place = of("datasets--org--name/snapshots/COMMIT/data/a.jsonl").expect("a place");
        assert_eq!((place.repo.kind, place.repo.id.as_str()), (RepoKind::Dataset, "org/name"));
        assert_eq!(place.name().to_string(), format!("hf://datasets/org/name@{commit}/data/a.jsonl"));
        assert_eq!(
            of("models--org--name/snapshots/COMMIT").expect("a place").name().to_string(),
            format!("org/name@{commit}")
        );
        for other in [
            "models--org--name",
            "models--org--name/blobs/COMMIT",
            "models--org--name/snapshots/main",
            "other/snapshots/COMMIT",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(CachePlace::of(cache, Path::new("/elsewhere/models--org--name")), None);
    }

    #[test]
    fn a_blob_is_linked_from_where_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo { kind: RepoKind::Model, id: "org/name".into() };
        let cache = RepoCache::new(dir.path(), &repo);
        let commit = "b".repeat(40);
        make_directory(&dir.path().join("models--org--name/blobs")).unwrap();
        fs::write(cache.blob("e1"), "text").unwrap();
        let path = cache.link(&commit, "sub/deep/a.txt", "e1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        #[cfg(unix)]
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../../../blobs/e1"));
        assert_eq!(cache.fetched(&commit), ["sub/deep/a.txt"]);
        cache.keep_commit("refs/pr/1", &commit).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1"), Some(commit));
        assert_eq!(cache.commit_of("main"), None);
    }
}
