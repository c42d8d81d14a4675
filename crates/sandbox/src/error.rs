//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

/// What can keep programs from being run at all. What a program does, however bad, is an [`Outcome`](crate::Outcome).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine cannot isolate programs.
    #[error("programs cannot be isolated here: {layer}: {message}")]
    Isolation {
        /// The layer that failed.
        layer: String,
        /// What the system said.
        message: String,
    },
    /// No Python that can be used.
    #[error("{}: {message}", python.display())]
    Python {
        /// The interpreter as it was named.
        python: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The launcher process failed.
    #[error("the sandbox launcher {0}")]
    Launcher(String),
    /// A program that cannot be handed over.
    #[error("program {index}: {message}")]
    Program {
        /// Its number in the call, from 0.
        index: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The system refused something the host side needs.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
