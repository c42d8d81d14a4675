//! The repeated lines of one source, from the hashes that its parts have on disk.

use super::parts::Part;
use super::read::PartRecord;
use super::store;
use crate::dedup::lines::{LineDedup, LineReading, repeated};
use crate::dedup::{Groups, find_kept};
use crate::error::Result;

/// What is to be taken out of the documents of a source.
pub(super) struct RepeatedLines<'a> {
    rule: &'a LineDedup,
    bits: Vec<u64>,
    /// For each part of the corpus, the first of its words in `bits`; those of other sources have none.
    firsts: Vec<usize>,
}

/// The same for one part: the places of its lines begin at 0.
#[derive(Clone, Copy)]
pub(super) struct PartLines<'a> {
    pub(super) rule: &'a LineDedup,
    pub(super) bits: &'a [u64],
}

impl<'a> RepeatedLines<'a> {
    /// Looks for the repeated lines among the documents of a source that are no duplicates.
    pub(super) fn find(
        rule: &'a LineDedup,
        source: usize,
        parts: &[Part],
        records: &[PartRecord],
        groups: &Groups,
        memory: u64,
    ) -> Result<Self> {
        let mut firsts = vec![0];
        let (mut document, mut words) = (0, 0);
        let mut these = Vec::new();
        for (part, record) in parts.iter().zip(records) {
            let documents = record.counts.kept as usize;
            if part.source == source {
                these.push((record, &groups.fates[document..document + documents], words as u64 * 64));
                // Parts begin at a word, so that each has words of its own.
                words += record.lines.div_ceil(64) as usize;
            }
            firsts.push(words);
            document += documents;
        }
        let bits = repeated(&Lines { these, words }, rule.max_documents, memory)?;
        Ok(Self { rule, bits, firsts })
    }

    pub(super) fn part(&self, part: usize) -> PartLines<'_> {
        PartLines { rule: self.rule, bits: &self.bits[self.firsts[part]..self.firsts[part + 1]] }
    }
}

struct Lines<'a> {
    /// Record, fates of its documents, and the place of its first line.
    these: Vec<(&'a PartRecord, &'a [u8], u64)>,
    words: usize,
}

impl LineReading for Lines<'_> {
    fn places(&self) -> u64 {
        self.words as u64 * 64
    }

    fn lines(&self, each: &mut dyn FnMut(u64, u64)) -> Result<()> {
        for (record, fates, first) in &self.these {
            let mut reader = store::LineReader::open(&record.dir)?;
            let mut place = *first;
            let mut hashes = Vec::new();
            for &fate in *fates {
                reader.next(&mut hashes)?;
                if find_kept(fate) {
                    (place..).zip(&hashes).for_each(|(place, &hash)| each(place, hash));
                }
                place += hashes.len() as u64;
            }
        }
        Ok(())
    }
}
