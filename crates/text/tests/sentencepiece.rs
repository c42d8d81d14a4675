//! `tokenizer.model` files: ids against SentencePiece's own, against its definition, and clear refusals.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use llama_pro_text::{EncodingPath, Error, Tokenizer, sentencepiece_to_json};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The ids that the Python packages gave: tests/reference/make_small_vocabularies.py.
#[test]
fn ids_equal_sentencepiece_and_tokenizers() {
    let golden: Value = serde_json::from_slice(&std::fs::read(fixture("small-ids.json")).unwrap()).unwrap();
    let model = Tokenizer::from_sentencepiece(&fixture("small.model")).unwrap();
    let bytes = Tokenizer::from_file(&fixture("small-bytes.json")).unwrap();
    assert_eq!((model.bos(), model.eos()), (Some(1), Some(2)));
    assert_eq!(model.encoding_path(), &EncodingPath::Words);
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    for (number, text) in texts.iter().enumerate() {
        for (name, tokenizer) in [("small.model", &model), ("small-bytes.json", &bytes)] {
            let expected: Vec<u32> = serde_json::from_value(golden[name][number].clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), expected, "{name}: {text:?}");
            let back = if name == "small.model" { text.replace('\u{2581}', " ") } else { text.clone() };
            assert_eq!(tokenizer.decode(&expected).unwrap(), back, "{name}");
        }
    }
}

#[test]
fn a_folder_without_tokenizer_json_opens_its_model() {
    let dir = TempDir::new().unwrap();
    std::fs::copy(fixture("small.model"), dir.path().join("tokenizer.model")).unwrap();
    let model = Tokenizer::from_dir(dir.path()).unwrap();
    let digest = blake3::hash(&std::fs::read(fixture("small.model")).unwrap()).to_hex();
    assert_eq!(model.digest(), format!("blake3:{digest}"));
    assert_eq!(model.vocab_size(), 1200);
    // A configured null counts here too.
    std::fs::write(dir.path().join("tokenizer_config.json"), "{\"eos_token\": null}").unwrap();
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().eos(), None);
    // The converted file gives the same ids to whoever reads it.
    std::fs::write(
        dir.path().join("tokenizer.json"),
        sentencepiece_to_json(&fixture("small.model")).unwrap(),
    )
    .unwrap();
    let json = Tokenizer::from_dir(dir.path()).unwrap();
    assert_ne!(json.digest(), model.digest());
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fast.rs")).unwrap();
    assert_eq!(json.encode(&text).unwrap(), model.encode(&text).unwrap());
}

/// LLaMA-2's own model against the tokenizer.json beside it, whose merges are ordered by score.
#[test]
fn llama2_both_ways() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers/llama2");
    if !folder.join("tokenizer.model").exists() {
        println!("skipped: {} not there", folder.display());
        return;
    }
    let model = Tokenizer::from_sentencepiece(&folder.join("tokenizer.model")).unwrap();
    let json = Tokenizer::from_dir(&folder).unwrap();
    assert_eq!((model.bos(), model.eos(), model.vocab_size()), (json.bos(), json.eos(), json.vocab_size()));
    // Runs of spaces have one score in this model.
    for length in 1..80 {
        let text = format!("x{}y\n{}", " ".repeat(length), " ".repeat(length));
        assert_eq!(model.encode(&text).unwrap(), json.encode(&text).unwrap(), "{length} spaces");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["ARCHITECTURE.md", "README.md", "crates/text/src/fast.rs", "crates/text/tests/encoding.rs"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let ids = model.encode(&text).unwrap();
        assert_eq!(ids, json.encode(&text).unwrap(), "{file}");
        assert_eq!(json.decode(&ids).unwrap(), text.replace('\u{2581}', " "));
        let mut plain = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
        plain.set_encode_special_tokens(true);
        assert_eq!(ids, plain.encode_fast(&*text, false).unwrap().get_ids(), "{file}");
    }
}

const NORMAL: u64 = 1;

/// A model in the making: pieces with score and type, and the fields of the two specifications.
struct Model {
    pieces: Vec<(String, f32, u64)>,
    trainer: Vec<(u64, u64)>,
    normalizer: Vec<(u64, u64)>,
    rule: Vec<u8>,
}

impl Model {
    /// `<unk>`, `<s>`, `</s>` and all bytes, then pieces.
    fn new(pieces: &[(&str, f32)]) -> Self {
        let mut all =
            vec![("<unk>".to_owned(), 0.0, 2), ("<s>".to_owned(), 0.0, 3), ("</s>".to_owned(), 0.0, 3)];
        all.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
        all.extend(pieces.iter().map(|&(text, score)| (text.to_owned(), score, NORMAL)));
        // BPE, byte fallback; no extra white space removed.
        Self { pieces: all, trainer: vec![(3, 2), (35, 1)], normalizer: vec![(4, 0)], rule: vec![] }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (text, score, kind) in &self.pieces {
            let mut piece = Vec::new();
            field(&mut piece, 1, text.as_bytes());
            piece.push(2 << 3 | 5);
            piece.extend(score.to_le_bytes());
            number(&mut piece, 3, *kind);
            field(&mut out, 1, &piece);
        }
        let spec = |fields: &[(u64, u64)]| {
            let mut spec = Vec::new();
            fields.iter().for_each(|&(key, value)| number(&mut spec, key, value));
            spec
        };
        field(&mut out, 2, &spec(&self.trainer));
        let mut normalizer = spec(&self.normalizer);
        field(&mut normalizer, 2, &self.rule);
        field(&mut out, 3, &normalizer);
        out
    }

    fn open(&self) -> Result<Tokenizer, Error> {
        open(&self.bytes())
    }
}

fn open(bytes: &[u8]) -> Result<Tokenizer, Error> {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), bytes).unwrap();
    Tokenizer::from_dir(dir.path())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, key: u64, value: u64) {
    varint(out, key << 3);
    varint(out, value);
}

fn field(out: &mut Vec<u8>, key: u64, bytes: &[u8]) {
    varint(out, key << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// SentencePiece's definition on strings: join the neighbours whose piece scores highest, the leftmost of equals.
fn definition(pieces: &HashMap<String, (f32, u32)>, text: &str) -> Vec<u32> {
    if text.is_empty() {
        return vec![];
    }
    let mut symbols: Vec<String> =
        format!(" {text}").replace(' ', "\u{2581}").chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 0..symbols.len().saturating_sub(1) {
            if let Some(&(score, _)) = pieces.get(&(symbols[at].clone() + &symbols[at + 1]))
                && best.is_none_or(|(most, _)| score > most)
            {
                best = Some((score, at));
            }
        }
        let Some((_, at)) = best else { break };
        let right = symbols.remove(at + 1);
        symbols[at].push_str(&right);
    }
    let ids = symbols.iter().flat_map(|symbol| match pieces.get(symbol) {
        Some(&(_, id)) => vec![id],
        None => symbol.bytes().map(|byte| 3 + u32::from(byte)).collect(),
    });
    ids.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Random pieces over few letters, spaces within them included, so that pieces overlap themselves and each other and
    /// words are crossed.
    #[test]
    fn ids_equal_the_definition(
        pieces in prop::collection::btree_set("[ab▁é]{1,4}", 0..30),
        order in any::<u64>(),
        levels in 1u8..80,
        text in "[ab é\n世]{0,60}",
    ) {
        let pieces: BTreeSet<String> = pieces.into_iter().chain(["▁", "a", "b", "é"].map(String::from)).collect();
        // In any order, some with one score.
        let score = |piece: &str| f32::from(blake3::hash(format!("{order}{piece}").as_bytes()).as_bytes()[0] / levels);
        let scored: Vec<(&str, f32)> = pieces.iter().map(|piece| (piece.as_str(), score(piece))).collect();
        let known = scored.iter().zip(259..).map(|(&(piece, score), id)| (piece.to_owned(), (score, id))).collect();
        let tokenizer = Model::new(&scored).open().unwrap();
        prop_assert_eq!(tokenizer.encode(&text).unwrap(), definition(&known, &text));
    }

    /// No file makes the reader panic or give anything but a tokenizer or one line.
    #[test]
    fn damaged_models_are_refused(
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = Model::new(&[("▁", -1.0), ("a", -2.0), ("▁a", -3.0)]).bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Err(error) = open(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn bytes_that_are_no_model_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&bytes).is_err());
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let pieces = [("▁", -1.0), ("a", -2.0), ("▁a", -3.0)];
    let message = |change: &dyn Fn(&mut Model)| {
        let mut model = Model::new(&pieces);
        change(&mut model);
        model.open().unwrap_err().to_string()
    };
    assert!(message(&|m| m.trainer[0].1 = 1).contains("tokenizer.model: a unigram model is not supported"));
    assert!(message(&|m| m.trainer[0].1 = 3).contains("a word model"));
    assert!(message(&|m| m.rule = vec![1, 2]).contains("the normalization rule"));
    assert!(message(&|m| m.normalizer.clear()).contains("remove_extra_whitespaces"));
    assert!(message(&|m| m.normalizer.push((5, 0))).contains("escape_whitespaces = false"));
    assert!(message(&|m| m.trainer.push((24, 1))).contains("treat_whitespace_as_suffix"));
    assert!(message(&|m| m.trainer.truncate(1)).contains("byte_fallback = false"));
    assert!(message(&|m| m.pieces.push(("x".into(), 0.0, 4))).contains("the user-defined symbol \"x\""));
    assert!(message(&|m| m.pieces.push(("x".into(), 0.0, 5))).contains("the unused piece \"x\""));
    assert!(message(&|m| drop(m.pieces.remove(70))).contains("no byte piece <0x43>"));
    assert!(message(&|m| m.pieces.push(("a".into(), 0.0, 1))).contains("are both \"a\""));
    assert!(message(&|m| m.pieces[260].1 = f32::NAN).contains("the score NaN of \"a\""));
    assert!(message(&|m| m.pieces.push(("ab".into(), -3.0, 1))).contains("\"ab\" has the character 'b'"));
    assert!(message(&|m| m.pieces.push((String::new(), 0.0, 1))).contains("of 0 bytes"));
    assert!(message(&|m| m.pieces[259].0 = "b".into()).contains("has the character '▁'"));
    assert!(message(&|m| m.pieces.truncate(259)).contains("U+2581 is no token is not supported"));
    assert!(Model::new(&pieces).open().is_ok());
}
