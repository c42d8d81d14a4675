//! A byte-level BPE tokenizer made from text, in the files that transformers and this crate read.
//!
//! Byte-level as in GPT-2: each UTF-8 byte has a printable stand-in, so every string has ids and comes back whole.
//! Words are cut by the pattern of LLaMA-3 with one change: a number is cut into its digits, so that arithmetic
//! sees the same digits in the same places whatever the number.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::bpe::learn_merges;
use crate::error::{Error, Result};
// Contractions; a word with the one character before it; one digit; punctuation; line ends; other blanks.
use crate::fast::split::QWEN2 as PATTERN;
use crate::tokenizer::{MOST_TOKENS, Tokenizer, one_line};

/// Id 0 begins a document, id 1 ends it. There is no unknown token: bytes spell everything.
const SPECIAL: [&str; 2] = ["<s>", "</s>"];

/// A pair seen once is a memory of one place, not a unit of the language.
const MIN_COUNT: u64 = 2;

/// The files of a new tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainedTokenizer {
    /// `tokenizer.json`, two-space JSON with a newline at the end.
    pub tokenizer_json: Vec<u8>,
    /// `tokenizer_config.json` for transformers' `PreTrainedTokenizerFast`.
    pub tokenizer_config_json: Vec<u8>,
    /// Tokens in it: the number asked for, or fewer when the text has no more pairs that repeat.
    pub vocab_size: usize,
}

/// Learns a byte-level vocabulary of at most `vocab_size` tokens: `<s>` = 0, `</s>` = 1, the 256 bytes, then merges.
///
/// The result is a function of the multiset of texts and the size alone, to the byte. Memory is that of the
/// distinct words. Fewer than 258 tokens, or more than 2^24, are an error.
pub fn train_byte_bpe(texts: impl Iterator<Item = String>, vocab_size: usize) -> Result<TrainedTokenizer> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<String> = SPECIAL.map(String::from).to_vec();
    tokens.extend(alphabet.iter().map(char::to_string));
    let least = tokens.len();
    if !(least..=MOST_TOKENS).contains(&vocab_size) {
        return Err(Error::VocabularySize { found: vocab_size, least, most: MOST_TOKENS });
    }

    let initial: HashMap<char, u32> = alphabet.iter().copied().zip(SPECIAL.len() as u32..).collect();
    let words = count_words(texts, &tokens)?;
    let words = words
        .into_iter()
        .map(|(word, count)| (word.chars().filter_map(|char| initial.get(&char).copied()).collect(), count))
        .collect();
    let merges = learn_merges(words, &mut tokens, SPECIAL.len(), vocab_size, MIN_COUNT);
    let merges: Vec<[&str; 2]> =
        merges.iter().map(|&(left, right)| [left, right].map(|id| tokens[id as usize].as_str())).collect();

    let tokenizer_json = pretty(&tokenizer_json(&tokens, &merges));
    // A tokenizer that this crate could not open again must not leave it.
    let made = Tokenizer::from_bytes(Path::new("tokenizer.json"), &tokenizer_json)
        .map_err(|error| Error::Training { reason: one_line(&error) })?;
    if made.vocab_size() != tokens.len() {
        let reason = format!("{} tokens were written, {} came back", tokens.len(), made.vocab_size());
        return Err(Error::Training { reason });
    }
    Ok(TrainedTokenizer {
        tokenizer_json,
        tokenizer_config_json: pretty(&config_json()),
        vocab_size: tokens.len(),
    })
}

/// Distinct words in byte-level spelling with their counts, sorted. The new tokenizer's own pre-tokenizer cuts
/// them, so training and encoding cannot disagree about what a word is.
fn count_words(texts: impl Iterator<Item = String>, tokens: &[String]) -> Result<Vec<(String, u64)>> {
    let training = |error: tokenizers::Error| Error::Training { reason: one_line(&error) };
    let cutter = tokenizers::Tokenizer::from_bytes(pretty(&tokenizer_json(tokens, &[]))).map_err(training)?;
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        let mut pieces = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = cutter.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(training)?;
        }
        for (word, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => _ = counts.insert(word.to_owned(), 1),
            }
        }
    }
    let mut words: Vec<_> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

fn tokenizer_json(tokens: &[String], merges: &[[&str; 2]]) -> Value {
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let vocab: Map<String, Value> =
        tokens.iter().cloned().zip((0..).map(|id: u32| Value::from(id))).collect();
    let bos = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ],
        },
        // Other programs begin a prompt with <s> as LLaMA's do; `Tokenizer::encode` never does.
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                bos, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

fn config_json() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "clean_up_tokenization_spaces": false,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}");
    text.push('\n');
    text.into_bytes()
}
