//! Files pushed to a model's repository in one commit: large ones to the hub's store first (Git LFS), small ones with the commit.
use super::client::{Asked, Client, Failure, quoted};
use super::names::{MAIN, Repo, RepoKind, is_id};
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToPush {
    /// Where it goes, from the repository's root.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// What a push has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The page of the commit.
    pub url: String,
    /// Its hash.
    pub commit: String,
}

/// Files are asked about, and stored, so many at a time, as huggingface_hub does.
const AT_ONCE: usize = 256;
/// So often a large file is sent before it is given up.
const ATTEMPTS: u32 = 3;
const JSON: &str = "application/json";
const LFS: &str = "application/vnd.git-lfs+json";

/// A file of a commit.
struct Addition<'a> {
    file: &'a ToPush,
    size: u64,
    /// Of a file that goes to the store.
    sha256: Option<String>,
}

/// `org/name` of a repository: a name alone belongs to the account of the token.
pub fn full_id(client: &Client, id: &str) -> Result<String> {
    let id = match id.contains('/') {
        true => id.to_string(),
        false => {
            let repo = Repo { kind: RepoKind::Model, id: id.to_string() };
            let about = client.get_json(&format!("{}/api/whoami-v2", client.endpoint()));
            let (about, _) = about.map_err(|failure| failure.told(asked(&repo, None), client))?;
            let name = about["name"].as_str().ok_or_else(|| strange(client, "the account has no name"))?;
            format!("{name}/{id}")
        }
    };
    if !is_id(&id) {
        return Err(Error::Input(format!(
            "{id:?} is no name of a repository: org/name, of letters, digits, -, _ and . (hub_model_id)"
        )));
    }
    Ok(id)
}

fn asked<'a>(repo: &'a Repo, file: Option<&'a str>) -> Asked<'a> {
    Asked { repo, revision: MAIN, file }
}

fn strange(client: &Client, why: &str) -> Error {
    Error::Network(format!("{}: {why}", client.endpoint()))
}

/// Makes the repository, unless it is there. `private`: None for what the account has as its default.
pub fn create(client: &Client, repo: &Repo, private: Option<bool>) -> Result<()> {
    let (org, name) = repo.id.split_once('/').unwrap_or(("", &repo.id));
    let mut about = Map::new();
    about.insert("name".into(), name.into());
    about.insert("organization".into(), org.into());
    about.insert("type".into(), "model".into());
    if let Some(private) = private {
        about.insert("visibility".into(), if private { "private" } else { "public" }.into());
    }
    match client.post(&format!("{}/api/repos/create", client.endpoint()), JSON, &Value::Object(about)) {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_conflict() => Ok(()),
        // A token that may write to this repository alone may make none.
        Err(failure) => match client.get_json(&format!("{}/api/models/{}", client.endpoint(), repo.id)) {
            Ok(_) => Ok(()),
            Err(_) => Err(failure.told(asked(repo, None), client)),
        },
    }
}

/// Pushes files to the branch `main` in one commit. What is there by other names stays.
///
/// Errors: a file that cannot be read, a refusal, no connection. Nothing of the repository has changed then.
pub fn push(client: &Client, repo: &Repo, files: &[ToPush], message: &str) -> Result<Pushed> {
    let told = |failure: Failure| failure.told(asked(repo, None), client);
    let mut additions = Vec::new();
    for group in files.chunks(AT_ONCE) {
        additions.extend(sorted(client, repo, group)?);
    }
    let large: Vec<&Addition> = additions.iter().filter(|addition| addition.sha256.is_some()).collect();
    for group in large.chunks(AT_ONCE) {
        store(client, repo, group)?;
    }
    let mut lines = json!({"key": "header", "value": {"summary": message, "description": ""}}).to_string();
    for addition in &additions {
        lines.push('\n');
        lines += &line(addition)?.to_string();
    }
    lines.push('\n');
    let url = format!("{}/api/models/{}/commit/{MAIN}", client.endpoint(), repo.id);
    let answer = client.post_bytes(&url, ("application/x-ndjson", JSON), lines.as_bytes()).map_err(told)?;
    let text = |name: &str| answer[name].as_str().map(str::to_string);
    match (text("commitUrl"), text("commitOid")) {
        (Some(url), Some(commit)) => Ok(Pushed { url, commit }),
        _ => Err(strange(client, "the answer to a commit names none")),
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::file(path, format!("cannot be read: {error}"))
}

/// The files that are pushed, with how: the hub says which go to its store, and which it leaves out.
fn sorted<'a>(client: &Client, repo: &Repo, files: &'a [ToPush]) -> Result<Vec<Addition<'a>>> {
    let mut about = Vec::new();
    for ToPush { name, path } in files {
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        let size = file.metadata().map_err(|e| unreadable(path, e))?.len();
        let mut sample = Vec::new();
        file.by_ref().take(512).read_to_end(&mut sample).map_err(|e| unreadable(path, e))?;
        about.push(json!({"path": name, "sample": STANDARD.encode(sample), "size": size}));
    }
    let url = format!("{}/api/models/{}/preupload/{}", client.endpoint(), repo.id, quoted(MAIN));
    let answer = client.post(&url, JSON, &json!({"files": about}));
    let answer = answer.map_err(|failure| failure.told(asked(repo, None), client))?;
    let entries = answer["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let by_name: BTreeMap<&str, &Value> =
        entries.iter().filter_map(|entry| Some((entry["path"].as_str()?, entry))).collect();
    let mut additions = Vec::new();
    for (file, about) in files.iter().zip(&about) {
        let said =
            by_name.get(file.name.as_str()).ok_or_else(|| strange(client, "does not say how a file is to be sent"))?;
        if said["shouldIgnore"] == true {
            tell!("note: {} is not pushed: the repository's .gitignore names it", file.name);
            continue;
        }
        let size = about["size"].as_u64().unwrap_or_default();
        // The store takes nothing that is empty.
        let is_large = said["uploadMode"] == "lfs" && size > 0;
        let sha256 = is_large.then(|| hash(&file.path)).transpose()?;
        additions.push(Addition { file, size, sha256 });
    }
    Ok(additions)
}

fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
    let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).map_err(|e| unreadable(path, e))? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&block[..n]),
        }
    }
}

/// A line of the commit.
fn line(addition: &Addition) -> Result<Value> {
    let ToPush { name, path } = addition.file;
    Ok(match &addition.sha256 {
        Some(oid) => {
            json!({"key": "lfsFile", "value": {"path": name, "algo": "sha256", "oid": oid, "size": addition.size}})
        }
        None => {
            let content = STANDARD.encode(std::fs::read(path).map_err(|e| unreadable(path, e))?);
            json!({"key": "file", "value": {"content": content, "path": name, "encoding": "base64"}})
        }
    })
}

/// Sends large files to the store: the hub says where, or that it has them already (Git LFS's batch).
fn store(client: &Client, repo: &Repo, files: &[&Addition]) -> Result<()> {
    let objects: Vec<Value> = files.iter().map(|file| json!({"oid": file.sha256, "size": file.size})).collect();
    let body = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
        "ref": {"name": MAIN},
    });
    let url = format!("{}/{}.git/info/lfs/objects/batch", client.endpoint(), repo.id);
    let answer = client.post(&url, LFS, &body).map_err(|failure| failure.told(asked(repo, None), client))?;
    let objects = answer["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    for file in files {
        let object = objects.iter().find(|object| object["oid"].as_str() == file.sha256.as_deref());
        let object = object.ok_or_else(|| strange(client, "does not say where a large file is to go"))?;
        let name = &file.file.name;
        if let Some(why) = object["error"]["message"].as_str() {
            return Err(strange(client, &format!("does not take {name}: {why}")));
        }
        let actions = &object["actions"];
        if actions["upload"].is_object() {
            send(client, repo, file, &actions["upload"])?;
        }
        if let Some(verify) = actions["verify"]["href"].as_str() {
            let body = json!({"oid": file.sha256, "size": file.size});
            client.post(verify, LFS, &body).map_err(|failure| failure.told(asked(repo, Some(name)), client))?;
        }
    }
    Ok(())
}

/// Sends one large file: whole, or in the parts that the hub names.
fn send(client: &Client, repo: &Repo, file: &Addition, upload: &Value) -> Result<()> {
    let malformed = || strange(client, "does not say rightly where a large file is to go");
    let to = upload["href"].as_str().ok_or_else(malformed)?;
    let none = Map::new();
    let header = upload["header"].as_object().unwrap_or(&none);
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let sending = Sending { client, repo, file, bar: bar(file) };
    let Some(chunk) = header.get("chunk_size") else {
        let headers = header.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())));
        sending.part(to, &headers.collect::<Vec<_>>(), 0, file.size)?;
        return Ok(());
    };
    let chunk = number(chunk).filter(|chunk| *chunk > 0).ok_or_else(malformed)?;
    let part = |(name, url): (&String, &Value)| Some((name.parse::<u64>().ok()?, url.as_str()?.to_string()));
    let urls: BTreeMap<u64, String> = header.iter().filter_map(part).collect();
    if urls.len() as u64 != file.size.div_ceil(chunk) {
        return Err(malformed());
    }
    let mut parts = Vec::new();
    for (i, url) in urls.values().enumerate() {
        let from = i as u64 * chunk;
        let etag = sending.part(url, &[], from, chunk.min(file.size - from))?;
        let etag = etag.ok_or_else(|| strange(client, "a part of a large file was stored without an ETag"))?;
        parts.push(json!({"partNumber": i + 1, "etag": etag}));
    }
    let done = client.post(to, LFS, &json!({"oid": file.sha256, "parts": parts}));
    done.map(drop).map_err(|failure| failure.told(asked(repo, Some(&file.file.name)), client))
}

/// A large file on its way to the store.
struct Sending<'a> {
    client: &'a Client,
    repo: &'a Repo,
    file: &'a Addition<'a>,
    bar: Option<ProgressBar>,
}

impl Sending<'_> {
    /// Sends `length` bytes from `from` on; the ETag of what was stored.
    fn part(&self, url: &str, headers: &[(String, String)], from: u64, length: u64) -> Result<Option<String>> {
        let path = &self.file.file.path;
        let mut failures = 0;
        loop {
            let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
            file.seek(SeekFrom::Start(from)).map_err(|e| unreadable(path, e))?;
            let mut part = file.take(length);
            let sent = match &self.bar {
                Some(bar) => {
                    bar.set_position(from);
                    self.client.put(url, headers, length, &mut bar.wrap_read(&mut part))
                }
                None => self.client.put(url, headers, length, &mut part),
            };
            match sent {
                Ok(etag) => return Ok(etag),
                Err(failure) if failures + 1 < ATTEMPTS && failure.may_pass() => {
                    failures += 1;
                    std::thread::sleep(Duration::from_secs(1 << failures));
                }
                Err(failure) => return Err(failure.told(asked(self.repo, Some(&self.file.file.name)), self.client)),
            }
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar on a terminal, else one line.
fn bar(file: &Addition) -> Option<ProgressBar> {
    tell!("pushing {}, {}", file.file.name, indicatif::DecimalBytes(file.size));
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(file.size), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left") {
            bar.set_style(style);
        }
        bar
    });
    bar.filter(|_| std::env::var_os("HF_HUB_DISABLE_PROGRESS_BARS").is_none())
}
