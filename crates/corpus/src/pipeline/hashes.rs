//! Documents numbered over all parts: their hashes in that order, and a few of them by number.

use std::collections::BTreeMap;

use super::read::PartRecord;
use super::store;
use crate::dedup::{Groups, Reading};
use crate::error::{Error, Result};

/// The hashes of all parts, as deduplication reads them.
pub(super) struct PartHashes<'a> {
    parts: &'a [PartRecord],
    /// Number of the first document of each part, and of all documents.
    pub(super) firsts: Vec<u32>,
}

impl<'a> PartHashes<'a> {
    pub(super) fn new(parts: &'a [PartRecord]) -> Result<Self> {
        let mut firsts = vec![0u32];
        for part in parts {
            let last = firsts.last().copied().unwrap_or(0);
            let next = u32::try_from(part.counts.kept).ok().and_then(|kept| last.checked_add(kept));
            let message = || "expected at most 4,294,967,295 documents in one corpus".to_owned();
            firsts.push(next.ok_or_else(|| Error::Setting { key: "sources", message: message() })?);
        }
        Ok(Self { parts, firsts })
    }
}

impl Reading for PartHashes<'_> {
    fn documents(&self) -> usize {
        self.firsts.last().map_or(0, |&n| n as usize)
    }

    fn bands(&self) -> usize {
        self.parts.iter().map(|part| part.bands).max().unwrap_or(0)
    }

    fn contents(&self, each: &mut dyn FnMut(u32, u128)) -> Result<()> {
        for (part, &first) in self.parts.iter().zip(&self.firsts) {
            let mut document = first;
            store::contents(&part.dir, &mut |hash| {
                each(document, hash);
                document += 1;
            })?;
        }
        Ok(())
    }

    fn band(&self, band: usize, each: &mut dyn FnMut(u32, u64)) -> Result<()> {
        for (part, &first) in self.parts.iter().zip(&self.firsts).filter(|(part, _)| part.bands > 0) {
            let mut document = first;
            store::band(&part.dir, part.counts.kept as usize, band, part.bands, &mut |hash| {
                each(document, hash);
                document += 1;
            })?;
        }
        Ok(())
    }
}

/// For the account: the documents with these numbers, by reading no more parts than hold one of them.
pub(super) fn look_up(parts: &[PartRecord], groups: &Groups) -> Result<BTreeMap<u32, (String, String)>> {
    let hashes = PartHashes::new(parts)?;
    let wanted = groups.examples.iter().flat_map(|&(dropped, kept, _)| [dropped, kept]);
    let mut found: BTreeMap<u32, (String, String)> =
        wanted.map(|number| (number, Default::default())).collect();
    for (part, &first) in parts.iter().zip(&hashes.firsts) {
        let end = first + part.counts.kept as u32;
        let Some((&last, _)) = found.range(first..end).next_back() else { continue };
        let mut reader = store::PartReader::open(&part.dir)?;
        for number in first..=last {
            let (head, text) = reader.next()?.ok_or_else(|| Error::Work { path: part.dir.clone() })?;
            if let Some(entry) = found.get_mut(&number) {
                *entry = (head.id, text.chars().take(200).collect());
            }
        }
    }
    Ok(found)
}
