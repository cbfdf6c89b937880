//! Options that name something on the hub: each name becomes the path of its directory in the cache, before anything is checked.
use super::given::Given;
use super::value::{Raw, with_home};
use crate::error::{Error, Result};
use crate::hub::{Hub, HubName, Repo, RepoKind, is_revision, name_of};
use serde_json::{Map, Value};
use std::path::Path;

/// Options whose value is a model or an adapter.
const MODELS: [&str; 4] = ["model_name_or_path", "adapter_name_or_path", "reward_model_name_or_path", "judge"];
/// Options whose value is a data set.
const DATA: [&str; 2] = ["dataset_name", "eval_dataset"];
/// Options whose values are rewards, and which of those are models.
const REWARDS: [&str; 2] = ["reward_funcs", "gold_funcs"];
const PREFIXES: [&str; 3] = ["model:", "judge:", "judge_score:"];

/// What `text` names on the hub: None where something lies at that path, or it can only be a path.
fn named(text: &str, kind: RepoKind) -> Option<std::result::Result<HubName, String>> {
    if Path::new(&with_home(text)).exists() { None } else { HubName::parse(text.trim(), kind) }
}

/// Where the model or data set `name` lies in the cache, fetched as far as it must be to be looked at.
fn locate(hub: &Hub, name: &HubName) -> Result<String> {
    let path = match name.repo.kind {
        RepoKind::Model => hub.locate_model(name),
        RepoKind::Dataset => hub.locate_data(name),
    };
    Ok(path?.display().to_string())
}

/// A model as a path: a name on the hub is looked up there, everything else stays as it is.
pub(super) fn model_path(hub: &Hub, text: &str, revision: Option<&str>) -> Result<String> {
    let Some(name) = named(text, RepoKind::Model) else { return Ok(text.to_string()) };
    let mut name = name.map_err(Error::Input)?;
    name.revision = name.revision.or(revision.map(str::to_string));
    locate(hub, &name)
}

impl Given {
    /// Puts paths in the place of names on the hub, where the hub may be asked; a note says which commit each is.
    pub(super) fn locate_names(&mut self, notes: &mut Vec<String>) -> Result<()> {
        let mut wrong = Vec::new();
        for (names, kind) in [(&MODELS[..], RepoKind::Model), (&DATA, RepoKind::Dataset)] {
            for option in names {
                let Some(text) = self.text(option).map(str::to_string) else { continue };
                let located = self.locate_one(option, &text, kind, notes);
                wrong.push(located.map(|path| path.into_iter().for_each(|path| self.replace(option, Raw::Text(path)))));
            }
        }
        for option in REWARDS {
            wrong.push(self.locate_rewards(option, notes));
        }
        wrong.push(self.locate_mixture(notes));
        Error::all(wrong)
    }

    fn locate_one(
        &mut self,
        option: &'static str,
        text: &str,
        kind: RepoKind,
        notes: &mut Vec<String>,
    ) -> Result<Option<String>> {
        let takes_revision = option == "model_name_or_path" && self.differs("model_revision");
        let Some(name) = named(text, kind) else {
            if takes_revision {
                notes.push("model_revision has no effect: the model is a path".into());
            }
            return Ok(None);
        };
        let mut name = name.or_else(|why| self.complain(option, why))?;
        if takes_revision {
            let revision = self.text("model_revision").unwrap_or_default().to_string();
            if name.revision.is_some() {
                return self.complain(
                    "model_revision",
                    format!("contradicts {text}, which names a revision; give one of them"),
                );
            }
            if !is_revision(&revision) {
                return self.complain("model_revision", format!("{revision:?} is no name of a revision"));
            }
            name.revision = Some(revision);
        }
        let Some(hub) = &self.hub else { return Ok(None) };
        let path = locate(hub, &name).or_else(|error| match error {
            Error::Input(text) => self.complain(option, text),
            other => Err(other),
        })?;
        let found = name_of(Path::new(&path)).filter(|found| *found != name);
        notes.extend(found.map(|found| format!("{option} {name} is {found}")));
        if takes_revision {
            self.forget("model_revision");
        }
        Ok(Some(path))
    }

    /// `model:org/name` among rewards.
    fn locate_rewards(&mut self, option: &'static str, notes: &mut Vec<String>) -> Result<()> {
        let located = |given: &mut Given, item: &str, notes: &mut Vec<String>| -> Result<Option<String>> {
            let Some(prefix) = PREFIXES.iter().find(|prefix| item.starts_with(**prefix)) else { return Ok(None) };
            let path = given.locate_one(option, &item[prefix.len()..], RepoKind::Model, notes)?;
            Ok(path.map(|path| format!("{prefix}{path}")))
        };
        match self.raw(option).cloned() {
            Some(Raw::Text(text)) => {
                let Some(path) = located(self, &text, notes)? else { return Ok(()) };
                self.replace(option, Raw::Text(path));
            }
            Some(Raw::List(mut items)) => {
                for item in &mut items {
                    if let Some(path) = located(self, item, notes)? {
                        *item = path;
                    }
                }
                self.replace(option, Raw::List(items));
            }
            _ => {}
        }
        Ok(())
    }

    /// `path` of each part of `datasets`.
    fn locate_mixture(&mut self, notes: &mut Vec<String>) -> Result<()> {
        let Some(Raw::Text(text) | Raw::Other(text)) = self.raw("datasets").cloned() else { return Ok(()) };
        let Ok(mut parts) = serde_json::from_str::<Vec<Map<String, Value>>>(&text) else { return Ok(()) };
        let mut changed = false;
        for part in &mut parts {
            let Some(path) = part.get("path").and_then(Value::as_str).map(str::to_string) else { continue };
            if let Some(path) = self.locate_one("datasets", &path, RepoKind::Dataset, notes)? {
                part.insert("path".into(), path.into());
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        let text = serde_json::to_string(&parts).map_err(Error::internal)?;
        self.replace("datasets", Raw::Other(text));
        Ok(())
    }
}

/// Paths of the cache as the names that stand for them, so that the options can be given again elsewhere.
pub(super) fn name_paths(options: &mut Map<String, Value>) {
    for value in options.values_mut() {
        name_path(value);
    }
    let model =
        options.get("model_name_or_path").and_then(Value::as_str).map(|text| HubName::parse(text, RepoKind::Model));
    // As TRL has it, the revision by itself.
    if let (Some(Some(Ok(HubName { repo, revision: Some(revision), file: None }))), true) =
        (model, options.contains_key("model_revision"))
    {
        options.insert("model_name_or_path".into(), repo.id.into());
        options.insert("model_revision".into(), revision.into());
    }
}

fn name_path(value: &mut Value) {
    match value {
        Value::String(text) => {
            let (prefix, path) =
                PREFIXES.iter().find_map(|p| Some((*p, text.strip_prefix(p)?))).unwrap_or(("", text.as_str()));
            if let Some(name) = name_of(Path::new(path)) {
                *text = format!("{prefix}{name}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(name_path),
        Value::Object(fields) => fields.values_mut().for_each(name_path),
        _ => {}
    }
}

/// The commits that the run in this directory was begun with, by its manifest; none where there is no manifest.
pub(super) fn commits_of_run(directory: &Path) -> Vec<(Repo, String)> {
    let text = std::fs::read_to_string(directory.join("manifest.json")).unwrap_or_default();
    let manifest: Value = serde_json::from_str(&text).unwrap_or_default();
    let one = |(name, commit): (&String, &Value)| {
        let (kind, id) = name.split_once('/')?;
        let kind = [RepoKind::Model, RepoKind::Dataset].into_iter().find(|known| known.plural() == kind)?;
        Some((Repo { kind, id: id.to_string() }, commit.as_str()?.to_string()))
    };
    manifest["hub"].as_object().into_iter().flatten().filter_map(one).collect()
}
