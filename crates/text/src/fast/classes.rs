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

    /// The engine itself, asked for every code point.
    #[test]
    fn classes_are_those_of_the_engine() {
        let regex = |pattern| tokenizers::utils::SysRegex::new(pattern).unwrap();
        let tests = [(regex(r"^\p{L}$"), LETTER), (regex(r"^\p{N}$"), NUMBER), (regex(r"^\s$"), SPACE)];
        let mut buffer = [0; 4];
        for char in '\0'..=char::MAX {
            let text: &str = char.encode_utf8(&mut buffer);
            let found: Vec<u8> = tests
                .iter()
                .filter(|(regex, _)| regex.find_iter(text).next().is_some())
                .map(|test| test.1)
                .collect();
            let class = match CLASSES[char as usize] {
                OTHER => vec![],
                LINE => vec![SPACE],
                class => vec![class],
            };
            assert_eq!(found, class, "U+{:04X}", char as u32);
        }
    }
}
