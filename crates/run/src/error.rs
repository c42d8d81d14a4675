//! The one error type of this crate. Each message is one line that names the place and the value.

use std::path::{Path, PathBuf};

/// What can go wrong with recipes, run folders and metrics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as an infinitive: "read", "write".
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A recipe that is not TOML, or does not say what the program understands.
    #[error("{place}: {message}")]
    Recipe {
        /// `FILE:LINE:COLUMN`, `FILE`, or `--set KEY=VALUE`.
        place: String,
        /// What is wrong, with the key, what was expected and what was found.
        message: String,
    },
    /// A new run was to be made where something lies already.
    #[error("{}: cannot make a run here: {reason}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is in the way, and the way out.
        reason: String,
    },
    /// The folder is not a run folder.
    #[error("{}: not a run folder: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another process works in the run folder.
    #[error("{}: the run is in use by another process; wait for it or choose another folder", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// A file of a run folder that cannot be understood.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where one is at fault.
        line: Option<usize>,
        /// What was expected and what was found.
        message: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Turns an I/O error into one that names the path and what was tried with it.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    pub(crate) fn malformed(path: &Path, line: Option<usize>, message: impl Into<String>) -> Self {
        // Parsers like to answer in several lines; an error here is one.
        let message = message.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Malformed { path: path.to_path_buf(), line, message }
    }
}
