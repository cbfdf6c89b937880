//! What can go wrong around training, said so that a person knows what, where and what to do.
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wrong option, file or combination of them; the text says what to do.
    #[error("{0}")]
    Input(String),
    /// A row of a data set that cannot be used. Lines count from 1.
    #[error("{}:{line}: {detail}", path.display())]
    Data { path: PathBuf, line: usize, detail: String },
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A mistake of this program, not of its user.
    #[error("internal error: {0}")]
    Internal(String),
}
