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
    /// A benchmark without its data.
    #[error("{task}: no data: expected {} or another of the places in data/README.md; it comes from {origin}", path.display())]
    MissingData {
        /// Name of the task.
        task: String,
        /// The file that was looked for first.
        path: PathBuf,
        /// Where it comes from.
        origin: String,
    },
    /// A document that cannot be used.
    #[error("{place}: {message}")]
    Data {
        /// File and row.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// A task that cannot be run.
    #[error("{task}: {message}")]
    Task {
        /// Name of the task.
        task: String,
        /// What is wrong.
        message: String,
    },
    /// A name that no task has.
    #[error("there is no task \"{name}\"; did you mean \"{near}\"? A file of your own ends in .toml")]
    UnknownTask {
        /// The name.
        name: String,
        /// The nearest name there is.
        near: String,
    },
    /// A model that failed amid a benchmark.
    #[error("{task}: the model failed: {message}; {kept} answers are kept, --resume goes on from them")]
    Died {
        /// Name of the task.
        task: String,
        /// What the model said.
        message: String,
        /// Answers in the journal.
        kept: usize,
    },
    /// A file that is not what it should be.
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
