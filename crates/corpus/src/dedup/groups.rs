//! Equal hashes over all parts, by sorting within a memory budget.
//!
//! Where the hashes of one band exceed the budget, several passes over the files each take a range of hash values.
//! So the memory is the budget plus nine bytes per document (its fate, its set, its cluster), and no temporary files are needed.

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
pub(super) struct Range {
    pass: u64,
    passes: u64,
}

impl Range {
    pub(super) fn takes(&self, hash: u64) -> bool {
        ((u128::from(hash) * u128::from(self.passes)) >> 64) as u64 == self.pass
    }
}

/// The passes that sort so many bytes within a memory.
pub(super) fn ranges(bytes: u64, memory: u64) -> impl Iterator<Item = Range> {
    let passes = bytes.div_ceil(memory).max(1);
    (0..passes).map(move |pass| Range { pass, passes })
}

/// Whether a document goes on.
pub(crate) fn is_kept(fate: u8) -> bool {
    fate == KEPT
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// Hashes in memory, and how often they were read.
    struct Counted {
        contents: Vec<u128>,
        /// Per band and document.
        bands: Vec<Vec<u64>>,
        reads: AtomicUsize,
    }

    impl Counted {
        fn read(&self) {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Reading for Counted {
        fn documents(&self) -> usize {
            self.contents.len()
        }

        fn bands(&self) -> usize {
            self.bands.len()
        }

        fn contents(&self, each: &mut dyn FnMut(u32, u128)) -> Result<()> {
            self.read();
            (0..).zip(&self.contents).for_each(|(document, &hash)| each(document, hash));
            Ok(())
        }

        fn band(&self, band: usize, each: &mut dyn FnMut(u32, u64)) -> Result<()> {
            self.read();
            (0..).zip(&self.bands[band]).for_each(|(document, &hash)| each(document, hash));
            Ok(())
        }
    }

    /// Clusters by comparing every pair until nothing changes, and exact duplicates by comparing with all before.
    fn brute_force(hashes: &Counted) -> (Vec<u32>, Vec<u8>) {
        let n = hashes.contents.len();
        let alike = |i: usize, j: usize| {
            hashes.contents[i] == hashes.contents[j] || hashes.bands.iter().any(|band| band[i] == band[j])
        };
        let mut clusters: Vec<u32> = (0..n as u32).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|&(i, j)| alike(i, j)) {
                let least = clusters[i].min(clusters[j]);
                changed |= clusters[i] != least || clusters[j] != least;
                (clusters[i], clusters[j]) = (least, least);
            }
        }
        let fate = |i: usize| match () {
            () if hashes.contents[..i].contains(&hashes.contents[i]) => EXACT,
            () if clusters[i] as usize != i => NEAR,
            () => KEPT,
        };
        let fates = (0..n).map(fate).collect();
        (clusters, fates)
    }

    proptest! {
        #![proptest_config(crate::cases::cases(200))]

        #[test]
        fn several_passes_find_what_one_pass_finds(
            draws in prop::collection::vec((0u64..30, 0u64..60, 0u64..60), 0..40),
            memory in 1u64..2000,
        ) {
            // Values spread over all ranges, so that every pass has some; both ends of the range are among them.
            let spread = |value: u64| match value {
                0 => 0,
                1 => u64::MAX,
                value => value.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            let hashes = |reads| Counted {
                contents: draws.iter().map(|d| u128::from(spread(d.0)) << 64 | u128::from(d.0)).collect(),
                bands: vec![
                    draws.iter().map(|d| spread(d.1)).collect(),
                    draws.iter().map(|d| spread(d.2)).collect(),
                ],
                reads,
            };
            let (small, large) = (hashes(Default::default()), hashes(Default::default()));
            let several = find(&small, &Dedup { memory, ..Dedup::default() }).unwrap();
            let one = find(&large, &Dedup::default()).unwrap();
            prop_assert_eq!(large.reads.load(Ordering::Relaxed), 3);
            // The passes that the budget asks for were made: 32 bytes per document, and 16 for each band.
            let n = draws.len() as u64;
            let passes = (n * 32).div_ceil(memory).max(1) + 2 * (n * 16).div_ceil(memory).max(1);
            prop_assert_eq!(small.reads.load(Ordering::Relaxed) as u64, passes);
            prop_assert_eq!(&several.fates, &one.fates);
            prop_assert_eq!(&several.clusters, &one.clusters);
            prop_assert_eq!(&several.sizes, &one.sizes);
            prop_assert_eq!(&several.examples, &one.examples);
            prop_assert_eq!((one.clusters, one.fates), brute_force(&large));
        }
    }
}
