//! What can go wrong, one line each: the path or tensor or key, what was expected and what was found.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the expander.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] llama_pro_checkpoint::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The number or the positions of the new blocks do not fit the model.
    #[error("placement: {0}")]
    Placement(String),
    /// A model that this method is not known to leave unchanged.
    #[error("{path}: cannot be expanded: {reason}")]
    Unsupported {
        /// The configuration file or folder.
        path: PathBuf,
        /// The key, tensor or model type, and why.
        reason: String,
    },
    /// `config.json` has a layer key with an impossible value.
    #[error("{path}: {reason}")]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key, what was expected, what was found.
        reason: String,
    },
    /// `expansion.json` is not a record that this version wrote, or contradicts itself.
    #[error("{path}: not a valid expansion record: {reason}")]
    Record {
        /// The record file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// `expansion.json` and the files beside it tell different stories.
    #[error("{path}: the record disagrees with the folder: {reason}")]
    Disagrees {
        /// The record file.
        path: PathBuf,
        /// The tensor or key, what was expected, what was found.
        reason: String,
    },
    /// The output folder cannot be used.
    #[error("{path}: {reason}")]
    Output {
        /// The output folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The folder holds no expanded model.
    #[error("{path}: not an expanded model: expansion.json is not there")]
    NotExpanded {
        /// The folder.
        path: PathBuf,
    },
    /// Two folders do not make up the model that a record tells of.
    #[error("{path}: not what the new blocks in {delta} grew on: {reason}")]
    NotTheBase {
        /// The base, its configuration, or the folder of new blocks itself.
        path: PathBuf,
        /// The folder of new blocks.
        delta: PathBuf,
        /// The tensor or key, what was expected, what was found.
        reason: String,
    },
    /// Frozen tensors are not the ones of the base any more, so that stripping would not give the base back.
    #[error("{path}: {reason}")]
    Altered {
        /// The folder.
        path: PathBuf,
        /// Which tensors, and the way out.
        reason: String,
    },
}
