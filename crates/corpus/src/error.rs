//! What can go wrong with a corpus. Each message is one line that names the path, the key or the crate.

use std::path::{Path, PathBuf};

use crate::document::Loss;
use crate::readers::Names;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why documents could not be read or shards could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "list", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path is there, but it is not of the kind that the source needs.
    #[error("{}: expected {expected}", path.display())]
    WrongKind {
        /// The path as it was resolved.
        path: PathBuf,
        /// "a folder", "a file or a folder".
        expected: &'static str,
    },
    /// A folder could not be listed to the end.
    #[error("cannot list {}: {source}", path.display())]
    Walk {
        /// The folder that was being listed.
        path: PathBuf,
        /// What went wrong, with the path inside the folder.
        source: ignore::Error,
    },
    /// A compressed file ends early or is damaged.
    #[error("{}: cannot decompress after {read} bytes of text: {source}", path.display())]
    Decompress {
        /// The compressed file.
        path: PathBuf,
        /// Bytes that came out before the damage.
        read: u64,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// A small compressed file grows beyond all reason.
    #[error(
        "{}: {compressed} compressed bytes grow to more than {limit} bytes; if that is right, raise max-ratio",
        path.display()
    )]
    Bomb {
        /// The compressed file.
        path: PathBuf,
        /// Its size on disk.
        compressed: u64,
        /// The number of decompressed bytes at which reading stopped.
        limit: u64,
    },
    /// A line of a .jsonl file is not what was promised.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What kind of fault it is.
        loss: Loss,
        /// What was expected and what was found.
        message: String,
    },
    /// A parquet file that cannot be read as one.
    #[error("{}: not a readable parquet file: {message}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// A row of a parquet file is not what was promised.
    #[error("{}: row {row}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// A key of the source has a value that cannot be used.
    #[error("{key}: {message}")]
    Setting {
        /// The key as it is written in a recipe.
        key: &'static str,
        /// What is wrong with its value, and what would be right.
        message: String,
    },
    /// Cargo.lock is not readable as such.
    #[error("{}: not a Cargo.lock: {message}", path.display())]
    Lockfile {
        /// The lock file.
        path: PathBuf,
        /// What the TOML reader said.
        message: String,
    },
    /// A crate of the list is not pinned by the lock file.
    #[error("{}: no package `{name}`; `crates` must name packages of this lock file", path.display())]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// The crate as the recipe spells it.
        name: String,
    },
    /// A pinned crate's source is not on this machine.
    #[error("the source of crate `{name}` {version} is not in {looked_in}; `cargo fetch` downloads it")]
    MissingCrate {
        /// The crate.
        name: String,
        /// The exact version of the lock file.
        version: String,
        /// The folders that were looked in.
        looked_in: String,
    },
    /// The source of documents gave none.
    #[error("source `{name}`: no documents in {place} ({counts})")]
    Empty {
        /// The source's name in the recipe.
        name: String,
        /// Folder, file or list of crates.
        place: String,
        /// What was seen and why it was dropped.
        counts: String,
    },
    /// One side of the split has no document.
    #[error(
        "source `{name}`: none of the {documents} documents of {place} falls into {side} at validation = {fraction}; \
         change the fraction or the split seed, or bring more documents"
    )]
    EmptySide {
        /// The source's name in the recipe.
        name: String,
        /// Folder, file or list of crates.
        place: String,
        /// "training" or "validation".
        side: &'static str,
        /// How many documents there are in all.
        documents: u64,
        /// The fraction asked for.
        fraction: f64,
    },
    /// The tokenizer has no token that the options ask for.
    #[error("option `{key}` asks for a {key} token at each document, and the tokenizer has none")]
    NoSpecialToken {
        /// "bos" or "eos".
        key: &'static str,
    },
    /// `[fim]` cannot be had with this tokenizer, or has a rate that is none.
    #[error("{0}")]
    Fim(llama_pro_text::Error),
    /// Documents went missing between reading and counting: a fault of this program.
    #[error("{place}: {seen} came in, but {accounted} are accounted for; this is a bug")]
    Tally {
        /// Folder, file or list of crates.
        place: String,
        /// Units read.
        seen: u64,
        /// Kept, dropped and failed together.
        accounted: u64,
    },
    /// Inputs were not the same before and after they were read.
    #[error("source `{name}`: {place} changed while it was read; nothing was written, run it again")]
    Changed {
        /// The source's name in the recipe.
        name: String,
        /// Folder, file or list of crates.
        place: String,
    },
    /// A document could not be tokenised.
    #[error("document {id}: {source}")]
    Tokenize {
        /// The document.
        id: String,
        /// What the tokenizer said.
        source: llama_pro_text::Error,
    },
    /// A run that was asked to stop.
    #[error("stopped; the next run goes on where this one was")]
    Stopped,
    /// Another process writes to the same folder.
    #[error("{}: another process is preparing here", path.display())]
    Busy {
        /// The output folder.
        path: PathBuf,
    },
    /// A file of the work folder is not what was written there.
    #[error("{}: damaged; remove it, or run again with --force", path.display())]
    Work {
        /// The file.
        path: PathBuf,
    },
    /// A shard could not be written or read back.
    #[error(transparent)]
    Shard(#[from] llama_pro_shards::Error),
    /// A report could not be written.
    #[error(transparent)]
    Report(#[from] llama_pro_run::Error),
    /// A value could not be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// What was being written.
        what: &'static str,
        /// What the writer said.
        source: serde_json::Error,
    },
}

impl Error {
    /// What this error counts as, where the rest of the corpus can go on without the input that it is about.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.about().map(|(_, _, loss)| loss)
    }

    /// The same with the id of the input and the message, both without the place where the file lies.
    pub(crate) fn lost(&self, names: &Names) -> Option<(String, Loss, String)> {
        let (path, unit, loss) = self.about()?;
        let name = names.of(path);
        let message = self.to_string().replace(&path.display().to_string(), &name);
        let unit = unit.map_or_else(String::new, |unit| format!(":{unit}"));
        Some((format!("{name}{unit}"), loss, message))
    }

    /// File, line or row, and kind of loss.
    fn about(&self) -> Option<(&Path, Option<u64>, Loss)> {
        Some(match self {
            Self::Io { action: "read" | "list", path, .. } | Self::Walk { path, .. } => {
                (path, None, Loss::Unreadable)
            }
            Self::Decompress { path, .. } | Self::Parquet { path, .. } => (path, None, Loss::Damaged),
            Self::Bomb { path, .. } => (path, None, Loss::Bomb),
            Self::Line { path, line, loss, .. } => (path, Some(*line), *loss),
            Self::Row { path, row, .. } => (path, Some(*row), Loss::NoField),
            _ => return None,
        })
    }

    /// For `map_err`: an I/O error with the path and what was tried.
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
