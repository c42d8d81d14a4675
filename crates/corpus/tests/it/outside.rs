//! What decides over documents and lies outside the recipe: BigCode's table of extensions, and the tokenizer.

use std::collections::BTreeMap;

use super::pipeline::{recipe, run};
use super::support::{folder, write};

const HEAD: &str = "extension,language,Include,Alphanum_threshold,Long_line_threshold,Alpha filter\n";

#[test]
fn the_table_of_extensions_is_read_from_its_place_and_a_change_of_it_is_noticed() {
    let dir = folder(&[("rules.csv", format!("{HEAD}py,python,1,,,\n").as_bytes())]);
    let body = |i: usize| format!("x{i} = [{}]\n", "1, ".repeat(400));
    (0..6).for_each(|i| write(dir.path(), &format!("src/f{i}.py"), body(i).as_bytes()));
    (0..3).for_each(|i| write(dir.path(), &format!("src/f{i}.pyw"), format!("y = {i}\n").as_bytes()));
    let toml = "[split]\nvalidation = 0.0\n[[sources]]\nname = \"code\"\n\
        filters = { starcoder = { per-extension = \"rules.csv\" } }\n\
        source = { kind = \"files\", path = \"src\", extensions = [\"py\", \"pyw\"] }\n";
    let dropped = || {
        run(toml, dir.path())
            .map(|corpus| (corpus.reused, corpus.report.sources[0].documents.dropped.clone()))
    };
    let rule = |name: &str, n: u64| BTreeMap::from([(name.to_owned(), n)]);
    assert_eq!(dropped().unwrap(), (false, rule("starcoder/extension", 3)));
    assert_eq!(dropped().unwrap(), (true, rule("starcoder/extension", 3)));
    write(dir.path(), "rules.csv", format!("{HEAD}py,python,0,,,\npyw,pyw,1,,,\n").as_bytes());
    assert_eq!(dropped().unwrap(), (false, rule("starcoder/extension", 6)));
    write(dir.path(), "rules.csv", format!("{HEAD}py,python,1,,1000,\npyw,pyw,1,,,\n").as_bytes());
    assert_eq!(dropped().unwrap(), (false, rule("starcoder/max-line-length", 6)));
    std::fs::remove_file(dir.path().join("rules.csv")).unwrap();
    assert!(dropped().unwrap_err().to_string().contains("rules.csv"));
}

#[test]
fn characters_per_token_and_stars_are_asked_of_tokenizer_and_record() {
    // The tokenizer of these tests knows the words of its one sentence, and spells everything else.
    let known = "the quick brown fox jumps over the lazy dog ".repeat(5);
    let spelled: String = (0..60).map(|i| format!("{i}Q#")).collect();
    let line = |text: &str, stars: &str, i: usize| {
        format!("{{\"text\": {:?}, \"l\": \"Python\", \"s\": {stars}}}\n", format!("{text}{i}"))
    };
    let stars = ["6.0", "7", "5", "null"];
    let lines: String =
        (0..8).map(|i| line(if i < 4 { &known } else { &spelled }, stars[i % 4], i)).collect();
    let dir = folder(&[("a.jsonl", lines.as_bytes())]);
    let counts = |stack: &str| {
        let toml = format!(
            "[split]\nvalidation = 0.0\n[[sources]]\nname = \"code\"\nfilters = {{ stack = {stack} }}\n\
             source = {{ kind = \"jsonl\", path = \"a.jsonl\", fields = {{ language = \"l\", stars = \"s\" }} }}\n"
        );
        run(&toml, dir.path()).unwrap().report.sources[0].documents.dropped.clone()
    };
    let rule = |name: &str, n: u64| BTreeMap::from([(name.to_owned(), n)]);
    assert_eq!(counts("{ min-alphanumeric = 0.0, max-mean-line-length = 1000.0 }"), BTreeMap::new());
    let fertile = "{ min-alphanumeric = 0.0, max-mean-line-length = 1000.0, chars-per-token = true }";
    assert_eq!(counts(fertile), rule("stack/chars-per-token", 4));
    let popular = "{ min-alphanumeric = 0.0, max-mean-line-length = 1000.0, min-stars = 6 }";
    assert_eq!(counts(popular), rule("stack/min-stars", 4));
    let lines = std::fs::read(dir.path().join("out/code-train.documents.jsonl.zst")).unwrap();
    let lines = String::from_utf8(zstd::decode_all(&lines[..]).unwrap()).unwrap();
    assert!(
        lines.lines().all(|line| line.contains("\"stars\":6") || line.contains("\"stars\":7")),
        "{lines}"
    );
}

#[test]
fn what_is_too_large_says_by_how_much_and_by_which_key() {
    let dir = folder(&[("src/a.py", b"x = 1\n"), ("src/b.py", &[b'#'; 2000])]);
    let toml = "[split]\nvalidation = 0.0\n[[sources]]\nname = \"code\"\n\
        source = { kind = \"files\", path = \"src\", extensions = [\"py\"], max-file-bytes = 1500 }\n";
    let corpus = run(toml, dir.path()).unwrap();
    let example = &corpus.report.sources[0].rules[0].examples[0];
    assert_eq!(example.detail, "2000 bytes, at most 1500 (max-file-bytes)");
    // The length of a document is stored in 32 bits.
    for (value, right) in [(u64::from(u32::MAX), true), (1 << 32, false), (0, false)] {
        let checked = recipe(&format!("max-document-bytes = {value}\n{toml}")).check();
        assert_eq!(checked.is_ok(), right, "{value}");
    }
}

/// What is judged, counted and kept of a notebook is its Markdown; the JSON around it is nobody's text.
#[test]
fn notebooks_are_converted_before_anything_else() {
    let notebook = |source: &str| {
        let cell = serde_json::json!({ "cell_type": "markdown", "source": [source] });
        let image = serde_json::json!({ "data": { "image/png": "A".repeat(5000) } });
        let code = serde_json::json!({ "cell_type": "code", "source": "x = 1", "outputs": [image] });
        serde_json::json!({ "nbformat": 4, "metadata": { "note": "autogenerated" }, "cells": [cell, code] })
            .to_string()
    };
    let dir = folder(&[
        ("src/a.ipynb", notebook("one\r\ntwo\0 \\begin{align} x").as_bytes()),
        // The same after its line endings are made one.
        ("src/b.ipynb", notebook("one\ntwo \\begin{align} x").as_bytes()),
        ("src/c.ipynb", notebook("\\begin{align} this file is generated").as_bytes()),
        ("src/d.ipynb", notebook(&format!("\\begin{{align}} {}", "ab\n".repeat(500))).as_bytes()),
        ("src/e.ipynb", b"\xef\xbb\xbfno notebook, but import sympy"),
    ]);
    let toml = "max-document-bytes = 1000\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"n\"\n\
        filters = { algebraic-stack = true, generated = true, stack = true, encoded = true }\n\
        source = { kind = \"files\", path = \"src\", extensions = [\"ipynb\"] }\n";
    let counts = run(toml, dir.path()).unwrap().report.sources[0].documents.clone();
    let dropped = [("algebraic-stack/notebook", 1), ("duplicate", 1), ("generated", 1), ("too-large", 1)];
    assert_eq!(counts.dropped, dropped.map(|(rule, n)| (rule.to_owned(), n)).into());
    assert_eq!((counts.seen, counts.kept, counts.nuls_removed), (5, 1, 1));
    let kept = super::pipeline::texts(dir.path(), "n-train");
    assert_eq!(kept, ["one\ntwo \\begin{align} x\n\n```\nx = 1\n```\n"]);
}
