//! Where a text can be cut so that a SentencePiece-like BPE gives the pieces the ids that it gives the whole.
//!
//! **The proof.** BPE starts from characters (or, for a character that the vocabulary lacks, from its byte tokens) and
//! joins neighbours. Look at two neighbouring characters a and b. The first merge that covers both joins a token that
//! ends in a with one that begins with b. So if no merge of the vocabulary has a left part that ends in a and a right
//! part that begins with b, no token ever covers both, whatever stands around them. Merges on the left of such a place
//! then neither see nor change what is on the right. Each side goes through its merges by rank and then by place, as
//! it would if it were alone; so the ids of the whole are the ids of both sides, one after the other.
//!
//! [`Joins`] holds every pair (end of a left part, beginning of a right part) of the merges, and the text is cut at
//! each pair that is not among them. Byte tokens take part in no merge, or the vocabulary is refused: a character that
//! is spelled in bytes is cut off on both sides. For LLaMA-2 that is between words, at line ends, between digits and
//! at most changes between letters and punctuation.

use std::collections::HashSet;

/// The pairs of characters that some merge joins. A space stands for U+2581 and U+2581 for a space, which are the same
/// to such a vocabulary.
pub(super) struct Joins {
    /// Bit b of row a: an ASCII pair.
    ascii: [u128; 128],
    /// Pairs with at least one other character.
    others: HashSet<(char, char), Folded>,
}

/// The character that SentencePiece puts in the place of a space.
pub(super) const SPACE: char = '\u{2581}';

impl Joins {
    /// From the left and right part of every merge.
    pub(super) fn new<'a>(merges: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut joins = Self { ascii: [0; 128], others: HashSet::default() };
        for (left, right) in merges {
            // The library refuses no merge with an empty part; it can never be applied.
            if let (Some(last), Some(first)) = (left.chars().next_back(), right.chars().next()) {
                let (last, first) = (plain(last), plain(first));
                if last.is_ascii() && first.is_ascii() {
                    joins.ascii[last as usize] |= 1 << first as u32;
                } else {
                    joins.others.insert((last, first));
                }
            }
        }
        joins
    }

    /// `None` where no token crosses a word boundary: whatever is not a space before a space, and a line end with
    /// anything on either side. Otherwise a pair that some token crosses.
    pub(super) fn crossing(&self) -> Option<(char, char)> {
        let boundary = |last: char, first: char| first == ' ' && last != ' ' || last == '\n' || first == '\n';
        let ascii = (0..128u8).flat_map(|last| (0..128u8).map(move |first| (last, first)));
        ascii
            .filter(|&(last, first)| self.ascii[usize::from(last)] >> first & 1 == 1)
            .map(|(last, first)| (char::from(last), char::from(first)))
            .chain(self.others.iter().copied())
            .filter(|&(last, first)| boundary(last, first))
            .min()
    }

    /// Whether a token may cover two neighbouring characters.
    fn joined(&self, last: char, first: char) -> bool {
        if last.is_ascii() && first.is_ascii() {
            self.ascii[last as usize] >> (first as u32) & 1 == 1
        } else {
            self.others.contains(&(last, first))
        }
    }

    /// The end of the piece that begins at `start`, or the first place from `start` on where `before` ends, if the
    /// text before `start` ends in that character.
    #[inline]
    pub(super) fn end(&self, text: &str, start: usize, before: Option<char>) -> usize {
        let bytes = text.as_bytes();
        let mut at = start;
        let mut last = match before {
            Some(last) => last,
            None => match next(text, &mut at) {
                Some(first) => first,
                None => return at,
            },
        };
        loop {
            // ASCII for as long as it lasts.
            if last.is_ascii() {
                let mut row = self.ascii[last as usize];
                while let Some(&byte) = bytes.get(at) {
                    if !byte.is_ascii() {
                        break;
                    }
                    if row >> byte & 1 == 0 {
                        return at;
                    }
                    row = self.ascii[usize::from(byte)];
                    last = char::from(byte);
                    at += 1;
                }
            }
            let before = at;
            match next(text, &mut at) {
                Some(first) if self.joined(last, first) => last = first,
                Some(_) => return before,
                None => return at,
            }
        }
    }
}

/// The character at `at`, which moves behind it.
#[inline]
fn next(text: &str, at: &mut usize) -> Option<char> {
    let char = text[*at..].chars().next()?;
    *at += char.len_utf8();
    Some(plain(char))
}

#[inline]
fn plain(char: char) -> char {
    if char == SPACE { ' ' } else { char }
}

/// A quick hash for pairs of characters, which are no secrets and come from the vocabulary.
type Folded = std::hash::BuildHasherDefault<Folder>;

#[derive(Default)]
pub(super) struct Folder(u64);

impl std::hash::Hasher for Folder {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = super::cache::mix(self.0, u64::from(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_that_crosses_a_word_boundary_is_found() {
        let crossing = |merges: &[(&str, &str)]| Joins::new(merges.iter().copied()).crossing();
        assert_eq!(crossing(&[("a", "b"), ("▁", "▁"), ("▁", "ab"), ("▁▁", "▁a")]), None);
        assert_eq!(crossing(&[("ab", "▁c")]), Some(('b', ' ')));
        assert_eq!(crossing(&[("é", "▁")]), Some(('é', ' ')));
        assert_eq!(crossing(&[("\n", "\n")]), Some(('\n', '\n')));
        assert_eq!(crossing(&[("▁", "\n")]), Some((' ', '\n')));
        assert_eq!(crossing(&[(";", "\n")]), Some((';', '\n')));
    }

    /// Cuts by the definition: between any two characters that are in no merge's (end, beginning).
    fn definition(merges: &[(String, String)], text: &str) -> Vec<String> {
        let plain = |char| if char == SPACE { ' ' } else { char };
        let mut pieces: Vec<String> = Vec::new();
        let mut last = None;
        for char in text.chars() {
            let joined = last.is_some_and(|last: char| {
                merges.iter().any(|(left, right)| {
                    left.chars().next_back().map(plain) == Some(plain(last))
                        && right.chars().next().map(plain) == Some(plain(char))
                })
            });
            match pieces.last_mut().filter(|_| joined) {
                Some(piece) => piece.push(char),
                None => pieces.push(char.into()),
            }
            last = Some(char);
        }
        pieces
    }

    proptest! {
        #![proptest_config(crate::cases::cases(256))]

        #[test]
        fn cuts_equal_the_definition(
            merges in prop::collection::vec(("[ab▁é世]{1,2}", "[ab▁é世]{1,2}"), 0..8),
            text in "[ab ▁é世\n]{0,40}",
        ) {
            let joins = Joins::new(merges.iter().map(|(left, right)| (&**left, &**right)));
            let (mut pieces, mut at) = (Vec::new(), 0);
            while at < text.len() {
                let end = joins.end(&text, at, None);
                prop_assert!(end > at);
                pieces.push(text[at..end].to_owned());
                at = end;
            }
            prop_assert_eq!(&pieces, &definition(&merges, &text));
            // The first piece of a text that has a space put before it.
            let prefixed = definition(&merges, &format!(" {text}"));
            prop_assert_eq!(joins.end(&text, 0, Some(' ')), prefixed[0].len() - 1);
        }
    }
}
