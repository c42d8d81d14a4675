//! Byte-pair merges learned from counted words: the most frequent adjacent pair becomes a token, again and again.
//!
//! The method is Sennrich et al. 2016 (arXiv 1508.07909). The library's own trainer breaks some ties by the order
//! of a randomly seeded hash map; here every choice is a function of the counts, so the same words always give
//! the same merges.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Two adjacent tokens.
pub(crate) type Pair = (u32, u32);

/// Learns merges until there are `vocab_size` tokens or no pair occurs `min_count` times.
///
/// `words` are the initial ids of each distinct word with its count. `tokens` are the strings of the initial ids
/// and grows by the new ones; the first `reserved` of them are never the result of a merge. Of pairs with equal
/// counts the one with the smaller ids goes first. Two pairs that spell the same string share its id.
pub(crate) fn learn_merges(
    words: Vec<(Vec<u32>, u64)>,
    tokens: &mut Vec<String>,
    reserved: usize,
    vocab_size: usize,
    min_count: u64,
) -> Vec<Pair> {
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut table = PairTable::new(words);
    let mut merges = Vec::new();
    while tokens.len() < vocab_size {
        let Some((pair, count)) = table.pop() else { break };
        if count < min_count {
            break;
        }
        let string = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        let id = match ids.get(&string) {
            // Text must not be able to spell a special token. Popping the pair without merging it drops it.
            Some(&id) if (id as usize) < reserved => continue,
            Some(&id) => id,
            None => {
                let id = tokens.len() as u32;
                ids.insert(string.clone(), id);
                tokens.push(string);
                id
            }
        };
        merges.push(pair);
        table.merge(pair, id);
    }
    merges
}

/// The words as they are segmented so far, with the count of every adjacent pair kept up to date.
struct PairTable {
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words in which the pair was seen; may name words that have lost it, or one word twice.
    places: HashMap<Pair, Vec<usize>>,
    /// Every (count, pair) that was ever true. An entry is current exactly if `counts` agrees.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl PairTable {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut counts: HashMap<Pair, u64> = HashMap::new();
        let mut places: HashMap<Pair, Vec<usize>> = HashMap::new();
        for (index, (word, count)) in words.iter().enumerate() {
            for pair in pairs(word) {
                *counts.entry(pair).or_default() += count;
                places.entry(pair).or_default().push(index);
            }
        }
        let queue = counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        Self { words, counts, places, queue }
    }

    fn pop(&mut self) -> Option<(Pair, u64)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            if self.counts.get(&pair) == Some(&count) && count > 0 {
                return Some((pair, count));
            }
        }
        None
    }

    /// Replaces `pair` by `id` in every word, from left to right.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut changed = Vec::new();
        for index in places {
            let (word, count) = &mut self.words[index];
            let merged = merge_word(word, pair, id);
            if merged.len() == word.len() {
                continue;
            }
            // Words are short: to take all pairs of the old form away and add those of the new is simpler than
            // to follow neighbours, and cannot go wrong where pairs overlap ("aaa").
            for old in pairs(word) {
                *self.counts.entry(old).or_default() -= *count;
                changed.push(old);
            }
            for new in pairs(&merged) {
                *self.counts.entry(new).or_default() += *count;
                self.places.entry(new).or_default().push(index);
                changed.push(new);
            }
            *word = merged;
        }
        changed.sort_unstable();
        changed.dedup();
        for pair in changed {
            match self.counts.get(&pair) {
                Some(&count) if count > 0 => self.queue.push((count, Reverse(pair))),
                _ => {
                    self.counts.remove(&pair);
                    self.places.remove(&pair);
                }
            }
        }
    }
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    word.windows(2).map(|window| (window[0], window[1]))
}

fn merge_word(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if tail.first().is_some_and(|&second| (*first, second) == pair) {
            merged.push(id);
            rest = &tail[1..];
        } else {
            merged.push(*first);
            rest = tail;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, with everything counted anew for each merge.
    fn brute_force(
        mut words: Vec<(Vec<u32>, u64)>,
        tokens: &mut Vec<String>,
        vocab_size: usize,
        min_count: u64,
    ) -> Vec<Pair> {
        let mut merges = Vec::new();
        while tokens.len() < vocab_size {
            let mut counts = std::collections::BTreeMap::<Pair, u64>::new();
            for (word, count) in &words {
                for window in word.windows(2) {
                    *counts.entry((window[0], window[1])).or_default() += count;
                }
            }
            let Some(&best) = counts.values().max() else { break };
            if best < min_count {
                break;
            }
            let pair = *counts.iter().find(|(_, count)| **count == best).unwrap().0;
            let string = tokens[pair.0 as usize].clone() + &tokens[pair.1 as usize];
            let id = tokens.iter().position(|token| *token == string).unwrap_or_else(|| {
                tokens.push(string);
                tokens.len() - 1
            });
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == pair {
                        word.splice(at..at + 2, [id as u32]);
                    }
                    at += 1;
                }
            }
            merges.push(pair);
        }
        merges
    }

    proptest! {
        #![proptest_config(crate::cases::cases(300))]
        #[test]
        fn equals_the_definition(
            words in prop::collection::vec((prop::collection::vec(0u32..4, 0..12), 1u64..6), 0..30),
            vocab_size in 4usize..60,
            min_count in 1u64..4,
        ) {
            let mut fast: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
            let mut slow = fast.clone();
            let merges = learn_merges(words.clone(), &mut fast, 0, vocab_size, min_count);
            prop_assert_eq!(merges, brute_force(words, &mut slow, vocab_size, min_count));
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn reserved_strings_are_never_merged_into() {
        let mut tokens: Vec<String> = ["ab", "a", "b", "c"].map(String::from).to_vec();
        let words = vec![(vec![1, 2, 3], 9)];
        let merges = learn_merges(words, &mut tokens, 1, 6, 1);
        assert_eq!(merges, [(2, 3), (1, 4)]);
        assert_eq!(tokens[4..], ["bc", "abc"]);
    }
}
