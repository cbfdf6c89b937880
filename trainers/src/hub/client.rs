//! Requests to the hub over HTTP: connection, TLS, token, and what a refusal means for who asked.
use super::names::{Repo, RepoKind};
use super::settings::Settings;
use crate::error::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Who asks for what, over one pool of connections.
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A connection, and the head of an answer, must come within this; so must each part of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// The hub may work on a commit of many files for longer.
const PATIENCE_WITH_COMMITS: Duration = Duration::from_secs(600);
/// Longest answer that is read into memory: a list of files comes in pages.
const LONGEST_ANSWER: u64 = 64 << 20;
/// What stays as it is in a part of a path.
const IN_A_PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Besides, in a path of several parts.
const IN_A_FILE: AsciiSet = IN_A_PATH.remove(b'/');

/// A part of an address: a `/` becomes %2F.
pub fn quoted(part: &str) -> String {
    utf8_percent_encode(part, &IN_A_PATH).to_string()
}

/// A file's path in an address.
pub fn quoted_path(path: &str) -> String {
    utf8_percent_encode(path, &IN_A_FILE).to_string()
}

/// Why a request brought nothing.
#[derive(Debug)]
pub enum Failure {
    /// No answer: no network, a name that does not resolve, a connection that was cut.
    NoAnswer(String),
    /// The hub's refusal.
    Refused(Refusal),
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    code: String,
    message: String,
    wait: Option<String>,
}

/// What is asked for, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Of which repository.
    pub repo: &'a Repo,
    /// At which revision.
    pub revision: &'a str,
    /// Which file.
    pub file: Option<&'a str>,
}

impl Client {
    /// Connects nowhere yet. Errors: https, and this processor has not what the encryption is written for.
    pub fn new(settings: &Settings) -> Result<Self> {
        let tls = tls();
        if let (Err(why), true) = (&tls, settings.endpoint.starts_with("https:")) {
            return Err(Error::Input(format!(
                "{}: {why}; fetch the files with another tool (hf download) and give the directory, or name a hub over http \
                 in HF_ENDPOINT",
                settings.endpoint
            )));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("lapidary/", env!("CARGO_PKG_VERSION")))
            // A length and a range are those of the file, not of something compressed.
            .accept_encoding("identity")
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE));
        config = match tls {
            Ok(tls) => config.tls_config(tls),
            // Nothing leads from http to https then.
            Err(_) => config.max_redirects(0).max_redirects_will_error(false),
        };
        Ok(Client { agent: config.build().into(), endpoint: settings.endpoint.clone(), token: settings.token.clone() })
    }

    /// Where the hub is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
    /// Whether somebody asks by name.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The token goes to the hub alone: not to where its files are stored.
    fn token_for(&self, url: &str) -> Option<String> {
        let is_hub = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.token.as_ref().filter(|_| is_hub).map(|token| format!("Bearer {token}"))
    }

    /// The answer to a GET, whose body is still to come. `from`: only the bytes from there on.
    pub fn get(&self, url: &str, from: u64) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.token_for(url) {
            request = request.header("Authorization", token);
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        accepted(request.call())
    }

    /// A GET whose answer is JSON, with the address of the next page where there is one.
    pub fn get_json(&self, url: &str) -> std::result::Result<(Value, Option<String>), Failure> {
        let mut answer = self.get(url, 0)?;
        let next = next_page(answer.headers()).filter(|next| self.token_for(next).is_some() || self.token.is_none());
        Ok((json_of(&mut answer)?, next))
    }

    /// A POST of JSON whose answer is JSON (null where it is empty).
    pub fn post(&self, url: &str, accept: &str, body: &Value) -> std::result::Result<Value, Failure> {
        self.post_bytes(url, (accept, accept), body.to_string().as_bytes())
    }

    /// A POST of `kinds`: (of the body, of the answer).
    pub fn post_bytes(&self, url: &str, kinds: (&str, &str), body: &[u8]) -> std::result::Result<Value, Failure> {
        let mut request = self.agent.post(url).header("Content-Type", kinds.0).header("Accept", kinds.1);
        if let Some(token) = self.token_for(url) {
            request = request.header("Authorization", token);
        }
        let request = request.config().timeout_recv_response(Some(PATIENCE_WITH_COMMITS));
        json_of(&mut accepted(request.timeout_per_read(Some(PATIENCE_WITH_COMMITS)).build().send(body))?)
    }

    /// A PUT of `length` bytes to where the hub has said; the ETag of what is stored now.
    pub fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        length: u64,
        body: &mut dyn std::io::Read,
    ) -> std::result::Result<Option<String>, Failure> {
        let mut request = self.agent.put(url).header("Content-Length", length);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_recv_response(Some(PATIENCE_WITH_COMMITS));
        let request = request.timeout_per_read(Some(PATIENCE_WITH_COMMITS)).build();
        let answer = accepted(request.send(ureq::SendBody::from_reader(body)))?;
        Ok(header(answer.headers(), "etag").map(str::to_string))
    }
}

/// TLS by graviola, with the system's certificates or, where it has none, Mozilla's.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls() -> std::result::Result<TlsConfig, String> {
    if !has_instructions() {
        return Err(
            "https needs instructions for encryption that this processor does not have (AES, carry-less products; on \
                    x86-64 AVX2, ADX and BMI1 besides)"
                .into(),
        );
    }
    let system = rustls_native_certs::load_native_certs().certs;
    let certificates = || system.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    let roots = if system.is_empty() { RootCerts::WebPki } else { certificates().into() };
    let provider = std::sync::Arc::new(rustls_graviola::default_provider());
    Ok(TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls() -> std::result::Result<TlsConfig, String> {
    Err("https is not spoken on this kind of processor".into())
}

/// What graviola asserts.
#[cfg(target_arch = "x86_64")]
fn has_instructions() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("aes") && has!("pclmulqdq") && has!("bmi1") && has!("adx") && has!("avx") && has!("avx2")
}

/// What graviola asserts.
#[cfg(target_arch = "aarch64")]
fn has_instructions() -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `Link: <…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = header(headers, "link")?.split(',');
    let next = links.map(str::trim).find(|link| link.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_string())
}

fn accepted(answer: std::result::Result<Response<Body>, ureq::Error>) -> std::result::Result<Response<Body>, Failure> {
    let mut answer = answer.map_err(|e| Failure::NoAnswer(in_words(&e)))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let text = |name| header(answer.headers(), name).unwrap_or_default().to_string();
    let (code, message) = (text("x-error-code"), text("x-error-message"));
    let wait = header(answer.headers(), "retry-after").map(str::to_string);
    let status = answer.status().as_u16();
    let said = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string().unwrap_or_default();
    let said =
        serde_json::from_str::<Value>(&said).ok().and_then(|body| Some(body.get("error")?.as_str()?.to_string()));
    let message = if message.is_empty() { said.unwrap_or_default() } else { message };
    Err(Failure::Refused(Refusal { status, code, message, wait }))
}

/// Why there was no answer.
fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name is not found; is there a network?".into(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn json_of(answer: &mut Response<Body>) -> std::result::Result<Value, Failure> {
    let text = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
    let text = text.map_err(|e| Failure::NoAnswer(in_words(&e)))?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|_| Failure::NoAnswer("the answer is no JSON; is this a hub?".into()))
}

impl Failure {
    /// Whether asking again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Failure::NoAnswer(_) => true,
            Failure::Refused(refusal) => matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504),
        }
    }
    /// Whether that is the answer for something that is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.status == 409)
    }

    /// What a person is told.
    pub fn told(self, asked: Asked, client: &Client) -> Error {
        match self {
            Failure::NoAnswer(why) => Error::Network(format!("{}: {}: {why}", asked.repo.id, client.endpoint())),
            Failure::Refused(refusal) => refusal.told(asked, client),
        }
    }
}

impl Refusal {
    fn told(self, Asked { repo, revision, file }: Asked, client: &Client) -> Error {
        let (id, noun, hub) = (&repo.id, repo.kind.noun(), client.endpoint());
        let page = match repo.kind {
            RepoKind::Model => format!("{hub}/{id}"),
            RepoKind::Dataset => format!("{hub}/datasets/{id}"),
        };
        let said = if self.message.is_empty() { String::new() } else { format!(" ({})", self.message) };
        let token = match client.has_token() {
            true => "the token that is given (HF_TOKEN, or hf auth login) does not open it",
            false => "give a token of an account that may read it as HF_TOKEN (or run hf auth login)",
        };
        let input = |text: String| Error::Input(text);
        match (self.status, &*self.code) {
            (401 | 403, "GatedRepo") => {
                input(format!("{id}: its authors must let you in: accept the terms at {page}; {token}"))
            }
            (404, "RevisionNotFound") => input(format!("{id}: the {noun} has no revision {revision:?} on {hub}")),
            (404, "EntryNotFound") => {
                input(format!("{id}: the {noun} has no file {} at revision {revision}", file.unwrap_or("of this name")))
            }
            (401, _) if self.message.contains("Invalid credentials") => input(format!(
                "{id}: {hub} does not know the token that is given (HF_TOKEN, or hf auth login): make a new one"
            )),
            (401 | 404, _) => {
                let file = file.map(|file| format!(", file {file}")).unwrap_or_default();
                input(format!(
                    "{id}: there is neither such a {noun} on {hub}{file} nor a file or directory here, or it is private; look at \
                     the spelling, and for a private one {token}"
                ))
            }
            (403, _) => input(format!("{id}: {hub} refuses access{said}; {token}")),
            (429, _) => {
                let wait = self.wait.map(|seconds| format!(" in {seconds} s")).unwrap_or_default();
                Error::Network(format!("{id}: {hub} takes no more requests for now; try again{wait}"))
            }
            (status, _) => Error::Network(format!("{id}: {hub} answers with status {status}{said}; try again later")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_addresses() {
        assert_eq!(quoted("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(quoted_path("data/a b#1.jsonl"), "data/a%20b%231.jsonl");
        let mut headers = HeaderMap::new();
        headers.insert("link", "<http://hub/a?cursor=x>; rel=\"next\"".parse().unwrap());
        assert_eq!(next_page(&headers).as_deref(), Some("http://hub/a?cursor=x"));
    }

    #[test]
    fn the_token_goes_to_the_hub_alone() {
        let settings = Settings {
            endpoint: "http://hub.test".into(),
            cache: "/nowhere".into(),
            token: Some("hf_x".into()),
            offline: false,
        };
        let client = Client::new(&settings).unwrap();
        assert!(client.token_for("http://hub.test/a").is_some());
        for other in ["http://hub.test.evil/a", "https://cdn.test/a", "http://hub.tes"] {
            assert_eq!(client.token_for(other), None, "{other}");
        }
        assert!(!format!("{client:?}").contains("hf_x"));
    }
}
