//! `strip` gives back what was expanded, byte for byte, one generation at a time or all at once.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{LLAMA, blocks, files, fixture, grow, json_file, make, poke, tensors};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{Expansion, Placement, StripOptions, model_digest, strip, verify};
use serde_json::json;

#[test]
fn gives_the_base_back() {
    for (name, placement) in [
        ("llama2", blocks(2, 1)),
        ("llama2", blocks(4, 4)),
        ("mistral-window", blocks(3, 1)),
        ("llama3-gqa-tied-bf16-sharded", Placement::At(vec![1, 3, 4])),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (grown, back) = (dir.path().join("grown"), dir.path().join("back"));
        grow(&fixture(name), &grown, &placement);
        let stripped = strip(&grown, &back, &StripOptions::default()).unwrap();
        assert_eq!(tensors(&back), tensors(&fixture(name)), "{name}");
        assert_eq!(json_file(&back.join("config.json")), json_file(&fixture(name).join("config.json")));
        assert!(!back.join("expansion.json").exists());
        let record = Expansion::read(&grown).unwrap().unwrap();
        assert_eq!(stripped.removed, record.new_blocks());
        assert_eq!((stripped.layers, stripped.generations), (4, 0));
        assert!(stripped.identical);
        assert_eq!(stripped.digest, record.base_digest());
        // The same by a way that hashes the base itself.
        let base = Checkpoint::open(&fixture(name)).unwrap();
        assert_eq!(model_digest(&base).unwrap(), record.base_digest());
    }
}

#[test]
fn per_layer_keys_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let [base, grown, back] = ["base", "grown", "back"].map(|name| dir.path().join(name));
    let config = json!({
        "model_type": "qwen2", "layer_types": ["a", "b", "c"], "num_hidden_layers": 3, "max_window_layers": 28,
        "use_sliding_window": false, "odd": 1.10, "eos_token_id": [1, 2, 3]
    });
    make(&base, &config, 3, &LLAMA);
    grow(&base, &grown, &blocks(2, 1));
    assert_eq!(json_file(&grown.join("config.json"))["layer_types"].as_array().unwrap().len(), 5);
    strip(&grown, &back, &StripOptions::default()).unwrap();
    assert_eq!(json_file(&back.join("config.json")), config);
    assert_eq!(tensors(&back), tensors(&base));
}

#[test]
fn takes_out_the_last_generation_or_all() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, back_one, back] = ["one", "two", "back-one", "back"].map(|name| dir.path().join(name));
    grow(&fixture("llama2"), &one, &blocks(2, 1));
    grow(&one, &two, &Placement::At(vec![1, 5, 6]));
    let stripped = strip(&two, &back_one, &StripOptions::default()).unwrap();
    // Not only the tensors: the whole folder with its record is the one before.
    assert_eq!(files(&back_one), files(&one));
    assert_eq!(stripped.removed, [1, 5, 6]);
    assert_eq!((stripped.layers, stripped.generations, stripped.identical), (6, 1, true));
    let all = StripOptions { all: true, ..Default::default() };
    let stripped = strip(&two, &back, &all).unwrap();
    assert_eq!(tensors(&back), tensors(&fixture("llama2")));
    assert_eq!((stripped.layers, stripped.generations, stripped.identical), (4, 0, true));
    assert_eq!(stripped.removed.len(), 5);
}

#[test]
fn what_was_trained_on_purpose_keeps_its_name_through_expansions() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, back] = ["one", "two", "back"].map(|name| dir.path().join(name));
    grow(&fixture("llama2"), &one, &blocks(2, 1));
    // Blocks 0 1 1' 2 3 3': block 3, the base's 2, is fine-tuned with the new ones.
    let names =
        ["model.layers.3.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight", "model.norm.weight"];
    for name in names {
        poke(&one, name, 0, |byte| byte ^ 1);
    }
    let now = tensors(&one);
    let digests = names.map(|name| (name.to_owned(), llama_pro_checkpoint::digest(&now[name].2)));
    let record = Expansion::read(&one).unwrap().unwrap().mark_trained(&digests.into()).unwrap();
    assert_eq!(record.unfrozen_names(), [names[0], names[2]]);
    fs::write(one.join("expansion.json"), record.to_json()).unwrap();
    grow(&one, &two, &Placement::At(vec![1]));
    let record = Expansion::read(&two).unwrap().unwrap();
    assert_eq!(record.unfrozen_names(), ["model.layers.4.mlp.up_proj.weight", "model.norm.weight"]);
    let proof = verify(&two, Some(&fixture("llama2"))).unwrap();
    assert!(proof.is_ok(), "{:?}", proof.failures().collect::<Vec<_>>());
    assert!(verify(&two, Some(&one)).unwrap().is_ok());
    let allow = StripOptions { allow_altered: true, ..Default::default() };
    let stripped = strip(&two, &back, &allow).unwrap();
    assert!(stripped.identical);
    assert_eq!(files(&back), files(&one));
    fs::remove_dir_all(&back).unwrap();
    let all = StripOptions { all: true, ..allow };
    assert!(!strip(&two, &back, &all).unwrap().identical);
}

#[test]
fn altered_frozen_tensors_are_refused_unless_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let [grown, back] = ["grown", "back"].map(|name| dir.path().join(name));
    grow(&fixture("llama2"), &grown, &blocks(2, 1));
    // A new block may differ: that is what training is for.
    poke(&grown, "model.layers.2.mlp.down_proj.weight", 3, |_| 9);
    let force = StripOptions { force: true, ..Default::default() };
    assert!(strip(&grown, &back, &force).unwrap().identical);
    assert_eq!(tensors(&back), tensors(&fixture("llama2")));
    fs::remove_dir_all(&back).unwrap();
    let name = "model.layers.1.mlp.down_proj.weight";
    poke(&grown, name, 3, |byte| byte ^ 1);
    let error = strip(&grown, &back, &force).unwrap_err().to_string();
    assert!(error.contains(name) && !error.contains('\n'), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let allow = StripOptions { allow_altered: true, ..Default::default() };
    let stripped = strip(&grown, &back, &allow).unwrap();
    assert!(!stripped.identical);
    // The same when the record says that it was trained on purpose.
    fs::remove_dir_all(&back).unwrap();
    let digest = llama_pro_checkpoint::digest(&tensors(&grown)[name].2);
    let record = Expansion::read(&grown).unwrap().unwrap();
    let record = record.mark_trained(&BTreeMap::from([(name.to_owned(), digest)])).unwrap();
    fs::write(grown.join("expansion.json"), record.to_json()).unwrap();
    let error = strip(&grown, &back, &force).unwrap_err().to_string();
    assert!(error.contains("1 tensors of the base were trained"), "{error}");
    assert!(!strip(&grown, &back, &allow).unwrap().identical);
}

#[test]
fn what_is_not_expanded_or_in_the_way_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [grown, back] = ["grown", "back"].map(|name| dir.path().join(name));
    let error = strip(&fixture("llama2"), &back, &StripOptions::default()).unwrap_err().to_string();
    assert!(error.contains("expansion.json is not there"), "{error}");
    grow(&fixture("llama2"), &grown, &blocks(2, 1));
    fs::create_dir(&back).unwrap();
    let error = strip(&grown, &back, &StripOptions::default()).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
    let force = StripOptions { force: true, ..Default::default() };
    assert!(strip(&grown, &grown, &force).unwrap_err().to_string().contains("is the input"));
}
