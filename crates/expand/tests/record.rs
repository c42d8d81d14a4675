//! `expansion.json` from outside: any change to it is answered with one line or harmless, never with a panic.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use common::{LLAMA, blocks, files, grow, json_file, llama_config, make};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{Error, Expansion, Placement, StripOptions, strip, verify};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A folder expanded twice, and the text of its record.
static GROWN: LazyLock<(tempfile::TempDir, String)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let [base, one, two] = ["base", "one", "two"].map(|name| dir.path().join(name));
    make(&base, &llama_config(3), 3, &LLAMA);
    grow(&base, &one, &blocks(1, 1));
    grow(&one, &two, &Placement::At(vec![2, 4]));
    let text = fs::read_to_string(two.join("expansion.json")).unwrap();
    (dir, text)
});

fn read(text: &str) -> Result<Expansion, Error> {
    Expansion::from_json(Path::new("m/expansion.json"), text)
}

#[test]
fn is_written_as_read_and_holds_no_path() {
    let (dir, text) = &*GROWN;
    assert_eq!(&read(text).unwrap().to_json(), text);
    assert!(!text.contains(dir.path().to_str().unwrap()));
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["format"], "llama-pro-expansion/1");
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["new_blocks"], json!([2, 4, 5]));
    assert!(Expansion::read(&dir.path().join("base")).unwrap().is_none());
}

#[test]
fn contradictions_give_one_line() {
    let (_, text) = &*GROWN;
    let good: Value = serde_json::from_str(text).unwrap();
    let change = |pointer: &str, value: Value| {
        let mut record = good.clone();
        *record.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        record.to_string()
    };
    for (changed, part) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "invalid"),
        ("{}".to_owned(), "missing field `format`"),
        (
            change("/format", json!("llama-pro-expansion/2")),
            "expected llama-pro-expansion/1, found llama-pro-expansion/2",
        ),
        (change("/base/layers", json!(0)), "base.layers"),
        (change("/base/layers", json!(u64::MAX)), "base.layers"),
        (change("/base/layers", json!(4)), "generation 1"),
        (change("/base/digest", json!("blake3:00")), "not a digest"),
        (change("/new_blocks", json!([2, 4])), "new_blocks"),
        (change("/new_blocks", json!([2, 4, 6])), "new_blocks"),
        (change("/generations", json!([])), "at least one"),
        (
            change("/generations/0/placement", json!({"blocks": {"blocks": 2, "per-group": 1}})),
            "generation 1",
        ),
        (change("/generations/0/layers/3/source", json!(1)), "layers are not"),
        (change("/generations/0/layers/3/source", json!(900)), "layers are not"),
        (change("/generations/1/layers/2/new", json!(false)), "layers are not"),
        (change("/generations/1/placement", json!({"at": [4, 2]})), "not sorted"),
        (change("/generations/1/state", json!("trained")), "trained generation stands above"),
        (change("/generations/1/zeroed", json!([])), "zeroed"),
        (change("/generations/0/config_before", json!({})), "config_before"),
        (change("/tensors/lm_head.weight/digest", json!("x")), "lm_head.weight"),
        (change("/tensors/model.layers.2.mlp.up_proj.weight/shape", json!([1, 6])), "block 2 does not have"),
        (change("/tensors/model.layers.2.mlp.up_proj.weight/dtype", json!("F16")), "block 2 does not have"),
        (text.replace("model.layers.5.mlp.up_proj", "model.layers.6.mlp.up_proj"), "there are 6 blocks only"),
        (text.replace("model.layers.5.mlp.up_proj", "model.layers.5.mlp.x"), "block 5 does not have"),
        (text.replacen("\"tool\"", "\"tools\"", 1), "unknown field"),
    ] {
        let message = read(&changed).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("m/expansion.json"), "{part}: {message}");
        assert!(!message.contains('\n') && message.len() < 400, "{message}");
    }
}

#[test]
fn a_record_that_disagrees_with_the_folder_gives_one_line() {
    let (dir, _) = &*GROWN;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m");
    fs::create_dir(&path).unwrap();
    for (name, bytes) in files(&dir.path().join("two")) {
        fs::write(path.join(name), bytes).unwrap();
    }
    let refused = |part: &str| {
        for error in [
            verify(&path, None).unwrap_err(),
            strip(&path, &folder.path().join("o"), &StripOptions::default()).unwrap_err(),
            Expansion::read(&path).unwrap().unwrap().check(&Checkpoint::open(&path).unwrap()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Disagrees { .. }));
            let message = error.to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{message}");
        }
    };
    // The record of another generation, and another depth.
    let record = fs::read(dir.path().join("one/expansion.json")).unwrap();
    let good = fs::read(path.join("expansion.json")).unwrap();
    fs::write(path.join("expansion.json"), record).unwrap();
    refused("config.json has 6 blocks, the record 4");
    fs::write(path.join("expansion.json"), &good).unwrap();
    let mut config = json_file(&path.join("config.json"));
    config["num_hidden_layers"] = json!(5);
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    refused("config.json has 5 blocks, the record 6");
    config["num_hidden_layers"] = json!(6);
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    assert!(verify(&path, None).unwrap().is_ok());
    // Weights with a tensor less in every block, with one more, with another type.
    let names = |within: &[&str]| -> Vec<String> {
        let outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].map(str::to_owned);
        let blocks =
            (0..6).flat_map(|block| within.iter().map(move |name| format!("model.layers.{block}.{name}")));
        outside.into_iter().chain(blocks).collect()
    };
    common::make_named(&path, &config, &names(&LLAMA[..8]));
    refused("model.layers.0.mlp.down_proj.weight is in the record and not in the folder");
    let more: Vec<&str> = LLAMA.into_iter().chain(["mlp.up_proj.bias"]).collect();
    common::make_named(&path, &config, &names(&more));
    refused("model.layers.0.mlp.up_proj.bias is in the folder and not in the record");
}

#[test]
fn a_record_that_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("expansion.json");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).unwrap();
    assert!(Expansion::read(dir.path()).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Expansion::read(dir.path()).unwrap_err().to_string().contains("no regular file"));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Expansion::read(dir.path()).is_err());
}

#[test]
fn marking_as_trained_is_checked() {
    let record = read(&GROWN.1).unwrap();
    let one = |name: &str, digest: &str| record.mark_trained(&[(name.to_owned(), digest.to_owned())].into());
    let digest = llama_pro_checkpoint::digest(b"trained");
    let marked = one("model.layers.4.mlp.up_proj.weight", &digest).unwrap();
    assert_eq!(marked.digest("model.layers.4.mlp.up_proj.weight"), Some(digest.as_str()));
    assert_eq!(marked.trained_names(), record.trained_names());
    assert!(marked.unfrozen_names().is_empty());
    assert_eq!(read(&marked.to_json()).unwrap(), marked);
    // Naming a frozen tensor with the digest that it has changes nothing.
    let same = record.digest("lm_head.weight").unwrap().to_owned();
    assert!(one("lm_head.weight", &same).unwrap().unfrozen_names().is_empty());
    let full = one("lm_head.weight", &digest).unwrap();
    assert_eq!(full.unfrozen_names(), ["lm_head.weight"]);
    assert_eq!(read(&full.to_json()).unwrap(), full);
    assert!(one("no.such.tensor", &digest).unwrap_err().to_string().contains("no.such.tensor"));
    assert!(one("lm_head.weight", "md5:1").unwrap_err().to_string().contains("not a digest"));
}

/// Every path to a value in a JSON tree.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, child) in children {
        pointers(child, format!("{at}/{key}"), all);
    }
    all.push(at);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0u64..9).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~é]{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([0, 1, 18446744073709551615u64])),
        Just(json!({"at": [1, 1]})),
        Just(json!({"blocks": {"blocks": 18446744073709551615u64, "per-group": 3}})),
        Just(json!("model.layers.18446744073709551615.mlp.up_proj.weight")),
    ]
}

/// What every caller does with a record that could be read.
fn use_it(record: &Expansion) {
    assert_eq!(
        record.new_blocks().len(),
        record.origins().iter().filter(|origin| origin.generation.is_some()).count()
    );
    assert!(record.zeroed_names().iter().all(|name| record.trained_names().binary_search(name).is_ok()));
    let _ = record.check(&Checkpoint::open(&GROWN.0.path().join("two")).unwrap());
    assert_eq!(&read(&record.to_json()).unwrap(), record);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_value_never_panics(at: prop::sample::Index, value in any_value(), remove: bool) {
        let mut record: Value = serde_json::from_str(&GROWN.1).unwrap();
        let mut all = Vec::new();
        pointers(&record, String::new(), &mut all);
        let pointer = &all[at.index(all.len())];
        let parent = pointer.rsplit_once('/');
        match (remove, parent.and_then(|(parent, key)| Some((record.pointer_mut(parent)?, key)))) {
            (true, Some((Value::Object(map), key))) => { map.remove(key); }
            (true, Some((Value::Array(list), key))) => { list.remove(key.parse::<usize>().unwrap()); }
            _ => *record.pointer_mut(pointer).unwrap() = value,
        }
        match read(&record.to_string()) {
            Ok(record) => use_it(&record),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn changed_bytes_never_panic(at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bytes = GROWN.1.clone().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(record) = read(&String::from_utf8_lossy(&bytes)) {
            use_it(&record);
        }
    }
}
