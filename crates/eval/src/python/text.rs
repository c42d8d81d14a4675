//! Python's `str` where Rust's differs: what a blank is, title case, `repr`, `float`.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;

/// `str.isspace()` of one character: Unicode's white space, and the four separators from U+001C on.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `text.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.rstrip()`.
pub(crate) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `text.split()`.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `len(re.split(r"\s+", text))`: blanks at either end give an empty word that counts.
pub(crate) fn words(text: &str) -> usize {
    let inside = split(text).count();
    if inside == 0 {
        return if text.is_empty() { 1 } else { 2 };
    }
    let space = |c: Option<char>| usize::from(c.is_some_and(is_space));
    inside + space(text.chars().next()) + space(text.chars().next_back())
}

/// `text.capitalize()`: the first character in title case, all others in lower case.
pub(crate) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // Lowered as a whole: a sigma at the end of a word looks at what comes before it.
    let lower = text.to_lowercase();
    let rest = &lower[first.to_lowercase().map(char::len_utf8).sum::<usize>()..];
    format!("{}{rest}", title(first))
}

/// Characters whose title case is not their upper case, each with it.
const TITLES: &str = include_str!("titles.txt");

/// Georgian letters are their own title case, and have capitals all the same.
const GEORGIAN: std::ops::RangeInclusive<char> = '\u{10d0}'..='\u{10ff}';

fn title(c: char) -> String {
    if GEORGIAN.contains(&c) {
        return c.to_string();
    }
    let known = TITLES.lines().find_map(|line| line.strip_prefix(c)?.strip_prefix(' '));
    known.map_or_else(|| c.to_uppercase().collect(), str::to_owned)
}

/// `repr(text)`.
pub(crate) fn quoted(text: &str) -> String {
    static HIDDEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A[\p{C}\p{Z}]\z").ok());
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        let hidden = !c.is_ascii() && HIDDEN.as_ref().is_some_and(|r| r.is_match(c.encode_utf8(&mut [0; 4])));
        let _ = match (c, c as u32) {
            ('\\', _) => write!(out, "\\\\"),
            ('\n', _) => write!(out, "\\n"),
            ('\r', _) => write!(out, "\\r"),
            ('\t', _) => write!(out, "\\t"),
            (c, _) if c == quote => write!(out, "\\{c}"),
            (_, n) if n < 0x20 || n == 0x7f || hidden && n <= 0xff => write!(out, "\\x{n:02x}"),
            (_, n) if hidden && n <= 0xffff => write!(out, "\\u{n:04x}"),
            (_, n) if hidden => write!(out, "\\U{n:08x}"),
            (c, _) => write!(out, "{c}"),
        };
    }
    out.push(quote);
    out
}

/// `float(text)` for ASCII digits; `None` where Python raises.
pub(crate) fn float(text: &str) -> Option<f64> {
    // The four separators are blanks to strip() and not to float(), where all else is ASCII.
    let blank = |c: char| if text.is_ascii() { " \t\n\r\x0b\x0c".contains(c) } else { is_space(c) };
    let text = text.trim_matches(blank);
    // Python lets one underscore stand between two digits.
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let between = |i: usize| digit(i.checked_sub(1)) && digit(Some(i + 1));
    if bytes.iter().enumerate().any(|(i, b)| *b == b'_' && !between(i)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::{capitalize, float, is_space, quoted, split, strip, words};
    use crate::python::pattern::Pattern;

    /// Every character that CPython's Unicode knows, against what it says of it.
    #[test]
    fn every_character_is_pythons() {
        let recorded = recorded();
        let set = |name: &str| -> Vec<bool> {
            let mut set = vec![false; 0x11_0000];
            for range in recorded[name].as_array().unwrap() {
                let at = |i: usize| range[i].as_u64().unwrap() as usize;
                set[at(0)..=at(1)].fill(true);
            }
            set
        };
        let (assigned, space, word, digit, printable) =
            (set("assigned"), set("space"), set("word"), set("digit"), set("printable"));
        let titles = recorded["titles"].as_object().unwrap();
        let of = |source: &str| Pattern::new(source).unwrap();
        let patterns = [(of(r"\s"), &space), (of(r"\w"), &word), (of(r"\d"), &digit)];
        let mut seen = 0;
        for c in (0..0x11_0000).filter(|n| assigned[*n as usize]).filter_map(char::from_u32) {
            let (n, text) = (c as usize, c.to_string());
            assert_eq!(is_space(c), space[n], "{c:?}");
            for (pattern, expected) in &patterns {
                assert_eq!(!pattern.find_all(&text).unwrap().is_empty(), expected[n], "{c:?}");
            }
            let upper: String = c.to_uppercase().collect();
            let title = titles.get(&text).map_or(upper.as_str(), |title| title.as_str().unwrap());
            assert_eq!(capitalize(&text), title, "{c:?}");
            let plain = quoted(&text).trim_matches(['\'', '"']) == text;
            assert_eq!(plain || c == '\\' || c == '\'' || c == '"', printable[n], "{c:?}");
            seen += 1;
        }
        assert!(seen > 144_000, "{seen}");
    }

    #[test]
    fn strings_are_pythons() {
        let recorded = recorded();
        for case in recorded["strings"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(strip(text), case["strip"].as_str().unwrap(), "{case}");
            assert_eq!(split(text).collect::<Vec<_>>(), string_list(&case["split"]), "{case}");
            assert_eq!(words(text) as u64, case["words"].as_u64().unwrap(), "{case}");
            assert_eq!(capitalize(text), case["capitalize"].as_str().unwrap(), "{case}");
            assert_eq!(text.to_lowercase(), case["lower"].as_str().unwrap(), "{case}");
            assert_eq!(text.to_uppercase(), case["upper"].as_str().unwrap(), "{case}");
            assert_eq!(quoted(text), case["repr"].as_str().unwrap(), "{case}");
        }
        for case in recorded["floats"].as_array().unwrap() {
            let found = float(case[0].as_str().unwrap());
            // JSON has no word for what is no number: those stand as text.
            let expected = case[1].as_f64().or_else(|| case[1].as_str()?.parse().ok());
            let same =
                found == expected || found.zip(expected).is_some_and(|(a, b)| a.is_nan() && b.is_nan());
            assert!(same, "{case}: {found:?}");
        }
    }

    fn string_list(value: &serde_json::Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
    }
}
