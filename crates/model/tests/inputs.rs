//! What a model refuses, packed rows, and scoring.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::{Expected, fixture, max_difference};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_eval::{LanguageModel, TokenRow};
use llama_pro_model::{Inputs, Llama, LoadOptions, Path, Scorer, Trained};
use tch::{Kind, Tensor};

fn llama2() -> Llama {
    Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &LoadOptions::default()).unwrap()
}

#[test]
fn ids_outside_the_vocabulary_are_refused_by_number() {
    let model = llama2();
    for bad in [320i64, -1] {
        let ids = Tensor::from_slice(&[3, bad]).view([1, 2]);
        let error = model.logits(&Inputs::tokens(&ids), Path::Grown).unwrap_err().to_string();
        assert!(error.contains(&bad.to_string()) && error.contains("320"), "{error}");
    }
    let flat = Tensor::from_slice(&[3i64, 4]);
    assert!(model.logits(&Inputs::tokens(&flat), Path::Grown).is_err());
}

#[test]
fn unknown_names_and_blocks_are_refused() {
    let checkpoint = Checkpoint::open(&fixture("llama2")).unwrap();
    let load = |options: LoadOptions| Llama::load(&checkpoint, &options).err().unwrap().to_string();
    let names = Trained::Names(vec!["model.layers.9.mlp.up_proj.weight".to_owned()]);
    assert!(load(LoadOptions { trained: names, ..LoadOptions::default() }).contains("model.layers.9"));
    assert!(load(LoadOptions { added: vec![4], ..LoadOptions::default() }).contains("new block 4"));
}

/// Two documents packed into a row give the logits of each alone: no token sees the other document.
#[test]
fn documents_of_a_packed_row_do_not_see_each_other() {
    for name in ["llama2", "mistral-window", "llama3-gqa-tied-bf16-sharded"] {
        let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
        let model = Llama::load(&Checkpoint::open(&fixture(name)).unwrap(), &options).unwrap();
        let ids =
            Expected::read(&fixture(name).join("expected.safetensors")).get("input_ids").narrow(0, 0, 1);
        let (first, second) = (ids.narrow(1, 0, 20), ids.narrow(1, 20, 28));
        let range = |n| Tensor::arange(n, (Kind::Int64, tch::Device::Cpu)).unsqueeze(0);
        let positions = Tensor::concat(&[range(20), range(28)], 1);
        let segments = Tensor::concat(&[range(20).zeros_like(), range(28).ones_like()], 1);
        let inputs = Inputs { ids: &ids, positions: Some(&positions), segments: Some(&segments) };
        let packed = model.logits(&inputs, Path::Grown).unwrap();
        let alone = |ids: &Tensor| model.logits(&Inputs::tokens(ids), Path::Grown).unwrap();
        let apart = Tensor::concat(&[alone(&first), alone(&second)], 1);
        let difference = max_difference(&packed, &apart);
        assert!(difference < 1e-5, "{name}: {difference:e}");
        let together = max_difference(&alone(&ids), &apart);
        assert!(together > 1e-2, "{name}: the mask matters, {together:e}");
    }
}

/// Log-likelihoods are those that transformers states, whatever else is in the batch.
#[test]
fn scores_are_the_stated_log_probabilities() {
    let model = llama2();
    let expected = Expected::read(&fixture("llama2").join("expected.safetensors"));
    let rows: Vec<TokenRow> = (0..2)
        .map(|i| TokenRow::document(&Vec::<i64>::try_from(&expected.get("input_ids").get(i)).unwrap()))
        .collect();
    let stated: Vec<f64> =
        (0..2).map(|i| expected.get("logprobs").get(i).sum(Kind::Double).double_value(&[])).collect();
    let mut scorer = Scorer::new(&model, Path::Grown);
    let together = scorer.score(&rows).unwrap();
    for (i, score) in together.iter().enumerate() {
        assert_eq!(score.targets, 47);
        assert!(
            (score.log_likelihood - stated[i]).abs() < 2e-4,
            "{} against {}",
            score.log_likelihood,
            stated[i]
        );
        let alone = scorer.score(&rows[i..=i]).unwrap()[0];
        assert!((alone.log_likelihood - score.log_likelihood).abs() < 1e-4);
    }
    let continuation = TokenRow::continuation(&rows[0].inputs[..10], &rows[0].inputs[10..]);
    let part = scorer.score(&[continuation, rows[1].clone()]).unwrap();
    let tail = expected.get("logprobs").get(0).narrow(0, 9, 37).sum(Kind::Double).double_value(&[]);
    assert!(
        (part[0].log_likelihood - tail).abs() < 2e-4 && part[0].targets == 37,
        "rows of different length"
    );
}
