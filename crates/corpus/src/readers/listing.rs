//! Which files a source reads, in an order that does not depend on the file system.
//!
//! Listed by the `ignore` crate: hidden files are skipped, symbolic links are not followed (a loop cannot
//! happen, and no file comes twice), `.gitignore` files inside the folder hold. What lies outside the folder
//! (a parent's `.gitignore`, git's global settings) has no say: the same folder gives the same corpus anywhere.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::document::Loss;
use crate::error::{Error, Result};

/// A file that is going to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// Path relative to the source's folder with `/`, or as the source defines it.
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    /// Size in bytes when it was listed.
    pub(crate) len: u64,
    /// Set when the file is left out before it is opened.
    pub(crate) loss: Option<Loss>,
}

/// Everything a source reads, and what to call it in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) place: String,
    pub(crate) files: Vec<InputFile>,
}

impl Listing {
    pub(crate) fn none(place: String) -> Self {
        Self { place, files: Vec::new() }
    }

    /// Marks files above the limit; they are counted, never opened.
    pub(crate) fn drop_larger_than(&mut self, max_file_bytes: u64) {
        for file in self.files.iter_mut().filter(|file| file.len > max_file_bytes) {
            file.loss = Some(Loss::TooLarge);
        }
    }

    /// Keeps files until their sizes reach `max_bytes`, taken in the order of the hash of their path: a fair
    /// sample that stays nearly the same when files come and go. A file that no longer fits is passed over.
    pub(crate) fn keep_at_most(&mut self, max_bytes: u64) {
        let mut order: Vec<_> = (0..self.files.len()).filter(|&i| self.files[i].loss.is_none()).collect();
        order.sort_by_key(|&i| *blake3::hash(self.files[i].id.as_bytes()).as_bytes());
        let mut total = 0u64;
        for i in order {
            let file = &mut self.files[i];
            match total.checked_add(file.len).filter(|&sum| sum <= max_bytes) {
                Some(sum) => total = sum,
                None => file.loss = Some(Loss::OverMaxBytes),
            }
        }
    }
}

/// All plain files under `root` that `.gitignore` leaves (when `gitignore`) and `wanted` takes, sorted by path.
pub(crate) fn walk(
    root: &Path,
    gitignore: bool,
    wanted: impl Fn(&Path, &str) -> bool,
) -> Result<Vec<InputFile>> {
    let metadata = std::fs::metadata(root).map_err(Error::io("list", root))?;
    if !metadata.is_dir() {
        return Err(Error::WrongKind { path: root.to_owned(), expected: "a folder" });
    }
    let walker = WalkBuilder::new(root)
        .hidden(true)
        .follow_links(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .git_ignore(gitignore)
        .require_git(false)
        .build();
    let mut files = Vec::new();
    for entry in walker {
        let entry = entry.map_err(|source| Error::Walk { path: root.to_owned(), source })?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let id = slashed(relative);
        if wanted(relative, &id) {
            let len = entry.metadata().map_err(|source| Error::Walk { path: root.to_owned(), source })?.len();
            files.push(InputFile { id, path: entry.into_path(), len, loss: None });
        }
    }
    files.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.path.cmp(&b.path)));
    Ok(files)
}

/// A single file named by the source: its id is its file name.
pub(crate) fn single(path: &Path) -> Result<InputFile> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::WrongKind { path: path.to_owned(), expected: "a file or a folder" });
    }
    let id =
        path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into_owned();
    Ok(InputFile { id, path: path.to_owned(), len: metadata.len(), loss: None })
}

/// The extension in lower case, without the dot.
pub(crate) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn slashed(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}
