//! What can go wrong in training, said so that a person knows what, where and what to do.
use std::path::PathBuf;

/// What trainers return: a value, or an [`Error`] that a person can act on.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong in a run or a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wrong option, file or value from the user; the text says what to do.
    #[error("{0}")]
    Input(String),
    /// A row of a data set that cannot be used.
    #[error("{}:{line}: {detail}", path.display())]
    Data {
        /// The data file, or the `task:…` that made the row.
        path: PathBuf,
        /// The line, counted from 1; in a JSON array the number of the row.
        line: usize,
        /// What is wrong with the row: a sentence that goes on from its place.
        detail: String,
    },
    /// The engine refused: a model file, a device, shapes, memory.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// What was computed cannot be written to where it belongs.
    #[error("{0}")]
    Output(String),
    /// The hub, or the way to it, has failed; asking again may help.
    #[error("{0}")]
    Network(String),
    /// Standard output was closed by its reader, which wants no more: no fault of anybody.
    #[error("standard output is closed")]
    Closed,
    /// A signal has stopped the run; the text says where it stands and how it goes on.
    #[error("{0}")]
    Stopped(String),
    /// A fault of this program, not of its input.
    #[error("internal error: {0} (please report this)")]
    Internal(String),
}

impl Error {
    /// An [`Error::Input`].
    pub fn input(text: impl Into<String>) -> Self {
        Error::Input(text.into())
    }
    /// Nothing wrong, or all that is wrong with the input, a line each. An error of another kind comes alone.
    pub fn all(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
        let mut lines = Vec::new();
        for result in results {
            match result {
                Ok(()) => {}
                Err(Error::Input(text)) => lines.push(text),
                Err(other) => return Err(other),
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(Error::Input(lines.join("\n"))) }
    }
    /// An [`Error::Data`] about a line of a data file, counted from 1.
    pub fn data(path: impl Into<PathBuf>, line: usize, detail: impl Into<String>) -> Self {
        Error::Data { path: path.into(), line, detail: detail.into() }
    }
    /// A file that is missing, unreadable or not what its name says.
    pub fn file(path: impl Into<PathBuf>, detail: impl std::fmt::Display) -> Self {
        Error::Engine(engine::Error::file(path, detail))
    }
    /// Standard output that takes nothing more: an [`Error::Output`] (a full disk), or [`Error::Closed`] (a pipe).
    pub fn output(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Output(format!("cannot write to standard output: {error}")),
        }
    }
    /// An [`Error::Internal`] with this text.
    pub fn internal(text: impl std::fmt::Display) -> Self {
        Error::Internal(text.to_string())
    }
}
