//! A cache from short pieces of text to their ids, of fixed size.
//!
//! Two tables without pointers. A bucket of the first is one cache line with two pieces of at most 15 bytes and 4 ids;
//! the more recent stands first and a new one drives out the second. The other table has one longer piece in each
//! place. What is longer still is not kept. A key is the whole piece, so a hit is never wrong.

/// Longest piece and most ids of the first table.
const SHORT_BYTES: usize = 15;
const SHORT_IDS: usize = 4;

/// Longest piece and most ids of the second table.
const LONG_BYTES: usize = 63;
const LONG_IDS: usize = 16;

/// 2^15 lines of 64 bytes: 2 MiB, most of which is used while English and code are read.
const SHORT_BITS: u32 = 15;

/// 2^12 places of 132 bytes: half a MiB.
const LONG_BITS: u32 = 12;

/// No token has this id: ids are below 2^24.
const NONE: u32 = u32::MAX;

pub(super) struct Cache {
    short: Box<[Bucket]>,
    long: Box<[Long]>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([Short; 2]);

#[derive(Clone, Copy)]
struct Short {
    /// The bytes, then zeros, and the length in the last place; 0 where there is nothing.
    key: u128,
    ids: [u32; SHORT_IDS],
}

#[derive(Clone, Copy)]
struct Long {
    bytes: [u8; LONG_BYTES],
    /// Length of the piece; 0 where there is nothing.
    length: u8,
    n_ids: u32,
    ids: [u32; LONG_IDS],
}

/// Where a piece is, or would be put.
pub(super) enum Place {
    Short {
        key: u128,
        bucket: usize,
    },
    Long {
        index: usize,
    },
    /// Too long to be kept.
    Nowhere,
}

impl Cache {
    pub(super) fn new() -> Self {
        let short = Short { key: 0, ids: [NONE; SHORT_IDS] };
        let long = Long { bytes: [0; LONG_BYTES], length: 0, n_ids: 0, ids: [0; LONG_IDS] };
        Self {
            short: vec![Bucket([short; 2]); 1 << SHORT_BITS].into(),
            long: vec![long; 1 << LONG_BITS].into(),
        }
    }

    /// The place of `text[start..end]`, which is not empty.
    #[inline]
    pub(super) fn place(text: &[u8], start: usize, end: usize) -> Place {
        let length = end - start;
        if length > SHORT_BYTES {
            return Self::long_place(&text[start..end]);
        }
        let bytes = match text[start..].first_chunk::<16>() {
            Some(chunk) => u128::from_le_bytes(*chunk),
            None => {
                let mut padded = [0; 16];
                padded[..length].copy_from_slice(&text[start..end]);
                u128::from_le_bytes(padded)
            }
        };
        let key = bytes & ((1 << (8 * length)) - 1) | (length as u128) << 120;
        Place::Short { key, bucket: (mix(key as u64, (key >> 64) as u64) >> (64 - SHORT_BITS)) as usize }
    }

    fn long_place(piece: &[u8]) -> Place {
        if piece.len() > LONG_BYTES {
            return Place::Nowhere;
        }
        let mut hash = piece.len() as u64;
        for chunk in piece.chunks(8) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash, u64::from_le_bytes(padded));
        }
        Place::Long { index: (hash >> (64 - LONG_BITS)) as usize }
    }

    /// Ids of a short piece, padded, and how many there are.
    #[inline]
    pub(super) fn short(&mut self, key: u128, bucket: usize) -> Option<(&[u32; SHORT_IDS], usize)> {
        let Bucket(bucket) = &mut self.short[bucket];
        if bucket[0].key != key {
            if bucket[1].key != key {
                return None;
            }
            bucket.swap(0, 1);
        }
        let ids = &bucket[0].ids;
        Some((ids, 1 + ids[1..].iter().map(|&id| usize::from(id != NONE)).sum::<usize>()))
    }

    pub(super) fn long(&self, index: usize, piece: &[u8]) -> Option<&[u32]> {
        let entry = &self.long[index];
        (usize::from(entry.length) == piece.len() && &entry.bytes[..piece.len()] == piece)
            .then(|| &entry.ids[..entry.n_ids as usize])
    }

    /// Keeps the ids of a piece, unless there are too many or none.
    pub(super) fn insert(&mut self, place: &Place, piece: &[u8], ids: &[u32]) {
        match *place {
            Place::Short { key, bucket } if (1..=SHORT_IDS).contains(&ids.len()) => {
                let mut padded = [NONE; SHORT_IDS];
                padded[..ids.len()].copy_from_slice(ids);
                let Bucket(bucket) = &mut self.short[bucket];
                bucket[1] = bucket[0];
                bucket[0] = Short { key, ids: padded };
            }
            Place::Short { .. } if ids.len() <= LONG_IDS => {
                // A short piece with many ids: looked for in the first table in vain, then in the second.
                let place = Self::long_place(piece);
                self.insert(&place, piece, ids);
            }
            Place::Long { index } if ids.len() <= LONG_IDS => {
                let entry = &mut self.long[index];
                entry.bytes[..piece.len()].copy_from_slice(piece);
                entry.length = piece.len() as u8;
                entry.n_ids = ids.len() as u32;
                entry.ids[..ids.len()].copy_from_slice(ids);
            }
            _ => {}
        }
    }

    /// The place in the second table, for a piece that was not in the first.
    pub(super) fn second_place(piece: &[u8]) -> Option<usize> {
        match Self::long_place(piece) {
            Place::Long { index } => Some(index),
            _ => None,
        }
    }
}

/// Both halves of a 128-bit product, folded: every input bit reaches the high bits of the result.
#[inline]
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What the encoder does with the cache, with the ids that `ids` has.
    fn get(cache: &mut Cache, text: &[u8], start: usize, end: usize) -> Option<Vec<u32>> {
        match Cache::place(text, start, end) {
            Place::Short { key, bucket } => {
                if let Some((ids, n)) = cache.short(key, bucket) {
                    return Some(ids[..n].to_vec());
                }
                Cache::second_place(&text[start..end])
                    .and_then(|index| cache.long(index, &text[start..end]))
                    .map(<[u32]>::to_vec)
            }
            Place::Long { index } => cache.long(index, &text[start..end]).map(<[u32]>::to_vec),
            Place::Nowhere => None,
        }
    }

    proptest! {
        #![proptest_config(crate::cases::cases(256))]

        /// A hit is what was put in for exactly this piece, whatever else was put in and wherever it stood.
        #[test]
        fn hits_are_never_wrong(
            pieces in prop::collection::vec(prop::collection::vec(0u8..3, 1..80), 1..200),
            seed in any::<u64>(),
        ) {
            let mut cache = Cache::new();
            let mut known: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
            for (number, piece) in pieces.iter().enumerate() {
                let before = number % 20;
                let text = [&vec![7; before], &piece[..], &vec![7; (seed >> (number % 40)) as usize % 20]].concat();
                let (start, end) = (before, before + piece.len());
                let ids = known.entry(piece.clone()).or_insert_with(|| {
                    let count = (seed >> (number % 60)) as u32 % 20;
                    (0..count).map(|id| id * 1000 + number as u32).collect()
                });
                if let Some(found) = get(&mut cache, &text, start, end) {
                    prop_assert_eq!(&found, &*ids);
                }
                cache.insert(&Cache::place(&text, start, end), piece, ids);
                if (1..=LONG_IDS).contains(&ids.len()) && piece.len() <= LONG_BYTES {
                    let found = get(&mut cache, &text, start, end);
                    prop_assert_eq!(found.as_ref(), Some(&*ids));
                }
            }
        }
    }
}
