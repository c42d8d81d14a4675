//! Equal hashes over all parts, by sorting within a memory budget.
//!
//! Where the hashes of one band exceed the budget, several passes over the files each take a range of hash values.
//! So the memory is the budget plus five bytes per document, and no temporary files are needed.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Dedup;
use super::union::Union;
use crate::error::Result;

/// What became of a document.
const KEPT: u8 = 0;
/// Its text came before.
pub(crate) const EXACT: u8 = 1;
/// Nearly its text came before.
pub(crate) const NEAR: u8 = 2;

/// Where the hashes of the parts lie. Documents are numbered over all parts, in order.
pub(crate) trait Reading: Sync {
    /// Documents.
    fn documents(&self) -> usize;
    /// Bands of those that have any.
    fn bands(&self) -> usize;
    /// Calls `each` with every document and the first half of its content hash, its second half.
    fn contents(&self, each: &mut dyn FnMut(u32, u128)) -> Result<()>;
    /// Calls `each` with every document that has bands and its hash in this one.
    fn band(&self, band: usize, each: &mut dyn FnMut(u32, u64)) -> Result<()>;
}

/// What was found.
#[derive(Default)]
pub(crate) struct Groups {
    /// Per document: kept, or why not.
    pub(crate) fates: Vec<u8>,
    /// For some of the documents that are not kept, which one is in their place: the first ones of each kind.
    pub(crate) examples: Vec<(u32, u32, u8)>,
    /// Clusters of near or exact duplicates by their number of documents.
    pub(crate) sizes: BTreeMap<u64, u64>,
    /// The smallest document of each one's cluster.
    pub(crate) clusters: Vec<u32>,
}

/// Decides over every document.
pub(crate) fn find(hashes: &impl Reading, dedup: &Dedup) -> Result<Groups> {
    let documents = hashes.documents();
    let mut fates = vec![KEPT; documents];
    let mut union = Union::new(documents);
    if dedup.exact {
        for range in ranges(documents as u64 * 32, dedup.memory) {
            let mut records: Vec<(u128, u32)> = Vec::new();
            hashes.contents(&mut |document, hash| {
                if range.takes((hash >> 64) as u64) {
                    records.push((hash, document));
                }
            })?;
            records.par_sort_unstable();
            for run in records.chunk_by(|a, b| a.0 == b.0) {
                for &(_, document) in &run[1..] {
                    fates[document as usize] = EXACT;
                    union.join(run[0].1, document);
                }
            }
        }
    }
    for band in 0..hashes.bands() {
        for range in ranges(documents as u64 * 16, dedup.memory) {
            let mut records: Vec<(u64, u32)> = Vec::new();
            hashes.band(band, &mut |document, hash| {
                if range.takes(hash) {
                    records.push((hash, document));
                }
            })?;
            records.par_sort_unstable();
            for run in records.chunk_by(|a, b| a.0 == b.0) {
                run[1..].iter().for_each(|&(_, document)| union.join(run[0].1, document));
            }
        }
    }
    let clusters: Vec<u32> = (0..documents as u32).map(|document| union.find(document)).collect();
    drop(union);
    let mut members = BTreeMap::<u32, u64>::new();
    for (document, &first) in clusters.iter().enumerate() {
        if first as usize != document {
            *members.entry(first).or_insert(1) += 1;
            if fates[document] == KEPT {
                fates[document] = NEAR;
            }
        }
    }
    let mut sizes = BTreeMap::new();
    members.values().for_each(|&size| *sizes.entry(size).or_default() += 1);
    let mut examples = Vec::new();
    for kind in [EXACT, NEAR] {
        let those = (0..documents).filter(|&document| fates[document] == kind);
        examples.extend(those.take(3).map(|document| (document as u32, clusters[document], kind)));
    }
    Ok(Groups { fates, examples, sizes, clusters })
}

/// Hash values of one pass.
struct Range {
    pass: u64,
    passes: u64,
}

impl Range {
    fn takes(&self, hash: u64) -> bool {
        ((u128::from(hash) * u128::from(self.passes)) >> 64) as u64 == self.pass
    }
}

fn ranges(bytes: u64, memory: u64) -> impl Iterator<Item = Range> {
    let passes = bytes.div_ceil(memory).max(1);
    (0..passes).map(move |pass| Range { pass, passes })
}

/// Whether a document goes on.
pub(crate) fn is_kept(fate: u8) -> bool {
    fate == KEPT
}
