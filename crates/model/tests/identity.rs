//! An expanded model computes exactly what its base computes: every logit compared with ==, in every dtype, with the
//! new blocks in the path and with the new blocks skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::path::Path;

use common::{Expected, fixture, shared};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{ExpandOptions, Expansion, Placement, expand};
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks};
use tch::{Kind, Tensor};

const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

fn load(dir: &Path, kind: Kind) -> Llama {
    let added = Expansion::read(dir).unwrap().map(|r| r.new_blocks()).unwrap_or_default();
    let options = LoadOptions { kind: Some(kind), added, ..LoadOptions::default() };
    Llama::load(&Checkpoint::open(dir).unwrap(), &options).unwrap()
}

fn check(base: &Path, ids: &Tensor, placement: &Placement) {
    let out = tempfile::tempdir().unwrap();
    let grown_dir = out.path().join("grown");
    expand(base, &grown_dir, placement, &ExpandOptions::default()).unwrap();
    for kind in KINDS {
        let (base, grown) = (load(base, kind), load(&grown_dir, kind));
        assert!(grown.n_blocks() > base.n_blocks());
        let reference = base.logits(&Inputs::tokens(ids), Blocks::Grown).unwrap();
        assert!(reference.isfinite().all().int64_value(&[]) == 1);
        for path in [Blocks::Grown, Blocks::Base] {
            let logits = grown.logits(&Inputs::tokens(ids), path).unwrap();
            let different = logits.not_equal_tensor(&reference).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(different, 0, "{kind:?} {path:?}: {different} logits differ");
        }
    }
}

fn ids(name: &str) -> Tensor {
    Expected::read(&fixture(name).join("expected.safetensors")).get("input_ids")
}

#[test]
fn fixtures() {
    let one = Placement::Blocks { blocks: 2, per_group: 1 };
    let units = Placement::Blocks { blocks: 4, per_group: 2 };
    let at = Placement::At(vec![1, 2, 6]);
    check(&fixture("llama2"), &ids("llama2"), &one);
    check(&fixture("llama3-gqa-tied-bf16-sharded"), &ids("llama3-gqa-tied-bf16-sharded"), &units);
    check(&fixture("mistral-window"), &ids("mistral-window"), &at);
    check(&fixture("llama-biases"), &ids("llama-biases"), &Placement::Blocks { blocks: 3, per_group: 1 });
    check(&fixture("qwen2"), &ids("qwen2"), &Placement::Blocks { blocks: 1, per_group: 1 });
    check(&fixture("llama-f16"), &ids("llama-f16"), &Placement::Blocks { blocks: 3, per_group: 1 });
}

/// A real pretrained model, on ids that cover its vocabulary.
#[test]
fn stories260k() {
    let Some(base) = shared("data/stories260K") else { return };
    let ids = Tensor::arange(512, (Kind::Int64, tch::Device::Cpu)).view([2, 256]);
    check(&base, &ids, &Placement::Blocks { blocks: 5, per_group: 1 });
}

/// The check itself can fail: one changed weight in a new block shows.
#[test]
fn a_block_that_is_no_identity_is_seen() {
    let model = load(&fixture("llama2-train-added/expanded"), Kind::Float);
    let base = load(&fixture("llama2"), Kind::Float);
    let ids = ids("llama2");
    let reference = base.logits(&Inputs::tokens(&ids), Blocks::Grown).unwrap();
    let same = |m: &Llama| m.logits(&Inputs::tokens(&ids), Blocks::Grown).unwrap() == reference;
    assert!(same(&model), "expanded by PyTorch: an identity");
    let zeroed = model.parameters().iter().find(|p| p.name == "model.layers.2.mlp.down_proj.weight").unwrap();
    assert_eq!(zeroed.tensor.abs().max().double_value(&[]), 0.0);
    // A mapped weight is read-only, so the change goes into a folder of its own.
    let out = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("llama2-train-added/expanded").join(file), out.path().join(file)).unwrap();
    }
    let path = out.path().join("model.safetensors");
    let info = Checkpoint::open(out.path()).unwrap().info(&zeroed.name).unwrap().clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[info.offset as usize..][..4].copy_from_slice(&0.25f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert!(!same(&load(out.path(), Kind::Float)));
}
