//! New blocks in a folder of their own, and the whole model again: the same folder to the byte, or nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{LLAMA, blocks, files, fixture, grow, json_file, llama_config, make, poke, tensors};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{DeltaOptions, Expansion, Placement, apply, delta, model_digest};
use safetensors::SafeTensors;
use serde_json::json;

/// Changes every tensor of the new blocks, and says so in the record, as training does.
fn train(dir: &Path) {
    let record = Expansion::read(dir).unwrap().unwrap();
    let mut digests = BTreeMap::new();
    for name in record.trained_names() {
        poke(dir, &name, 1, |byte| byte ^ 5);
        let bytes = Checkpoint::open(dir).unwrap().bytes(&name).unwrap().to_vec();
        digests.insert(name, llama_pro_checkpoint::digest(&bytes));
    }
    fs::write(dir.join("expansion.json"), record.mark_trained(&digests).unwrap().to_json()).unwrap();
}

/// Names of the tensors in the weight files of a delta, read without this project's reader.
fn names_in(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for (file, bytes) in files(dir) {
        if file.ends_with(".safetensors") {
            assert!(file.starts_with("new-blocks"), "{file}");
            names.extend(SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned));
        }
    }
    names.sort();
    names
}

#[test]
fn the_whole_model_comes_back_to_the_byte() {
    for (name, placement) in [
        ("llama2", blocks(2, 1)),
        ("llama2", blocks(4, 4)),
        ("qwen2", Placement::At(vec![1])),
        ("llama3-gqa-tied-bf16-sharded", Placement::At(vec![1, 3, 4])),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let [grown, small, back] = ["grown", "small", "back"].map(|name| dir.path().join(name));
        grow(&fixture(name), &grown, &placement);
        fs::write(grown.join("chat_template.jinja"), "{{ messages }}").unwrap();
        train(&grown);
        let before = files(&grown);
        let report = delta(&grown, &small, &DeltaOptions::default()).unwrap();
        let record = Expansion::read(&grown).unwrap().unwrap();
        assert_eq!(names_in(&small), record.trained_names(), "{name}");
        assert_eq!(report.new_blocks, record.new_blocks());
        assert_eq!(report.base, model_digest(&Checkpoint::open(&fixture(name)).unwrap()).unwrap());
        let new: u64 = record.trained_names().iter().map(|name| tensors(&grown)[name].2.len() as u64).sum();
        assert_eq!(report.bytes, new);
        apply(&fixture(name), &small, &back, &DeltaOptions::default()).unwrap();
        assert_eq!(files(&back), before, "{name}");
        assert_eq!(files(&grown), before, "{name}: the input is as it was");
    }
}

#[test]
fn several_generations_and_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, small, back] = ["one", "two", "small", "back"].map(|name| dir.path().join(name));
    grow(&fixture("llama2"), &one, &blocks(2, 1));
    train(&one);
    grow(&one, &two, &Placement::At(vec![1, 5, 6]));
    train(&two);
    let sharded = DeltaOptions { max_shard_bytes: Some(20_000), ..DeltaOptions::default() };
    delta(&two, &small, &sharded).unwrap();
    assert!(small.join("new-blocks.safetensors.index.json").exists());
    assert_eq!(names_in(&small), Expansion::read(&two).unwrap().unwrap().trained_names());
    apply(&fixture("llama2"), &small, &back, &DeltaOptions::default()).unwrap();
    assert_eq!(files(&back), files(&two));
}

#[test]
fn what_is_not_the_base_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let [base, grown, small, out] = ["base", "grown", "small", "out"].map(|name| dir.path().join(name));
    make(&base, &llama_config(3), 3, &LLAMA);
    grow(&base, &grown, &blocks(1, 1));
    train(&grown);
    delta(&grown, &small, &DeltaOptions::default()).unwrap();
    let refused = |base: &Path, expected: &[&str]| {
        let error = apply(base, &small, &out, &DeltaOptions::default()).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}: {part}");
        }
        assert!(!error.contains('\n') && !out.exists(), "{error}");
        assert!(!dir.path().join(".out.partial").exists());
    };
    // One bit of one tensor.
    let name = "model.layers.1.mlp.up_proj.weight";
    poke(&base, name, 4, |byte| byte ^ 128);
    refused(&base, &[name, "not what the new blocks in"]);
    poke(&base, name, 4, |byte| byte ^ 128);
    apply(&base, &small, &out, &DeltaOptions::default()).unwrap();
    assert_eq!(files(&out), files(&grown));
    fs::remove_dir_all(&out).unwrap();
    // Another configuration, another depth, the grown model itself, a base that is none.
    let config = json_file(&base.join("config.json"));
    let mut other = config.clone();
    other["rope_theta"] = json!(5e5);
    fs::write(base.join("config.json"), other.to_string()).unwrap();
    refused(&base, &["rope_theta: expected no such key, found 500000.0"]);
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    refused(&grown, &["num_hidden_layers: expected 3, found 4"]);
    refused(&dir.path().join("nothing"), &["nothing"]);
    // A new block that is not the recorded one.
    let file = small.join("new-blocks.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    refused(&base, &["model.layers.3.", "expected blake3:"]);
    // A tensor too many.
    let loaded = SafeTensors::deserialize(&bytes).unwrap();
    let mut views: Vec<_> = loaded.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    views.push(("model.layers.9.mlp.up_proj.weight".to_owned(), loaded.tensors()[0].1.clone()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
    refused(&base, &["it has 10 tensors, the record knows 9 of them"]);
}

#[test]
fn what_would_not_come_back_is_not_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let [grown, small] = ["grown", "small"].map(|name| dir.path().join(name));
    let refused = |from: &Path, part: &str| {
        let error = delta(from, &small, &DeltaOptions::default()).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n') && !small.exists(), "{error}");
    };
    refused(&fixture("llama2"), "expansion.json is not there");
    grow(&fixture("llama2"), &grown, &blocks(2, 1));
    // A frozen tensor that changed behind the record's back, which strip would notice too.
    let name = "model.layers.1.mlp.down_proj.weight";
    poke(&grown, name, 3, |byte| byte ^ 1);
    refused(&grown, name);
    // The same, on purpose.
    let digest = llama_pro_checkpoint::digest(&tensors(&grown)[name].2);
    let record = Expansion::read(&grown).unwrap().unwrap();
    let record = record.mark_trained(&BTreeMap::from([(name.to_owned(), digest)])).unwrap();
    fs::write(grown.join("expansion.json"), record.to_json()).unwrap();
    refused(&grown, "1 tensors of the base were trained");
    // In the way, or where the input is.
    fs::remove_dir_all(&grown).unwrap();
    grow(&fixture("llama2"), &grown, &blocks(2, 1));
    delta(&grown, &small, &DeltaOptions::default()).unwrap();
    let error = delta(&grown, &small, &DeltaOptions::default()).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
    let force = DeltaOptions { force: true, ..DeltaOptions::default() };
    assert!(delta(&grown, &grown, &force).unwrap_err().to_string().contains("is the input"));
    assert!(delta(&grown, &small, &force).is_ok());
    // A delta is no model, and says what it is.
    let error = Checkpoint::open(&small).unwrap_err().to_string();
    assert!(error.contains("no model.safetensors") && error.contains("expand BASE OUT --delta"), "{error}");
}
