//! The habits of this repository that no other tool checks: head comments, short files, clean text, and where
//! `unsafe` may stand.

use llama_pro_tests::{TextFile, text_files};

/// The longest file under `src/`.
const LONGEST: usize = 400;

/// Files that are longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Where memory is mapped, C++ is called, or a process is cloned into namespaces, for which there is no safe function. A
/// name that ends in `/` is a folder.
const UNSAFE: [&str; 5] = [
    "crates/checkpoint/src/map.rs",
    "crates/sandbox/src/launcher/child.rs",
    "crates/shards/src/map.rs",
    "crates/torch-ext/",
    "tests/tests/flash.rs",
];

/// How many lines above a block of `unsafe` its SAFETY comment may begin.
const NEAR: usize = 8;

/// All files that people write here: not what other tools have written, nor templates that are read to the byte.
fn files() -> impl Iterator<Item = TextFile> {
    let made = [
        "tests/fixtures/",
        "crates/eval/tests/fixtures/",
        "data/",
        "Cargo.lock",
        "tests/reference/chat_templates/",
    ];
    text_files().into_iter().filter(move |file| !made.iter().any(|place| file.name.starts_with(place)))
}

fn rust() -> impl Iterator<Item = TextFile> {
    files().filter(TextFile::is_rust)
}

/// All findings at once: it is tiresome to be told of one at a time.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn the_files_are_found() {
    // The other tests pass on nothing; this one does not.
    assert!(rust().any(|file| file.name == "tests/tests/tidy.rs"));
    assert!(rust().filter(TextFile::is_shipped).any(|file| file.name == "crates/checkpoint/src/lib.rs"));
    assert!(files().any(|file| file.name == "Cargo.toml"));
}

#[test]
fn every_file_says_what_it_is() {
    none(rust().filter(|file| !file.text.starts_with("//! ")).map(|file| file.name).collect());
}

#[test]
fn files_are_short() {
    let long = |file: TextFile| {
        let lines = file.text.lines().count();
        let known = LONGER.iter().any(|(name, _)| *name == file.name);
        (lines > LONGEST && !known).then(|| format!("{}: {lines} lines", file.name))
    };
    none(rust().filter(|file| file.name.contains("/src/")).filter_map(long).collect());
}

#[test]
fn text_is_clean() {
    let mut findings = Vec::new();
    for file in files() {
        let name = &file.name;
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            findings.push(format!("{name}: no newline at the end"));
        }
        if file.text.ends_with("\n\n") {
            findings.push(format!("{name}: empty lines at the end"));
        }
        for (number, line) in file.text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(format!("{name}:{}: white space at the end", number + 1));
            }
            if file.is_rust() && line.contains('\t') {
                findings.push(format!("{name}:{}: a tab", number + 1));
            }
        }
    }
    none(findings);
}

#[test]
fn nothing_is_left_to_do() {
    // Pieces, so that this file is not a find of its own.
    let forbidden = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    let mut findings = Vec::new();
    for file in rust() {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = forbidden.iter().find(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}", file.name, number + 1));
            }
        }
    }
    none(findings);
}

/// Does this line of code open something unsafe? Not in a comment, not in the name of a lint.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let keyword = concat!("uns", "afe");
    let after = ["{", "fn", "impl", "extern", "trait"];
    code.match_indices(keyword).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let rest = &code[at + keyword.len()..];
        let word = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '"');
        let spaced = rest.starts_with(' ') || rest.is_empty();
        word && spaced && (rest.is_empty() || after.iter().any(|next| rest.trim_start().starts_with(next)))
    })
}

#[test]
fn the_search_for_unsafe_sees_it() {
    let keyword = concat!("uns", "afe");
    for code in [
        "let x = @ { f() };",
        "@ impl Send for X {}",
        "pub @ fn f() {}",
        "@ extern \"C\" {",
        "drop(@ { f() })",
    ] {
        assert!(is_unsafe(&code.replace('@', keyword)), "{code}");
    }
    for code in ["#![expect(@_code)]", "// @ { }", "let @ty = 1;", "\"@ word\""] {
        assert!(!is_unsafe(&code.replace('@', keyword)), "{code}");
    }
}

#[test]
fn unsafe_stands_where_it_may_and_says_why() {
    let mut findings = Vec::new();
    for file in rust() {
        let allowed = UNSAFE
            .iter()
            .any(|name| file.name == *name || name.ends_with('/') && file.name.starts_with(name));
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if !is_unsafe(line) {
                continue;
            }
            let place = format!("{}:{}", file.name, number + 1);
            if !allowed {
                findings.push(format!("{place}: unsafe code outside the files that may have it"));
            }
            // The declarations of a foreign library are checked by its own header, not argued for line by line.
            if line.contains("extern") {
                continue;
            }
            let above = &lines[number.saturating_sub(NEAR)..=number];
            if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                findings.push(format!("{place}: no SAFETY comment in the {NEAR} lines above"));
            }
        }
    }
    none(findings);
}
