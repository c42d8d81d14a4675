//! The regular expressions by which GPT-2, GPT-4, LLaMA-3 and Qwen cut a text into pieces, written out by hand.
//!
//! Each function is the pattern's alternatives in their order, each tried once at a place, which is what a backtracking
//! engine does with these patterns. Where an alternative can give back characters (`\s*[\r\n]+`, `\s+(?!\S)`) the
//! comment says what it ends up with. `tests/encoding.rs` and the tests below compare with the engine.

use super::classes::{CLASSES, LETTER, LINE, NUMBER, OTHER, SPACE};

/// A pattern that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// GPT-2's, which is also that of `ByteLevel` with `use_regex`.
    Gpt2,
    /// That of GPT-4 as LLaMA-3 and Qwen spell it, with numbers cut after so many digits.
    Llama3 {
        /// 1 or 3.
        digits: usize,
    },
}

/// LLaMA-3's pattern.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Qwen2's pattern, and that of the vocabularies that this crate trains.
pub(crate) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// GPT-2's pattern.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

impl Pattern {
    /// The pattern with exactly this spelling.
    pub(super) fn known(regex: &str) -> Option<Self> {
        match regex {
            LLAMA3 => Some(Self::Llama3 { digits: 3 }),
            QWEN2 => Some(Self::Llama3 { digits: 1 }),
            GPT2 => Some(Self::Gpt2),
            _ => None,
        }
    }

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Llama3 { digits: 1 } => "Qwen2",
            Self::Llama3 { .. } => "LLaMA-3",
        }
    }
}

/// A text that is being cut.
pub(super) struct Splitter<'a> {
    text: &'a str,
    classes: &'static [u8],
}

impl<'a> Splitter<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, classes: &CLASSES }
    }

    /// The end of the piece that begins at `start`, which is before the end of the text.
    #[inline]
    pub(super) fn end(&self, pattern: Pattern, start: usize) -> usize {
        match pattern {
            Pattern::Gpt2 => self.gpt2(start),
            Pattern::Llama3 { digits } => self.llama3(start, digits),
        }
    }

    fn llama3(&self, start: usize, digits: usize) -> usize {
        let bytes = self.text.as_bytes();
        let (class, after) = self.class(start);
        if class == LETTER {
            return self.run(after, LETTER);
        }
        // (?i:'s|'t|'re|'ve|'m|'ll|'d)
        if bytes[start] == b'\''
            && let Some(end) = contraction(&bytes[after..], true)
        {
            return after + end;
        }
        // [^\r\n\p{L}\p{N}]?\p{L}+ where the first is there.
        let next = self.class_or_end(after);
        if class != NUMBER && class != LINE && next.0 == LETTER {
            return self.run(next.1, LETTER);
        }
        // \p{N}{1,3} or \p{N}
        if class == NUMBER {
            let mut end = after;
            for _ in 1..digits {
                match self.class_or_end(end) {
                    (NUMBER, after) => end = after,
                    _ => break,
                }
            }
            return end;
        }
        //  ?[^\s\p{L}\p{N}]+[\r\n]*
        if class == OTHER || bytes[start] == b' ' && next.0 == OTHER {
            let end = self.run(after, OTHER);
            return self.run(end, LINE);
        }
        self.white_space(start, true)
    }

    fn gpt2(&self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        // 's|'t|'re|'ve|'m|'ll|'d
        if bytes[start] == b'\''
            && let Some(end) = contraction(&bytes[start + 1..], false)
        {
            return start + 1 + end;
        }
        //  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
        let (mut class, mut after) = self.class(start);
        if bytes[start] == b' ' {
            let next = self.class_or_end(after);
            if next.0 < SPACE {
                (class, after) = next;
            }
        }
        if class < SPACE { self.run(after, class) } else { self.white_space(start, false) }
    }

    /// `\s*[\r\n]+` if `lines`, then `\s+(?!\S)|\s+`, at white space.
    fn white_space(&self, start: usize, lines: bool) -> usize {
        // `line` is behind the last line end of the run, `last` before its last character.
        let (mut end, mut last, mut line) = (start, start, start);
        while let (class @ (SPACE | LINE), after) = self.class_or_end(end) {
            (last, end) = (end, after);
            if class == LINE {
                line = after;
            }
        }
        if lines && line > start {
            // All white space, given back as far as there is a line end at its end.
            line
        } else if end == self.text.len() || last == start {
            // Nothing follows; or one character, which `\s+` takes.
            end
        } else {
            // What follows is no white space, so the last character is given back, to be followed by itself.
            last
        }
    }

    /// The end of the characters of one class from `at` on.
    #[inline]
    fn run(&self, mut at: usize, wanted: u8) -> usize {
        while let (class, after) = self.class_or_end(at)
            && class == wanted
        {
            at = after;
        }
        at
    }

    /// The class of the character at `at` and the place behind it; at the end a class that no character has.
    #[inline]
    fn class_or_end(&self, at: usize) -> (u8, usize) {
        if at < self.text.len() { self.class(at) } else { (END, at) }
    }

    #[inline]
    fn class(&self, at: usize) -> (u8, usize) {
        let byte = self.text.as_bytes()[at];
        if byte.is_ascii() {
            return (self.classes[usize::from(byte)], at + 1);
        }
        match self.text[at..].chars().next() {
            Some(char) => (self.classes[char as usize], at + char.len_utf8()),
            None => (END, at),
        }
    }
}

/// What stands behind the last character.
const END: u8 = u8::MAX;

/// The length of what follows an apostrophe in 's, 't, 're, 've, 'm, 'll and 'd.
fn contraction(rest: &[u8], any_case: bool) -> Option<usize> {
    let letter =
        |at: usize| rest.get(at).map(|byte: &u8| if any_case { byte.to_ascii_lowercase() } else { *byte });
    match (letter(0)?, letter(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(1),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(2),
        // U+017F, the long s, is an s in another case.
        (0xc5, Some(0xbf)) if any_case => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    fn ours(pattern: Pattern, text: &str) -> Vec<&str> {
        let splitter = Splitter::new(text);
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let end = splitter.end(pattern, at);
            pieces.push(&text[at..end]);
            at = end;
        }
        pieces
    }

    fn engine<'a>(regex: &SysRegex, text: &'a str) -> Vec<&'a str> {
        regex.find_iter(text).map(|(start, end)| &text[start..end]).collect()
    }

    static ENGINES: LazyLock<Vec<(Pattern, SysRegex)>> = LazyLock::new(|| {
        let regexes = [LLAMA3, QWEN2, GPT2];
        regexes.map(|regex| (Pattern::known(regex).unwrap(), SysRegex::new(regex).unwrap())).into()
    });

    fn check(text: &str) {
        for (pattern, regex) in &*ENGINES {
            assert_eq!(ours(*pattern, text), engine(regex, text), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::cases::cases(2000))]
        /// Characters that matter to the patterns, in every order.
        #[test]
        fn pieces_equal_the_engine(
            text in "[ \u{a0}\u{2003}\t\n\r'’sStTrReEvVmMlLdDſKab1٣²Ⅷ.,(_\u{301}é世😀\u{200d}\u{0}]{0,24}",
        ) {
            check(&text);
        }

        #[test]
        fn pieces_equal_the_engine_on_anything(text in any::<String>()) {
            check(&text);
        }
    }

    #[test]
    fn every_character_between_others() {
        // In blocks, so that a difference is found near its character.
        let all: Vec<char> = ('\0'..='\u{323af}').collect();
        for block in all.chunks(1024) {
            let text: String =
                block.iter().flat_map(|&char| [' ', char, 'a', char, '1', '\'', char, '\n']).collect();
            for (pattern, regex) in &*ENGINES {
                let (ours, engine) = (ours(*pattern, &text), engine(regex, &text));
                let at = ours.iter().zip(&engine).position(|(ours, engine)| ours != engine);
                assert_eq!(at.map(|at| (ours[at], engine[at])), None, "U+{:04X}", block[0] as u32);
                assert_eq!(ours.len(), engine.len());
            }
        }
    }
}
