//! Every rule on both sides of its border, and expressions written by hand against `regex`.

mod algebraic;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::stats::Stats;
use super::*;
use crate::document::Meta;

/// The rule that takes a text, or "".
fn judged(filters: &str, language: &str, text: &str) -> &'static str {
    let filters: Filters = toml::from_str(filters).unwrap();
    let meta = Meta { language: Some(language.to_owned()), ..Meta::default() };
    let mut document = Document { id: "d".to_owned(), text: text.to_owned(), meta };
    filters.judge(&mut document, &Aids::default()).map_or_else(|against| against.rule, |()| "")
}

#[test]
fn code_rules_stand_where_their_sources_put_them() {
    let line = |n: usize| "a".repeat(n);
    let lines = |n: usize, of: &str| vec![of; n].join("\n");
    // Eleven short lines for one of a thousand characters keep the mean below a hundred.
    let long = |n: usize| format!("{}\n{}", line(n), lines(11, "ab"));
    let half = |letters: usize| "a".repeat(letters) + &"+".repeat(100 - letters);
    for (filters, language, text, expected) in [
        ("stack = true", "python", long(1000), ""),
        ("stack = true", "python", long(1001), "stack/max-line-length"),
        ("stack = true", "python", lines(3, &line(100)), ""),
        ("stack = true", "python", lines(3, &line(101)), "stack/max-mean-line-length"),
        ("stack = true", "python", half(25), ""),
        ("stack = true", "python", half(24), "stack/min-alphanumeric"),
        ("stack = true", "python", half(0).replace("++++", "1+++"), ""),
        ("stack = { max-line-length = 10 }", "python", line(11), "stack/max-line-length"),
        ("stack = { comments = [0.01, 0.8] }", "python", lines(9, "x = 1"), "stack/comments"),
        ("stack = { comments = [0.01, 0.8] }", "python", lines(9, "x = 1 # one"), ""),
        ("stack = { comments = [0.01, 0.8] }", "python", lines(9, "# one"), "stack/comments"),
        (
            "stack = { comments = [0.01, 0.8] }",
            "python",
            "\"\"\"What.\n\nMore.\n\"\"\"\nx = 1\ny = '#'".into(),
            "",
        ),
        ("stack = { comments = [0.01, 0.8] }", "c", "int a; /* b\n c */ int d; // e".into(), ""),
        ("stack = { comments = [0.01, 0.8] }", "lisp", "(a)".into(), ""),
        ("starcoder = true", "python", half(0).replace("++++", "1+++"), "starcoder/min-alphabetic"),
        ("starcoder = true", "text", line(2000), ""),
        ("starcoder = true", "java", format!("<?xml version=\"1.0\"?>{}", line(60)), "starcoder/no-xml"),
        ("starcoder = true", "html", format!("<p>{}</p>", line(101)), ""),
        ("starcoder = true", "html", format!("<p>{}</p>", line(100)), "starcoder/html"),
        (
            "starcoder = true",
            "html",
            format!("<script>{}</script>{}", line(600), line(101)),
            "starcoder/html",
        ),
        ("starcoder = true", "json", line(50), ""),
        ("starcoder = true", "json", line(49), "starcoder/data-chars"),
        ("starcoder = true", "json", half(50), "starcoder/min-data-alphabetic"),
        ("starcoder = true", "json", half(51), ""),
        ("starcoder2 = true", "python", lines(100_000, "a"), ""),
        ("starcoder2 = true", "python", lines(100_001, "a"), "starcoder2/max-lines"),
        ("starcoder2 = true", "python", long(1001), "starcoder2/max-line-length"),
        ("starcoder2 = true", "markdown", line(100_000), ""),
        ("starcoder2 = true", "markdown", line(100_001), "starcoder2/long-line-length"),
        ("starcoder2 = true", "yaml", lines(512, "a"), ""),
        ("starcoder2 = true", "yaml", lines(513, "a"), "starcoder2/max-data-lines"),
        ("starcoder2 = true", "motorola 68k assembly", "1".repeat(30) + &"+".repeat(70), ""),
        ("starcoder2 = true", "webassembly", "1".repeat(30) + &"+".repeat(70), ""),
        // Of the assemblers, the paper names one.
        ("starcoder2 = true", "assembly", "1".repeat(30) + &"+".repeat(70), "starcoder2/min-alphabetic"),
        ("starcoder2 = true", "roff manpage", line(100_000), ""),
        ("starcoder2 = true", "web ontology language", lines(513, "a"), "starcoder2/max-data-lines"),
        ("starcoder2 = true", "web-ontology-language", lines(513, "a"), "starcoder2/max-data-lines"),
        ("starcoder2 = true", "graphviz (dot)", lines(513, "a"), "starcoder2/max-data-lines"),
        ("stack = true", "java", format!("<?xml version=\"1.0\"?>\n{}", line(60)), "stack/no-xml"),
        ("stack = true", "java", format!("{}\n{}<?xml version=\"1.0\"?>", line(60), line(30)), ""),
        ("stack = true", "json", line(100), ""),
        ("stack = true", "json", line(99), "stack/data-chars"),
        ("stack = true", "yaml", lines(1000, "aaaa") + "a", ""),
        ("stack = true", "yaml", lines(1000, "aaaa") + "ab", "stack/data-chars"),
        ("starcoder2 = true", "python", "1".repeat(30) + &"+".repeat(70), "starcoder2/min-alphabetic"),
        ("generated = true", "c", format!("{}// Auto-Generated by x", "\n".repeat(4)), "generated"),
        ("generated = true", "c", format!("{}// Auto-Generated by x", "\n".repeat(5)), ""),
        ("encoded = true", "c", format!("{} {}", "A".repeat(1024), "x y ".repeat(600)), ""),
        ("encoded = true", "c", format!("{} {}", "A".repeat(1025), "x y ".repeat(600)), "encoded/max-match"),
        ("encoded = true", "c", format!("{} {}", "A".repeat(100), "x y ".repeat(24)), "encoded/max-share"),
        ("encoded = true", "c", format!("{}{}", "\\xFF".repeat(200), " zz".repeat(100)), "encoded/max-share"),
        ("encoded = true", "c", format!("{}{}", "\\u12aB".repeat(9), " zz".repeat(10)), "encoded/max-share"),
        // Characters count: of the bytes, the digits are a third.
        ("encoded = true", "c", format!("{}{}", "A".repeat(70), "中".repeat(69)), "encoded/max-share"),
        ("encoded = true", "c", format!("{}{}", "A".repeat(70), "中".repeat(71)), ""),
    ] {
        assert_eq!(judged(filters, language, &text), expected, "{filters} {language} {:.60}", text);
    }
}

/// A page of good prose, sentence by sentence different.
fn prose(sentences: usize) -> String {
    let nouns = ["harbour", "garden", "letter", "mountain", "village", "river", "question", "winter"];
    let mut text = String::new();
    for i in 0..sentences {
        let (a, b) = (nouns[i % 8], nouns[(i / 8 + 3 * i + 1) % 8]);
        text.push_str(&format!(
            "Number {i} of the people walked to the {a} and thought of a {b} that they have seen {i}.\n"
        ));
    }
    text
}

/// Lines of so many words, long enough for no line to be a short one.
fn long_words(lines: usize, words: usize) -> String {
    let line = |i: usize| {
        let words: Vec<String> = (0..words).map(|j| format!("incomprehensibilities{i}{j}")).collect();
        words.join(" ") + ".\n"
    };
    (0..lines).map(line).collect()
}

/// Prose in which next to nothing comes twice.
const VARIED: &str = "The harbour was quiet when our ship came home after nine long weeks at sea.\n\
    Nobody had lit a lamp, though somewhere above us an old dog began to bark.\n\
    We tied up beside two fishing boats and carried the wounded captain ashore.\n\
    His sister, who kept the inn, opened her door before anyone could knock.\n\
    Inside there was soup, dry bread, a bright fire and more silence than I liked.\n\
    Later that night she asked what had happened, but only the cook would answer.\n";

#[test]
fn prose_rules_stand_where_their_sources_put_them() {
    let good = prose(12);
    // Words only, so that of the shares it is the bullets alone that are near their border.
    let counts = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let bullets = |n: usize| {
        let line = |(i, count): (usize, &&str)| {
            format!("{}the man and {count} boats of wood sailed\n", if i < n { "- " } else { "" })
        };
        counts.iter().enumerate().map(line).collect::<String>()
    };
    for (filters, text, expected) in [
        ("gopher-quality = true", good.clone(), ""),
        ("gopher-quality = true", "the man and ".repeat(16), "gopher-quality/words"),
        ("gopher-quality = true", "the man and ".repeat(17), ""),
        ("gopher-quality = true", "a to ".repeat(30), "gopher-quality/word-length"),
        ("gopher-quality = true", "abcdefghijk ".repeat(60), "gopher-quality/word-length"),
        ("gopher-quality = true", "the # man and of it wandered ".repeat(10), "gopher-quality/max-symbols"),
        ("gopher-quality = true", bullets(9), ""),
        ("gopher-quality = true", bullets(10), "gopher-quality/max-bullets"),
        ("gopher-quality = true", bullets(10).replace("- ", "  • "), "gopher-quality/max-bullets"),
        ("gopher-quality = true", bullets(10).replace("- ", "* "), ""),
        (
            "gopher-quality = true",
            "these are some words that go on and on and on ...\n".repeat(6),
            "gopher-quality/max-ellipsis",
        ),
        ("gopher-quality = true", "the and 1234 5678 ".repeat(20), "gopher-quality/min-alphabetic"),
        ("gopher-quality = true", "harbour garden letter ".repeat(20), "gopher-quality/min-stop-words"),
        ("gopher-repetition = true", VARIED.to_owned(), ""),
        ("gopher-repetition = true", good.clone(), "gopher-repetition/top-3-gram"),
        ("gopher-repetition = true", format!("{good}{}", prose(6)), "gopher-repetition/duplicate-lines"),
        ("gopher-repetition = true", "one two three. ".repeat(20), "gopher-repetition/top-2-gram"),
        ("c4 = true", prose(5), ""),
        ("c4 = true", prose(4), "c4/min-sentences"),
        ("c4 = true", format!("{good}lorem IPSUM dolor."), "c4/no-lorem-ipsum"),
        ("c4 = true", format!("{good}{{"), "c4/no-curly-bracket"),
        ("c4 = true", prose(5).replace("\n", " and so on\n"), "c4/min-sentences"),
        ("c4 = { terminal-punctuation = false }", prose(5).replace("\n", " and so on\n"), ""),
        ("fineweb = true", good.clone(), ""),
        ("fineweb = true", good.replace('.', ""), "fineweb/min-punctuated"),
        ("fineweb = true", good.replace('.', "'"), ""),
        ("fineweb = true", good.replace('.', ":"), "fineweb/min-punctuated"),
        ("fineweb = true", good.replace('.', ". "), "fineweb/min-punctuated"),
        ("fineweb = true", "A short line.\nAnother one.\nOne more.\n".to_owned(), "fineweb/max-short"),
        ("fineweb = true", format!("{good}{}", prose(1)), "fineweb/max-duplicate"),
        ("fineweb = true", good.replace(' ', "\n"), "fineweb/min-punctuated"),
        ("fineweb = true", long_words(8, 4), ""),
        ("fineweb = true", long_words(8, 3), "fineweb/max-newlines"),
        ("openwebmath = true", "x".repeat(100), ""),
        ("openwebmath = true", "x".repeat(99), "openwebmath/min-chars"),
        ("openwebmath = true", "x".repeat(985) + &"é".repeat(15), ""),
        ("openwebmath = true", "x".repeat(984) + &"é".repeat(16), "openwebmath/max-accented"),
    ] {
        assert_eq!(judged(filters, "text", &text), expected, "{filters} {text:.80}");
    }
}

#[test]
fn c4_and_openwebmath_take_lines_out() {
    let take = |filters: &str, text: &str| {
        let filters: Filters = toml::from_str(filters).unwrap();
        let mut document = Document { id: String::new(), text: text.to_owned(), meta: Meta::default() };
        filters.judge(&mut document, &Aids::default()).unwrap();
        document.text
    };
    let good = prose(6);
    let page =
        format!("Menu\n{good}Please enable JavaScript to go on.\nSee our privacy policy here.\nno end\n");
    assert_eq!(take("c4 = true", &page), good.trim_end());
    let page = format!("\\newcommand{{a}}{{b}} \\newcommand{{c}}{{d}}\n{good}");
    assert_eq!(take("openwebmath = true", &page), good);
}

#[test]
fn stars_and_characters_per_token_are_santacoders() {
    let judge = |stars: Option<u64>| {
        let filters: Filters = toml::from_str("stack = { min-stars = 6 }").unwrap();
        let meta = Meta { stars, ..Meta::default() };
        let mut document = Document { id: String::new(), text: "a = 1".to_owned(), meta };
        filters.judge(&mut document, &Aids::default()).map_or_else(|against| against.rule, |()| "")
    };
    assert_eq!([judge(Some(6)), judge(Some(5)), judge(None)], ["", "stack/min-stars", "stack/min-stars"]);
    let judge = |stack: &str, language: &str, chars: usize, tokens: usize| {
        let filters: Filters = toml::from_str(stack).unwrap();
        let meta = Meta { language: Some(language.to_owned()), ..Meta::default() };
        let document = Document { id: String::new(), text: "é".repeat(chars), meta };
        let rule = filters.chars_per_token(&document);
        rule.map(|rule| judge_tokens(rule, &document, tokens).is_ok())
    };
    let on = "stack = { chars-per-token = true }";
    for (language, chars) in [("python", 25), ("java", 29), ("javascript", 26)] {
        assert_eq!(judge(on, language, chars, 10), Some(true), "{language}");
        assert_eq!(judge(on, language, chars - 1, 10), Some(false), "{language}");
        assert_eq!(judge("stack = true", language, 1, 10), None);
    }
    assert_eq!(judge(on, "c", 1, 10), None);
    assert_eq!(judge("stack = { chars-per-token = { c = 2.0 } }", "c", 20, 10), Some(true));
    assert_eq!(judge("stack = { chars-per-token = { c = 2.0 } }", "python", 1, 10), None);
}

#[test]
fn licences_are_taken_from_metadata_and_text() {
    let judge = |license: &[&str], text: &str, rule: &str| {
        let filters: Filters = toml::from_str(rule).unwrap();
        let license = license.iter().map(|&l| l.to_owned()).collect();
        let meta = Meta { license, ..Meta::default() };
        let mut document = Document { id: String::new(), text: text.to_owned(), meta };
        filters.judge(&mut document, &Aids::default()).map_or_else(|against| against.rule, |()| "")
    };
    assert_eq!(judge(&["mit"], "", "license = true"), "");
    assert_eq!(judge(&["GPL-3.0", "ISC"], "", "license = true"), "");
    assert_eq!(judge(&["GPL-3.0"], "", "license = true"), "license/not-allowed");
    assert_eq!(judge(&[], "", "license = true"), "license/unknown");
    assert_eq!(judge(&[], "", "license = { unknown = true }"), "");
    assert_eq!(judge(&[], "# SPDX-License-Identifier: Apache-2.0", "license = true"), "");
    assert_eq!(judge(&["MIT"], "", "license = { allow = [\"ISC\"] }"), "license/not-allowed");
}

#[test]
fn a_rule_is_true_false_or_a_table_and_unknown_keys_are_refused() {
    let filters: Filters = toml::from_str("stack = false\nc4 = { min-sentences = 3 }").unwrap();
    assert!(!filters.stack.is_on());
    assert_eq!(filters.c4.get().unwrap(), &C4 { min_sentences: 3, ..C4::default() });
    let again: Filters = serde_json::from_value(serde_json::to_value(&filters).unwrap()).unwrap();
    assert_eq!(again, filters);
    for (text, says) in
        [("stack = 3", "true, false or a table"), ("c4 = { sentences = 3 }", "sentences"), ("x = true", "x")]
    {
        let error = toml::from_str::<Filters>(text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

proptest! {
    #![proptest_config(crate::cases::cases(600))]

    #[test]
    fn counts_are_those_of_a_plain_definition(text in "[a-z0-9é٣中 \t_+\n]{0,120}") {
        let stats = Stats::of(&text);
        let count = |f: fn(char) -> bool| text.chars().filter(|&c| f(c)).count();
        let lines: Vec<usize> = text.strip_suffix('\n').unwrap_or(&text).split('\n').map(|l| l.chars().count()).collect();
        let expected = Stats {
            chars: text.chars().count(),
            lines: lines.len(),
            longest_line: lines.iter().copied().max().unwrap(),
            line_chars: lines.iter().sum(),
            alphabetic: count(char::is_alphabetic),
            alphanumeric: count(char::is_alphanumeric),
            digits: count(|c| c.is_ascii_digit()),
            visible: count(|c| !c.is_whitespace()),
        };
        prop_assert_eq!(stats, expected);
    }

    #[test]
    fn encoded_data_is_what_the_expressions_find(pieces in proptest::collection::vec(prop_oneof![
        "[a-zA-Z0-9+/\n=]{50,80}", "(0x|\\\\x)?[0-9a-f]{2}(, ?| )?", "(\\\\u[0-9a-fA-F]{3,5}){1,9}", "[ -~é中\n]{0,9}",
        "([0-9a-f]{2}[, ]){6,10}", "(\\\\x[0-9A-F]{2}){6,10}",
    ], 0..8)) {
        let text = pieces.concat();
        let expressions = [
            r"[a-zA-Z0-9+/\n=]{64,}",
            r"(?-u)(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}",
            r"(?:\\u[0-9a-fA-F]{4}){8,}",
        ];
        let mut lengths = Vec::new();
        for expression in expressions {
            let expression = Regex::new(expression).unwrap();
            lengths.extend(expression.find_iter(text.as_bytes()).map(|found| found.len()));
        }
        let (longest, all) = (lengths.iter().max().copied().unwrap_or(0), lengths.iter().sum::<usize>());
        for most in [longest, longest.saturating_sub(1)] {
            let rule = Encoded { max_match: most, max_share: f64::INFINITY };
            prop_assert_eq!(rule.judge(&text).is_ok(), longest <= most, "{:?} {}", &text, longest);
        }
        if all > 0 {
            let share = all as f64 / text.chars().count() as f64;
            let judge = |max_share| Encoded { max_match: usize::MAX, max_share }.judge(&text).is_ok();
            prop_assert!(judge(share) && !judge(share * 0.999), "{:?} {}", &text, all);
        }
    }
}
