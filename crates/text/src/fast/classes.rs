//! Which characters are letters, numbers and white space, from the tables of the regex engine that `tokenizers` uses.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// What a character is to the patterns; nothing is two of these.
pub(super) const OTHER: u8 = 0;
pub(super) const LETTER: u8 = 1;
pub(super) const NUMBER: u8 = 2;
pub(super) const SPACE: u8 = 3;
/// White space too: line feed and carriage return.
pub(super) const LINE: u8 = 4;

/// One byte per code point: 1.1 MB, of which a text touches a few pages.
pub(super) static CLASSES: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut classes = vec![OTHER; 1 + char::MAX as usize];
    for (pattern, class) in [(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE), (r"[\r\n]", LINE)] {
        let parsed = regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind);
        // Both patterns and tables are compiled in: a failure would show in every test.
        let Ok(HirKind::Class(Class::Unicode(ranges))) = parsed else {
            unreachable!("{pattern} is a class of characters")
        };
        for range in ranges.iter() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    classes.into()
});

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine itself, run over every character.
    #[test]
    fn classes_are_those_of_the_engine() {
        let all: String = ('\0'..=char::MAX).collect();
        let mut found = vec![OTHER; CLASSES.len()];
        for (pattern, class) in [(r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE), (r"[\r\n]", LINE)] {
            for (start, end) in tokenizers::utils::SysRegex::new(pattern).unwrap().find_iter(&all) {
                for char in all[start..end].chars() {
                    // Nothing is two of them, but line ends are white space too.
                    assert!(matches!(found[char as usize], OTHER | SPACE), "{char:?}");
                    found[char as usize] = class;
                }
            }
        }
        for char in '\0'..=char::MAX {
            assert_eq!(CLASSES[char as usize], found[char as usize], "{char:?}");
        }
        assert!(found.contains(&LETTER) && found.contains(&NUMBER) && found.contains(&LINE));
    }
}
