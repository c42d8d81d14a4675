//! Fill-in-the-middle: nothing of a document is lost, and what happens depends on the document and the seed alone.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "common/cases.rs"]
mod cases;

use std::path::Path;
use std::sync::LazyLock;

use llama_pro_text::{Fim, FimForm, FimOptions, Tokenizer, sentencepiece_to_json};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The small vocabularies with the tokens of Qwen, the byte-level one first.
static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
    let bytes = std::fs::read(fixture("small-bytes.json")).unwrap();
    [bytes, sentencepiece_to_json(&fixture("small.model")).unwrap()].map(|json| {
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        for content in ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"] {
            json["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": 0, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        Tokenizer::from_bytes(Path::new("tokenizer.json"), json.to_string().as_bytes()).unwrap()
    })
});

fn always(spm_rate: f64) -> FimOptions {
    FimOptions { rate: 1.0, spm_rate, ..FimOptions::default() }
}

proptest! {
    #![proptest_config(cases::cases(256))]

    #[test]
    fn parts_make_the_document(text in "[ab é世\n<>|fim_]{0,60}", spm in any::<bool>(), seed in any::<u64>()) {
        for tokenizer in &*TOKENIZERS {
            let options = FimOptions { seed, ..always(f64::from(u8::from(spm))) };
            let fim = Fim::new(tokenizer, options).unwrap();
            let cut = fim.cut(&text).unwrap();
            prop_assert_eq!(format!("{}{}{}", cut.prefix, cut.middle, cut.suffix), text.clone());
            let mut ids = Vec::new();
            let form = fim.encode_into(&mut tokenizer.encoder(), &text, &mut ids).unwrap().unwrap();
            prop_assert_eq!(form, cut.form);
            let mark = |name: &str| tokenizer.id(name).unwrap();
            let place = |name: &str| ids.iter().position(|&id| id == mark(name)).unwrap();
            let (p, s, m) = (place("<|fim_prefix|>"), place("<|fim_suffix|>"), place("<|fim_middle|>"));
            prop_assert_eq!(p, 0);
            prop_assert!(s < m);
            prop_assert_eq!(ids.iter().filter(|&&id| id >= mark("<|fim_prefix|>")).count(), 3);
            // The parts in their first order: what the decoder makes of the whole is the document.
            let (between, suffix, last) = (&ids[1..s], &ids[s + 1..m], &ids[m + 1..]);
            if spm {
                prop_assert!(between.is_empty());
            } else {
                prop_assert_eq!(between, &tokenizer.encode(cut.prefix).unwrap()[..]);
            }
            // A prefix that is empty has no space before it, which the decoder would take away.
            if !cut.prefix.is_empty() {
                prop_assert_eq!(tokenizer.decode(&[between, last, suffix].concat()).unwrap(), text.clone());
            }
        }
    }
}

#[test]
fn rates_and_places_are_those_asked_for() {
    let tokenizer = &TOKENIZERS[0];
    let fim = Fim::new(tokenizer, FimOptions { rate: 0.3, spm_rate: 0.25, ..FimOptions::default() }).unwrap();
    let texts: Vec<String> = (0..20_000).map(|number| format!("{number:010}")).collect();
    let cuts: Vec<_> = texts.iter().filter_map(|text| fim.cut(text)).collect();
    let share = |count: usize, of: usize| count as f64 / of as f64;
    // Five standard deviations.
    assert!((share(cuts.len(), texts.len()) - 0.3).abs() < 5.0 * (0.3f64 * 0.7 / 20_000.0).sqrt());
    let spm = cuts.iter().filter(|cut| cut.form == FimForm::Spm).count();
    assert!((share(spm, cuts.len()) - 0.25).abs() < 5.0 * (0.25f64 * 0.75 / 6000.0).sqrt());
    // Two places uniform over 0 to 10: each of the 121 pairs alike, so both are 0 in 1 of 121, and the same in 11.
    let same = cuts.iter().filter(|cut| cut.middle.is_empty()).count();
    assert!((share(same, cuts.len()) - 11.0 / 121.0).abs() < 5.0 * (0.0909f64 * 0.909 / 6000.0).sqrt());
    for end in [
        cuts.iter().filter(|cut| cut.prefix.is_empty()).count(),
        cuts.iter().filter(|cut| cut.suffix.is_empty()).count(),
    ] {
        // 1 - (10/11)^2.
        assert!((share(end, cuts.len()) - 0.1736).abs() < 5.0 * (0.1736f64 * 0.8264 / 6000.0).sqrt());
    }
    let other = Fim::new(tokenizer, FimOptions { rate: 0.3, spm_rate: 0.25, seed: 1, tokens: None }).unwrap();
    assert!(texts.iter().any(|text| fim.cut(text) != other.cut(text)));
    assert!(texts.iter().all(|text| fim.cut(text) == fim.cut(text)));
    let never = Fim::new(tokenizer, FimOptions { rate: 0.0, ..FimOptions::default() }).unwrap();
    let mut ids = Vec::new();
    assert_eq!(never.encode_into(&mut tokenizer.encoder(), &texts[7], &mut ids).unwrap(), None);
    assert_eq!(ids, tokenizer.encode(&texts[7]).unwrap());
}

/// A space before each part would be in no document.
#[test]
fn a_tokenizer_that_begins_every_text_with_a_space_is_refused() {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("small-bytes.json")).unwrap()).unwrap();
    let with = |pre_tokenizer: Value| {
        let mut json = json.clone();
        json["pre_tokenizer"] = pre_tokenizer;
        for content in ["<fim_prefix>", "<fim_middle>", "<fim_suffix>"] {
            json["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": 0, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            }));
        }
        Tokenizer::from_bytes(Path::new("tokenizer.json"), json.to_string().as_bytes()).unwrap()
    };
    let bytes = |space: bool| json!({ "type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let sequence = |space| json!({ "type": "Sequence", "pretokenizers": [digits, bytes(space)] });
    for (pre_tokenizer, refused) in
        [(bytes(true), true), (sequence(true), true), (bytes(false), false), (sequence(false), false)]
    {
        let tokenizer = with(pre_tokenizer);
        // The library says which it is: whether a word has the same ids as one after a space.
        let spaced = tokenizer.encode("ab").unwrap() == tokenizer.encode(" ab").unwrap();
        assert_eq!(spaced, refused);
        match Fim::new(&tokenizer, always(0.5)) {
            Ok(fim) => {
                assert!(!refused);
                let (text, mut ids) = ("let a = 1; let b = 22;", Vec::new());
                fim.encode_into(&mut tokenizer.encoder(), text, &mut ids).unwrap().unwrap();
                ids.retain(|&id| {
                    !["<fim_prefix>", "<fim_middle>", "<fim_suffix>"]
                        .map(|n| tokenizer.id(n))
                        .contains(&Some(id))
                });
                assert_eq!(tokenizer.decode(&ids).unwrap().len(), text.len());
            }
            Err(error) => {
                assert!(refused && error.to_string().contains("add_prefix_space"), "{error}");
            }
        }
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let plain = Tokenizer::from_sentencepiece(&fixture("small.model")).unwrap();
    let message =
        |tokenizer: &Tokenizer, options: FimOptions| Fim::new(tokenizer, options).unwrap_err().to_string();
    assert!(
        message(&plain, always(0.5))
            .contains("the vocabulary does not have the tokens <fim_prefix> <fim_suffix>")
    );
    let named = |names: [&str; 3]| FimOptions { tokens: Some(names.map(String::from)), ..always(0.5) };
    assert!(message(&plain, named(["<x>", "<y>", "<z>"])).ends_with("does not have the tokens <x> <y> <z>"));
    assert!(message(&plain, named(["<s>", "</s>", "a"])).contains("could forge the token \"a\""));
    assert!(
        message(&plain, FimOptions { rate: 1.5, ..always(0.5) }).contains("rate: expected 0 to 1, found 1.5")
    );
    assert!(message(&plain, FimOptions { spm_rate: f64::NAN, ..always(0.5) }).contains("spm-rate"));
}
