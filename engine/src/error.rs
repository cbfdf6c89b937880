//! What can go wrong, said so that a person knows what, where and what to do.
use std::path::PathBuf;

/// What the engine returns: a value, or an [`Error`] that a person can act on.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Shapes that do not fit; `detail` names the shapes on both sides.
    #[error("{op}: {detail}")]
    Shape {
        /// The op or kernel that was called.
        op: &'static str,
        /// What it needs and what it found.
        detail: String,
    },
    /// A gradient was asked of something that has none.
    #[error("{op} has no gradient here: {detail}")]
    NoGradient {
        /// The op whose backward was reached.
        op: &'static str,
        /// Why there is none.
        detail: String,
    },
    /// A file that is missing, unreadable or not what its name says.
    #[error("{path}: {detail}")]
    File {
        /// The file or directory, as the user named it or below that.
        path: PathBuf,
        /// What is wrong with it: a sentence that goes on from the path.
        detail: String,
    },
    /// A model, option or value this engine does not support; says which it does.
    #[error("{0}")]
    Unsupported(String),
    /// Bad input of any other kind; the text says what to do.
    #[error("{0}")]
    Input(String),
    /// Not enough memory on the device.
    #[error("out of memory on {device}: {detail}")]
    OutOfMemory {
        /// The device's name with its interface.
        device: String,
        /// What was asked for, what is in use, and what needs less.
        detail: String,
    },
    /// The device or its driver failed.
    #[error("{device}: {detail}")]
    Device {
        /// The device's name with its interface; `cpu` for its threads.
        device: String,
        /// What was being done, and the driver's words.
        detail: String,
    },
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
