//! What can go wrong with a checkpoint folder: one line each, naming the path, the tensor or the key.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file or folder is not there.
    #[error("{} is not there{}", path.display(), note.as_ref().map(|n| format!(" ({n})")).unwrap_or_default())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// Who asked for it.
        note: Option<String>,
    },
    /// A path names something of another kind: a folder where a file is expected, a pipe, ...
    #[error("{} is not a {expected}", path.display())]
    WrongKind {
        /// The path.
        path: PathBuf,
        /// `folder` or `regular file`.
        expected: &'static str,
    },
    /// A file is not the JSON it should be.
    #[error("{}: line {line}, column {column}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser expected and found.
        problem: String,
    },
    /// A key of `config.json` is missing, impossible or not supported.
    #[error("{}: {key}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key, dotted where it is nested.
        key: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A folder holds no safetensors weights.
    #[error("{}: no {missing} and no {missing}.index.json{hint}", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// The file that was looked for.
        missing: String,
        /// What lies there instead, or empty.
        hint: String,
    },
    /// A folder holds its weights as pickle files only.
    #[error(
        "{} is a pickle file: loading one can run any code that its author put in, so it is not read; convert it \
         with: python -c \"from transformers import AutoModelForCausalLM as M; \
         M.from_pretrained('{}').save_pretrained('NEW_FOLDER')\"",
        path.display(),
        path.parent().unwrap_or(Path::new(".")).display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A safetensors file is damaged as a whole.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// One tensor of a file or of a write plan is wrong.
    #[error("{}: tensor {tensor:?}: {problem}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The output folder is there already.
    #[error("{} exists already (force replaces a model folder)", path.display())]
    Exists {
        /// The output folder.
        path: PathBuf,
    },
    /// The output folder is there and is not replaced, not even when forced.
    #[error("{} is not replaced: {reason}", path.display())]
    NotReplaced {
        /// The output folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process writes the same output.
    #[error("another process is writing {} now", path.display())]
    Locked {
        /// The output folder or file.
        path: PathBuf,
    },
    /// The output does not fit on its file system.
    #[error("no space for {}: {}", path.display(), space(*needed, *available))]
    NoSpace {
        /// The output.
        path: PathBuf,
        /// Bytes that the output takes.
        needed: u64,
        /// Bytes that were free when it was checked, where it was.
        available: Option<u64>,
    },
    /// The caller of the writer asked for the wrong thing.
    #[error("{}: {problem}", path.display())]
    Usage {
        /// The output.
        path: PathBuf,
        /// What was wrong.
        problem: String,
    },
    /// The caller's stop flag was raised.
    #[error("writing {} was stopped", path.display())]
    Cancelled {
        /// The output.
        path: PathBuf,
    },
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An operating system's answer, with disk-full told apart.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound if action != "create" => Self::Missing { path: path.into(), note: None },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path: path.into(), needed: 0, available: None }
            }
            _ => Self::Io { action, path: path.into(), source },
        }
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: one_line(problem.into()) }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.into(), tensor: tensor.into(), problem: one_line(problem.into()) }
    }

    pub(crate) fn config(path: &Path, key: &str, problem: impl Into<String>) -> Self {
        Self::Config { path: path.into(), key: one_line(key.into()), problem: one_line(problem.into()) }
    }

    pub(crate) fn usage(path: &Path, problem: impl Into<String>) -> Self {
        Self::Usage { path: path.into(), problem: one_line(problem.into()) }
    }
}

/// Names come from files and may hold anything; a message stays one line and sends nothing to a terminal.
pub(crate) fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

/// Human sizes for a full disk.
fn space(needed: u64, available: Option<u64>) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0));
    match (needed, available) {
        (0, _) => "the disk is full".to_owned(),
        (needed, None) => format!("the disk became full; {} are needed", mib(needed)),
        (needed, Some(free)) => format!("{} needed, {} free", mib(needed), mib(free)),
    }
}
