//! Lines that stand in many documents of a source: notices, menus, generated headers.
//!
//! A line is what stands between line feeds, without white space at its ends. One of at least `min-chars` characters
//! that stands in more than `max-documents` documents of its source is taken out of all of them. So nothing depends on
//! which document comes first, on threads or on parts. Each document leaves the hashes of its long lines, once each;
//! equal hashes are found by sorting, as for whole documents, in several passes where the memory is small. What remains
//! in memory is one bit per line.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::groups::ranges;
use crate::error::{Error, Result};

/// Which lines are taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LineDedup {
    /// Characters of a line, without white space at its ends, at least; shorter ones stay. 30.
    pub min_chars: usize,
    /// Documents of the source in which a line may stand. In more it is taken out of all. 10.
    pub max_documents: u32,
}

impl Default for LineDedup {
    fn default() -> Self {
        Self { min_chars: 30, max_documents: 10 }
    }
}

/// A document without its repeated lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stripped {
    pub(crate) text: String,
    /// Lines that were taken out.
    pub(crate) lines: u64,
    /// Their bytes, with line feeds.
    pub(crate) bytes: u64,
    /// The first of them.
    pub(crate) example: Option<String>,
}

impl LineDedup {
    pub(crate) fn check(&self) -> Result<()> {
        for (key, value) in [
            ("line-dedup.min-chars", self.min_chars as u64),
            ("line-dedup.max-documents", u64::from(self.max_documents)),
        ] {
            if value == 0 {
                return Err(Error::Setting { key, message: "expected at least 1, found 0".to_owned() });
            }
        }
        Ok(())
    }

    /// The hash of a line, if it is long enough to be looked at. With 64 bits, the chance that any two of a billion
    /// different lines count as one is 3 %.
    fn hash(&self, line: &str) -> Option<u64> {
        let line = line.trim();
        // Bytes are at least characters.
        if line.len() < self.min_chars || line.chars().take(self.min_chars).count() < self.min_chars {
            return None;
        }
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(line.as_bytes()).as_bytes()[..8]);
        Some(u64::from_le_bytes(first))
    }

    /// The hashes of the long lines of a document, once each, in the order in which they come first.
    pub(crate) fn hashes(&self, text: &str) -> Vec<u64> {
        let mut seen = HashSet::new();
        text.split('\n').filter_map(|line| self.hash(line)).filter(|&hash| seen.insert(hash)).collect()
    }

    /// Takes lines out; `is_repeated` is asked by the place of a line's hash in [`LineDedup::hashes`].
    pub(crate) fn strip(&self, text: &str, is_repeated: impl Fn(u64) -> bool) -> Stripped {
        let hashes = self.hashes(text);
        let repeated: HashSet<u64> =
            (0..).zip(&hashes).filter(|&(place, _)| is_repeated(place)).map(|(_, &hash)| hash).collect();
        let mut stripped = Stripped::default();
        for line in text.split_inclusive('\n') {
            if !repeated.is_empty() && self.hash(line).is_some_and(|hash| repeated.contains(&hash)) {
                stripped.lines += 1;
                stripped.bytes += line.len() as u64;
                stripped.example.get_or_insert_with(|| line.trim().to_owned());
            } else {
                stripped.text.push_str(line);
            }
        }
        stripped
    }
}

/// Where the hashes of a source's lines lie.
pub(crate) trait LineReading {
    /// Places: of every line that was hashed, and others.
    fn places(&self) -> u64;
    /// Calls `each` with place and hash of every line of a document that counts, always in the same order.
    fn lines(&self, each: &mut dyn FnMut(u64, u64)) -> Result<()>;
}

/// One bit per place: whether the line there stands in more than `most` documents. Memory: these bits, and 16 bytes for
/// each line of a pass, about `memory` in all.
pub(crate) fn repeated(lines: &impl LineReading, most: u32, memory: u64) -> Result<Vec<u64>> {
    let places = lines.places();
    let mut bits = vec![0u64; places.div_ceil(64) as usize];
    for range in ranges(places.saturating_mul(16), memory) {
        let mut records: Vec<(u64, u64)> = Vec::new();
        lines.lines(&mut |place, hash| {
            if range.takes(hash) {
                records.push((hash, place));
            }
        })?;
        records.par_sort_unstable();
        for run in records.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > most as usize) {
            run.iter().for_each(|&(_, place)| bits[(place / 64) as usize] |= 1 << (place % 64));
        }
    }
    Ok(bits)
}

/// Whether a bit is set.
pub(crate) fn bit(bits: &[u64], place: u64) -> bool {
    bits.get((place / 64) as usize).is_some_and(|word| word >> (place % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct InMemory(Vec<Vec<u64>>);

    impl LineReading for InMemory {
        fn places(&self) -> u64 {
            self.0.iter().map(|hashes| hashes.len() as u64).sum()
        }

        fn lines(&self, each: &mut dyn FnMut(u64, u64)) -> Result<()> {
            (0..).zip(self.0.iter().flatten()).for_each(|(place, &hash)| each(place, hash));
            Ok(())
        }
    }

    fn strip_all(rule: &LineDedup, texts: &[String], memory: u64) -> Vec<String> {
        let lines = InMemory(texts.iter().map(|text| rule.hashes(text)).collect());
        let bits = repeated(&lines, rule.max_documents, memory).unwrap();
        let mut first = 0;
        let strip = |(text, hashes): (&String, &Vec<u64>)| {
            let (at, n) = (first, hashes.len() as u64);
            first += n;
            rule.strip(text, |place| bit(&bits, at + place)).text
        };
        texts.iter().zip(&lines.0).map(strip).collect()
    }

    /// The rule as it is written down, with strings.
    fn brute_force(rule: &LineDedup, texts: &[String]) -> Vec<String> {
        let long = |line: &str| line.trim().chars().count() >= rule.min_chars;
        let mut documents: HashMap<&str, usize> = HashMap::new();
        for text in texts {
            let mut lines: Vec<&str> = text.split('\n').map(str::trim).collect();
            lines.sort_unstable();
            lines.dedup();
            lines.into_iter().for_each(|line| *documents.entry(line).or_default() += 1);
        }
        let mut left = Vec::new();
        for text in texts {
            let mut kept = String::new();
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (line, after) = rest.find('\n').map_or((rest, ""), |at| rest.split_at(at + 1));
                if !(long(line) && documents[line.trim()] > rule.max_documents as usize) {
                    kept.push_str(line);
                }
                rest = after;
            }
            left.push(kept);
        }
        left
    }

    proptest! {
        #![proptest_config(crate::cases::cases(300))]

        #[test]
        fn it_takes_out_what_the_rule_says_however_small_the_memory(
            texts in prop::collection::vec("([ab]{1,4}|é{2,4}| a[ab]b |\t|\n|\r){0,12}", 0..14),
            min_chars in 1usize..5,
            max_documents in 1u32..5,
            memory in prop::sample::select(vec![1u64, 16, 40, 333, 1 << 20]),
            seed: u64,
        ) {
            let rule = LineDedup { min_chars, max_documents };
            let expected = brute_force(&rule, &texts);
            prop_assert_eq!(&strip_all(&rule, &texts, memory), &expected);
            // In another order of documents the same is left of each.
            let mut order: Vec<usize> = (0..texts.len()).collect();
            order.sort_by_key(|&i| blake3::hash(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat()).to_hex());
            let shuffled: Vec<String> = order.iter().map(|&i| texts[i].clone()).collect();
            let left = strip_all(&rule, &shuffled, memory);
            prop_assert!(order.iter().zip(&left).all(|(&i, text)| *text == expected[i]));
        }
    }

    #[test]
    fn what_is_taken_out_is_counted() {
        let rule = LineDedup { min_chars: 4, max_documents: 1 };
        let texts = ["one\n  long line \nlong line", "long line\n"].map(str::to_owned);
        assert_eq!(strip_all(&rule, &texts, 1), ["one\n", ""]);
        let stripped = rule.strip(&texts[0], |_| true);
        let example = Some("long line".to_owned());
        assert_eq!(stripped, Stripped { text: "one\n".to_owned(), lines: 2, bytes: 22, example });
    }
}
