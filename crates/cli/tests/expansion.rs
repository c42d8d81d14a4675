//! `expand`, `verify`, `strip` and `inspect` through the program: the way there and back, and what each says as JSON.
//!
//! `verify --logits` is in `crates/cli-torch/tests/verify.rs`. Expected counts come from the files by a reader of this folder, not from the program.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Raw, assert_unchanged, fixture, flip, json_file, model_tensors, place_of, run, tree};
use serde_json::{Value, json};

const FIXTURES: [&str; 2] = ["llama2", "llama3-gqa-tied-bf16-sharded"];

/// A copy of the fixture as `base` and its expansion by two blocks as `grown`, with what expand said.
fn grown(name: &str) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    common::copy(&fixture(name), &dir.path().join("base"));
    let report = run(dir.path(), "expand base grown --blocks 2 --json").ok().json();
    (dir, report)
}

fn bytes(tensors: &BTreeMap<String, Raw>) -> u64 {
    tensors.values().map(|t| t.bytes.len() as u64).sum()
}

#[test]
fn there_and_back() {
    for name in FIXTURES {
        let (dir, report) = grown(name);
        let dir = dir.path();
        let (base, big) = (model_tensors(&dir.join("base")), model_tensors(&dir.join("grown")));

        // Four blocks in two groups: the new ones are 2 and 5, copies of 1 and 3.
        assert_eq!(report["written"], true);
        assert_eq!(report["tensors"], big.len());
        assert_eq!(report["bytes"], bytes(&big));
        assert!(
            report["seconds"].as_f64().unwrap() > 0.0 && report["bytes_per_second"].as_f64().unwrap() > 0.0
        );
        assert!(cfg!(not(target_os = "linux")) || report["peak_bytes"].as_u64().unwrap() > 1 << 20);
        assert_eq!(report["plan"]["base_layers"], 4);
        let layers = report["plan"]["layers"].as_array().unwrap();
        let plan: Vec<(u64, bool)> =
            layers.iter().map(|l| (l["source"].as_u64().unwrap(), l["new"].as_bool().unwrap())).collect();
        let expected = [(0, false), (1, false), (1, true), (2, false), (3, false), (3, true)];
        assert_eq!(plan, expected);
        for (name, tensor) in &big {
            let place = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
            let Some((index, rest)) = place else {
                assert_eq!(*tensor, base[name], "{name}");
                continue;
            };
            let (source, new) = expected[index.parse::<usize>().unwrap()];
            let from = &base[&format!("model.layers.{source}.{rest}")];
            assert_eq!((&tensor.dtype, &tensor.shape), (&from.dtype, &from.shape));
            if new && ["self_attn.o_proj.weight", "mlp.down_proj.weight"].contains(&rest) {
                assert!(tensor.bytes.iter().all(|&b| b == 0), "{name} is not zero");
            } else {
                assert_eq!(tensor.bytes, from.bytes, "{name}");
            }
        }

        let proof = run(dir, "verify grown --base base --json").ok().json();
        let checks = proof["proof"]["checks"].as_array().unwrap();
        let names: Vec<&str> = checks.iter().map(|c| c["name"].as_str().unwrap()).collect();
        for check in ["digests", "zeros", "copies", "base-config", "base-tensors"] {
            assert!(names.contains(&check), "{names:?}");
        }
        assert!(checks.iter().all(|c| c["failures"] == json!([]) && c["checked"].as_u64().unwrap() > 0));
        assert_eq!(proof["proof"]["tensors"], big.len());
        assert_eq!(proof["proof"]["bytes"], bytes(&big));
        let config = json_file(&dir.join("base/config.json"));
        assert_eq!(proof["logits"], Value::Null);

        let stripped = run(dir, "strip grown back --json").ok().json();
        assert_eq!(stripped["identical"], true);
        assert_eq!(stripped["removed"], json!([2, 5]));
        assert_eq!(stripped["layers"], 4);
        assert_eq!(stripped["tensors"], base.len());
        assert_eq!(stripped["bytes"], bytes(&base));
        assert_eq!(model_tensors(&dir.join("back")), base);
        assert_eq!(json_file(&dir.join("back/config.json")), config);
        assert!(!dir.join("back/expansion.json").exists());
    }
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let (dir, _) = grown("llama3-gqa-tied-bf16-sharded");
    let before = tree(&dir.path().join("grown"));
    run(dir.path(), "expand base again --blocks 2").ok();
    run(dir.path(), "expand base grown --blocks 2 --force").ok();
    for folder in ["again", "grown"] {
        assert_unchanged(&before, &dir.path().join(folder));
    }
}

#[test]
fn two_generations_and_chosen_places() {
    let (dir, _) = grown("llama2");
    let dir = dir.path();
    let report = run(dir, "expand grown taller --at 1,7 --json").ok().json();
    assert_eq!(report["plan"]["base_layers"], 6);
    run(dir, "verify taller --base base").ok();
    run(dir, "verify taller --base grown").ok();
    let found = run(dir, "inspect taller --json").ok().json();
    assert_eq!((&found["blocks"], &found["generations"]), (&json!(8), &json!(2)));
    run(dir, "strip taller one").ok();
    assert_eq!(model_tensors(&dir.join("one")), model_tensors(&dir.join("grown")));
    run(dir, "strip taller all --all").ok();
    assert_eq!(model_tensors(&dir.join("all")), model_tensors(&dir.join("base")));
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    common::copy(&fixture("llama2"), &dir.join("base"));
    let before = tree(dir);
    let text = run(dir, "expand base grown --blocks 2 --dry-run").ok().stdout;
    assert!(text.contains("4 -> 6 blocks, 2 new") && text.contains("dry run"), "{text}");
    let report = run(dir, "expand base grown --blocks 2 --dry-run --json").ok().json();
    assert_eq!(report["written"], false);
    assert_unchanged(&before, dir);
    // It tells the truth about the real one.
    let real = run(dir, "expand base grown --blocks 2 --json").ok().json();
    assert_eq!(report["plan"], real["plan"]);
    assert_eq!((&report["bytes"], &report["tensors"]), (&real["bytes"], &real["tensors"]));
}

/// verify must fail with 1, say which tensor on stdout, and say so on stderr in one line.
fn caught(dir: &Path, args: &str, check: &str, tensor: &str) {
    let ran = run(dir, &format!("verify grown {args}"));
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let line = ran.stdout.lines().find(|l| l.trim_start().starts_with(&format!("{check}: {tensor}")));
    assert!(line.is_some_and(|l| l.contains("at byte 8")), "{ran:#?}");
    ran.one_line(&["grown: ", "check(s) failed"]);
    let json = run(dir, &format!("verify grown {args} --json"));
    assert_eq!(json.code, Some(1));
    let checks = json.json()["proof"]["checks"].clone();
    let found = checks.as_array().unwrap().iter().find(|c| c["name"] == check).unwrap();
    assert_eq!(found["failures"][0]["what"], tensor);
    assert_eq!(found["failures"][0]["offset"], 8);
}

#[test]
fn one_flipped_bit_is_found() {
    let cases = [
        ("zeros", "model.layers.2.self_attn.o_proj.weight", ""),
        ("copies", "model.layers.5.mlp.up_proj.weight", ""),
        ("base-tensors", "model.layers.3.self_attn.q_proj.weight", "--base base"),
        ("base-tensors", "model.embed_tokens.weight", "--base base"),
    ];
    for name in FIXTURES {
        let (dir, _) = grown(name);
        let dir = dir.path();
        for (check, tensor, args) in cases {
            let (file, at) = place_of(&dir.join("grown"), tensor);
            flip(&file, at + 8);
            caught(dir, args, check, tensor);
            // The digest finds it whatever it is, but for a tensor with nothing beside it no place is known.
            let ran = run(dir, "verify grown");
            assert_eq!(ran.code, Some(1));
            assert!(ran.stdout.contains(&format!("digests: {tensor}")), "{ran:#?}");
            flip(&file, at + 8);
        }
        run(dir, "verify grown --base base").ok();
        // strip hands nothing on that is not the base.
        let (file, at) = place_of(&dir.join("grown"), "model.norm.weight");
        flip(&file, at);
        let before = tree(dir);
        run(dir, "strip grown back").refused(&["grown: tensor model.norm.weight", "expansion.json"]);
        assert_unchanged(&before, dir);
    }
}

#[test]
fn inspect_counts_what_is_there() {
    for name in FIXTURES {
        let (dir, _) = grown(name);
        let dir = dir.path();
        let config = json_file(&dir.join("base/config.json"));
        for (folder, blocks, new_blocks) in [("base", 4, vec![]), ("grown", 6, vec![2, 5])] {
            let found = run(dir, &format!("inspect {folder} --json")).ok().json();
            let tensors = model_tensors(&dir.join(folder));
            let count = |keep: &dyn Fn(&str) -> bool| {
                tensors.iter().filter(|(n, _)| keep(n)).map(|(_, t)| t.count()).sum::<u64>()
            };
            let all = count(&|_| true);
            let new = count(&|n| new_blocks.iter().any(|b| n.starts_with(&format!("model.layers.{b}."))));
            let files = tree(&dir.join(folder));
            let shards = files.keys().filter(|n| n.extension().is_some_and(|e| e == "safetensors")).count();
            assert_eq!(found["parameters"], all);
            assert_eq!(found["new_parameters"], new);
            assert_eq!(found["bytes"], bytes(&tensors));
            assert_eq!(found["shards"], shards);
            assert_eq!(found["blocks"], blocks);
            assert_eq!(found["new_blocks"], json!(new_blocks));
            let dtype = &tensors["model.norm.weight"].dtype;
            assert_eq!(found["dtypes"], json!({ dtype: all }));
            assert_eq!(found["trained"], if new > 0 { json!(false) } else { Value::Null });
            assert_eq!(found["supported"], Value::Null);
            for key in ["hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"] {
                assert_eq!(found[key], config[key], "{key}");
            }
            assert_eq!(found["attention_heads"], config["num_attention_heads"]);
            assert_eq!(found["key_value_heads"], config["num_key_value_heads"]);
            assert_eq!(found["tied_embeddings"], config["tie_word_embeddings"]);
            // f32: a gradient and two moments; bf16: also a float32 sum of gradients and a float32 master.
            let memory = |mode: &str, dtype: &str, trained: u64| {
                let (width, gradient, optimizer) = if dtype == "f32" { (4, 4, 8) } else { (2, 6, 12) };
                json!({
                    "mode": mode, "dtype": dtype, "weights": all * width, "gradients": trained * gradient,
                    "optimizer": trained * optimizer,
                })
            };
            let mut expected = Vec::new();
            for dtype in ["f32", "bf16"] {
                expected.extend((new > 0).then(|| memory("added", dtype, new)));
                expected.push(memory("all", dtype, all));
            }
            assert_eq!(found["train_memory"], json!(expected));
            // The plan of a step stands on the same state, and computing more again never takes more.
            let plans = found["step_memory"].as_array().unwrap();
            let state = |m: &Value| -> u64 {
                ["weights", "gradients", "optimizer"].iter().map(|key| m[*key].as_u64().unwrap()).sum()
            };
            for memory in found["train_memory"].as_array().unwrap() {
                let same = |p: &&Value| p["mode"] == memory["mode"] && p["dtype"] == memory["dtype"];
                let of: Vec<&Value> = plans.iter().filter(same).collect();
                assert_eq!(of.len(), if memory["mode"] == "added" { 3 } else { 2 });
                assert!(of.iter().all(|p| p["state"] == state(memory)), "{of:?}");
                let totals: Vec<u64> = of.iter().map(|p| p["total"].as_u64().unwrap()).collect();
                assert!(totals.is_sorted_by(|a, b| a >= b), "{totals:?}");
            }
            let text = run(dir, &format!("inspect {folder}")).ok().stdout;
            assert!(
                text.contains(&format!("({all})")) && text.contains(&format!("{blocks} blocks")),
                "{text}"
            );
        }
    }
}
