//! Where the hub is, where its cache lies and who asks: the environment variables of Hugging Face's own tools.
use std::env;
use std::path::{Path, PathBuf};

/// How the hub is reached. Every variable and default is huggingface_hub's (`constants.py`).
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`; absolute.
    pub cache: PathBuf,
    /// `HF_TOKEN`, else what `hf auth login` has left in `HF_HOME/token`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: only what the cache holds.
    pub offline: bool,
}

/// Without the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish()
    }
}

/// The hub where the environment names none.
pub const HUB: &str = "https://huggingface.co";

impl Settings {
    /// From the environment.
    pub fn of_environment() -> Self {
        Self::of(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// From variables by name.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let is_true = |name| variable(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&&*v.to_uppercase()));
        let path = |name: &str| variable(name).map(|path| expanded(&path, variable));
        let home = path("HF_HOME").unwrap_or_else(|| {
            let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| expanded("~/.cache", variable));
            cache.join("huggingface")
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let stored = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(file).ok()
        };
        let given = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
        let token = match is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => given.or_else(stored),
        };
        Settings {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| HUB.into()).trim_end_matches('/').to_string(),
            cache: std::path::absolute(&cache).unwrap_or(cache),
            token: token.map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
        }
    }
}

/// A path with `~` and `$NAME` in it, as Python's expanduser and expandvars read them.
fn expanded(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let mut whole = PathBuf::new();
    for (i, part) in Path::new(path).components().enumerate() {
        let text = part.as_os_str().to_string_lossy();
        let name = text.strip_prefix('$').map(|name| name.trim_start_matches('{').trim_end_matches('}'));
        match (name.and_then(variable), env::home_dir()) {
            (Some(value), _) => whole.push(value),
            (None, Some(home)) if i == 0 && text == "~" => whole.push(variable("HOME").map_or(home, PathBuf::from)),
            _ => whole.push(part),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(&str, &str)]) -> Settings {
        Settings::of(&|name| given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string()))
    }

    #[cfg(unix)]
    #[test]
    fn places_of_the_cache() {
        for (given, cache) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")], "/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")], "/new"),
            (&[("HOME", "/h"), ("DISK", "/d"), ("HF_HUB_CACHE", "$DISK/hub")], "/d/hub"),
            (&[("HOME", "/h"), ("HF_HUB_CACHE", "~/hub")], "/h/hub"),
        ] {
            assert_eq!(of(given).cache, Path::new(cache), "{given:?}");
        }
    }

    #[test]
    fn who_asks_and_whether() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_stored\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(of(&[home]).token.as_deref(), Some("hf_stored"));
        assert_eq!(of(&[home, ("HF_TOKEN", "hf_given")]).token.as_deref(), Some("hf_given"));
        assert_eq!(of(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert!(!format!("{:?}", of(&[home])).contains("hf_stored"));
        assert_eq!(of(&[home]).endpoint, HUB);
        assert_eq!(of(&[home, ("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        assert!(!of(&[home]).offline && of(&[home, ("HF_HUB_OFFLINE", "1")]).offline);
        assert!(of(&[home, ("TRANSFORMERS_OFFLINE", "yes")]).offline && !of(&[home, ("HF_HUB_OFFLINE", "0")]).offline);
    }
}
