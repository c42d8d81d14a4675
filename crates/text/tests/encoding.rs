//! The fast ways of encoding against `tokenizers`, on text that is made to be difficult.
//!
//! The vocabularies: two that tests/reference/make_small_vocabularies.py trained, two that are written out here, and
//! the large ones of the optional data beside the repository.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests stop at the first surprise and say what they skip"
)]

#[path = "common/cases.rs"]
mod cases;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use llama_pro_text::{Encoder, EncodingPath, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A tokenizer of ours and the library's own, which finds no special tokens in text either.
struct Both {
    ours: Tokenizer,
    library: tokenizers::Tokenizer,
}

impl Both {
    fn new(json: &[u8]) -> Self {
        let ours = Tokenizer::from_bytes(Path::new("tokenizer.json"), json).unwrap();
        let mut library = tokenizers::Tokenizer::from_bytes(json).unwrap();
        library.set_encode_special_tokens(true);
        Self { ours, library }
    }

    fn open(path: &Path) -> Option<Self> {
        std::fs::read(path).ok().map(|json| Self::new(&json))
    }

    fn library(&self, text: &str) -> Vec<u32> {
        self.library.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// With the memory that `encoder` has by now, and with the tokenizer's own.
    fn check(&self, encoder: &mut Encoder<'_>, text: &str) {
        let expected = self.library(text);
        let mut ids = vec![7];
        encoder.encode_into(text, &mut ids).unwrap();
        assert_eq!(ids[0], 7);
        assert_eq!(ids[1..], expected, "{text:?}");
        assert_eq!(self.ours.encode(text).unwrap(), expected, "{text:?}");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name)
}

/// The SentencePiece-like vocabulary, as the tokenizer.json that it becomes.
fn small_words() -> Value {
    serde_json::from_slice(&llama_pro_text::sentencepiece_to_json(&fixture("small.model")).unwrap()).unwrap()
}

fn small_bytes() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("small-bytes.json")).unwrap()).unwrap()
}

/// Every vocabulary there is, with what its path must be.
static ALL: LazyLock<Vec<(&str, Both, EncodingPath)>> = LazyLock::new(|| {
    let pieces = |pattern| EncodingPath::Pieces { pattern };
    let mut all = vec![
        ("small words", Both::new(small_words().to_string().as_bytes()), EncodingPath::Words),
        ("small words, Metaspace", Both::new(metaspace("first").to_string().as_bytes()), EncodingPath::Words),
        ("small words, no prefix", Both::new(metaspace("never").to_string().as_bytes()), EncodingPath::Words),
        ("small words, added", Both::new(added(small_words()).to_string().as_bytes()), EncodingPath::Words),
        ("small bytes", Both::new(small_bytes().to_string().as_bytes()), pieces("LLaMA-3")),
        ("small bytes, added", Both::new(added(small_bytes()).to_string().as_bytes()), pieces("LLaMA-3")),
        ("small bytes, NFC", Both::new(qwen().to_string().as_bytes()), pieces("Qwen2")),
        ("small bytes, GPT-2", Both::new(gpt2().to_string().as_bytes()), pieces("GPT-2")),
        ("small bytes, digits", Both::new(digits().to_string().as_bytes()), pieces("the tokenizer's own")),
    ];
    for (name, folder, path) in [
        ("llama2", "tokenizers/llama2", EncodingPath::Words),
        ("bytelevel", "tokenizers/bytelevel", pieces("LLaMA-3")),
        ("stories260K", "stories260K", EncodingPath::Words),
    ] {
        match Both::open(&shared(folder).join("tokenizer.json")) {
            Some(both) => all.push((name, both, path)),
            None => println!("skipped: {} not there", shared(folder).display()),
        }
    }
    all
});

/// The construction of newer conversions: no normalizer, a Metaspace that does not split.
fn metaspace(scheme: &str) -> Value {
    let mut json = small_words();
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false});
    json
}

/// Added tokens that are words of the vocabulary and found in any text.
fn added(mut json: Value) -> Value {
    let token = |content: &str, normalized: bool, strip: bool| {
        json!({
            "id": 0, "content": content, "single_word": false, "lstrip": strip, "rstrip": strip,
            "normalized": normalized, "special": false,
        })
    };
    let added = json["added_tokens"].as_array_mut().unwrap();
    added.extend([token("<tool>", false, true), token("two words", true, false), token("é", true, false)]);
    json
}

fn qwen() -> Value {
    let mut json = small_bytes();
    json["normalizer"] = json!({"type": "NFC"});
    json["model"]["ignore_merges"] = json!(false);
    let pattern = &mut json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    *pattern = json!(pattern.as_str().unwrap().replace("{1,3}", ""));
    json
}

fn gpt2() -> Value {
    let mut json = small_bytes();
    json["model"]["ignore_merges"] = json!(false);
    json["pre_tokenizer"] =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json
}

/// A pre-tokenizer that no pattern here stands for.
fn digits() -> Value {
    let mut json = gpt2();
    let byte_level = json["pre_tokenizer"].take();
    json["pre_tokenizer"] = json!({
        "type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
    });
    json
}

#[test]
fn each_takes_the_way_that_is_expected() {
    for (name, both, path) in ALL.iter() {
        assert_eq!(both.ours.encoding_path(), path, "{name}");
    }
}

/// Pieces of text, some of them chosen to break a splitter, in any order.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            " ", "  ", "\n", "\r\n", "\r", "\t", "    ", "\u{a0}", "\u{2003}", "\u{3000}", "\u{2581}", "\u{2581}\u{2581}",
            "<s>", "</s>", "<unk>", "<0x0A>", "<|begin_of_text|>", "<tool>", "two words", "two", "words",
        ]),
        3 => prop::sample::select(vec![
            "the", "return ", "self", "fn ", "def f(x):", "    if x == 0:\n", "->", "::", "{}", "\\frac{a}{b}", "\\begin{align}",
            "x^2", "$$", "&=", "\\\\", "0", "42", "3.14159", "1e-5", "0xFF", "'s", "'S", "'LL", "'ſ", "don't", "_", "__init__",
        ]),
        2 => prop::sample::select(vec![
            "é", "e\u{301}", "\u{301}", "Å", "\u{212b}", "Привет", "你好", "世界", "こんにちは", "한국어", "\u{1100}\u{1161}", "😀",
            "👩\u{200d}👩\u{200d}👧", "🇩🇪", "\u{fe0f}", "\u{0}", "\u{1}", "\u{7f}", "\u{85}", "\u{2028}", "\u{feff}", "ﬁ", "²", "Ⅷ",
            "٣", "ǅ", "\u{10ffff}",
        ]),
    ];
    let runs =
        (prop::sample::select(vec![" ", "=", "-", "a", "\n", "ab", " a", "\u{2581}", "😀", "1"]), 1usize..90)
            .prop_map(|(piece, count)| piece.repeat(count));
    let parts = prop_oneof![
        12 => piece.prop_map(str::to_owned),
        1 => runs,
        2 => any::<char>().prop_map(String::from),
        1 => any::<String>(),
    ];
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(cases::cases(1500))]
    #[test]
    fn ids_equal_the_library(text in text()) {
        for (_, both, _) in ALL.iter() {
            both.check(&mut both.ours.encoder(), &text);
        }
    }
}

/// This repository's own text, documents after each other with one memory, and all of it as one document.
#[test]
fn ids_of_documents_equal_the_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(root.join("crates/text/src")).unwrap() {
        documents.extend(std::fs::read_to_string(entry.unwrap().path()));
    }
    documents.push(std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    documents.push(std::fs::read_to_string(root.join("README.md")).unwrap());
    documents.push(documents.concat().replace('\n', "\r\n"));
    for (_, both, _) in ALL.iter() {
        let mut encoder = both.ours.encoder();
        for document in &documents {
            both.check(&mut encoder, document);
        }
    }
}

/// One long piece: the search over all pairs would take hours.
#[test]
fn long_runs_take_no_square_time() {
    for (name, both, _) in ALL.iter() {
        for piece in [" ", "=", "a", "ab", "你", "\u{2581}"] {
            let text = piece.repeat(200_000);
            let started = std::time::Instant::now();
            let ids = both.ours.encode(&text).unwrap();
            assert!(started.elapsed().as_secs() < 20, "{name}: {piece:?}");
            assert!(!ids.is_empty());
        }
        let text = "=".repeat(3000) + &" ".repeat(3000) + &"ab".repeat(3000);
        both.check(&mut both.ours.encoder(), &text);
    }
}

#[test]
fn threads_share_one_tokenizer() {
    let (_, both, _) = &ALL[0];
    let texts: Vec<String> = (0..64).map(|n| format!("text {n} of {} words ", n * n).repeat(50)).collect();
    let expected: Vec<_> = texts.iter().map(|text| both.library(text)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (text, expected) in texts.iter().zip(&expected) {
                    assert_eq!(&both.ours.encode(text).unwrap(), expected);
                }
            });
        }
    });
}

/// What cannot be proved is not claimed: the plain way is taken, with the reason, and the ids stay right.
#[test]
fn a_vocabulary_without_the_proof_goes_the_plain_way() {
    let changed = |change: fn(&mut Value)| {
        let mut json = small_words();
        change(&mut json);
        json
    };
    let merge = |json: &mut Value, left: &str, right: &str| {
        let size = json["model"]["vocab"].as_object().unwrap().len();
        json["model"]["vocab"][format!("{left}{right}")] = json!(size);
        json["model"]["merges"].as_array_mut().unwrap().insert(0, json!([left, right]));
    };
    let cases = [
        (changed(|json| json["model"]["ignore_merges"] = json!(true)), "ignore_merges"),
        (changed(|json| json["model"]["byte_fallback"] = json!(false)), "no byte tokens"),
        (changed(|json| json["pre_tokenizer"] = json!({"type": "Whitespace"})), "Whitespace is not known"),
        (changed(|json| json["normalizer"] = json!({"type": "Lowercase"})), "Lowercase"),
    ];
    let mut across = small_words();
    merge(&mut across, "e", "\u{2581}");
    let mut bytes = small_words();
    merge(&mut bytes, "<0xE2>", "<0x9A>");
    let cases = cases.into_iter().chain([(across, "'e' and ' '"), (bytes, "joins byte tokens")]);
    for (json, reason) in cases {
        let both = Both::new(json.to_string().as_bytes());
        match both.ours.encoding_path() {
            EncodingPath::Plain { reason: found } => assert!(found.contains(reason), "{found}"),
            path => panic!("{reason}: {path}"),
        }
        for text in ["the end of the e  e ⚀ line\n\nthe A", "e e", "<s> "] {
            both.check(&mut both.ours.encoder(), text);
        }
    }
}
