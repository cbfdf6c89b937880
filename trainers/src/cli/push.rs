//! `lapidary push`: a model of this machine becomes a repository on the hub.
use crate::error::Result;
use crate::hub::Hub;
use crate::options::PushOptions;
use crate::run::pushing::{model_files, said};

/// Looks which files make the model, makes the repository, and pushes them in one commit.
pub fn run(options: &PushOptions) -> Result<()> {
    let asked = &options.pushed;
    let files = model_files(&asked.model_dir)?;
    let hub = Hub::with_token(asked.hub_token.as_deref());
    let id = hub.prepare_push(&asked.hub_model_id, asked.hub_private_repo)?;
    let pushed = hub.push(&id, &files, &asked.commit_message)?;
    tell!("{}", said(&id, &pushed));
    Ok(())
}
