//! The shim's decoder against tensor operations, on segments that fork, grow and skip pages.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use llama_pro_checkpoint::Checkpoint;
use tch::{Kind, Tensor};

use super::{Engine, Segment, Span};
use crate::{Llama, LoadOptions, Path};

fn load(name: &str, kind: Kind) -> Llama {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    let options = LoadOptions { kind: Some(kind), ..LoadOptions::default() };
    Llama::load(&Checkpoint::open(&folder).unwrap(), &options).unwrap()
}

fn ids(n: usize, seed: usize) -> Vec<i64> {
    (0..n).map(|i| ((i * i * 7 + i * 13 + seed * 29) % 90 + 3) as i64).collect()
}

fn segment(tokens: Vec<i64>, spans: &[(usize, usize)], wanted: &[usize]) -> Segment {
    let spans = spans.iter().map(|&(slot, len)| Span { slot, len }).collect();
    Segment { tokens, spans, wanted: wanted.to_vec() }
}

/// Passes as scoring and generation make them: a long beginning, several continuations of it in one pass, one of which
/// goes on by a token at a time beside another, and a pass in which nothing is wanted.
fn passes() -> Vec<Vec<Segment>> {
    vec![
        vec![segment(ids(21, 0), &[(0, 21)], &[])],
        vec![
            segment(ids(9, 1), &[(0, 21), (32, 9)], &[0, 3, 8]),
            segment(ids(1, 2), &[(0, 21), (48, 1)], &[0]),
            segment(ids(17, 3), &[(64, 17)], &[16]),
        ],
        vec![segment(ids(1, 4), &[(0, 21), (32, 10)], &[0]), segment(ids(1, 5), &[(64, 18)], &[0])],
        vec![
            segment(ids(1, 6), &[(0, 21), (32, 11)], &[0]),
            segment(ids(2, 7), &[(64, 18), (96, 2)], &[0, 1]),
        ],
        vec![segment(ids(12, 8), &[(0, 21), (32, 11), (112, 12)], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])],
    ]
}

fn outputs(mut engine: Engine) -> Tensor {
    let rows: Vec<Tensor> =
        passes().iter().map(|pass| engine.forward(pass).unwrap().to_kind(Kind::Double)).collect();
    Tensor::concat(&rows, 0)
}

const FIXTURES: [&str; 6] = [
    "llama2",
    "llama3-gqa-tied-bf16-sharded",
    "mistral-window",
    "qwen2-sliding",
    "llama-biases",
    "llama-head-dim",
];

#[test]
fn the_decoder_computes_what_tensor_operations_do() {
    for name in FIXTURES {
        let model = load(name, Kind::Float);
        let own = outputs(Engine::new(&model, Path::Grown, 128).unwrap());
        let reference = outputs(Engine::of_tensors(&model, Path::Grown, 128));
        assert_eq!(own.size(), reference.size());
        let difference = (&own - &reference).abs().max().double_value(&[]);
        assert!(difference < 2e-5, "{name}: {difference:e}");
    }
}

/// In bfloat16, both are as near to the float32 truth.
#[test]
fn the_decoder_rounds_no_worse_in_bfloat16() {
    for name in FIXTURES {
        let wide = load(name, Kind::Float);
        let narrow = load(name, Kind::BFloat16);
        let truth = outputs(Engine::new(&wide, Path::Grown, 128).unwrap());
        let error = |got: Tensor| (got - &truth).square().mean(Kind::Double).sqrt().double_value(&[]);
        let own = error(outputs(Engine::new(&narrow, Path::Grown, 128).unwrap()));
        let reference = error(outputs(Engine::of_tensors(&narrow, Path::Grown, 128)));
        assert!(own <= 1.15 * reference, "{name}: {own} against {reference}");
        assert!(own > 0.0, "{name}: bfloat16 rounds");
    }
}
