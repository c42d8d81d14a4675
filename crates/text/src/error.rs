//! What can go wrong with a tokenizer, each message naming the file and what was expected of it.

use std::path::PathBuf;

/// A tokenizer that cannot be read, trusted or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A SentencePiece model that is read and not understood.
    #[error(
        "{}: {feature} is not supported; a tokenizer.json beside it would be used instead", path.display()
    )]
    SentencePieceFeature {
        /// The model.
        path: PathBuf,
        /// What the model has.
        feature: String,
    },
    /// The folder has no tokenizer at all.
    #[error("{}: neither tokenizer.json nor tokenizer.model in this folder", dir.display())]
    NoTokenizer {
        /// The folder that was opened.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there, or what the parser said.
        found: String,
    },
    /// A configured BOS or EOS token is not in the vocabulary.
    #[error("{}: {key} is {token:?}, which the vocabulary does not have", path.display())]
    UnknownSpecial {
        /// The file that names the token.
        path: PathBuf,
        /// `bos_token` or `eos_token`.
        key: &'static str,
        /// The token.
        token: String,
    },
    /// Ordinary text could turn into a control token.
    #[error(
        "{}: the special token {token:?} is what its plain text encodes to, so a document could forge it",
        path.display()
    )]
    ForgeableSpecial {
        /// The tokenizer file.
        path: PathBuf,
        /// The token.
        token: String,
    },
    /// The tokenizer refused a text.
    #[error("text of {bytes} bytes cannot be encoded: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// An id that no token has.
    #[error("id {id} at position {position} is not in the vocabulary (ids below {vocab_size})")]
    UnknownId {
        /// The id.
        id: u32,
        /// Where in the given ids.
        position: usize,
        /// Largest id + 1.
        vocab_size: usize,
    },
    /// The decoder refused ids.
    #[error("{ids} ids cannot be decoded: {reason}")]
    Decode {
        /// How many ids.
        ids: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// Fill-in-the-middle that cannot be done.
    #[error("fill-in-the-middle: {what}")]
    Fim {
        /// The option or what the tokenizer lacks.
        what: String,
    },
    /// A vocabulary that cannot hold every byte.
    #[error(
        "vocabulary of {found} tokens: a byte-level vocabulary needs at least {least}, and at most {most}"
    )]
    VocabularySize {
        /// The size that was asked for.
        found: usize,
        /// Special tokens and 256 bytes.
        least: usize,
        /// A bound that keeps ids in 32 bits with room to spare.
        most: usize,
    },
    /// The tokenizer that was made does not work. A defect of this crate, not of the input.
    #[error("the trained tokenizer is unusable: {reason}")]
    Training {
        /// What failed.
        reason: String,
    },
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
