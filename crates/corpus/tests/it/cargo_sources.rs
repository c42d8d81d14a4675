//! The sources of this workspace's own dependencies, as the registry of this machine has them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use llama_pro_corpus::{Counts, Document, Environment, Error, Lockfile, documents};

use super::support::{folder, source};

fn real() -> Environment {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    Environment {
        base_dir: PathBuf::from("."),
        cargo_home: std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home),
        lockfile: Some(lock(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()),
        vendor: None,
    }
}

fn lock(folder: &Path) -> Result<Lockfile, Error> {
    Lockfile::read(&folder.join("Cargo.lock"))
}

fn read(toml: &str, environment: &Environment) -> Result<(Vec<Document>, Counts), Error> {
    let mut stream = documents(&source(toml), environment)?;
    let all = stream.by_ref().collect::<Result<Vec<_>, _>>()?;
    Ok((all, stream.counts().clone()))
}

const CRATES: &str = "crates = [\"serde\", \"regex-syntax\"]\n";

#[test]
fn code_and_prose_of_real_crates_do_not_overlap() {
    let (code, code_counts) = read(&format!("kind = \"cargo-code\"\n{CRATES}"), &real()).unwrap();
    let (prose, _) = read(&format!("kind = \"cargo-prose\"\n{CRATES}"), &real()).unwrap();
    let bytes = |documents: &[Document]| documents.iter().map(|document| document.text.len()).sum::<usize>();
    assert!(bytes(&code) > 400_000 && bytes(&prose) > 60_000, "{} {}", bytes(&code), bytes(&prose));
    assert!(
        code.iter()
            .any(|document| document.id.starts_with("serde-1.") && document.id.ends_with("/src/lib.rs"))
    );
    assert!(prose.iter().any(|document| document.id.ends_with("/README.md")));
    assert_eq!(code_counts.seen, code_counts.accounted());
    // The tables of Unicode classes are no code to learn from.
    assert!(!code.iter().any(|document| document.id.contains("unicode_tables/general_category")));

    for document in &code {
        for line in document.text.lines().map(str::trim_start) {
            assert!(!line.starts_with("//!"), "{}: {line}", document.id);
            assert!(!line.starts_with("///") || line.starts_with("////"), "{}: {line}", document.id);
        }
    }
    let paragraphs: Vec<&str> =
        prose.iter().flat_map(|document| document.text.split('\n')).filter(|line| line.len() >= 60).collect();
    let distinct: HashSet<&str> = paragraphs.iter().copied().collect();
    assert_eq!(distinct.len(), paragraphs.len(), "a paragraph came twice");
    for paragraph in distinct {
        assert!(!code.iter().any(|document| document.text.contains(paragraph)), "{paragraph}");
        assert!(!paragraph.contains("```") && !paragraph.contains("]("), "{paragraph}");
    }
}

#[test]
fn order_and_repetition_of_the_list_do_not_matter() {
    let kind = "kind = \"cargo-prose\"\n";
    let one = read(&format!("{kind}{CRATES}"), &real()).unwrap();
    let other = read(&format!("{kind}crates = [\"regex-syntax\", \"serde\", \"serde\"]\n"), &real()).unwrap();
    assert_eq!(one, other);
}

fn fake_lock() -> tempfile::TempDir {
    folder(&[
        ("Cargo.lock", b"version = 4\n[[package]]\nname = \"tiny\"\nversion = \"1.2.0\"\n\n[[package]]\nname = \"tiny\"\nversion = \"1.10.0\"\n"),
        ("vendor/tiny/Cargo.toml", b"[package]\nname = \"tiny\"\nversion = \"1.10.0\"\n"),
        ("vendor/tiny/src/lib.rs", b"/// Doc.\npub fn from_the_vendor_folder_of_this_test(argument: usize) -> usize {\n    let value = argument + 1;\n    value * 2\n}\n"),
        ("home/registry/src/b-mirror/tiny-1.10.0/src/lib.rs", b"pub fn from_the_registry_of_this_test(argument: usize) -> usize {\n    let value = argument + 1;\n    value * 2\n}\n// ok\n"),
        ("home/registry/src/a-mirror/other-1.0.0/src/lib.rs", b""),
    ])
}

#[test]
fn a_vendor_folder_comes_before_the_registry_and_must_have_the_version() {
    let dir = fake_lock();
    let mut environment = Environment {
        base_dir: dir.path().to_owned(),
        cargo_home: Some(dir.path().join("home")),
        lockfile: Some(lock(dir.path()).unwrap()),
        vendor: Some(dir.path().join("vendor")),
    };
    let toml = "kind = \"cargo-code\"\ncrates = [\"tiny\"]\n";
    let (documents, _) = read(toml, &environment).unwrap();
    assert_eq!(documents[0].id, "tiny-1.10.0/src/lib.rs");
    assert!(documents[0].text.starts_with("pub fn from_the_vendor_folder"));
    environment.vendor = None;
    assert!(read(toml, &environment).unwrap().0[0].text.starts_with("pub fn from_the_registry"));

    let old = "kind = \"cargo-code\"\ncrates = [\"tiny@1.2.0\"]\n";
    environment.vendor = Some(dir.path().join("vendor"));
    let error = read(old, &environment).unwrap_err();
    assert!(matches!(error, Error::MissingCrate { .. }));
    let error = error.to_string();
    assert!(
        error.contains("`tiny` 1.2.0") && error.contains("cargo fetch") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn what_is_not_pinned_is_named() {
    let dir = fake_lock();
    let mut environment = Environment { lockfile: Some(lock(dir.path()).unwrap()), ..Environment::default() };
    let error = read("kind = \"cargo-code\"\ncrates = [\"tinny\"]\n", &environment).unwrap_err().to_string();
    assert!(error.contains("no package `tinny`"), "{error}");
    let error = read("kind = \"cargo-code\"\ncrates = []\n", &environment).unwrap_err().to_string();
    assert!(error.contains("crates: expected at least one"), "{error}");
    let no_lock = Environment::default();
    let error = read("kind = \"cargo-code\"\ncrates = [\"a\"]\n", &no_lock).unwrap_err().to_string();
    assert!(error.contains("Cargo.lock"), "{error}");
    std::fs::write(dir.path().join("Cargo.lock"), "package = 3\n").unwrap();
    environment.lockfile = Some(lock(dir.path()).unwrap());
    let error = read("kind = \"cargo-code\"\ncrates = [\"a\"]\n", &environment).unwrap_err().to_string();
    assert!(error.contains("not a Cargo.lock") && !error.contains('\n'), "{error}");
    std::fs::remove_file(dir.path().join("Cargo.lock")).unwrap();
    let error = lock(dir.path()).unwrap_err().to_string();
    assert!(error.contains("Cargo.lock") && !error.contains('\n'), "{error}");
}

/// Not a check: shows what a list of crates gives. `SHOW="serde clap" cargo test -p llama-pro-corpus -- --ignored
/// --nocapture show`
#[test]
#[ignore = "prints a report for eyes"]
fn show() {
    let wanted = std::env::var("SHOW").unwrap_or_else(|_| "serde regex-syntax".to_owned());
    let samples: usize = std::env::var("SAMPLES").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut totals = [0, 0];
    for name in wanted.split_whitespace() {
        let mut row = format!("{name:28}");
        for (i, kind) in ["cargo-prose", "cargo-code"].into_iter().enumerate() {
            let (all, counts) =
                read(&format!("kind = \"{kind}\"\ncrates = [\"{name}\"]\n"), &real()).unwrap();
            row += &format!(" {:>9} {:>4}", counts.bytes, counts.kept);
            totals[i] += counts.bytes;
            for document in all.iter().step_by(all.len() / (samples + 1) + 1).take(samples) {
                println!(
                    "=== {kind} {}\n{}",
                    document.id,
                    document.text.chars().take(1500).collect::<String>()
                );
            }
        }
        println!("{row}");
    }
    println!("{:28} {:>9}      {:>9}", "alone, in all", totals[0], totals[1]);
    let list = wanted.split_whitespace().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    for kind in ["cargo-prose", "cargo-code"] {
        let (_, counts) = read(&format!("kind = \"{kind}\"\ncrates = [{list}]\n"), &real()).unwrap();
        println!("together: {kind} {} bytes, {counts}", counts.bytes);
    }
}
