//! Files fetched into the cache: resumed where a connection was cut, checked, and put in their place whole.
use super::cache::{RepoCache, make_directory};
use super::client::{Asked, Client, Failure, quoted_path};
use super::listing::Listed;
use super::names::{Repo, RepoKind};
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

/// A file to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its path from the repository's root.
    pub path: &'a str,
    /// What the hub says of it.
    pub listed: &'a Listed,
}

/// So often a file is asked for in a row without a byte of it coming.
const ATTEMPTS: u32 = 5;

/// Fetches files of a commit that are not in the cache, one after the other.
///
/// Errors: the hub refuses, no connection, what comes is not what the hub lists, the disk is full. What has come of a file by
/// then stays beside its place, and the next call goes on there.
pub fn fetch(client: &Client, cache: &RepoCache, repo: &Repo, commit: &str, files: &[Wanted]) -> Result<()> {
    cache.tag();
    let bar = Bar::new(repo, commit, files);
    for wanted in files {
        let lock = cache.lock(wanted.listed.etag(), wanted.path)?;
        let blob = cache.blob(wanted.listed.etag());
        if blob.exists() {
            bar.add(wanted.listed.size);
        } else {
            if let Some(parent) = blob.parent() {
                make_directory(parent)?;
            }
            let incomplete = blob.with_file_name(format!("{}.incomplete", wanted.listed.etag()));
            Download { client, repo, commit, wanted: *wanted, bar: &bar }.run(&incomplete)?;
            fs::rename(&incomplete, &blob).map_err(|e| not_written(&blob, e))?;
        }
        cache.link(commit, wanted.path, wanted.listed.etag())?;
        drop(lock);
    }
    bar.finish();
    Ok(())
}

fn not_written(path: &Path, error: std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::StorageFull => "; what has come stays there, and HF_HOME names another place for the cache",
        _ => "",
    };
    Error::Output(format!("{}: cannot be written: {error}{advice}", path.display()))
}

/// One file on its way.
struct Download<'a> {
    client: &'a Client,
    repo: &'a Repo,
    commit: &'a str,
    wanted: Wanted<'a>,
    bar: &'a Bar,
}

impl Download<'_> {
    fn url(&self) -> String {
        let prefix = if self.repo.kind == RepoKind::Dataset { "datasets/" } else { "" };
        let (hub, id, file) = (self.client.endpoint(), &self.repo.id, quoted_path(self.wanted.path));
        format!("{hub}/{prefix}{id}/resolve/{}/{file}", self.commit)
    }

    fn told(&self, failure: Failure) -> Error {
        let asked = Asked { repo: self.repo, revision: self.commit, file: Some(self.wanted.path) };
        match failure.told(asked, self.client) {
            Error::Network(text) => Error::Network(format!(
                "{text} (while {} was fetched; the same command goes on from there)",
                self.wanted.path
            )),
            other => other,
        }
    }

    /// Fetches the file to `incomplete`, whatever is there of it already, and checks it.
    fn run(&self, incomplete: &Path) -> Result<()> {
        let open = || fs::OpenOptions::new().create(true).append(true).open(incomplete);
        let mut file = open().map_err(|e| not_written(incomplete, e))?;
        let length = |file: &File| file.metadata().map(|m| m.len()).map_err(|e| not_written(incomplete, e));
        let size = self.wanted.listed.size;
        let mut have = length(&file)?;
        if have > size {
            file.set_len(0).map_err(|e| not_written(incomplete, e))?;
            have = 0;
        }
        self.bar.add(have);
        let mut failures = 0;
        while have < size {
            let outcome = self.part(&mut file, have, incomplete);
            let before = std::mem::replace(&mut have, length(&file)?);
            failures = if have > before { 0 } else { failures + 1 };
            match outcome {
                Ok(()) => {}
                Err(Stop::ForGood(error)) => return Err(error),
                Err(Stop::Failed(failure)) if failures >= ATTEMPTS || !failure.may_pass() => {
                    return Err(self.told(failure));
                }
                Err(Stop::Failed(_)) if failures == 0 => {
                    let path = self.wanted.path;
                    self.bar.say(&format!("{path}: the connection was cut; going on from byte {have} of {size}"));
                }
                Err(Stop::Failed(_)) => std::thread::sleep(Duration::from_secs(1 << failures)),
            }
        }
        file.sync_all().map_err(|e| not_written(incomplete, e))?;
        self.check(incomplete)
    }

    /// Appends what one answer brings.
    fn part(&self, file: &mut File, have: u64, incomplete: &Path) -> std::result::Result<(), Stop> {
        let written = |e| Stop::ForGood(not_written(incomplete, e));
        let answer = self.client.get(&self.url(), have).map_err(Stop::Failed)?;
        let mut have = have;
        if have > 0 && answer.status().as_u16() != 206 {
            // The whole again, though a part was asked for.
            file.set_len(0).map_err(written)?;
            self.bar.take_back(have);
            have = 0;
        }
        let size = self.wanted.listed.size;
        if let Some(length) = answer.body().content_length().filter(|length| have + length != size) {
            return Err(Stop::ForGood(
                self.differs(format!("{} bytes would come, and its list says {size}", have + length)),
            ));
        }
        let mut body = answer.into_body().into_reader();
        let mut block = vec![0; 1 << 20];
        while have < size {
            let n = body.read(&mut block).map_err(|e| Stop::Failed(Failure::NoAnswer(e.to_string())))?;
            if n == 0 {
                return Err(Stop::Failed(Failure::NoAnswer("the connection was closed".into())));
            }
            // More than there is would be no part of this file.
            let n = n.min(usize::try_from(size - have).unwrap_or(n));
            file.write_all(&block[..n]).map_err(written)?;
            have += n as u64;
            self.bar.add(n as u64);
        }
        Ok(())
    }

    fn differs(&self, how: String) -> Error {
        let (id, path) = (&self.repo.id, self.wanted.path);
        Error::Network(format!(
            "{id}: {path}: what the hub sends is not what it lists: {how}; it is not kept, try again"
        ))
    }

    /// Compares a large file with its hash; what differs is removed.
    fn check(&self, incomplete: &Path) -> Result<()> {
        let Some(expected) = &self.wanted.listed.sha256 else { return Ok(()) };
        let read = |e| Error::Output(format!("{}: cannot be read: {e}", incomplete.display()));
        let mut file = File::open(incomplete).map_err(read)?;
        let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut block).map_err(read)? {
                0 => break,
                n => hasher.update(&block[..n]),
            }
        }
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == *expected {
            return Ok(());
        }
        let _ = fs::remove_file(incomplete);
        Err(self.differs(format!("its SHA-256 is {found}, and the list says {expected}")))
    }
}

/// Why an answer ended before the file did.
enum Stop {
    /// The connection or the hub.
    Failed(Failure),
    /// What asking again does not help.
    ForGood(Error),
}

/// What a person sees: a bar on a terminal, else one line.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(repo: &Repo, commit: &str, files: &[Wanted]) -> Bar {
        let bytes: u64 = files.iter().map(|wanted| wanted.listed.size).sum();
        let short = commit.get(..8).unwrap_or(commit);
        let what = match files {
            [one] => one.path.to_string(),
            several => format!("{} files", several.len()),
        };
        tell!("fetching {what} of {}@{short}, {}", repo.id, indicatif::DecimalBytes(bytes));
        let hidden = std::env::var_os("HF_HUB_DISABLE_PROGRESS_BARS").is_some();
        if hidden || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left") {
            bar.set_style(style);
        }
        Bar(Some(bar))
    }
    fn add(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(n);
        }
    }
    fn take_back(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bar.position().saturating_sub(n));
        }
    }
    fn say(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| tell!("{line}")),
            None => tell!("{line}"),
        }
    }
    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
