//! A model that is named by its adapter: `adapter_config.json` says where the base is.
use super::given::Given;
use super::groups::ModelOptions;
use super::hub_names::model_path;
use super::value::Location;
use crate::error::{Error, Result};
use crate::hub::{Hub, HubName, RepoKind};
use std::path::{Path, PathBuf};

/// What makes a directory an adapter; one that has a config.json besides is a model.
const ADAPTER: &str = "adapter_config.json";

/// The model beside which the adapter at `path` was trained; None where `path` is no adapter. Its `base_model_name_or_path` is
/// looked for as it stands, from the current directory, and then from the adapter's, and then on the hub.
pub fn base_of(path: &str) -> Result<Option<String>> {
    base_by(path, Some(&Hub::of_environment()))
}

/// As [`base_of`]; a name on the hub is looked up in `hub`, and without one stays as it is.
fn base_by(path: &str, hub: Option<&Hub>) -> Result<Option<String>> {
    let dir = Path::new(path);
    let file = dir.join(ADAPTER);
    if !file.is_file() || dir.join("config.json").exists() {
        return Ok(None);
    }
    let give = format!("give the base as model_name_or_path and {path} as adapter_name_or_path");
    let fields = engine::files::read_json_object(&file)?;
    let Some(name) = fields.get("base_model_name_or_path").and_then(|name| name.as_str()).filter(|n| !n.is_empty())
    else {
        return Err(Error::Input(format!("{path}: an adapter whose {ADAPTER} names no base model; {give}")));
    };
    let beside = dir.join(name);
    let found = [PathBuf::from(name), beside.clone()].into_iter().find(|base| base.exists());
    if let (None, Some(hub), Some(_)) = (&found, hub, HubName::parse(name, RepoKind::Model)) {
        let revision = fields.get("revision").and_then(|revision| revision.as_str());
        let base = model_path(hub, name, revision).map_err(|error| match error {
            Error::Input(text) => {
                Error::Input(format!("{path}: an adapter whose base model is not there: {text}; {give}"))
            }
            other => other,
        })?;
        return not_an_adapter(path, Path::new(&base), &give).map(|()| Some(base));
    }
    let Some(base) = found else {
        let looked =
            if Path::new(name).is_absolute() { String::new() } else { format!(" nor at {}", beside.display()) };
        return Err(Error::Input(format!(
            "{path}: an adapter whose base model is not there: {ADAPTER} names \"{name}\", and nothing is at that \
             path{looked}; {give}"
        )));
    };
    not_an_adapter(path, &base, &give)?;
    Ok(Some(base.display().to_string()))
}

/// The base of the adapter at `path` must be a model.
fn not_an_adapter(path: &str, base: &Path, give: &str) -> Result<()> {
    if base.join(ADAPTER).is_file() && !base.join("config.json").exists() {
        let base = base.display();
        return Err(Error::Input(format!(
            "{path}: an adapter of {base}, which is an adapter itself; merge that first (lapidary merge) and {give}"
        )));
    }
    Ok(())
}

/// Where `model` is an adapter: puts its base in its place, says so in a note, and gives the adapter.
pub(super) fn take_base(model: &mut Location, given: &Given, notes: &mut Vec<String>) -> Result<Option<PathBuf>> {
    let Some(base) = base_by(model, given.hub.as_ref())? else { return Ok(None) };
    notes.push(format!("{model} is an adapter; its base is {base}"));
    let adapter = std::mem::replace(model, Location(base));
    Ok(Some(PathBuf::from(adapter.0)))
}

/// Where the model is an adapter, or not given beside one: its base is the model, and it is the adapter.
pub(super) fn find_base(
    model: &mut Location,
    adapter: &mut Option<PathBuf>,
    given: &Given,
    notes: &mut Vec<String>,
) -> Result<()> {
    if let Some(alone) = adapter.as_deref().filter(|_| !given.has("model_name_or_path")) {
        *model = Location(alone.display().to_string());
        return match take_base(model, given, notes)? {
            Some(_) => Ok(()),
            None => {
                let detail = "is no adapter that names its base; give the model with --model_name_or_path";
                given.complain("adapter_name_or_path", detail)
            }
        };
    }
    let Some(found) = take_base(model, given, notes)? else { return Ok(()) };
    match adapter.replace(found) {
        None => Ok(()),
        Some(other) => given.complain(
            "model_name_or_path",
            format!(
                "is an adapter, and adapter_name_or_path names another, {}; merge one of them first (lapidary merge)",
                other.display()
            ),
        ),
    }
}

impl ModelOptions {
    /// As [`find_base`].
    pub(super) fn find_base(
        &mut self,
        adapter: &mut Option<PathBuf>,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        find_base(&mut self.model_name_or_path, adapter, given, notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_base_of_an_adapter_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, base: serde_json::Value| {
            let made = dir.path().join(name);
            std::fs::create_dir_all(&made).unwrap();
            std::fs::write(made.join(ADAPTER), json!({"base_model_name_or_path": base}).to_string()).unwrap();
            made.display().to_string()
        };
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        std::fs::write(base.join("config.json"), "{}").unwrap();
        let absolute = made("absolute", json!(base));
        assert_eq!(base_of(&absolute).unwrap(), Some(base.display().to_string()));
        let found = base_of(&made("relative", json!("../base"))).unwrap().unwrap();
        assert_eq!(std::fs::canonicalize(found).unwrap(), std::fs::canonicalize(&base).unwrap());
        // From the current directory first.
        assert_eq!(base_of(&made("here", json!("src"))).unwrap(), Some("src".to_string()));
        assert_eq!(base_of(&base.display().to_string()).unwrap(), None);
        assert_eq!(base_of("nowhere").unwrap(), None);
        for (name, base, told) in [
            ("gone", json!("no/such/model"), "names \"no/such/model\""),
            ("unnamed", json!(null), "names no base model"),
            ("nested", json!(absolute), "an adapter itself"),
        ] {
            let text = base_of(&made(name, base)).unwrap_err().to_string();
            assert!(text.contains(told) && text.contains("as adapter_name_or_path"), "{text}");
        }
    }
}
