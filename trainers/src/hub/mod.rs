//! Models and data sets from the Hugging Face hub, by way of the cache that its other tools use.
//!
//! A name becomes a directory of the cache before options are checked, with the small files in it; weights and rows are fetched
//! where they are opened. From then on it is a path like any other, and [`name_of`] tells its name and commit again.
//!
//! Modules in reading order; each uses only those before it.
mod names;
mod listing;
mod settings;
mod client;
mod cache;
mod model_files;
mod download;
mod upload;

pub use names::{HubName, MAIN, Repo, RepoKind, is_commit, is_id, is_revision};
pub use settings::Settings;
pub use upload::{Pushed, ToPush};

use crate::error::{Error, Result};
use cache::{CachePlace, RepoCache};
use client::{Asked, Client, Failure, quoted};
use download::{Wanted, fetch};
use listing::Listing;
use model_files::Holds;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The hub and its cache.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    client: OnceLock<Client>,
    /// Repositories whose commit is settled, whatever a branch is now.
    pins: Vec<(Repo, String)>,
}

/// A repository at a commit.
struct AtCommit {
    repo: Repo,
    commit: String,
    cache: RepoCache,
    /// None: other tools have fetched files of it, and no network says whether there are more.
    listing: Option<Listing>,
}

impl AtCommit {
    /// The paths of all files that are known of.
    fn names(&self) -> Vec<String> {
        match &self.listing {
            Some(listing) => listing.files.keys().cloned().collect(),
            None => self.cache.fetched(&self.commit),
        }
    }
    fn snapshot(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }
}

impl Hub {
    /// As the environment says ([`Settings`]).
    pub fn of_environment() -> Self {
        Hub::new(Settings::of_environment())
    }

    /// With this token, where one is given, in place of the environment's.
    pub fn with_token(token: Option<&str>) -> Self {
        let settings = Settings::of_environment();
        Hub::new(Settings { token: token.map(str::to_string).or(settings.token), ..settings })
    }

    /// With these settings. Nothing is connected yet.
    pub fn new(settings: Settings) -> Self {
        Hub { settings, client: OnceLock::new(), pins: Vec::new() }
    }

    /// Takes these repositories at these commits, where no other is asked for.
    pub fn pinned(mut self, pins: Vec<(Repo, String)>) -> Self {
        self.pins = pins.into_iter().filter(|(_, commit)| is_commit(commit)).collect();
        self
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The directory (or GGUF file) of a model or adapter in the cache, with all its files but the weights; those of an
    /// adapter are there, too.
    pub fn locate_model(&self, name: &HubName) -> Result<PathBuf> {
        let at = self.look_up(name)?;
        let names = at.names();
        let names = || names.iter().map(String::as_str);
        if let Some(file) = &name.file {
            let there = names().any(|known| known == file);
            let gguf: Vec<&str> = names().filter(|file| file.ends_with(".gguf")).collect();
            return match (there, file.ends_with(".gguf")) {
                (true, true) => Ok(at.snapshot().join(file)),
                (true, false) => {
                    Err(wrong(name, "a single file of a model is a .gguf file; for a directory, name the repository"))
                }
                (false, _) if gguf.is_empty() => {
                    Err(wrong(name, "there is no such file, and none whose name ends in .gguf"))
                }
                (false, _) => Err(wrong(name, &format!("there is no such file; there are {}", gguf.join(", ")))),
            };
        }
        match model_files::holds(names()).map_err(|why| wrong(name, &why))? {
            Holds::Gguf(file) => Ok(at.snapshot().join(file)),
            Holds::Directory => {
                self.fetch_missing(&at, &model_files::small(names()))?;
                Ok(at.snapshot())
            }
        }
    }

    /// The directory (or file) of a data set in the cache, with its README.md; no rows yet.
    pub fn locate_data(&self, name: &HubName) -> Result<PathBuf> {
        let at = self.look_up(name)?;
        let names = at.names();
        if let Some(file) = &name.file {
            let inside = format!("{file}/");
            let there = names.iter().any(|known| known == file || known.starts_with(&inside));
            return if there { Ok(at.snapshot().join(file)) } else { Err(wrong(name, "there is no such file")) };
        }
        let readme: Vec<String> = names.into_iter().filter(|file| file == "README.md").collect();
        self.fetch_missing(&at, &readme)?;
        cache::make_directory(&at.snapshot())?;
        Ok(at.snapshot())
    }

    /// Which commit a name means, and what is in it. Without a network the commit is the one that the cache knows.
    fn look_up(&self, name: &HubName) -> Result<AtCommit> {
        let repo = name.repo.clone();
        let pin = self.pins.iter().find(|(pinned, _)| *pinned == repo).map(|(_, commit)| commit.as_str());
        let revision = pin.filter(|_| !is_commit(name.revision())).unwrap_or(name.revision());
        let cache = RepoCache::new(&self.settings.cache, &repo);
        let known = cache.commit_of(revision);
        let at = |commit: String, listing| AtCommit { repo: repo.clone(), commit, cache: cache.clone(), listing };
        if self.settings.offline {
            let commit = known.ok_or_else(|| wrong(name, "is not in the cache, and HF_HUB_OFFLINE is set"))?;
            let listing = cache.listing(&commit);
            return Ok(at(commit, listing));
        }
        if let Some(listing) = cache.listing(revision).filter(|_| is_commit(revision)) {
            return Ok(at(revision.to_string(), Some(listing)));
        }
        let asked = Asked { repo: &repo, revision, file: None };
        let client = self.client()?;
        match self.ask(&repo, revision, &cache) {
            Ok((commit, listing)) => {
                cache.keep_commit(revision, &commit)?;
                Ok(at(commit, Some(listing)))
            }
            Err(Unknown::Error(error)) => Err(error),
            Err(Unknown::Failure(failure)) => match (known, &failure) {
                (Some(commit), Failure::NoAnswer(why)) => {
                    let short = commit.get(..8).unwrap_or(&commit);
                    let (id, hub) = (&repo.id, client.endpoint());
                    tell!("note: {id}: {hub} does not answer ({why}); what the cache has is used, commit {short}");
                    let listing = cache.listing(&commit);
                    Ok(at(commit, listing))
                }
                // Nothing has been touched, and the name may be a path that is misspelt.
                _ => Err(match failure.told(asked, client) {
                    Error::Network(text) => Error::Input(format!("{text}; and here is no such file or directory")),
                    other => other,
                }),
            },
        }
    }

    /// The commit and its files, as the hub says them.
    fn ask(&self, repo: &Repo, revision: &str, cache: &RepoCache) -> std::result::Result<(String, Listing), Unknown> {
        let client = self.client().map_err(Unknown::Error)?;
        let api = format!("{}/api/{}/{}", client.endpoint(), repo.kind.plural(), repo.id);
        let (about, _) = client.get_json(&format!("{api}/revision/{}", quoted(revision)))?;
        let strange = |why: &str| Unknown::Error(Error::Network(format!("{}: {}: {why}", repo.id, client.endpoint())));
        let commit =
            about["sha"].as_str().filter(|sha| is_commit(sha)).ok_or_else(|| strange("the answer names no commit"))?;
        if let Some(listing) = cache.listing(commit) {
            return Ok((commit.to_string(), listing));
        }
        let mut listing = Listing::default();
        let mut page = Some(format!("{api}/tree/{commit}?recursive=true&expand=false"));
        while let Some(url) = page {
            let (answer, next) = client.get_json(&url)?;
            listing.add(&answer).map_err(|why| strange(&why))?;
            page = next;
        }
        cache.keep_listing(commit, &listing).map_err(Unknown::Error)?;
        Ok((commit.to_string(), listing))
    }

    /// Fetches those of a commit's files that the cache does not have.
    fn fetch_missing(&self, at: &AtCommit, files: &[String]) -> Result<()> {
        let snapshot = at.snapshot();
        let missing: Vec<&String> = files.iter().filter(|file| !snapshot.join(file).exists()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let (id, short) = (&at.repo.id, at.commit.get(..8).unwrap_or(&at.commit));
        if self.settings.offline {
            return Err(Error::Input(format!("{id}@{short}: {first} is not in the cache, and HF_HUB_OFFLINE is set")));
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for file in missing {
            let listed = at.listing.as_ref().and_then(|all| all.files.get(file));
            let listed = listed.ok_or_else(|| Error::Input(format!("{id}@{short}: there is no file {file}")))?;
            wanted.push(Wanted { path: file, listed });
        }
        fetch(self.client()?, &at.cache, &at.repo, &at.commit, &wanted)
    }

    /// The commit that a path of the cache belongs to; None for any other path.
    fn at(&self, path: &Path) -> Option<(AtCommit, String)> {
        let place = CachePlace::of(&self.settings.cache, path)?;
        let cache = RepoCache::new(&self.settings.cache, &place.repo);
        let listing = cache.listing(&place.commit);
        Some((AtCommit { repo: place.repo, commit: place.commit, cache, listing }, place.below))
    }

    /// Fetches the weights of a model at a path of the cache, where they are missing. Any other path is left alone.
    pub fn complete_model(&self, path: &Path) -> Result<()> {
        let Some((at, below)) = self.at(path) else { return Ok(()) };
        let names = at.names();
        let names = || names.iter().map(String::as_str);
        let wanted = match below.is_empty() {
            true => {
                let index = std::fs::read_to_string(path.join(model_files::index_name())).ok();
                model_files::weights(names(), index.as_deref())
            }
            false => model_files::gguf_parts(names(), &below),
        };
        self.fetch_missing(&at, &wanted)
    }

    /// Fetches those of these files that lie in the cache and are missing.
    pub fn complete(&self, files: &[PathBuf]) -> Result<()> {
        let missing = files.iter().filter(|file| !file.exists());
        let mut done: BTreeSet<PathBuf> = BTreeSet::new();
        for file in missing {
            let Some((at, _)) = self.at(file) else { continue };
            if !done.insert(at.snapshot()) {
                continue;
            }
            let place = |file: &PathBuf| CachePlace::of(&self.settings.cache, file);
            let same = files.iter().filter_map(place).filter(|p| p.repo == at.repo && p.commit == at.commit);
            self.fetch_missing(&at, &same.map(|place| place.below).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The files below a directory of the cache by their paths from there, fetched or not; None for any other path, and where
    /// only what is on the disk is known.
    pub fn files_below(&self, path: &Path) -> Option<Vec<String>> {
        let (at, below) = self.at(path)?;
        let listing = at.listing?;
        let inside = if below.is_empty() { String::new() } else { format!("{below}/") };
        Some(listing.files.keys().filter_map(|file| file.strip_prefix(&inside)).map(str::to_string).collect())
    }

    /// Whether a path of the cache is a file of its commit, fetched or not.
    pub fn lists(&self, path: &Path) -> bool {
        let at = self.at(path);
        at.is_some_and(|(at, below)| at.listing.is_some_and(|listing| listing.files.contains_key(&below)))
    }

    /// Makes sure that this model can be pushed to, and makes its repository where there is none: its full name.
    /// `private`: None for what the account has as its default. Errors: no token, one that may not write there, no connection.
    pub fn prepare_push(&self, id: &str, private: Option<bool>) -> Result<String> {
        if self.settings.offline {
            return Err(Error::input("nothing can be pushed to the hub: HF_HUB_OFFLINE is set"));
        }
        let client = self.client()?;
        if !client.has_token() {
            return Err(Error::Input(format!(
                "to push to {}, give a token that may write there: as HF_TOKEN, as hub_token, or by hf auth login",
                client.endpoint()
            )));
        }
        let repo = Repo { kind: RepoKind::Model, id: upload::full_id(client, id)? };
        upload::create(client, &repo, private)?;
        Ok(repo.id)
    }

    /// Pushes files to the model `id` in one commit ([`Hub::prepare_push`] first).
    pub fn push(&self, id: &str, files: &[ToPush], message: &str) -> Result<Pushed> {
        upload::push(self.client()?, &Repo { kind: RepoKind::Model, id: id.to_string() }, files, message)
    }

    /// The name of what lies at a path of the cache, with its commit.
    pub fn name_of(&self, path: &Path) -> Option<HubName> {
        CachePlace::of(&self.settings.cache, path).map(|place| place.name())
    }
}

/// Why the hub did not say what is asked.
enum Unknown {
    Failure(Failure),
    Error(Error),
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        Unknown::Failure(failure)
    }
}

fn wrong(name: &HubName, why: &str) -> Error {
    Error::Input(format!("{name}: {why}"))
}

/// The name of what lies at a path of the environment's cache, with its commit; None for any other path.
pub fn name_of(path: &Path) -> Option<HubName> {
    Hub::of_environment().name_of(path)
}
