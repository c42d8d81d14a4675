//! `llama-pro debug …` against the numbers of PyTorch and transformers in tests/fixtures.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::{fixture, run, run_list, tensors_of, tree};
use llama_pro_expand::{ExpandOptions, Placement};

/// Bound of the design: float32 logits against transformers.
const LOGITS: f32 = 2e-5;

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // NaN must not pass as the smallest difference.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

#[test]
fn logits_of_every_fixture_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let folder = entry.unwrap().path();
        let expected = folder.join("expected.safetensors");
        if !expected.exists() {
            continue;
        }
        let (model, ids) = (folder.to_str().unwrap(), expected.to_str().unwrap());
        run_list(dir.path(), &["debug", "logits", model, "--ids", ids, "--out", "out", "--dtype", "f32"])
            .ok();
        let (found, expected) = (tensors_of(&dir.path().join("out")), tensors_of(&expected));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["logits"]);
        assert_eq!(found["logits"].shape, expected["logits"].shape, "{model}");
        let worst = max_difference(&found["logits"].f32(), &expected["logits"].f32());
        println!("{model}: {worst:e}");
        assert!(worst <= LOGITS, "{model}: {worst:e}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} fixtures have logits");
}

/// The same 40 steps as PyTorch took: the curve within 1e-5 and 1e-4, and the weights at its end.
fn replay(name: &str, which: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (folder, model) = (fixture(name), fixture("llama2-train-added/expanded"));
    let curve = folder.join("curve.safetensors");
    let args =
        ["debug", "train", model.to_str().unwrap(), "--tokens", curve.to_str().unwrap(), "--train", which];
    let ran = run_list(dir.path(), &[&args[..], &["--out", "out"]].concat()).ok();
    assert!(ran.stdout.contains("in 40 steps"), "{ran:#?}");
    let (mut found, expected) = (tensors_of(&dir.path().join("out")), tensors_of(&curve));
    for (key, bound) in [("loss", 1e-5), ("grad_norm", 1e-4), ("lr", 1e-6)] {
        let (found, expected) = (found.remove(key).unwrap().f32(), expected[key].f32());
        assert_eq!(found.len(), expected.len());
        for (step, (a, b)) in found.iter().zip(&expected).enumerate() {
            let relative = f64::from((a - b).abs()) / f64::from(b.abs()).max(1e-12);
            assert!(relative <= bound, "{key} of step {step}: {a} against {b}, {relative:e}");
        }
    }
    let trained = tensors_of(&folder.join("trained.safetensors"));
    assert_eq!(found.keys().collect::<Vec<_>>(), trained.keys().collect::<Vec<_>>(), "the trained tensors");
    let start = common::model_tensors(&model);
    for (name, tensor) in &found {
        assert_eq!(tensor.shape, trained[name].shape);
        let worst = max_difference(&tensor.f32(), &trained[name].f32());
        assert!(worst <= 2e-4, "{name}: {worst:e}");
        // And training went somewhere: the bound is not met by standing still.
        let moved = max_difference(&tensor.f32(), &start[name].f32());
        assert!(moved > 5.0 * worst.max(1e-5), "{name} moved by {moved:e}");
    }
}

#[test]
fn new_blocks_follow_pytorch() {
    replay("llama2-train-added", "added");
}

#[test]
fn full_training_follows_pytorch() {
    replay("llama2-train-full", "all");
}

fn make(dir: &Path, out: &str, more: &str) {
    let shape =
        "--layers 3 --hidden 64 --intermediate 96 --vocab 300 --key-value-heads 1 --max-shard-bytes 100000";
    run(dir, &format!("debug make-checkpoint {out} {shape} {more}")).ok();
}

#[test]
fn made_checkpoints_are_a_function_of_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir, "a", "");
    make(dir, "b", "");
    make(dir, "c", "--seed 1");
    let (a, b, c) = (tree(&dir.join("a")), tree(&dir.join("b")), tree(&dir.join("c")));
    assert!(a == b, "two with the same arguments differ");
    assert!(a != c, "another seed gives the same");
    assert!(
        a.keys().filter(|n| n.extension().is_some_and(|e| e == "safetensors")).count() > 1,
        "not sharded"
    );
    make(dir, "d", "--dtype f32");
    for (folder, dtype) in [("a", "BF16"), ("d", "F32")] {
        let tensors = common::model_tensors(&dir.join(folder));
        assert!(tensors.values().all(|t| t.dtype == dtype));
        // Two matrices of the vocabulary, the last norm, and per block two norms, q and o, k and v, and the MLP.
        let block = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 64 + 3 * 64 * 96;
        assert_eq!(tensors.values().map(common::Raw::count).sum::<u64>(), 2 * 300 * 64 + 64 + 3 * block);
        assert_eq!(common::json_file(&dir.join(folder).join("config.json"))["num_hidden_layers"], 3);
    }
    // Random weights, not zeros: spread as the standard deviation of 0.02 says.
    let weight = common::model_tensors(&dir.join("d"))["model.layers.1.mlp.up_proj.weight"].f32();
    let n = weight.len() as f32;
    let (mean, square) = (weight.iter().sum::<f32>() / n, weight.iter().map(|x| x * x).sum::<f32>() / n);
    assert!(mean.abs() < 1e-3 && (square.sqrt() - 0.02).abs() < 1e-3, "mean {mean}, rms {}", square.sqrt());
}

/// `llama-pro` hands these commands over, with their exit codes.
#[test]
fn the_other_program_starts_this_one() {
    let llama_pro = Path::new(env!("CARGO_BIN_EXE_llama-pro-torch")).with_file_name("llama-pro");
    if !llama_pro.exists() {
        println!("skipped: {} is not built", llama_pro.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), "a", "");
    let start = |args: &str| {
        let mut command = std::process::Command::new(&llama_pro);
        command.current_dir(dir.path()).args(args.split_whitespace()).output().unwrap()
    };
    let shape =
        "--layers 3 --hidden 64 --intermediate 96 --vocab 300 --key-value-heads 1 --max-shard-bytes 100000";
    let output = start(&format!("--threads 1 debug make-checkpoint b {shape}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(tree(&dir.path().join("a")) == tree(&dir.path().join("b")));
    let output = start("debug make-checkpoint b");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.starts_with(b"error: b exists already"), "{output:?}");
    assert_eq!(start("verify a --logits").status.code(), Some(2));
    assert_eq!(start("pretrain --resume --run a").status.code(), Some(2));
}

#[test]
fn the_base_inside_a_grown_model_is_reached_by_skipping() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (base, ids) = (fixture("llama2"), fixture("llama2/expected.safetensors"));
    let placement = Placement::Blocks { blocks: 2, per_group: 1 };
    llama_pro_expand::expand(&base, &dir.join("grown"), &placement, &ExpandOptions::default()).unwrap();
    let (base, ids) = (base.to_str().unwrap(), ids.to_str().unwrap());
    // Something else than the identity, so that the two paths differ.
    let (file, at) = common::place_of(&dir.join("grown"), "model.layers.2.self_attn.o_proj.weight");
    let mut bytes = fs::read(&file).unwrap();
    bytes[at..at + 4].copy_from_slice(&1f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    for (model, more, out) in [(base, "", "b"), ("grown", "--base-path", "s"), ("grown", "", "g")] {
        run(dir, &format!("debug logits {model} --ids {ids} --out {out} {more}")).ok();
    }
    let [b, s, g] = ["b", "s", "g"].map(|f| fs::read(dir.join(f)).unwrap());
    assert!(b == s, "skipping the new blocks is not the base");
    assert!(b != g, "the changed block does nothing");
}
