//! Sources cut into parts, and the key that says whether a part has been read already.

use std::path::Path;

use rayon::prelude::*;

use super::recipe::{CorpusRecipe, CorpusSource};
use crate::document::{Loss, OnError};
use crate::error::{Error, Result};
use crate::prepare::file_digest;
use crate::readers::{InputFile, Listing};
use crate::source::{Environment, SourceKind};

/// Changes whenever the same input gives other parts.
const FORMAT: &str = "llama-pro corpus part 2";

/// Some consecutive files of one source.
pub(super) struct Part {
    /// Index of the source in the recipe.
    pub(super) source: usize,
    pub(super) listing: Listing,
}

impl Part {
    /// Bytes that are going to be read.
    pub(super) fn bytes(&self) -> u64 {
        self.listing.files.iter().filter(|file| file.loss.is_none()).map(|file| file.len).sum()
    }
}

/// All parts in the order of the recipe. Where one ends is decided by the names and sizes of the files around it,
/// not by their number from the start: a file that comes or goes changes the part it is in and at most a few after.
pub(super) fn list(recipe: &CorpusRecipe, environment: &Environment) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (index, source) in recipe.sources.iter().enumerate() {
        let listing = source.source.inputs(environment, recipe.on_error)?;
        if !source.source.is_divisible() {
            parts.push(Part { source: index, listing });
            continue;
        }
        let mut files = Vec::new();
        let mut bytes = 0;
        let place = listing.place;
        let mut end = |files: &mut Vec<InputFile>| {
            let listing = Listing { place: place.clone(), files: std::mem::take(files) };
            parts.push(Part { source: index, listing });
        };
        for file in listing.files {
            let len = if file.loss.is_some() { 0 } else { file.len };
            if bytes > 0 && bytes + len > recipe.part_bytes.saturating_mul(4) {
                end(&mut files);
                bytes = 0;
            }
            bytes += len;
            let last = is_last(&file.id, len, recipe.part_bytes);
            files.push(file);
            // Files may be many and empty.
            if last || files.len() >= 1 << 16 {
                end(&mut files);
                bytes = 0;
            }
        }
        if !files.is_empty() {
            end(&mut files);
        }
    }
    Ok(parts)
}

/// Ends a part with the probability of the file's share of a part.
fn is_last(id: &str, len: u64, part_bytes: u64) -> bool {
    let hash = blake3::hash(id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u128::from(u64::from_le_bytes(first)) * u128::from(part_bytes) < u128::from(len) << 64
}

/// What was read when a part was keyed.
pub(super) struct Keyed {
    pub(super) key: String,
    /// Content digest of each file, in the order of the listing.
    pub(super) digests: Vec<[u8; 32]>,
}

/// Digests of what decides over documents besides themselves and the recipe; empty where nothing does.
pub(super) struct Outside<'a> {
    pub(super) benchmarks: &'a str,
    /// Files that rules read.
    pub(super) aids: &'a str,
    pub(super) tokenizer: &'a str,
}

/// The key of a part: content of its files, names, and whatever decides what becomes of them. Where files lie, and
/// which other files there are, has no part in it. A file that cannot be read is marked so.
pub(super) fn key(
    recipe: &CorpusRecipe,
    source: &CorpusSource,
    outside: &Outside<'_>,
    part: &mut Part,
) -> Result<Keyed> {
    let results: Vec<Result<[u8; 32]>> = part.listing.files.par_iter().map(digest).collect();
    let mut digests = Vec::new();
    for (file, result) in part.listing.files.iter_mut().zip(results) {
        digests.push(match result {
            Ok(digest) => digest,
            Err(error) if recipe.on_error == OnError::Skip && error.loss().is_some() => {
                tracing::warn!("skipped: {error}");
                file.loss = Some(Loss::Unreadable);
                digest(file)?
            }
            Err(error) => return Err(error),
        });
    }
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    let json = |what| move |source| Error::Json { what, source };
    add(FORMAT.as_bytes());
    add(&serde_json::to_vec(&reading(&source.source)?).map_err(json("the source"))?);
    add(&serde_json::to_vec(&without_places(source)?["filters"]).map_err(json("the filters"))?);
    let near = recipe.dedup.near.as_ref().filter(|_| source.near_dedup);
    let rest = (&recipe.on_error, recipe.max_document_bytes, near, outside.benchmarks);
    add(&serde_json::to_vec(&rest).map_err(json("the recipe"))?);
    if !(outside.aids.is_empty() && outside.tokenizer.is_empty()) {
        add(b"outside");
        add(outside.aids.as_bytes());
        add(outside.tokenizer.as_bytes());
    }
    if let Some(rule) = source.line_dedup.get() {
        add(b"lines");
        add(&(rule.min_chars as u64).to_le_bytes());
    }
    for (file, digest) in part.listing.files.iter().zip(&digests) {
        add(file.id.as_bytes());
        add(file.loss.map_or("", Loss::name).as_bytes());
        add(digest);
    }
    Ok(Keyed { key: hasher.finalize().to_hex()[..32].to_owned(), digests })
}

/// A source as it is written to outputs and enters keys: without the paths of its files, which decide nothing.
pub(super) fn without_places(source: &CorpusSource) -> Result<serde_json::Value> {
    let mut value =
        serde_json::to_value(source).map_err(|source| Error::Json { what: "the source", source })?;
    for (pointer, key) in [("/source", "path"), ("/filters/starcoder", "per-extension")] {
        if let Some(object) = value.pointer_mut(pointer).and_then(serde_json::Value::as_object_mut)
            && object.remove(key).is_some()
            && key == "per-extension"
        {
            // That there is a table says which rules hold; its content is in the digest of the aids.
            object.insert(key.to_owned(), true.into());
        }
    }
    Ok(value)
}

/// The keys of a source that decide how a file is read, without those that decide which files are.
fn reading(source: &SourceKind) -> Result<serde_json::Value> {
    let json = |source| Error::Json { what: "the source", source };
    let mut value = serde_json::to_value(source).map_err(json)?;
    if let Some(object) = value.as_object_mut() {
        for key in ["path", "extensions", "include", "exclude", "max-bytes", "crates"] {
            object.remove(key);
        }
    }
    Ok(value)
}

/// The content of a file, or its size where it is left out unopened.
fn digest(file: &InputFile) -> Result<[u8; 32]> {
    if file.loss.is_some() {
        return Ok(*blake3::hash(&file.len.to_le_bytes()).as_bytes());
    }
    file_digest(&file.path())
}

/// Files whose content is no longer what was keyed.
pub(super) fn changed(part: &Part, keyed: &Keyed) -> Vec<usize> {
    let files = part.listing.files.par_iter().zip(&keyed.digests).enumerate();
    files
        .filter(|(_, (file, before))| !digest(file).is_ok_and(|now| now == **before))
        .map(|(i, _)| i)
        .collect()
}

/// Whether a folder of the work folder is whole: its record is written last.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(super::PART_RECORD).is_file()
}
