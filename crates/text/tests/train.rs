//! The byte-level tokenizers made here: reproducible, lossless, digits apart, in the files other programs read.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "common/cases.rs"]
mod cases;

use std::path::Path;
use std::sync::OnceLock;

use llama_pro_text::{Error, Tokenizer, TrainedTokenizer, train_byte_bpe};
use proptest::prelude::*;
use serde_json::Value;

const TEXTS: [&str; 5] = [
    "The tokenizer learns the words that the texts repeat: the, that, them, then, there.\n",
    "fn main() {\n    let total: u64 = (0..100).map(|n| n * n).sum();\n    println!(\"{total}\");\n}\n",
    "What is 123 + 4567? 123 + 4567 = 4690. What is 12 * 12? 12 * 12 = 144. What is 7 - 9? -2.\n",
    "    indented\n        further\n    indented\n\tand tabs\r\n\r\n\u{e9}t\u{e9} na\u{ef}ve \u{4f60}\u{597d} \u{4f60}\u{597d}\n",
    "don't can't won't I'll you'll they've <s>markup</s> <s>markup</s> <s>markup</s>\n",
];

#[test]
fn same_texts_same_bytes() {
    let expected = trained();
    for _ in 0..5 {
        assert_eq!(train_byte_bpe(texts(), 400).unwrap(), *expected);
    }
    // Not the order of documents either, only how often each word occurs.
    let reversed = texts().collect::<Vec<_>>().into_iter().rev();
    assert_eq!(train_byte_bpe(reversed, 400).unwrap(), *expected);
    let others = texts().chain(["entirely entirely entirely".to_owned()]);
    assert_ne!(train_byte_bpe(others, 400).unwrap().tokenizer_json, expected.tokenizer_json);
}

#[test]
fn ids_and_sizes() {
    let tokenizer = open(trained());
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));
    assert_eq!((tokenizer.id("<s>"), tokenizer.id("</s>"), tokenizer.id("<unk>")), (Some(0), Some(1), None));
    assert_eq!((trained().vocab_size, tokenizer.vocab_size()), (400, 400));
    // Without text there are the bytes and nothing to merge.
    assert_eq!(train_byte_bpe(std::iter::empty(), 1000).unwrap().vocab_size, 258);
    assert_eq!(train_byte_bpe(texts(), 258).unwrap().vocab_size, 258);
    for size in [0, 257, usize::MAX] {
        let error = train_byte_bpe(texts(), size).unwrap_err();
        assert!(matches!(error, Error::VocabularySize { found, least: 258, .. } if found == size), "{error}");
    }
}

#[test]
fn words_are_merged_and_digits_are_not() {
    let tokenizer = open(trained());
    let text = TEXTS.concat();
    let ids = tokenizer.encode(&text).unwrap();
    assert!(ids.len() * 2 < text.len(), "{} ids for {} bytes", ids.len(), text.len());
    // Every merge was learned to be used, and the library applies them as they were learned.
    assert!(ids.iter().any(|&id| id >= 390));

    let digits = tokenizer.encode("1234567890").unwrap();
    assert_eq!(digits.len(), 10);
    assert_eq!(tokenizer.encode("4690").unwrap(), [digits[3], digits[5], digits[8], digits[9]]);
    let vocabulary = json(&trained().tokenizer_json)["model"]["vocab"].as_object().unwrap().clone();
    let with_digit = vocabulary.keys().filter(|token| token.chars().any(|char| char.is_ascii_digit()));
    assert_eq!(with_digit.count(), 10);
}

#[test]
fn special_strings_in_text_are_text() {
    let tokenizer = open(trained());
    for text in ["<s>", "</s>", "<s>markup</s>", "a</s>"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.iter().all(|&id| id > 1), "{text:?} became {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn files_are_what_transformers_reads() {
    let config = json(&trained().tokenizer_config_json);
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!((&config["bos_token"], &config["eos_token"]), (&"<s>".into(), &"</s>".into()));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), &trained().tokenizer_json).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), &trained().tokenizer_config_json).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));

    // The library writes the same file back, so there is no field it fills in or drops.
    let library = tokenizers::Tokenizer::from_bytes(&trained().tokenizer_json).unwrap();
    let written: Value = serde_json::from_str(&library.to_string(false).unwrap()).unwrap();
    assert_eq!(written, json(&trained().tokenizer_json));
    // Programs that ask for special tokens get a leading <s>, as from LLaMA's own tokenizers.
    assert_eq!(library.encode_fast("a", true).unwrap().get_ids()[0], 0);
}

proptest! {
    #![proptest_config(cases::cases(400))]
    #[test]
    fn every_string_comes_back(text in any::<String>()) {
        round_trip(&text)?;
    }

    #[test]
    fn every_mix_of_code_blanks_and_scripts_comes_back(
        text in "([a-z]{1,4}|[0-9]{1,5}|[ \t\r\n]{1,4}|'s|'RE|[<>/s|{}=]{1,4}|[\u{0}-\u{20}\u{300}\u{3b1}\u{4e00}\u{200d}\u{1f600}\u{feff}]){0,40}"
    ) {
        round_trip(&text)?;
    }
}

fn round_trip(text: &str) -> Result<(), TestCaseError> {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    let tokenizer = TOKENIZER.get_or_init(|| open(trained()));
    let ids = tokenizer.encode(text).unwrap();
    prop_assert!(ids.iter().all(|&id| id > 1), "{:?}", ids);
    prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    Ok(())
}

fn trained() -> &'static TrainedTokenizer {
    static TRAINED: OnceLock<TrainedTokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| train_byte_bpe(texts(), 400).unwrap())
}

fn texts() -> impl Iterator<Item = String> {
    TEXTS.into_iter().cycle().take(15).map(String::from)
}

fn open(trained: &TrainedTokenizer) -> Tokenizer {
    Tokenizer::from_bytes(Path::new("tokenizer.json"), &trained.tokenizer_json).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
