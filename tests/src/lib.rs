//! Tests that cross crates: see the folder `tests`. Here is what they share, the text files of the repository.

mod files;

pub use files::{TextFile, root, text_files};
