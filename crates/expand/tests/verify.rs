//! `verify` finds a single wrong bit in every class of tensor and says where; and what training may change.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{LLAMA, blocks, files, fixture, grow, json_file, llama_config, make, poke};
use llama_pro_expand::{Expansion, Verification, verify};
use serde_json::json;

/// New blocks 2 and 5; float32.
fn grown(dir: &Path) -> PathBuf {
    let out = dir.join("out");
    grow(&fixture("llama2"), &out, &blocks(2, 1));
    out
}

fn failed(proof: &Verification) -> Vec<(&'static str, &str, Option<u64>)> {
    proof.failures().map(|(check, failure)| (check, failure.what.as_str(), failure.offset)).collect()
}

#[test]
fn a_good_model_passes_every_check() {
    let dir = tempfile::tempdir().unwrap();
    let out = grown(dir.path());
    let alone = verify(&out, None).unwrap();
    assert!(alone.is_ok(), "{:?}", failed(&alone));
    let counts = |proof: &Verification| -> BTreeMap<&str, usize> {
        proof.checks.iter().map(|check| (check.name, check.checked)).collect()
    };
    // 6 blocks of 9 tensors and three others; 2 of 9 tensors of a new block are zero.
    let expected =
        [("record", 57), ("config", 1), ("base-digest", 1), ("digests", 57), ("zeros", 4), ("copies", 14)];
    assert_eq!(counts(&alone), BTreeMap::from(expected));
    let with_base = verify(&out, Some(&fixture("llama2"))).unwrap();
    assert!(with_base.is_ok(), "{:?}", failed(&with_base));
    assert_eq!(counts(&with_base)["base-tensors"], 39);
    let keys = json_file(&out.join("config.json")).as_object().unwrap().len();
    assert_eq!(counts(&with_base)["base-config"], keys);
    assert!(serde_json::to_string(&with_base).unwrap().contains("base-tensors"));
}

#[test]
fn one_wrong_bit_in_any_class_of_tensor_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = grown(dir.path());
    let good = files(&out);
    let base = fixture("llama2");
    let old = [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.mlp.down_proj.weight",
    ];
    for name in old {
        poke(&out, name, 129, |byte| byte ^ 0x10);
        let alone = verify(&out, None).unwrap();
        assert_eq!(failed(&alone), [("digests", name, None)]);
        let proof = verify(&out, Some(&base)).unwrap();
        assert_eq!(failed(&proof), [("digests", name, Some(129)), ("base-tensors", name, Some(129))]);
        fs::write(out.join("model.safetensors"), &good["model.safetensors"]).unwrap();
    }
    // A copied tensor: its source tells the offset.
    for within in ["input_layernorm.weight", "self_attn.q_proj.weight", "mlp.gate_proj.weight"] {
        let name = format!("model.layers.5.{within}");
        poke(&out, &name, 5, |byte| byte ^ 1);
        let proof = verify(&out, None).unwrap();
        assert_eq!(failed(&proof), [("digests", name.as_str(), Some(5)), ("copies", name.as_str(), Some(5))]);
        fs::write(out.join("model.safetensors"), &good["model.safetensors"]).unwrap();
    }
    // The source of a copy: both are named, the copy with the offset.
    poke(&out, "model.layers.4.mlp.up_proj.weight", 1000, |byte| byte ^ 1);
    let proof = verify(&out, None).unwrap();
    assert_eq!(
        failed(&proof),
        [
            ("digests", "model.layers.4.mlp.up_proj.weight", None),
            ("copies", "model.layers.5.mlp.up_proj.weight", Some(1000))
        ]
    );
    fs::write(out.join("model.safetensors"), &good["model.safetensors"]).unwrap();
    // A -0.0, which compares equal to 0 as a float and is what `weight * 0` leaves.
    for name in ["model.layers.2.self_attn.o_proj.weight", "model.layers.5.mlp.down_proj.weight"] {
        poke(&out, name, 4 * 17 + 3, |_| 0x80);
        let proof = verify(&out, None).unwrap();
        assert_eq!(failed(&proof), [("digests", name, Some(71)), ("zeros", name, Some(71))]);
        fs::write(out.join("model.safetensors"), &good["model.safetensors"]).unwrap();
    }
    assert!(verify(&out, None).unwrap().is_ok());
}

#[test]
fn offsets_are_right_beyond_the_first_piece() {
    // Tensors larger than what is read at a time, differing in the last byte.
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (dir.path().join("base"), dir.path().join("out"));
    fs::create_dir_all(&base).unwrap();
    fs::write(base.join("config.json"), llama_config(1).to_string()).unwrap();
    let len = 2 * 300_001;
    let bytes: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
    let names = LLAMA.map(|within| format!("model.layers.0.{within}"));
    let views = names.iter().map(|name| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![300_001], &bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &base.join("model.safetensors")).unwrap();
    grow(&base, &out, &blocks(1, 1));
    assert!(verify(&out, Some(&base)).unwrap().is_ok());
    let last = u64::from(len) - 1;
    poke(&out, "model.layers.1.mlp.down_proj.weight", last, |_| 1);
    poke(&out, "model.layers.0.mlp.up_proj.weight", last, |byte| byte ^ 1);
    let proof = verify(&out, Some(&base)).unwrap();
    for expected in [
        ("zeros", "model.layers.1.mlp.down_proj.weight", Some(last)),
        ("copies", "model.layers.1.mlp.up_proj.weight", Some(last)),
        ("base-tensors", "model.layers.0.mlp.up_proj.weight", Some(last)),
    ] {
        assert!(failed(&proof).contains(&expected), "{:?}", failed(&proof));
    }
    assert_eq!(failed(&proof).len(), 5);
}

#[test]
fn an_edited_configuration_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = grown(dir.path());
    let mut config = json_file(&out.join("config.json"));
    config["rope_parameters"]["rope_theta"] = json!(500000.0);
    fs::write(out.join("config.json"), config.to_string()).unwrap();
    let proof = verify(&out, Some(&fixture("llama2"))).unwrap();
    let names: Vec<_> = failed(&proof).iter().map(|failure| (failure.0, failure.1)).collect();
    assert_eq!(
        names,
        [("config", "config.json"), ("base-digest", "base"), ("base-config", "rope_parameters")]
    );
}

#[test]
fn another_base_is_not_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let out = grown(dir.path());
    let proof = verify(&out, Some(&fixture("mistral-window"))).unwrap();
    assert!(!proof.is_ok());
    let error = verify(&out, Some(&out)).unwrap_err().to_string();
    assert!(error.contains("has 6 blocks"), "{error}");
    // A base with a tensor more.
    let (base, grown) = (dir.path().join("base"), dir.path().join("grown"));
    make(&base, &llama_config(2), 2, &LLAMA);
    grow(&base, &grown, &blocks(1, 1));
    let more = dir.path().join("more");
    let within: Vec<&str> = LLAMA.into_iter().chain(["self_attn.q_norm.weight"]).collect();
    make(&more, &llama_config(2), 2, &within);
    let proof = verify(&grown, Some(&more)).unwrap();
    assert!(failed(&proof).contains(&("base-tensors", "model.layers.1.self_attn.q_norm.weight", None)));
}

#[test]
fn training_may_change_new_blocks_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = grown(dir.path());
    let record = Expansion::read(&out).unwrap().unwrap();
    let trained = "model.layers.2.self_attn.o_proj.weight";
    let frozen = "model.layers.1.mlp.up_proj.weight";
    poke(&out, trained, 8, |_| 0x3f);
    let digest = |name: &str| llama_pro_checkpoint::digest(&common::tensors(&out)[name].2);
    let marked = record.mark_trained(&BTreeMap::from([(trained.to_owned(), digest(trained))])).unwrap();
    assert!(marked.is_trained() && !record.is_trained());
    fs::write(out.join("expansion.json"), marked.to_json()).unwrap();
    let proof = verify(&out, Some(&fixture("llama2"))).unwrap();
    assert!(proof.is_ok(), "{:?}", failed(&proof));
    assert!(proof.checks.iter().filter(|c| ["zeros", "copies"].contains(&c.name)).all(|c| c.checked == 0));
    // A frozen tensor that moved.
    poke(&out, frozen, 4, |byte| byte ^ 1);
    let proof = verify(&out, Some(&fixture("llama2"))).unwrap();
    assert_eq!(failed(&proof), [("digests", frozen, Some(4)), ("base-tensors", frozen, Some(4))]);
    // The same on purpose: full fine-tuning says so.
    let full = marked.mark_trained(&BTreeMap::from([(frozen.to_owned(), digest(frozen))])).unwrap();
    assert_eq!(full.unfrozen_names(), [frozen]);
    fs::write(out.join("expansion.json"), full.to_json()).unwrap();
    let proof = verify(&out, Some(&fixture("llama2"))).unwrap();
    assert!(proof.is_ok(), "{:?}", failed(&proof));
    let exempt: usize = proof.checks.iter().map(|check| check.exempt).sum();
    assert_eq!(exempt, 2, "{:?}", proof.checks);
}
