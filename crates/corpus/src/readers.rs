//! Readers of files: folders of sources, text files, JSON lines, parquet.

mod fields;
pub(crate) mod files;
pub(crate) mod jsonl;
pub(crate) mod listing;
pub(crate) mod parquet;
mod stream;
mod template;
pub(crate) mod text;

pub use fields::Fields;
pub(crate) use fields::lookup;
pub use files::FilesSource;
pub use jsonl::{JsonlSource, Paths};
pub(crate) use listing::{InputFile, Listing, Names};
pub use parquet::ParquetSource;
pub(crate) use stream::{Limits, LineReader};
pub use text::{Split, TextSource};
