//! What can go wrong with shards and their order, each message naming the file or source.

use std::path::{Path, PathBuf};

/// A shard that cannot be written or trusted, or a mixture that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation on a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A field of a shard is not what the format or the rest of the shard demands.
    #[error("{}: {field}: expected {expected}, found {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The field, with its index where it is an array.
        field: String,
        /// What the format or the rest of the shard demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A token that the vocabulary does not have.
    #[error("{}: document {document}: token {token} is not below the vocabulary size {vocab_size}", path.display())]
    Token {
        /// The shard's path prefix.
        path: PathBuf,
        /// The document, from 0.
        document: usize,
        /// The token, as it lies in the file.
        token: u32,
        /// The vocabulary size.
        vocab_size: usize,
    },
    /// A document whose length the format cannot hold.
    #[error("{}: document {document} has {tokens} tokens, the format holds at most {most}", path.display())]
    DocumentLength {
        /// The shard's path prefix.
        path: PathBuf,
        /// The document, from 0.
        document: usize,
        /// Its length in tokens.
        tokens: usize,
        /// The limit.
        most: usize,
    },
    /// A vocabulary size without a token type.
    #[error("vocabulary size {found}: expected 1 to {most}", most = i32::MAX)]
    VocabularySize {
        /// The size that was asked for.
        found: usize,
    },
    /// A row length that no row can have.
    #[error("row length {found}: expected 1 to {most}", most = i32::MAX)]
    RowLength {
        /// The length that was asked for.
        found: usize,
    },
    /// A mixture weight that is not a number from 0 up.
    #[error("weight of {source_name}: expected a finite number from 0 up, found {found}")]
    Weight {
        /// The source.
        source_name: String,
        /// The weight.
        found: f64,
    },
    /// A source so light that it would never be drawn.
    #[error(
        "weight of {source_name}: {weight} is {share:.2e} of all weights, less than one sample in a period of {period}"
    )]
    WeightTooSmall {
        /// The source.
        source_name: String,
        /// The weight.
        weight: f64,
        /// Its part of the sum of weights.
        share: f64,
        /// Samples in a period.
        period: usize,
    },
    /// A mixture of nothing, or of too many sources or samples.
    #[error("mixture: {what}: expected {expected}, found {found}")]
    Mixture {
        /// The quantity.
        what: &'static str,
        /// Its range.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A source that cannot fill a single row.
    #[error(
        "source {source_name}: {}: {tokens} tokens are less than one row: {row_length} inputs need {needed}",
        path.display()
    )]
    NoRows {
        /// The source.
        source_name: String,
        /// Its shard.
        path: PathBuf,
        /// Tokens in the shard.
        tokens: usize,
        /// Inputs of a row.
        row_length: usize,
        /// Tokens that a row touches.
        needed: usize,
    },
    /// Two sources of one name: they would be visited in the same order and could not be told apart.
    #[error("source {source_name}: the name is used twice")]
    DuplicateSource {
        /// The name.
        source_name: String,
    },
    /// Rows of different lengths cannot be one batch.
    #[error("source {source_name}: expected rows of {expected} tokens as in the first source, found {found}")]
    RowLengthsDiffer {
        /// The source.
        source_name: String,
        /// Row length of the first source.
        expected: usize,
        /// Row length of this one.
        found: usize,
    },
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// For `map_err`: an [`Error::Io`] about `path`.
pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { path: path.to_path_buf(), action, source }
}
