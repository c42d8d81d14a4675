//! Readers of files: folders of sources, text files, JSON lines.

pub(crate) mod files;
pub(crate) mod jsonl;
pub(crate) mod listing;
mod stream;
mod template;
pub(crate) mod text;

pub use files::FilesSource;
pub use jsonl::{JsonlSource, Paths};
pub(crate) use listing::{InputFile, Listing};
pub use text::{Split, TextSource};
