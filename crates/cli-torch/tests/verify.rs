//! `verify --logits`: both models run side by side, and every logit compared with ==.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;

use common::{fixture, json_file, place_of, run};
use llama_pro_expand::{ExpandOptions, Placement};
use serde_json::json;

/// A copy of the fixture as `base` and its expansion as `grown`.
fn grown(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    common::copy(&fixture(name), &dir.path().join("base"));
    let placement = Placement::Blocks { blocks: 2, per_group: 1 };
    let (base, out) = (dir.path().join("base"), dir.path().join("grown"));
    llama_pro_expand::expand(&base, &out, &placement, &ExpandOptions::default()).unwrap();
    dir
}

#[test]
fn every_logit_of_a_grown_model_is_its_base() {
    for (name, dtype) in [("llama2", "F32"), ("llama3-gqa-tied-bf16-sharded", "BF16"), ("llama-f16", "F16")] {
        let dir = grown(name);
        let dir = dir.path();
        let proof = run(dir, "verify grown --base base --logits --json").ok().json();
        let checks = proof["proof"]["checks"].as_array().unwrap();
        assert!(checks.len() > 5 && checks.iter().all(|c| c["failures"] == json!([])));
        let config = json_file(&dir.join("base/config.json"));
        assert_eq!(proof["logits"]["different"], 0);
        assert_eq!(proof["logits"]["compared"], 4 * 64 * config["vocab_size"].as_u64().unwrap());
        assert_eq!((&proof["logits"]["path"], &proof["logits"]["dtype"]), (&json!("grown"), &json!(dtype)));
        // Without the base, the folder is compared with itself, new blocks skipped.
        let alone = run(dir, "verify grown --logits --json").ok().json();
        assert_eq!(alone["logits"]["different"], 0);
        let text = run(dir, "verify grown --base base --logits").ok().stdout;
        assert!(text.contains("ok   logits") && text.contains("(grown path)"), "{text}");
    }
}

#[test]
fn another_base_fails() {
    let dir = grown("llama2");
    let dir = dir.path();
    // A base with one other weight: nothing needs to be run to see that it is another.
    let (file, at) = place_of(&dir.join("base"), "model.layers.0.mlp.up_proj.weight");
    let mut all = fs::read(&file).unwrap();
    all[at + 3] ^= 0x80;
    fs::write(&file, all).unwrap();
    let ran = run(dir, "verify grown --base base --logits");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("FAIL base-tensors") && !ran.stdout.contains("ok   logits"), "{ran:#?}");
    ran.one_line(&["grown: ", "check(s) failed"]);
}
