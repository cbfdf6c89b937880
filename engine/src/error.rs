//! What can go wrong, said so that a person knows what, where and what to do.
use std::path::PathBuf;

/// What the engine returns: a value, or an [`Error`] that a person can act on.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shapes that do not fit; `detail` names the shapes on both sides.
    #[error("{op}: {detail}")]
    Shape { op: &'static str, detail: String },
    /// A gradient was asked of something that has none.
    #[error("{op} has no gradient here: {detail}")]
    NoGradient { op: &'static str, detail: String },
    /// A file that is missing, unreadable or not what its name says.
    #[error("{path}: {detail}")]
    File { path: PathBuf, detail: String },
    /// A model, option or value this engine does not support; says which it does.
    #[error("{0}")]
    Unsupported(String),
    /// Bad input of any other kind; the text says what to do.
    #[error("{0}")]
    Input(String),
    /// Not enough memory on the device.
    #[error("out of memory on {device}: {detail}")]
    OutOfMemory { device: String, detail: String },
    /// The device or its driver failed.
    #[error("{device}: {detail}")]
    Device { device: String, detail: String },
}

impl Error {
    /// An [`Error::Shape`] of the op called `op`.
    pub fn shape(op: &'static str, detail: impl Into<String>) -> Self {
        Error::Shape { op, detail: detail.into() }
    }
    /// An [`Error::File`] about the file at `path`.
    pub fn file(path: impl Into<PathBuf>, detail: impl std::fmt::Display) -> Self {
        Error::File { path: path.into(), detail: detail.to_string() }
    }
}
