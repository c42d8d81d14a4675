//! What `Tokenizer` adds to the library: nothing added, nothing forged, nothing cut, and clear refusals.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::Path;

use llama_pro_text::{Error, Tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn special_strings_in_text_are_text() {
    let dir = folder(&llama2_like(), &[]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    for text in ["<s>", "</s>", "a<s>b", "<s></s><s>", " <s> "] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.iter().all(|&id| id > 2), "{text:?} became {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    // The library's own default would have found them: the test above is not vacuous.
    let raw = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(raw.encode_fast("a<s>b", false).unwrap().get_ids().contains(&1));
}

#[test]
fn nothing_is_added_or_cut() {
    let mut json = llama2_like();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>",
    });
    let dir = folder(&json, &[]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let text = "ab ab".repeat(20);
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(ids.len(), 40);
    assert!(ids.iter().all(|&id| id > 2), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert!(tokenizer.encode("").unwrap().is_empty());
}

#[test]
fn vocab_size_is_the_largest_id_and_one() {
    let mut json = llama2_like();
    let size = json["model"]["vocab"].as_object().unwrap().len();
    assert_eq!(open(&json).unwrap().vocab_size(), size);
    json["added_tokens"].as_array_mut().unwrap().push(added(size + 7, "<extra>"));
    // The library gives an added token the id it asks for only when that is the next one.
    let tokenizer = open(&json).unwrap();
    let id = tokenizer.id("<extra>").unwrap() as usize;
    assert_eq!(tokenizer.vocab_size(), id + 1);

    let mut sparse = llama2_like();
    sparse["model"]["vocab"]["zz"] = json!(size + 10);
    let tokenizer = open(&sparse).unwrap();
    assert_eq!(tokenizer.vocab_size(), size + 11);
    let error = tokenizer.decode(&[3, size as u32 + 5]).unwrap_err();
    assert!(matches!(error, Error::UnknownId { position: 1, .. }), "{error}");
    let error = tokenizer.decode(&[u32::MAX]).unwrap_err();
    assert!(matches!(error, Error::UnknownId { id: u32::MAX, position: 0, .. }), "{error}");
}

#[test]
fn special_tokens_are_left_out_of_decoded_text() {
    let tokenizer = open(&llama2_like()).unwrap();
    let mut ids = vec![1];
    ids.extend(tokenizer.encode("ab").unwrap());
    ids.push(2);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "ab");
    assert_eq!(tokenizer.decode_with_special(&ids).unwrap(), "<s> ab</s>");
}

#[test]
fn bos_and_eos_come_from_the_first_file_that_names_them() {
    let config = |value: Value| ("tokenizer_config.json", value);
    let map = |value: Value| ("special_tokens_map.json", value);
    let ids = |files: &[(&str, Value)]| {
        let dir = folder(&llama2_like(), files);
        Tokenizer::from_dir(dir.path()).map(|tokenizer| (tokenizer.bos(), tokenizer.eos()))
    };
    assert_eq!(ids(&[]).unwrap(), (Some(1), Some(2)));
    assert_eq!(ids(&[config(json!({"bos_token": null}))]).unwrap(), (None, Some(2)));
    let object = json!({"content": "</s>", "lstrip": false});
    assert_eq!(ids(&[config(json!({"bos_token": object}))]).unwrap(), (Some(2), Some(2)));
    let files = [config(json!({"eos_token": "<s>"})), map(json!({"eos_token": "</s>", "bos_token": "</s>"}))];
    assert_eq!(ids(&files).unwrap(), (Some(2), Some(1)));

    let error = ids(&[config(json!({"eos_token": "<nope>"}))]).unwrap_err();
    assert!(matches!(error, Error::UnknownSpecial { key: "eos_token", .. }), "{error}");
    for bad in [json!({"eos_token": 2}), json!({"eos_token": {"text": "</s>"}}), json!([])] {
        let error = ids(&[config(bad)]).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("tokenizer_config.json"), "{error}");
    }
}

#[test]
fn refusals_say_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let message = |dir: &Path| Tokenizer::from_dir(dir).unwrap_err().to_string();
    assert!(message(dir.path()).ends_with("neither tokenizer.json nor tokenizer.model in this folder"));
    fs::write(dir.path().join("tokenizer.model"), b"\x0a").unwrap();
    assert!(message(dir.path()).contains("tokenizer.model: expected a SentencePiece model, found"));
    assert!(message(&dir.path().join("nowhere")).contains("nowhere: cannot be read"));
    for bad in ["", "{", "[]", "{\"model\": 3}", "\u{0}"] {
        fs::write(dir.path().join("tokenizer.json"), bad).unwrap();
        let message = message(dir.path());
        assert!(message.contains("tokenizer.json: expected a tokenizer.json, found"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn tokenizers_that_could_corrupt_data_are_refused() {
    let mut dropout = llama2_like();
    dropout["model"]["dropout"] = json!(0.1);
    assert!(open(&dropout).unwrap_err().to_string().contains("dropout 0.1"));

    let mut huge = llama2_like();
    huge["model"]["vocab"]["zz"] = json!(4_000_000_000_u32);
    assert!(open(&huge).unwrap_err().to_string().contains("found id 4000000000"));

    // The whole text is one word, and ignore_merges looks it up in the vocabulary: "<s>" would be id 1.
    let mut forgeable = llama2_like();
    forgeable["normalizer"] = Value::Null;
    forgeable["model"]["ignore_merges"] = json!(true);
    let error = open(&forgeable).unwrap_err();
    assert!(matches!(&error, Error::ForgeableSpecial { token, .. } if token == "<s>"), "{error}");
}

#[test]
fn digest_is_that_of_the_file() {
    let json = llama2_like();
    let expected = format!("blake3:{}", blake3::hash(json.to_string().as_bytes()).to_hex());
    assert_eq!(open(&json).unwrap().digest(), expected);
}

#[test]
fn can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Tokenizer>();
}

fn open(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_dir(folder(json, &[]).path())
}

fn folder(tokenizer: &Value, files: &[(&str, Value)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, value) in files {
        fs::write(dir.path().join(name), value.to_string()).unwrap();
    }
    dir
}

fn added(id: usize, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

/// LLaMA-2's construction with a tiny vocabulary: bytes as fallback, U+2581 for a space, no pre-tokenizer.
fn llama2_like() -> Value {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    pieces.extend(["\u{2581}", "a", "b", "s", "<", ">", "/", "ab", "\u{2581}ab"].map(String::from));
    let vocab: serde_json::Map<String, Value> =
        pieces.into_iter().zip((0..).map(|id: u32| json!(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab,
            "merges": [["a", "b"], ["\u{2581}", "ab"]],
        },
    })
}
