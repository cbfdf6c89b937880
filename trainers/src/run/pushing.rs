//! A run's model on the hub: pushed with each checkpoint and at the end, or at the end alone.
use super::directory::OF_A_RUN;
use super::durable::io_error;
use super::side_files::SIDE_FILES;
use super::summary::quoted;
use crate::error::{Error, Result};
use crate::hub::{Hub, Pushed, ToPush};
use crate::options::{HubStrategy, UploadOptions};
use std::fs;
use std::path::Path;

/// Who pushes what a run makes.
#[derive(Debug)]
pub struct Pusher {
    hub: Hub,
    /// `org/name`.
    id: String,
    strategy: HubStrategy,
}

impl Pusher {
    /// Makes the repository before the run begins, so that a token which may not write there is known of by then. None where
    /// nothing is to be pushed.
    pub fn open(options: &UploadOptions, output_dir: &Path) -> Result<Option<Pusher>> {
        if !options.push_to_hub {
            return Ok(None);
        }
        let of_directory =
            || std::path::absolute(output_dir).ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let id = options.hub_model_id.clone().or_else(of_directory).unwrap_or_default();
        let hub = Hub::with_token(options.hub_token.as_deref());
        let id = hub.prepare_push(&id, options.hub_private_repo).map_err(|error| match error {
            Error::Input(text) => Error::Input(format!("push_to_hub: {text}")),
            other => other,
        })?;
        Ok(Some(Pusher { hub, id, strategy: options.hub_strategy }))
    }

    /// Whether checkpoints are pushed.
    pub fn pushes_checkpoints(&self) -> bool {
        self.strategy == HubStrategy::EverySave
    }

    /// Pushes the model in a directory; a line that says where it is. Errors name the command that tries again.
    pub fn push(&self, directory: &Path, message: &str) -> Result<String> {
        let pushed = model_files(directory).and_then(|files| self.hub.push(&self.id, &files, message));
        pushed.map(|pushed| said(&self.id, &pushed)).map_err(|error| {
            let (shown, again) = (directory.display(), quoted(&directory.to_string_lossy()));
            Error::Network(format!("{shown} is not pushed: {error}; to try again: lapidary push {again} {}", self.id))
        })
    }
}

/// Where what was pushed is.
pub fn said(id: &str, pushed: &Pushed) -> String {
    format!("pushed to {id}: {}", pushed.url)
}

/// The files of a directory that make a model, with its README.md: not what a run has written down about itself, no checkpoints,
/// nothing hidden. Errors: no weights among them.
pub fn model_files(directory: &Path) -> Result<Vec<ToPush>> {
    let mut files = Vec::new();
    for (below, prefix) in [("", ""), (TEMPLATES, "additional_chat_templates/")] {
        let place = directory.join(below);
        if !below.is_empty() && !place.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&place).map_err(|e| io_error(&place, "read", e))? {
            let entry = entry.map_err(|e| io_error(&place, "read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_the_runs = OF_A_RUN.contains(&name.as_str()) || SIDE_FILES.contains(&name.as_str());
            if entry.path().is_file() && !name.starts_with('.') && !is_the_runs {
                files.push(ToPush { name: format!("{prefix}{name}"), path: entry.path() });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let is_weights = |file: &ToPush| [".safetensors", ".gguf"].iter().any(|end| file.name.ends_with(end));
    match files.iter().any(is_weights) {
        true => Ok(files),
        false => Err(Error::file(directory, "holds no model to push: neither safetensors nor a .gguf file")),
    }
}

/// Where a tokenizer keeps chat templates with names.
const TEMPLATES: &str = "additional_chat_templates";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_a_run_is_pushed() {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["checkpoint-5", "runs", TEMPLATES] {
            fs::create_dir(dir.path().join(directory)).unwrap();
        }
        assert!(model_files(dir.path()).unwrap_err().to_string().contains("no model to push"));
        let pushed =
            ["README.md", "additional_chat_templates/tool.jinja", "config.json", "model.safetensors", "tokenizer.json"];
        let kept = [
            "checkpoint-5/model.safetensors",
            "config.yaml",
            "manifest.json",
            "metrics.jsonl",
            "optimizer.safetensors",
        ];
        let kept =
            kept.iter().chain(&["kept.safetensors", "report.html", "trainer_state.json", ".secret", "samples.jsonl"]);
        for file in pushed.iter().chain(kept) {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        let names: Vec<String> = model_files(dir.path()).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, pushed);
    }
}
