//! What can be wrong with a conversation, a template or a file of them. A fault has a name, so that losses are counted.

use std::fmt;
use std::path::PathBuf;

/// `Result` with [`ChatError`].
pub type ChatResult<T> = std::result::Result<T, ChatError>;

/// An instruction set, a chat template or a conversation that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
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
        expected: String,
        /// What is there.
        found: String,
    },
    /// A template that does not parse or does not fit the tokenizer.
    #[error("chat template {template}: {reason}")]
    Template {
        /// File, or name of a built-in one.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// A conversation that cannot be learned from.
    #[error("{line}")]
    Conversation {
        /// Its kind.
        fault: Fault,
        /// What is wrong, in one line.
        line: String,
    },
    /// Where such a conversation stands.
    #[error("{}: record {record}: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Number of the record, from 1; in JSON lines, of the line.
        record: usize,
        /// What is wrong.
        reason: Box<Self>,
    },
}

/// Kinds of unusable conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The record is not of its format.
    Format,
    /// Roles in an order that no conversation has.
    Roles,
    /// No message, or an answer without text.
    Empty,
    /// A text holds the string of a control token, which would be read as that token.
    ControlToken,
    /// The template refused it or ran without end.
    Template,
    /// A message does not appear in the rendered text.
    Dropped,
    /// Nothing of the rendered text is to be learned from, or it cannot be told what.
    Mask,
    /// More tokens than a row holds.
    TooLong,
}

impl Fault {
    /// A word for tables and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Roles => "roles",
            Self::Empty => "empty",
            Self::ControlToken => "control-token",
            Self::Template => "template",
            Self::Dropped => "dropped-message",
            Self::Mask => "mask",
            Self::TooLong => "too-long",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ChatError {
    pub(super) fn conversation(fault: Fault, line: impl Into<String>) -> Self {
        Self::Conversation { fault, line: line.into() }
    }

    /// The same, with its place.
    pub fn at(self, path: &std::path::Path, record: usize) -> Self {
        Self::Record { path: path.to_owned(), record, reason: Box::new(self) }
    }

    /// The kind of fault, where one conversation is to blame and the others may be fine.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Conversation { fault, .. } => Some(*fault),
            Self::Record { reason, .. } => reason.fault(),
            _ => None,
        }
    }
}
