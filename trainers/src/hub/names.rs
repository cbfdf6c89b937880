//! Names of repositories on the hub: `org/name`, `org/name@revision`, `hf://org/name/file`, `hf://datasets/org/name`.
use std::fmt;
use std::path::Path;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepoKind {
    /// A model or an adapter.
    Model,
    /// Rows.
    Dataset,
}

impl RepoKind {
    /// As the hub's addresses and its cache have it.
    pub fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }
    /// In a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            RepoKind::Model => "model",
            RepoKind::Dataset => "data set",
        }
    }
}

/// A repository: its kind and `org/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repo {
    /// Whether it is a model or a data set.
    pub kind: RepoKind,
    /// `org/name`.
    pub id: String,
}

impl Repo {
    /// Its directory in the cache: `models--org--name`.
    pub fn folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }
    /// The repository of a cache's directory.
    pub fn of_folder(folder: &str) -> Option<Repo> {
        let (kind, rest) = folder.split_once("--")?;
        let kind = [RepoKind::Model, RepoKind::Dataset].into_iter().find(|known| known.plural() == kind)?;
        let (org, name) = rest.split_once("--")?;
        let id = format!("{org}/{name}");
        is_id(&id).then_some(Repo { kind, id })
    }
}

/// The revision that is meant where none is named.
pub const MAIN: &str = "main";

/// A repository at a revision, or one file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// Which repository.
    pub repo: Repo,
    /// A branch, tag or commit; None for `main`.
    pub revision: Option<String>,
    /// One file of it, by its path from the root.
    pub file: Option<String>,
}

/// With its revision and file, as it can be given again.
impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |revision: &String| format!("@{revision}");
        let revision = self.revision.as_ref().map(at).unwrap_or_default();
        match &self.file {
            None => write!(f, "{}{revision}", self.repo.id),
            Some(file) => {
                let prefix = if self.repo.kind == RepoKind::Dataset { "datasets/" } else { "" };
                write!(f, "{SCHEME}{prefix}{}{}/{file}", self.repo.id, revision.replace('/', "%2F"))
            }
        }
    }
}

/// How names begin that can be nothing else.
pub const SCHEME: &str = "hf://";
/// What files are called that are read here. A repository is not called so, but a file that is missing may be.
const OF_FILES: [&str; 12] =
    [".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".txt", ".gguf", ".safetensors", ".yaml"];

impl HubName {
    /// What `text` means where a model or a data set is expected: None for a path, an error for `hf://…` that names nothing.
    /// Whether something lies at that path is for the caller to see first.
    pub fn parse(text: &str, kind: RepoKind) -> Option<Result<HubName, String>> {
        if let Some(rest) = text.strip_prefix(SCHEME) {
            return Some(of_address(rest, kind).map_err(|why| format!("{text}: {why}")));
        }
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        let is_name = is_id(id)
            && !OF_FILES.iter().any(|end| text.to_ascii_lowercase().ends_with(end))
            && revision.is_none_or(is_revision);
        let repo = Repo { kind, id: id.to_string() };
        is_name.then(|| Ok(HubName { repo, revision: revision.map(str::to_string), file: None }))
    }

    /// The revision that is asked for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

/// The part of an address behind `hf://`: `[datasets/]org/name[@revision][/file]`. A `/` in a revision is written %2F, but in
/// `refs/convert/…` and `refs/pr/…`.
fn of_address(rest: &str, kind: RepoKind) -> Result<HubName, String> {
    let (named, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => (RepoKind::Dataset, rest),
        Some(("models", rest)) => (RepoKind::Model, rest),
        Some(("spaces" | "buckets" | "kernels", _)) => return Err("is neither a model nor a data set".into()),
        _ => (RepoKind::Model, rest),
    };
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    let [org, name, more @ ..] = &parts[..] else {
        return Err("names no repository; write hf://org/name or hf://datasets/org/name".into());
    };
    let (name, mut revision) = match name.split_once('@') {
        Some((name, revision)) => (name, Some(revision.replace("%2F", "/").replace("%2f", "/"))),
        None => (*name, None),
    };
    let mut file = more;
    if let (Some("refs"), [kind @ ("convert" | "pr"), which, behind @ ..]) = (revision.as_deref(), more) {
        revision = Some(format!("refs/{kind}/{which}"));
        file = behind;
    }
    let id = format!("{org}/{name}");
    if !is_id(&id) {
        return Err(format!("{id} is no name of a repository; write hf://org/name or hf://datasets/org/name"));
    }
    if named != kind {
        let (is, prefix) = (named.noun(), if kind == RepoKind::Dataset { "datasets/" } else { "" });
        return Err(format!("names a {is}, and a {} is wanted: hf://{prefix}org/name", kind.noun()));
    }
    if let Some(revision) = revision.as_ref().filter(|revision| !is_revision(revision)) {
        return Err(format!("{revision:?} is no name of a revision"));
    }
    let file = (!file.is_empty()).then(|| file.join("/"));
    if let Some(file) = file.as_ref().filter(|file| !is_inside(file)) {
        return Err(format!("{file:?} is no path of a file in a repository"));
    }
    Ok(HubName { repo: Repo { kind: named, id }, revision, file })
}

/// Whether this is `org/name` by the hub's rules (`huggingface_hub.utils.validate_repo_id`).
pub fn is_id(id: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let outer = |c: char| c.is_ascii_alphanumeric() || c == '_';
        (1..=96).contains(&part.len())
            && part.chars().all(inner)
            && part.starts_with(outer)
            && part.ends_with(outer)
            && !part.contains("--")
            && !part.contains("..")
    };
    id.split_once('/').is_some_and(|(org, name)| is_part(org) && is_part(name)) && !id.ends_with(".git")
}

/// Whether this can be a branch, a tag or a commit: it becomes a path in the cache.
pub fn is_revision(revision: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    revision.len() <= 200 && revision.chars().all(letter) && is_inside(revision)
}

/// Whether this is a whole commit hash: what it names never changes.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a path from a repository's root stays inside it, on every system.
pub fn is_inside(path: &str) -> bool {
    let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':');
    path.len() <= 1024 && path.chars().all(is_plain) && path.split('/').all(is_name) && !Path::new(path).is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let read = |text: &str, kind| HubName::parse(text, kind).map(|name| name.map(|name| name.to_string()));
        let model = |text: &str| read(text, RepoKind::Model);
        for same in ["org/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b@v1.0", "a/b@refs/pr/1", "hf://a/b/m.gguf"]
        {
            assert_eq!(model(same), Some(Ok(same.to_string())));
        }
        assert_eq!(model("hf://org/name"), Some(Ok("org/name".into())));
        assert_eq!(model("hf://models/org/name@v1"), Some(Ok("org/name@v1".into())));
        assert_eq!(model("hf://a/b@refs/pr/1/m.gguf"), Some(Ok("hf://a/b@refs%2Fpr%2F1/m.gguf".into())));
        assert_eq!(model("hf://a/b@refs%2Fpr%2F1/m.gguf"), Some(Ok("hf://a/b@refs%2Fpr%2F1/m.gguf".into())));
        let data = |text: &str| read(text, RepoKind::Dataset);
        assert_eq!(data("org/name"), Some(Ok("org/name".into())));
        assert_eq!(
            data("hf://datasets/org/name@v1/data/a.jsonl"),
            Some(Ok("hf://datasets/org/name@v1/data/a.jsonl".into()))
        );
        assert_eq!(data("hf://datasets/o/n@refs/convert/parquet"), Some(Ok("o/n@refs/convert/parquet".into())));
        for path in [
            "model",
            "./org/name",
            "../a/b",
            "/a/b",
            "a/b/c",
            "~/model",
            "data/rows.jsonl",
            "a/m.gguf",
            "task:a/b",
            "a--b/c",
            "",
        ] {
            assert_eq!(model(path), None, "{path}");
        }
        for wrong in ["hf://", "hf://name", "hf://datasets/org/name", "hf://a/b/../c", "hf://a/b@/c", "hf://spaces/a/b"]
        {
            assert!(matches!(model(wrong), Some(Err(_))), "{wrong}");
        }
        assert!(data("hf://org/name").is_some_and(|name| name.is_err_and(|e| e.contains("hf://datasets/org/name"))));
    }

    #[test]
    fn folders_of_the_cache() {
        for (kind, folder) in [(RepoKind::Model, "models--org--a-b"), (RepoKind::Dataset, "datasets--org--a-b")] {
            let repo = Repo { kind, id: "org/a-b".into() };
            assert_eq!(repo.folder(), folder);
            assert_eq!(Repo::of_folder(folder), Some(repo));
        }
        assert_eq!(Repo::of_folder("spaces--a--b"), None);
        assert_eq!(Repo::of_folder("models--a"), None);
    }

    #[test]
    fn paths_that_leave_a_repository() {
        for path in ["../a", "a/../../b", "/etc/passwd", "a//b", "a\\b", "C:/a", "", "a/.", "a\0"] {
            assert!(!is_inside(path), "{path:?}");
        }
        assert!(is_inside("data/train-00000-of-00001.parquet") && is_inside(".gitattributes"));
    }
}
