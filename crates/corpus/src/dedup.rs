//! Which documents are the same: exactly, or nearly by MinHash and locality-sensitive hashing.
//!
//! Each document leaves a content hash and one hash per band while its part is read. Afterwards equal hashes are
//! found by sorting, band by band, within a memory budget; nothing depends on the number of threads, and of several
//! equal documents the first in the order of the recipe is kept.

mod groups;
pub(crate) mod lines;
mod minhash;
mod union;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub(crate) use groups::{EXACT, Groups, NEAR, Reading, find, is_kept as find_kept};
pub use lines::LineDedup;
pub use minhash::{MinHash, optimal_bands};

/// Deduplication over all sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Dedup {
    /// Drop documents whose normalised text came before; yes.
    pub exact: bool,
    /// Drop documents that are nearly one that came before. Off.
    pub near: Option<Near>,
    /// Bytes of memory for sorting hashes; more is sorted in several passes over the work files. 256 MiB.
    pub memory: u64,
}

impl Default for Dedup {
    fn default() -> Self {
        Self { exact: true, near: None, memory: 256 << 20 }
    }
}

/// MinHash-LSH in BigCode's parameters: words are runs of letters, digits and `_`, every other character ends one (so
/// two in a row enclose an empty word), shingles are `ngram` words. Letters are Unicode's, where BigCode has
/// `[A-Za-z_0-9]`, for which all texts in Chinese or Russian are the same; each letter of a script without spaces
/// (Han, kana, Thai) is a word of its own. Two documents are near when all rows of some band agree. A document of fewer words than `ngram` is one shingle of all its words: it is near only to its like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Near {
    /// The Jaccard similarity to aim at; bands and rows follow from it as in datasketch, unless they are given. 0.7.
    pub threshold: f64,
    /// Hash functions at most; 256.
    pub permutations: usize,
    /// Bands; from the threshold (25 at 0.7).
    pub bands: Option<usize>,
    /// Rows of a band; from the threshold (10 at 0.7).
    pub rows: Option<usize>,
    /// Words of a shingle; 5.
    pub ngram: usize,
    /// Another seed gives other hash functions; 1.
    pub seed: u64,
}

impl Default for Near {
    fn default() -> Self {
        Self { threshold: 0.7, permutations: 256, bands: None, rows: None, ngram: 5, seed: 1 }
    }
}

impl Near {
    /// Bands and rows.
    pub fn shape(&self) -> (usize, usize) {
        match (self.bands, self.rows) {
            (Some(bands), Some(rows)) => (bands, rows),
            (Some(bands), None) => (bands, (self.permutations / bands.max(1)).max(1)),
            (None, Some(rows)) => ((self.permutations / rows.max(1)).max(1), rows),
            (None, None) => optimal_bands(self.threshold, self.permutations),
        }
    }
}

impl Dedup {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |key, message| Err(Error::Setting { key, message });
        if self.memory < 1 << 20 {
            return refuse("dedup.memory", format!("expected at least 1 MiB, found {} bytes", self.memory));
        }
        let Some(near) = &self.near else { return Ok(()) };
        if !(near.threshold > 0.0 && near.threshold < 1.0) {
            let found = near.threshold;
            return refuse(
                "dedup.near.threshold",
                format!("expected a number between 0 and 1, found {found}"),
            );
        }
        if !(1..=64).contains(&near.ngram) {
            return refuse("dedup.near.ngram", format!("expected 1 to 64 words, found {}", near.ngram));
        }
        for (key, value) in [
            ("dedup.near.bands", near.bands),
            ("dedup.near.rows", near.rows),
            ("dedup.near.permutations", Some(near.permutations)),
        ] {
            if !value.is_none_or(|value| (1..=4096).contains(&value)) {
                return refuse(key, format!("expected 1 to 4096, found {}", value.unwrap_or(0)));
            }
        }
        let (bands, rows) = near.shape();
        if bands * rows > 4096 {
            let message =
                format!("{bands} bands of {rows} rows are {} hashes, expected at most 4096", bands * rows);
            return refuse("dedup.near.bands", message);
        }
        Ok(())
    }
}

/// Clusters of texts in memory: for each, the number of the first text that it is a duplicate of, or its own.
/// Signatures are computed by all threads of the pool; the result does not depend on how many there are.
pub fn clusters(texts: &[impl AsRef<str> + Sync], dedup: &Dedup) -> Result<Vec<u32>> {
    dedup.check()?;
    let minhash = dedup.near.as_ref().map(MinHash::new);
    let bands = minhash.as_ref().map_or(0, MinHash::bands);
    let hashes = texts.par_iter().map(|text| {
        let mut hashes = Vec::with_capacity(bands);
        minhash.iter().for_each(|minhash| minhash.push_bands(text.as_ref(), &mut hashes));
        (crate::document::content_key(text.as_ref()), hashes)
    });
    Ok(find(&InMemory { hashes: hashes.collect(), bands }, dedup)?.clusters)
}

struct InMemory {
    hashes: Vec<(u128, Vec<u64>)>,
    bands: usize,
}

impl Reading for InMemory {
    fn documents(&self) -> usize {
        self.hashes.len()
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn contents(&self, each: &mut dyn FnMut(u32, u128)) -> Result<()> {
        (0..).zip(&self.hashes).for_each(|(document, (content, _))| each(document, *content));
        Ok(())
    }

    fn band(&self, band: usize, each: &mut dyn FnMut(u32, u64)) -> Result<()> {
        (0..).zip(&self.hashes).for_each(|(document, (_, bands))| each(document, bands[band]));
        Ok(())
    }
}
