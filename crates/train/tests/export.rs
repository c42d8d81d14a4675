//! What is written after training: frozen bytes as they were, trained ones from their masters, tied heads in step, and a
//! frozen weight that moved is noticed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::path::Path;

use common::{Expected, fixture, max_difference};
use llama_pro_checkpoint::{Checkpoint, FolderWriter, Source, Tensor, Weights, WriteOptions};
use llama_pro_expand::{DeltaOptions, ExpandOptions, Expansion, Placement, apply, expand, verify};
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks, Trained};
use llama_pro_train::{Dtype, Keep, MicroBatch, TrainConfig, Trainer};
use tch::Kind;

fn ids() -> tch::Tensor {
    Expected::read(&fixture("llama2").join("expected.safetensors")).get("input_ids")
}

fn trained(dir: &Path, trained: Trained, dtype: Dtype) -> (Trainer, Checkpoint) {
    tch::set_num_threads(1);
    let checkpoint = Checkpoint::open(dir).unwrap();
    let kind = if dtype == Dtype::F32 { Kind::Float } else { Kind::BFloat16 };
    let added = Expansion::read(dir).unwrap().map(|r| r.new_blocks()).unwrap_or_default();
    let options = LoadOptions { kind: Some(kind), trained, added, ..LoadOptions::default() };
    let model = Llama::load(&checkpoint, &options).unwrap();
    let config = TrainConfig { dtype, ..TrainConfig::new(10, 2, 1e-2) };
    let mut trainer = Trainer::new(model, None, &config, Keep::default()).unwrap();
    for step in 1..=2 {
        trainer.step(&[MicroBatch::tokens(&ids())], step, 1e-2).unwrap();
    }
    (trainer, checkpoint)
}

fn grown(out: &Path) {
    let placement = Placement::Blocks { blocks: 2, per_group: 1 };
    expand(&fixture("llama3-gqa-tied-bf16-sharded"), out, &placement, &ExpandOptions::default()).unwrap();
}

#[test]
fn an_export_holds_the_trained_model_and_the_frozen_bytes() {
    let out = tempfile::tempdir().unwrap();
    let (dir, model) = (out.path().join("grown"), out.path().join("model"));
    grown(&dir);
    let names = Expansion::read(&dir).unwrap().unwrap().trained_names();
    let (trainer, source) = trained(&dir, Trained::Names(names.clone()), Dtype::F32);
    let checked = trainer.export(&source, &model, Weights::Model, None, &|_| {}).unwrap();
    let written = Checkpoint::open(&model).unwrap();
    assert_eq!(checked, written.names().count() - names.len());
    for name in written.names() {
        let same = written.bytes(name).unwrap() == source.bytes(name).unwrap();
        assert_eq!(same, !names.iter().any(|n| n == name), "{name}");
    }
    // The structural proof of the written folder, and its logits up to the rounding to bfloat16.
    assert!(verify(&model, Some(&fixture("llama3-gqa-tied-bf16-sharded"))).unwrap().is_ok());
    assert!(Expansion::read(&model).unwrap().unwrap().is_trained());
    let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    let again = Llama::load(&written, &options).unwrap();
    let logits = |m: &Llama| m.logits(&Inputs::tokens(&ids()), Blocks::Grown).unwrap();
    let difference = max_difference(&logits(&again), &logits(trainer.model()));
    assert!(difference < 0.05, "{difference}");
}

/// Written without the base, and with it again: the folder that the whole export is, to the byte.
#[test]
fn new_blocks_alone_and_the_base_are_the_whole_export() {
    let out = tempfile::tempdir().unwrap();
    let [dir, model, small, again] = ["grown", "model", "small", "again"].map(|name| out.path().join(name));
    // Eleven blocks, of which the tenth sorts before the second by name, and a head that is not tied.
    let placement = Placement::At(vec![1, 2, 3, 6, 7, 9, 10]);
    expand(&fixture("llama2"), &dir, &placement, &ExpandOptions::default()).unwrap();
    let names = Expansion::read(&dir).unwrap().unwrap().trained_names();
    let (trainer, source) = trained(&dir, Trained::Names(names), Dtype::Bf16);
    trainer.export(&source, &model, Weights::Model, None, &|_| {}).unwrap();
    trainer.export(&source, &small, Weights::NewBlocks, None, &|_| {}).unwrap();
    apply(&fixture("llama2"), &small, &again, &DeltaOptions::default()).unwrap();
    let files = |dir: &Path| -> std::collections::BTreeMap<_, _> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    };
    assert_eq!(files(&again), files(&model));
    // Where the base was trained too, new blocks alone are not the model; without new blocks there is nothing.
    for dir in [dir, fixture("llama2")] {
        let (trainer, source) = trained(&dir, Trained::All, Dtype::F32);
        let error =
            trainer.export(&source, &small, Weights::NewBlocks, None, &|_| {}).unwrap_err().to_string();
        assert!(error.contains("was trained too") || error.contains("it has none"), "{error}");
    }
}

/// A file may store the tied head under its own name; after training the embedding both must be the same.
#[test]
fn a_stored_tied_head_follows_the_embedding() {
    let out = tempfile::tempdir().unwrap();
    let (dir, model) = (out.path().join("tied"), out.path().join("model"));
    let base = Checkpoint::open(&fixture("qwen2")).unwrap();
    let mut list: Vec<Tensor> = base
        .names()
        .map(|name| {
            let info = base.info(name).unwrap();
            let source = Source::Copy { checkpoint: &base, name: name.to_owned() };
            Tensor { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone(), source }
        })
        .collect();
    let info = base.info("model.embed_tokens.weight").unwrap();
    let source = Source::Copy { checkpoint: &base, name: "model.embed_tokens.weight".to_owned() };
    list.push(Tensor {
        name: "lm_head.weight".to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
        source,
    });
    let mut writer = FolderWriter::new(&dir, WriteOptions::default()).unwrap();
    writer.config(base.config()).unwrap();
    writer.tensors(list, &|_| {}).unwrap();
    writer.finish().unwrap();

    tch::set_num_threads(1);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let options = LoadOptions { trained: Trained::All, ..LoadOptions::default() };
    let llama = Llama::load(&checkpoint, &options).unwrap();
    let ids = Expected::read(&fixture("qwen2").join("expected.safetensors")).get("input_ids");
    let mut trainer = Trainer::new(llama, None, &TrainConfig::new(10, 2, 1e-2), Keep::default()).unwrap();
    trainer.step(&[MicroBatch::tokens(&ids)], 1, 1e-2).unwrap();
    trainer.export(&checkpoint, &model, Weights::Model, None, &|_| {}).unwrap();
    let written = Checkpoint::open(&model).unwrap();
    let bytes = |name: &str| written.bytes(name).unwrap().to_vec();
    assert_eq!(bytes("lm_head.weight"), bytes("model.embed_tokens.weight"));
    assert_ne!(bytes("lm_head.weight"), checkpoint.bytes("lm_head.weight").unwrap());
    let again = Llama::load(&written, &LoadOptions::default()).unwrap();
    let logits = |m: &Llama| m.logits(&Inputs::tokens(&ids), Blocks::Grown).unwrap();
    assert_eq!(logits(&again), logits(trainer.model()));
}

#[test]
fn a_frozen_weight_that_moved_is_named() {
    let out = tempfile::tempdir().unwrap();
    let (dir, model) = (out.path().join("grown"), out.path().join("model"));
    grown(&dir);
    let names = Expansion::read(&dir).unwrap().unwrap().trained_names();
    let (trainer, source) = trained(&dir, Trained::Names(names), Dtype::Bf16);
    assert!(trainer.check_frozen(&source).unwrap() > 0);
    let name = "model.layers.1.mlp.up_proj.weight";
    let victim = trainer.model().parameters().iter().find(|p| p.name == name).unwrap();
    // The weight lies in the mapped file, copy on write: the page changes, the file does not.
    let before = std::fs::read(dir.join("model.safetensors")).unwrap_or_default();
    let _ = tch::no_grad(|| victim.tensor.narrow(0, 3, 1).narrow(1, 0, 1).fill_(0.5));
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap_or_default(), before);
    let error = trainer.export(&source, &model, Weights::Model, None, &|_| {}).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    assert!(!model.exists(), "nothing is written");
}

/// Gradients of bfloat16 weights are summed in float32: splitting a step gives the norm of the whole step.
#[test]
fn bfloat16_steps_do_not_depend_on_the_split() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("grown");
    grown(&dir);
    let names = Expansion::read(&dir).unwrap().unwrap().trained_names();
    let norm = |micros: usize| {
        tch::set_num_threads(1);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let trained = Trained::Names(names.clone());
        let options = LoadOptions { kind: Some(Kind::BFloat16), trained, ..LoadOptions::default() };
        let model = Llama::load(&checkpoint, &options).unwrap();
        let config = TrainConfig { dtype: Dtype::Bf16, ..TrainConfig::new(10, 32, 1e-2) };
        let mut trainer = Trainer::new(model, None, &config, Keep::default()).unwrap();
        let rows = tch::Tensor::concat(&(0..16).map(|_| ids()).collect::<Vec<_>>(), 0); // 32 rows
        let each = 32 / micros as i64;
        let batch: Vec<MicroBatch> =
            (0..micros as i64).map(|i| MicroBatch::tokens(&rows.narrow(0, i * each, each))).collect();
        trainer.step(&batch, 1, 1e-2).unwrap().grad_norm
    };
    let (whole, split) = (norm(1), norm(32));
    assert!((whole - split).abs() / whole < 2e-3, "{whole} against {split}");
}
