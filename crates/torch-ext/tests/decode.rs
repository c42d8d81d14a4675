//! The kernels of cached inference against libtorch's own operations, at every level of instructions of this machine.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use llama_pro_torch_ext::{
    Decoder, DecoderLayer, DecoderMap, DecoderSegment, DecoderShape, head, limit_kernels, token_scores,
};
use tch::{Device, Kind, Tensor};

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// One test, since the level is one for the process.
#[test]
fn products_and_scores_are_those_of_libtorch() {
    let best = limit_kernels(i32::MAX);
    tch::manual_seed(1);
    for level in 0..=best {
        assert_eq!(limit_kernels(level), level);
        for kind in [Kind::Float, Kind::BFloat16] {
            products(kind, level);
            scores(kind);
        }
    }
    limit_kernels(i32::MAX);
}

/// Every number of rows that has code of its own, and sizes that no vector divides.
fn products(kind: Kind, level: i32) {
    for m in (1..=18).chain([40]) {
        for (k, n) in [(64, 48), (172, 101), (7, 5), (33, 1)] {
            let (x, w) = (random(&[m, k], kind), random(&[n, k], kind));
            let got = head(&x, &w).unwrap();
            assert_eq!((got.size(), got.kind()), (vec![m, n], kind));
            let exact = x.to_kind(Kind::Double).matmul(&w.to_kind(Kind::Double).tr());
            // What float32 sums of such terms may lose, and half a unit of bfloat16 in the result.
            let terms = x.to_kind(Kind::Double).abs().matmul(&w.to_kind(Kind::Double).abs().tr());
            let unit = if kind == Kind::Float { 0.0 } else { 1.0 / 256.0 };
            let bound = terms * 1e-6 + exact.abs() * unit;
            let excess = ((got.to_kind(Kind::Double) - exact).abs() - bound).max().double_value(&[]);
            assert!(excess <= 0.0, "level {level} {kind:?} [{m},{k}]x[{n},{k}]: {excess:e} beyond the bound");
        }
    }
    assert!(head(&random(&[2, 3], kind), &random(&[2, 4], kind)).is_err());
}

fn scores(kind: Kind) {
    for vocabulary in [3, 16, 1000, 32_001] {
        let logits = random(&[5, vocabulary], kind) * 4.0;
        let expected = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
        let best = logits.to_kind(Kind::Float).argmax(-1, false);
        let targets: Vec<(i64, i64)> = (0..5)
            .flat_map(|r| [(r, r % vocabulary), (r, vocabulary - 1), (r, best.int64_value(&[r]))])
            .collect();
        let got = token_scores(&logits, &targets).unwrap();
        for (&(row, token), &(nats, likeliest)) in targets.iter().zip(&got) {
            let exact = expected.double_value(&[row, token]);
            assert!((f64::from(nats) - exact).abs() < 2e-6 * exact.abs().max(1.0), "{nats} against {exact}");
            let value = |t: i64| logits.double_value(&[row, t]);
            assert_eq!(
                likeliest,
                token == (0..vocabulary).find(|&t| value(t) == value(best.int64_value(&[row]))).unwrap()
            );
        }
        assert!(token_scores(&logits, &[(5, 0)]).is_err());
        assert!(token_scores(&logits, &[(0, vocabulary)]).is_err());
    }
    assert!(token_scores(&random(&[2, 3], Kind::Double), &[(0, 0)]).is_err());
}

#[test]
fn a_call_that_does_not_fit_is_refused() {
    let (norm, square) = (random(&[8], Kind::Float), random(&[8, 8], Kind::Float));
    let embed = random(&[20, 8], Kind::Float);
    let map = DecoderMap { weight: &square, bias: None };
    let layer = DecoderLayer {
        input_layernorm: &norm,
        q_proj: map,
        k_proj: map,
        v_proj: map,
        o_proj: map,
        post_attention_layernorm: &norm,
        gate_proj: map,
        up_proj: map,
        down_proj: map,
        window: None,
    };
    let shape = DecoderShape { heads: 2, key_heads: 2, head_dim: 4, eps: 1e-6, slots: 32 };
    let mut decoder = Decoder::new(&[layer], &embed, &norm, shape).unwrap();
    let mut run = |ids: &[i64], start: i64, spans: &[[i64; 2]], wanted: &[i64]| {
        let angles = vec![0.5f32; ids.len() * 2];
        let segment = DecoderSegment { tokens: ids.len() as i64, start, spans: spans.len() as i64 };
        decoder.forward(ids, &angles, &angles, &[segment], spans, wanted)
    };
    assert_eq!(run(&[1, 2, 3], 0, &[[0, 3]], &[0, 2]).unwrap().size(), [2, 8]);
    assert_eq!(run(&[4], 3, &[[0, 3], [16, 1]], &[0]).unwrap().size(), [1, 8]);
    assert!(run(&[1, 2], 0, &[[0, 3]], &[0]).is_err(), "a length that is none");
    assert!(run(&[1, 2], 0, &[[8, 2]], &[0]).is_err(), "a span inside a page");
    assert!(run(&[1, 2], 31, &[[0, 33]], &[0]).is_err(), "beyond the cache");
    assert!(run(&[1, 20], 0, &[[0, 2]], &[0]).is_err(), "an id beyond the vocabulary");
    assert!(run(&[1, 2], 0, &[[0, 2]], &[1, 0]).is_err(), "wanted places that descend");
    assert!(run(&[1, 2], 0, &[[0, 2]], &[2]).is_err(), "a wanted place that is not there");
    assert!(run(&[1, 2], 0, &[[0, 1], [16, 1]], &[0]).is_err(), "new tokens in two spans");
    assert!(decoder.forward(&[1], &[0.0], &[0.0], &[], &[], &[]).is_err());
    let wrong = DecoderShape { heads: 2, key_heads: 1, ..shape };
    assert!(Decoder::new(&[layer], &embed, &norm, wrong).is_err(), "keys of another width");
    assert!(
        !Decoder::supports(Kind::Half, Device::Cpu, 64) && !Decoder::supports(Kind::Float, Device::Cpu, 7)
    );
}
