//! The one error type of this crate.

use std::path::PathBuf;

use crate::BoxError;

/// What can go wrong while scoring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model failed.
    #[error("the model failed on rows {first} to {last}: {source}")]
    Model {
        /// Number of the first row of the batch, from 0.
        first: usize,
        /// Number of the last one.
        last: usize,
        /// What the model said.
        source: BoxError,
    },
    /// The model gave an answer that cannot be right.
    #[error("the model's answer to row {row} is wrong: expected {expected}, found {found}")]
    Answer {
        /// Number of the row, from 0.
        row: usize,
        /// What an answer must be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A row that does not fit together.
    #[error("row {row}: {message}")]
    Row {
        /// Number of the row, from 0.
        row: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A number that makes no sense.
    #[error("{0}")]
    Input(String),
    /// Two tables that cannot be compared.
    #[error("the set \"{set}\" is only in the table {found}")]
    MissingSet {
        /// Name of the set.
        set: String,
        /// The table that has it: `before` or `after`.
        found: &'static str,
    },
    /// A file that is not a table of scores.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
