//! Parquet: columns of every string type as pyarrow 25 writes them, and files that are damaged.

use std::path::Path;

use llama_pro_corpus::Error;

use super::pipeline::run;
use super::support::{folder, read, texts};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.parquet"));
    std::fs::read(path).unwrap()
}

const STACK: &str = "kind = \"parquet\"\npath = \"p\"\n[fields]\npath = \"max_stars_repo_path\"\n\
                     license = \"max_stars_repo_licenses\"\n";

#[test]
fn every_string_type_is_read_with_its_metadata() {
    let expected = [
        "def f():\n    return 1\n",
        "second text, with ünïcode and \"quotes\"\n",
        &"third\n".repeat(5),
        "fourth row\n",
    ];
    for name in ["string", "large_string", "string_view", "binary"] {
        let dir = folder(&[("p/a.parquet", &fixture(name))]);
        let (documents, counts) = read(STACK, dir.path()).unwrap();
        assert_eq!(texts(&documents), expected, "{name}");
        assert_eq!((counts.seen, documents[1].id.as_str()), (4, "a.parquet:2"));
        assert_eq!(documents[1].meta.path.as_deref(), Some("a/1.py"));
        assert_eq!(documents[1].meta.license, ["Apache-2.0", "MIT"]);
        assert!(documents[3].meta.license.is_empty());
    }
}

#[test]
fn missing_columns_and_wrong_types_are_named() {
    let dir = folder(&[("p/a.parquet", &fixture("string"))]);
    let error = |toml: &str| read(toml, dir.path()).unwrap_err().to_string();
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{text}\"\n");
    assert!(
        found.contains("none of the columns text; the file has: content, max_stars_repo_path"),
        "{found}"
    );
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{content}{nope}\"\n");
    assert!(found.contains("row 1: no field `nope`"), "{found}");
    let found = error("kind = \"parquet\"\npath = \"p\"\ntemplate = \"{max_stars_repo_licenses}\"\n");
    assert!(found.contains("expected a string, found an array"), "{found}");
}

#[test]
fn damaged_files_are_errors_or_counted_never_panics() {
    let whole = fixture("large_string");
    for length in [0, 3, 4, 12, whole.len() / 3, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        let dir = folder(&[("p/a.parquet", &whole[..length])]);
        let error = read(STACK, dir.path()).unwrap_err();
        assert!(matches!(error, Error::Parquet { .. }), "{length}: {error}");
    }
    // One byte in turn is another: an error, another text or the same, but an end.
    for at in (0..whole.len()).step_by(17) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        let dir = folder(&[("p/a.parquet", &bytes)]);
        _ = read(STACK, dir.path());
    }
    let dir = folder(&[("p/a.parquet", &whole), ("p/b.parquet", &whole[..whole.len() / 2])]);
    let toml = "on-error = \"skip\"\n[split]\nvalidation = 0.0\n[[sources]]\nname = \"s\"\nsource = { kind = \"parquet\", path = \"p\" }\n";
    let report = run(toml, dir.path()).unwrap().report;
    assert_eq!(report.totals(), (5, 4, 0, 1));
    assert_eq!(report.sources[0].documents.failed["damaged-file"], 1);
    let rule = report.sources[0].rules.iter().find(|rule| rule.rule == "damaged-file").unwrap();
    assert!(rule.failed && rule.examples[0].id.ends_with("b.parquet"));
}
