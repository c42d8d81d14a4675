//! Byte-pair merges of one piece of text: the pair of the lowest rank first, of equal ones the leftmost.
//!
//! Short pieces, which are nearly all, search their few pairs again for each merge; long ones keep a heap. Both are
//! Sennrich et al. 2016 (arXiv 1508.07909) to the letter, as `tokenizers` and SentencePiece have it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cache::mix;

/// From two adjacent ids to the rank of their merge and the id it gives.
pub(super) struct MergeTable {
    /// Open addressing; places with no pair have the key `EMPTY`.
    slots: Box<[Slot]>,
    shift: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    pair: u64,
    /// Rank in the upper half, new id in the lower.
    merge: u64,
}

/// No pair: ids are below 2^24.
const EMPTY: u64 = u64::MAX;

/// No merge: above every rank.
const NO_MERGE: u64 = u64::MAX;

/// `left` and `right` become `new`; lower ranks first, and with one rank what stands further left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) rank: u32,
    pub(super) new: u32,
}

impl MergeTable {
    /// Of two merges with the same pair the later counts, as in `tokenizers`.
    pub(super) fn new(merges: &[Merge]) -> Self {
        let bits = (2 * merges.len() + 1).next_power_of_two().trailing_zeros().max(4);
        let mut table = Self {
            slots: vec![Slot { pair: EMPTY, merge: NO_MERGE }; 1 << bits].into(),
            shift: u64::BITS - bits,
        };
        for merge in merges {
            let pair = pair(merge.left, merge.right);
            let place = table.find(pair);
            table.slots[place] = Slot { pair, merge: u64::from(merge.rank) << 32 | u64::from(merge.new) };
        }
        table
    }

    /// The place of a pair, or the free place where it would be. At least half of all places are free.
    #[inline]
    fn find(&self, pair: u64) -> usize {
        let mut place = (mix(pair, 0) >> self.shift) as usize;
        loop {
            let found = self.slots[place].pair;
            if found == pair || found == EMPTY {
                return place;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn get(&self, left: u32, right: u32) -> u64 {
        self.slots[self.find(pair(left, right))].merge
    }
}

#[inline]
fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Of two merges with one rank the leftmost comes first, whatever they give.
#[inline]
fn rank(merge: u64) -> u32 {
    (merge >> 32) as u32
}

/// Memory that merging uses again and again.
#[derive(Default)]
pub(super) struct Scratch {
    merges: Vec<u64>,
    /// Rank and place.
    heap: BinaryHeap<Reverse<(u32, usize)>>,
    next: Vec<usize>,
    previous: Vec<usize>,
}

/// Above so many symbols a heap is faster than to search them all for each merge.
const SHORT: usize = 48;

impl Scratch {
    /// Replaces the initial symbols of a piece by its tokens.
    pub(super) fn merge(&mut self, table: &MergeTable, ids: &mut Vec<u32>) {
        self.merges.clear();
        self.merges.extend(ids.windows(2).map(|pair| table.get(pair[0], pair[1])));
        if ids.len() <= SHORT { self.search(table, ids) } else { self.queue(table, ids) }
    }

    fn search(&mut self, table: &MergeTable, ids: &mut Vec<u32>) {
        loop {
            let (mut best, mut at) = (NO_MERGE, 0);
            for (place, &merge) in self.merges.iter().enumerate() {
                if rank(merge) < rank(best) {
                    (best, at) = (merge, place);
                }
            }
            if best == NO_MERGE {
                return;
            }
            ids[at] = best as u32;
            ids.remove(at + 1);
            self.merges.remove(at);
            if at > 0 {
                self.merges[at - 1] = table.get(ids[at - 1], ids[at]);
            }
            if at + 1 < ids.len() {
                self.merges[at] = table.get(ids[at], ids[at + 1]);
            }
        }
    }

    fn queue(&mut self, table: &MergeTable, ids: &mut Vec<u32>) {
        let end = ids.len();
        // `merges[i]` is what is true of symbol i and the one after it. An entry of the heap that says otherwise is
        // from before a merge. A symbol that was merged away has no merge.
        self.merges.push(NO_MERGE);
        self.next.clear();
        self.next.extend(1..=end);
        self.previous.clear();
        self.previous.extend((0..end).map(|place| place.wrapping_sub(1)));
        self.heap.clear();
        let all = self.merges.iter().enumerate().filter(|&(_, &merge)| merge != NO_MERGE);
        self.heap.extend(all.map(|(place, &merge)| Reverse((rank(merge), place))));
        while let Some(Reverse((wanted, at))) = self.heap.pop() {
            let merge = self.merges[at];
            if rank(merge) != wanted {
                continue;
            }
            let right = self.next[at];
            let after = self.next[right];
            ids[at] = merge as u32;
            self.merges[right] = NO_MERGE;
            self.next[at] = after;
            self.merges[at] = NO_MERGE;
            if after < end {
                self.previous[after] = at;
                self.set(at, table.get(ids[at], ids[after]));
            }
            if at > 0 {
                let before = self.previous[at];
                self.set(before, table.get(ids[before], ids[at]));
            }
        }
        let (mut at, mut kept) = (0, 0);
        while at < end {
            ids[kept] = ids[at];
            kept += 1;
            at = self.next[at];
        }
        ids.truncate(kept);
    }

    fn set(&mut self, place: usize, merge: u64) {
        self.merges[place] = merge;
        if merge != NO_MERGE {
            self.heap.push(Reverse((rank(merge), place)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: among all adjacent pairs with a merge, the first of the lowest rank.
    fn definition(merges: &[Merge], mut ids: Vec<u32>) -> Vec<u32> {
        loop {
            let found = |pair: &[u32]| merges.iter().rfind(|m| [m.left, m.right] == *pair);
            let pairs = ids.windows(2).enumerate().filter_map(|(at, pair)| Some((found(pair)?, at)));
            let Some((merge, at)) = pairs.min_by_key(|&(merge, at)| (merge.rank, at)) else { return ids };
            ids.splice(at..at + 2, [merge.new]);
        }
    }

    proptest! {
        #![proptest_config(crate::cases::cases(600))]
        #[test]
        fn both_ways_equal_the_definition(
            choices in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40),
            ids in prop::collection::vec(0u32..4, 0..150),
            equal in any::<bool>(),
        ) {
            // New ids grow, so that tokens stand for ever longer strings; some pairs come twice.
            let mut merges: Vec<Merge> = (0u32..)
                .zip(&choices)
                .map(|(rank, (left, right))| Merge { left: left % (rank + 4), right: right % (rank + 4), rank, new: rank + 4 })
                .collect();
            if equal {
                // Of each three merges the first two give one token, and all have one rank.
                for index in 1..merges.len() {
                    if index % 3 == 1 {
                        merges[index].new = merges[index - 1].new;
                    }
                    if index % 3 != 0 {
                        merges[index].rank = merges[index - 1].rank;
                    }
                }
            }
            let table = MergeTable::new(&merges);
            let expected = definition(&merges, ids.clone());
            let mut scratch = Scratch::default();
            let mut merged = ids.clone();
            scratch.merge(&table, &mut merged);
            prop_assert_eq!(&merged, &expected);
            let pairs = |ids: &[u32]| ids.windows(2).map(|pair| table.get(pair[0], pair[1])).collect();
            if ids.len() > 1 {
                let mut merged = ids.clone();
                scratch.merges = pairs(&merged);
                scratch.search(&table, &mut merged);
                prop_assert_eq!(&merged, &expected);
                let mut merged = ids.clone();
                scratch.merges = pairs(&merged);
                scratch.queue(&table, &mut merged);
                prop_assert_eq!(&merged, &expected);
            }
        }
    }
}
