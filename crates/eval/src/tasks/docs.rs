//! The text functions that some benchmarks define in code: templates call them by name.

use std::sync::LazyLock;

use crate::python::{Pattern, strip};

/// Patterns that are part of this program are right: a test compiles them all.
#[expect(clippy::expect_used, reason = "a constant")]
fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a pattern of this file")
}

/// HellaSwag's clean-up: WikiHow's markers go, and one pass halves double blanks.
pub(super) fn hellaswag(text: &str) -> Result<String, String> {
    static BRACKETS: LazyLock<Pattern> = LazyLock::new(|| pattern(r"\[.*?\]"));
    let text = strip(text).replace(" [title]", ". ");
    Ok(BRACKETS.replace(&text, "")?.replace("  ", " "))
}

/// WikiText's tokenised text made plain again: the rules of the benchmark, in their order.
pub(super) fn wikitext(text: &str) -> Result<String, String> {
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
    static PAIRS: LazyLock<[(Pattern, [&str; 2]); 5]> = LazyLock::new(|| {
        [
            (pattern(r"\(\s*([^\)]*?)\s*\)"), ["(", ")"]),
            (pattern(r"\[\s*([^\]]*?)\s*\]"), ["[", "]"]),
            (pattern(r"\{\s*([^}]*?)\s*\}"), ["{", "}"]),
            (pattern(r#""\s*([^"]*?)\s*""#), ["\"", "\""]),
            (pattern(r"'\s*([^']*?)\s*'"), ["'", "'"]),
        ]
    });
    static SLASHES: LazyLock<Pattern> = LazyLock::new(|| pattern("/' [0-9]/"));
    let mut text = SLASHES.replace(&text.replace("s '", "s'"), "/'[0-9]/")?;
    for (from, to) in PUNCTUATION {
        text = text.replace(from, to);
    }
    for (from, [open, close]) in PAIRS.iter() {
        let inside = |groups: &[Option<&str>]| groups.get(1).copied().flatten().unwrap_or("").to_owned();
        text = from.replace_with(&text, |groups| format!("{open}{}{close}", inside(groups)))?;
    }
    for (from, to) in REST {
        text = text.replace(from, to);
    }
    Ok(text)
}
