//! Ids equal to those of Hugging Face tokenizers for Python, whose regular expressions are another engine (onig).
//!
//! The expected ids are in fixtures/parity.json; the tokenizers and longer texts are optional data beside the
//! repository.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests stop at the first surprise, and say what they skip"
)]

use std::fs;
use std::path::{Path, PathBuf};

use llama_pro_text::Tokenizer;
use serde_json::Value;

#[test]
fn llama2() {
    check("llama2", "tokenizers/llama2");
}

#[test]
fn bytelevel() {
    check("bytelevel", "tokenizers/bytelevel");
}

#[test]
fn stories260k() {
    check("stories260K", "stories260K");
}

fn check(name: &str, folder: &str) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = data.join(folder);
    if !folder.join("tokenizer.json").exists() {
        println!("skipped: {} not there", folder.display());
        return;
    }
    let tokenizer = Tokenizer::from_dir(&folder).unwrap();
    let golden: Value = serde_json::from_slice(&fs::read(fixture()).unwrap()).unwrap();
    let texts = golden["texts"].as_array().unwrap();
    let expected = golden["ids"][name].as_array().unwrap();
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        let text = text.as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, expected, "{name}: {text:?}");
        assert!(
            !ids.iter().any(|&id| Some(id) == tokenizer.bos() || Some(id) == tokenizer.eos()),
            "{text:?}"
        );
        // U+2581 stands for a space in SentencePiece-like vocabularies and comes back as one.
        let back = if name == "bytelevel" { text.to_owned() } else { text.replace('\u{2581}', " ") };
        assert_eq!(tokenizer.decode(&ids).unwrap(), back, "{name}: {text:?}");
    }
    for (file, expected) in golden["files"][name].as_object().unwrap() {
        let Ok(text) = fs::read_to_string(data.join(file)) else {
            println!("skipped: {file} not there");
            continue;
        };
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(ids.len() as u64, expected["tokens"], "{name}: {file}");
        assert_eq!(fnv1a(&ids), expected["fnv1a"], "{name}: {file}");
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity.json")
}

/// FNV-1a of the ids as little-endian u32, as the script that made the fixture computed it.
fn fnv1a(ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}
