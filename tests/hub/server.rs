//! A hub for tests, on loopback: repositories in memory, the protocol as huggingface_hub speaks it, faults on demand.
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// A file of more bytes than this goes to the store, as large files do.
pub const LARGE: usize = 4096;

/// A repository at one commit.
#[derive(Clone, Debug, Default)]
pub struct FakeRepo {
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the branch `main` is; other branches and tags by name.
    pub commit: String,
    pub tags: BTreeMap<String, FakeRepo>,
    /// Only who has this token is let in.
    pub token: Option<&'static str>,
    /// Whether a refusal says that terms must be accepted.
    pub gated: bool,
    /// Entries of the list of files besides the true ones.
    pub more_entries: Vec<Value>,
}

/// What goes wrong with the files of this name.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The next connection ends after so many bytes.
    Cut(usize),
    /// Other bytes come, as many.
    Garbled,
    /// Only so many bytes are there.
    Short(usize),
    /// The status of every answer.
    Status(u16),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub token: Option<String>,
    pub range: Option<String>,
    /// Bytes of the answer's body.
    pub served: usize,
}

#[derive(Default)]
pub struct State {
    /// By `models/org/name`, `datasets/org/name`.
    pub repos: BTreeMap<String, FakeRepo>,
    pub faults: BTreeMap<String, Fault>,
    pub seen: Vec<Seen>,
    /// What was pushed to the store, by SHA-256.
    pub store: BTreeMap<String, Vec<u8>>,
    /// Repositories that were asked to be made.
    pub made: Vec<Value>,
    /// Large files are taken in parts of this size.
    pub part_size: Option<usize>,
    parts: BTreeMap<String, Vec<u8>>,
    /// Messages of commits.
    pub messages: Vec<String>,
    /// Bodies of the list of files come in pages of so many entries.
    pub page: Option<usize>,
}

pub struct FakeHub {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// So many bytes of the body are sent.
    cut: Option<usize>,
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Stands for git's hash of a file.
fn oid(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_string()
}

impl FakeRepo {
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut repo = FakeRepo { files: files.into_iter().collect(), ..FakeRepo::default() };
        repo.commit_files();
        repo
    }
    /// The commit is a hash of what is there.
    pub fn commit_files(&mut self) {
        let all: Vec<String> = self.files.iter().map(|(name, bytes)| format!("{name} {}", sha256(bytes))).collect();
        self.commit = oid(all.join("\n").as_bytes());
    }
    fn at(&self, revision: &str) -> Option<&FakeRepo> {
        if revision == "main" || revision == self.commit {
            return Some(self);
        }
        self.tags.iter().find(|(name, repo)| *name == revision || repo.commit == revision).map(|(_, repo)| repo)
    }
}

impl FakeHub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(stream, port, &shared));
            }
        });
        FakeHub { port, state }
    }
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a state")
    }
    pub fn put(&self, name: &str, repo: FakeRepo) {
        self.state().repos.insert(name.into(), repo);
    }
    /// Requests whose path has this in it, since the hub began or was last cleared.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        self.state().seen.iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }
    pub fn forget(&self) {
        self.state().seen.clear();
    }
}

fn serve(stream: TcpStream, port: u16, state: &Mutex<State>) -> Option<()> {
    let request = read(&stream)?;
    let mut state = state.lock().ok()?;
    let answer = state.answer(&request, port);
    let body = if request.method == "HEAD" { &[][..] } else { &answer.body[..answer.cut.unwrap_or(answer.body.len())] };
    let header = |name: &str| request.headers.get(name).cloned();
    state.seen.push(Seen {
        path: request.path.clone(),
        token: header("authorization"),
        range: header("range"),
        served: body.len(),
    });
    drop(state);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    let length = ("content-length".to_string(), answer.body.len().to_string());
    for (name, value) in answer.headers.iter().chain([&length]) {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(body).ok()
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_string())
    };
    let first = line()?;
    let (method, rest) = first.split_once(' ')?;
    let path = rest.split(' ').next()?.to_string();
    let mut headers = BTreeMap::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method: method.into(), path, headers, body })
}

fn answer(status: u16, body: Value) -> Answer {
    let headers = vec![("content-type".to_string(), "application/json".to_string())];
    Answer { status, headers, body: body.to_string().into_bytes(), cut: None }
}

fn refused(status: u16, code: &str) -> Answer {
    let mut answer = answer(status, json!({"error": code}));
    answer.headers.push(("x-error-code".into(), code.into()));
    answer
}

impl State {
    fn answer(&mut self, request: &Request, port: u16) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let path = path.replace("%2F", "/").replace("%20", " ");
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET" | "HEAD", ["api", kind, org, name, rest @ ..]) => {
                self.about(&format!("{kind}/{org}/{name}"), rest, query, request, port)
            }
            ("GET", ["api", "whoami-v2"]) => answer(200, json!({"name": "me", "type": "user"})),
            ("GET" | "HEAD", ["cdn", oid]) => self.stored(oid, request),
            ("GET" | "HEAD", ["datasets", org, name, "resolve", rest @ ..]) => {
                self.file(&format!("datasets/{org}/{name}"), rest, request, port)
            }
            ("GET" | "HEAD", [org, name, "resolve", rest @ ..]) => {
                self.file(&format!("models/{org}/{name}"), rest, request, port)
            }
            ("POST", ["api", "repos", "create"]) => self.create(request),
            ("POST", ["api", "models", org, name, "preupload", "main"]) => {
                self.preupload(&format!("models/{org}/{name}"), request)
            }
            ("POST", ["api", "models", org, name, "commit", "main"]) => {
                self.commit(&format!("models/{org}/{name}"), request)
            }
            ("POST", [_, _, "info", "lfs", "objects", "batch"]) => self.batch(request, port),
            ("PUT", ["upload", oid]) => self.upload(oid, request),
            ("PUT", ["part", oid, number]) => self.part(oid, number, request),
            ("POST", ["complete", oid]) => self.complete(oid, request),
            ("POST", ["verify"]) => self.verify(request),
            _ => refused(404, "NotFound"),
        }
    }

    fn is_refused(&self, repo: &FakeRepo, request: &Request) -> Option<Answer> {
        let wanted = repo.token.map(|token| format!("Bearer {token}"));
        if wanted.is_none() || request.headers.get("authorization") == wanted.as_ref() {
            return None;
        }
        Some(refused(if repo.gated { 403 } else { 401 }, if repo.gated { "GatedRepo" } else { "RepoNotFound" }))
    }

    fn about(&self, name: &str, rest: &[&str], query: &str, request: &Request, port: u16) -> Answer {
        let Some(repo) = self.repos.get(name) else { return refused(401, "RepoNotFound") };
        // What a gated repository is about, everybody may see.
        if let Some(refusal) = self.is_refused(repo, request).filter(|_| !repo.gated) {
            return refusal;
        }
        let (what, revision) = match rest {
            [] => ("revision", "main".to_string()),
            [what, revision @ ..] => (*what, revision.join("/")),
        };
        let Some(at) = repo.at(&revision) else { return refused(404, "RevisionNotFound") };
        if what == "revision" {
            let siblings: Vec<Value> = at.files.keys().map(|file| json!({"rfilename": file})).collect();
            return answer(
                200,
                json!({"id": &name[name.find('/').unwrap_or(0) + 1..], "sha": at.commit, "siblings": siblings}),
            );
        }
        let mut entries: Vec<Value> = at.files.iter().map(|(path, bytes)| entry(path, bytes)).collect();
        let directories: BTreeSet<&str> =
            at.files.keys().filter_map(|path| path.rsplit_once('/')).map(|(dir, _)| dir).collect();
        entries.extend(
            directories
                .into_iter()
                .map(|dir| json!({"type": "directory", "path": dir, "oid": oid(dir.as_bytes()), "size": 0})),
        );
        entries.extend(at.more_entries.clone());
        let from: usize = query.split('&').find_map(|part| part.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0);
        let Some(page) = self.page else { return answer(200, Value::Array(entries)) };
        let next = from + page;
        let mut part = answer(200, entries.iter().skip(from).take(page).cloned().collect());
        if next < entries.len() {
            let url = format!("http://127.0.0.1:{port}/api/{name}/tree/{revision}?recursive=true&cursor={next}");
            part.headers.push(("link".into(), format!("<{url}>; rel=\"next\"")));
        }
        part
    }

    fn file(&mut self, name: &str, rest: &[&str], request: &Request, port: u16) -> Answer {
        let Some(repo) = self.repos.get(name).cloned() else { return refused(401, "RepoNotFound") };
        if let Some(refusal) = self.is_refused(&repo, request) {
            return refusal;
        }
        let found = (1..=rest.len()).find_map(|n| Some((repo.at(&rest[..n].join("/"))?, rest[n..].join("/"))));
        let Some((at, path)) = found else { return refused(404, "RevisionNotFound") };
        let Some(bytes) = at.files.get(&path).cloned() else {
            let mut missing = refused(404, "EntryNotFound");
            missing.headers.push(("x-repo-commit".into(), at.commit.clone()));
            return missing;
        };
        if let Some(Fault::Status(status)) = self.faults.get(&path) {
            return refused(*status, "");
        }
        let mut about = vec![("x-repo-commit".to_string(), at.commit.clone())];
        if bytes.len() > LARGE {
            let hash = sha256(&bytes);
            about.push(("location".into(), format!("http://localhost:{port}/cdn/{hash}")));
            about.push(("x-linked-etag".into(), format!("\"{hash}\"")));
            about.push(("x-linked-size".into(), bytes.len().to_string()));
            about.push(("etag".into(), format!("\"{}\"", oid(&bytes))));
            return Answer { status: 302, headers: about, body: Vec::new(), cut: None };
        }
        about.push(("etag".into(), format!("\"{}\"", oid(&bytes))));
        let mut sent = self.bytes(&path, &bytes, request);
        sent.headers.extend(about);
        sent
    }

    fn stored(&mut self, hash: &str, request: &Request) -> Answer {
        let all = self.repos.values().flat_map(|repo| repo.tags.values().chain([repo])).flat_map(|repo| &repo.files);
        let found =
            all.into_iter().find(|(_, bytes)| sha256(bytes) == hash).map(|(path, bytes)| (path.clone(), bytes.clone()));
        match found {
            Some((path, bytes)) => self.bytes(&path, &bytes, request),
            None => refused(404, "EntryNotFound"),
        }
    }

    /// The bytes, from where they are asked for, with what goes wrong on the way.
    fn bytes(&mut self, path: &str, bytes: &[u8], request: &Request) -> Answer {
        let mut bytes = bytes.to_vec();
        let mut cut = None;
        match self.faults.get(path).cloned() {
            Some(Fault::Garbled) => bytes.iter_mut().for_each(|byte| *byte ^= 1),
            Some(Fault::Short(n)) => bytes.truncate(n),
            Some(Fault::Cut(n)) => {
                cut = Some(n);
                self.faults.remove(path);
            }
            _ => {}
        }
        let range = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match range {
            Some(from) if from < bytes.len() => {
                let headers =
                    vec![("content-range".to_string(), format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))];
                Answer { status: 206, headers, body: bytes[from..].to_vec(), cut }
            }
            Some(_) => refused(416, ""),
            None => Answer { status: 200, headers: Vec::new(), body: bytes, cut },
        }
    }

    /// Only one token may write.
    fn may_write(request: &Request) -> Option<Answer> {
        let token = request.headers.get("authorization").map(String::as_str);
        (token != Some("Bearer hf_write")).then(|| refused(403, "Forbidden"))
    }

    fn create(&mut self, request: &Request) -> Answer {
        if let Some(refusal) = Self::may_write(request) {
            return refusal;
        }
        let about: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let name = format!(
            "models/{}/{}",
            about["organization"].as_str().unwrap_or("me"),
            about["name"].as_str().unwrap_or_default()
        );
        self.made.push(about);
        if self.repos.contains_key(&name) {
            return refused(409, "Conflict");
        }
        self.repos.insert(name.clone(), FakeRepo::new([]));
        answer(200, json!({"url": format!("http://127.0.0.1/{name}")}))
    }

    fn preupload(&mut self, name: &str, request: &Request) -> Answer {
        if !self.repos.contains_key(name) {
            return refused(404, "RepoNotFound");
        }
        let about: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mode = |file: &Value| if file["size"].as_u64() > Some(LARGE as u64) { "lfs" } else { "regular" };
        let files = about["files"].as_array().into_iter().flatten();
        let files = files.map(|file| json!({"path": file["path"], "uploadMode": mode(file), "shouldIgnore": false}));
        answer(200, json!({"files": files.collect::<Vec<_>>()}))
    }

    fn batch(&mut self, request: &Request, port: u16) -> Answer {
        if let Some(refusal) = Self::may_write(request) {
            return refusal;
        }
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let at = |path: String| format!("http://localhost:{port}/{path}");
        let hub = |path: String| format!("http://127.0.0.1:{port}/{path}");
        let mut objects = Vec::new();
        for object in asked["objects"].as_array().into_iter().flatten() {
            let (oid, size) =
                (object["oid"].as_str().unwrap_or_default(), object["size"].as_u64().unwrap_or_default() as usize);
            let verify = json!({"href": hub("verify".into())});
            let upload = match self.part_size {
                _ if self.store.contains_key(oid) => {
                    objects.push(json!({"oid": oid, "size": size}));
                    continue;
                }
                None => json!({"href": at(format!("upload/{oid}"))}),
                Some(part) => {
                    let mut header = json!({"chunk_size": part.to_string()});
                    for i in 1..=size.div_ceil(part) {
                        header[format!("{i:05}")] = at(format!("part/{oid}/{i}")).into();
                    }
                    json!({"href": hub(format!("complete/{oid}")), "header": header})
                }
            };
            objects.push(json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}));
        }
        answer(200, json!({"transfer": "basic", "objects": objects}))
    }

    fn upload(&mut self, oid: &str, request: &Request) -> Answer {
        if let Some(Fault::Status(status)) = self.faults.get("upload") {
            return refused(*status, "");
        }
        if sha256(&request.body) != oid {
            return refused(400, "Hash");
        }
        self.store.insert(oid.into(), request.body.clone());
        answer(200, Value::Null)
    }

    fn part(&mut self, oid: &str, number: &str, request: &Request) -> Answer {
        self.parts.insert(format!("{oid}/{number:0>5}"), request.body.clone());
        let mut stored = answer(200, Value::Null);
        stored.headers.push(("etag".into(), format!("\"{number}\"")));
        stored
    }

    fn complete(&mut self, oid: &str, request: &Request) -> Answer {
        let about: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let parts = about["parts"].as_array().cloned().unwrap_or_default();
        let whole: Vec<u8> =
            self.parts.iter().filter(|(name, _)| name.starts_with(oid)).flat_map(|(_, part)| part.clone()).collect();
        let sound =
            parts.iter().zip(1..).all(|(part, i)| part["partNumber"] == i && part["etag"] == format!("\"{i}\""));
        if !sound || sha256(&whole) != oid {
            return refused(400, "Parts");
        }
        self.store.insert(oid.into(), whole);
        answer(200, Value::Null)
    }

    fn verify(&mut self, request: &Request) -> Answer {
        let about: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let stored = self.store.get(about["oid"].as_str().unwrap_or_default());
        let fits = stored.is_some_and(|bytes| about["size"] == bytes.len());
        if fits { answer(200, Value::Null) } else { refused(404, "Verify") }
    }

    fn commit(&mut self, name: &str, request: &Request) -> Answer {
        if let Some(refusal) = Self::may_write(request) {
            return refusal;
        }
        let mut repo = self.repos.get(name).cloned().unwrap_or_default();
        for line in String::from_utf8_lossy(&request.body).lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { return refused(400, "Line") };
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_string();
            match line["key"].as_str() {
                Some("header") => self.messages.push(value["summary"].as_str().unwrap_or_default().into()),
                Some("file") => {
                    repo.files.insert(path, unbase64(value["content"].as_str().unwrap_or_default()));
                }
                Some("lfsFile") => match self.store.get(value["oid"].as_str().unwrap_or_default()) {
                    Some(bytes) if value["size"] == bytes.len() && value["algo"] == "sha256" => {
                        repo.files.insert(path, bytes.clone());
                    }
                    _ => return refused(400, "NotStored"),
                },
                _ => return refused(400, "Key"),
            }
        }
        repo.commit_files();
        let (commit, id) = (repo.commit.clone(), name.trim_start_matches("models/").to_string());
        self.repos.insert(name.into(), repo);
        answer(200, json!({"commitUrl": format!("http://127.0.0.1/{id}/commit/{commit}"), "commitOid": commit}))
    }
}

fn entry(path: &str, bytes: &[u8]) -> Value {
    let mut entry = json!({"type": "file", "path": path, "oid": oid(bytes), "size": bytes.len()});
    if bytes.len() > LARGE {
        entry["lfs"] = json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
    }
    entry
}

fn unbase64(text: &str) -> Vec<u8> {
    let digit =
        |c: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c);
    let mut bytes = Vec::new();
    let (mut bits, mut n) = (0_usize, 0);
    for value in text.bytes().filter_map(digit) {
        (bits, n) = (bits << 6 | value, n + 6);
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n & 255) as u8);
        }
    }
    bytes
}
