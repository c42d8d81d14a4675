//! `kind = "files"`: a folder of source files, one document per file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

use super::listing::{self, InputFile, Listing};
use crate::document::{Document, Intake, Item, Items, Loss, Meta, OnError, Raw};
use crate::error::{Error, Result};
use crate::source::Environment;

/// A folder of source files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FilesSource {
    /// The folder; relative paths start at the environment's base folder.
    pub path: PathBuf,
    /// File name extensions to take, without the dot, in any case: `["py"]`.
    pub extensions: Vec<String>,
    /// Patterns in .gitignore syntax, relative to the folder; with any, only matching files are taken.
    #[serde(default)]
    pub include: Vec<String>,
    /// Patterns in .gitignore syntax, relative to the folder; matching files are not taken: `["tests/"]`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Larger files are dropped and counted. Bytes; 1 MiB.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
    /// At most so many bytes of files in all, chosen by the hash of their path. Bytes; no limit.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

pub(crate) const fn default_max_file_bytes() -> u64 {
    1 << 20
}

impl FilesSource {
    pub(crate) fn check(&self) -> Result<()> {
        if self.extensions.is_empty() {
            return Err(Error::Setting {
                key: "extensions",
                message: "expected at least one file name extension, found none".to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn list(&self, environment: &Environment, on_error: OnError) -> Result<Listing> {
        let root = environment.resolve(&self.path);
        let include = patterns("include", &root, &self.include)?;
        let exclude = patterns("exclude", &root, &self.exclude)?;
        let extensions: Vec<_> =
            self.extensions.iter().map(|e| e.trim_start_matches('.').to_ascii_lowercase()).collect();
        let files = listing::walk(&root, "", true, on_error, |relative, _| {
            listing::extension(relative).is_some_and(|extension| extensions.contains(&extension))
                && (self.include.is_empty() || matches(&include, relative))
                && !matches(&exclude, relative)
        })?;
        let mut listing = Listing { place: root.display().to_string(), files };
        listing.drop_larger_than(self.max_file_bytes);
        if let Some(max_bytes) = self.max_bytes {
            listing.keep_at_most(max_bytes);
        }
        Ok(listing)
    }
}

fn patterns(key: &'static str, root: &Path, lines: &[String]) -> Result<Gitignore> {
    let refuse = |error: ignore::Error| Error::Setting { key, message: error.to_string() };
    let mut builder = GitignoreBuilder::new(root);
    for line in lines {
        builder.add_line(None, line).map_err(refuse)?;
    }
    builder.build().map_err(refuse)
}

fn matches(patterns: &Gitignore, relative: &Path) -> bool {
    patterns.matched_path_or_any_parents(relative, false).is_ignore()
}

/// The whole file is the document.
pub(crate) fn whole(_: &str, text: &str) -> Result<String, Loss> {
    Ok(text.to_owned())
}

/// One document per file; `convert` (of id and text) cleans the text or says why the file is left out.
pub(crate) fn read<F>(listing: &Listing, max_file_bytes: u64, convert: F) -> Raw
where
    F: FnMut(&str, &str) -> Result<String, Loss> + 'static,
{
    let intake = Intake::default();
    let files = listing.files.clone().into();
    let items: Items = Box::new(FileItems { files, max_file_bytes, convert, intake: intake.clone() });
    Raw { items, intake, place: listing.place.clone() }
}

struct FileItems<F> {
    files: VecDeque<InputFile>,
    max_file_bytes: u64,
    convert: F,
    intake: Intake,
}

impl<F: FnMut(&str, &str) -> Result<String, Loss>> Iterator for FileItems<F> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.files.pop_front()?;
        self.intake.one();
        let bytes = match file.loss {
            Some(loss) => Err(loss),
            None => match read_capped(&file.path(), self.max_file_bytes) {
                Ok(bytes) => bytes.ok_or(Loss::TooLarge),
                Err(error) => return Some(Err(error)),
            },
        };
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| Loss::NotUtf8));
        Some(Ok(match text.and_then(|text| (self.convert)(&file.id, &text)) {
            Ok(text) => {
                let language = listing::language(Path::new(&*file.id));
                let id = String::from(file.id);
                let meta = Meta { path: Some(id.clone()), language, ..Meta::default() };
                Item::Document(Document { id, text, meta })
            }
            Err(Loss::TooLarge) => {
                // It has grown since it was listed, where that was less.
                let bytes = file.len.max(self.max_file_bytes.saturating_add(1));
                Item::too_large(file.id.into(), bytes, self.max_file_bytes, "max-file-bytes")
            }
            Err(loss) => Item::lost(file.id.into(), loss),
        }))
    }
}

/// The bytes of a file, or `None` when it has grown beyond the limit since it was listed.
pub(crate) fn read_capped(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok((bytes.len() as u64 <= max_bytes).then_some(bytes))
}
