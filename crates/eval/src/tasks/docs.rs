//! The text functions that some benchmarks define in code: templates call them by name.

use std::sync::LazyLock;

use regex::Regex;

/// Patterns that are part of this program are right: a test compiles them all.
#[expect(clippy::expect_used, reason = "a constant")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

/// HellaSwag's clean-up: WikiHow's markers go, and one pass halves double blanks.
pub(super) fn hellaswag(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[.*?\]"));
    let text = text.trim().replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}

/// Python's `str.capitalize`: the first character in title case, all others lower.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(lower(chars.as_str())).collect())
}

fn lower(text: &str) -> std::vec::IntoIter<char> {
    text.to_lowercase().chars().collect::<Vec<_>>().into_iter()
}

/// WikiText's tokenised text made plain again: the rules of the benchmark, in their order.
pub(super) fn wikitext(text: &str) -> String {
    const PUNCTUATION: [(&str, &str); 9] = [
        (" @-@ ", "-"),
        (" @,@ ", ","),
        (" @.@ ", "."),
        (" : ", ": "),
        (" ; ", "; "),
        (" . ", ". "),
        (" ! ", "! "),
        (" ? ", "? "),
        (" , ", ", "),
    ];
    const REST: [(&str, &str); 8] = [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ];
    static PAIRS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
        [
            (pattern(r"\(\s*([^\)]*?)\s*\)"), "(${1})"),
            (pattern(r"\[\s*([^\]]*?)\s*\]"), "[${1}]"),
            (pattern(r"\{\s*([^}]*?)\s*\}"), "{${1}}"),
            (pattern(r#""\s*([^"]*?)\s*""#), "\"${1}\""),
            (pattern(r"'\s*([^']*?)\s*'"), "'${1}'"),
        ]
    });
    static SLASHES: LazyLock<Regex> = LazyLock::new(|| pattern("/' [0-9]/"));
    let mut text = SLASHES.replace_all(&text.replace("s '", "s'"), "/'[0-9]/").into_owned();
    for (from, to) in PUNCTUATION {
        text = text.replace(from, to);
    }
    for (from, to) in PAIRS.iter() {
        text = from.replace_all(&text, *to).into_owned();
    }
    for (from, to) in REST {
        text = text.replace(from, to);
    }
    text
}
