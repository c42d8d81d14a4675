//! Sampling against transformers' processors, and the draws against the likelihoods they stand for.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::path::PathBuf;

use common::{Expected, fixture};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_eval::GenerateRequest;
use llama_pro_model::{Llama, LoadOptions, Path, Sampling, Session, generate};
use safetensors::SafeTensors;

fn all(temperature: f64) -> Sampling {
    Sampling { temperature, ..Sampling::GREEDY }
}

#[test]
fn processors_are_those_of_transformers_in_their_order() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sampling.safetensors");
    let expected = Expected::read(&path);
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let settings: Vec<f64> = file.tensor("settings").unwrap().data()[..]
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let floats = |name: &str, row: i64| Vec::<f32>::try_from(expected.get(name).get(row)).unwrap();
    let mut removed = 0;
    for (row, setting) in settings.chunks_exact(5).enumerate() {
        let &[temperature, top_k, top_p, min_p, repetition_penalty] = setting else { unreachable!() };
        let top_k = (top_k > 0.0).then_some(top_k as usize);
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty, seed: 0 };
        sampling.check().unwrap();
        let seen = Vec::<i64>::try_from(expected.get("seen").get(row as i64)).unwrap();
        let mut got = floats("logits", row as i64);
        sampling.process(&seen, &mut got);
        for (token, (a, b)) in got.iter().zip(floats("processed", row as i64)).enumerate() {
            assert_eq!(a.is_finite(), b.is_finite(), "{setting:?}: token {token}: {a} against {b}");
            assert!(
                *a == b || (a - b).abs() <= 1e-6 * b.abs(),
                "{setting:?}: token {token}: {a} against {b}"
            );
            removed += usize::from(!b.is_finite());
        }
    }
    assert_eq!(settings.len(), 18 * 5);
    assert!(removed > 2000, "{removed}");
}

#[test]
fn draws_follow_the_likelihoods() {
    let logits = [1.0f32, 0.0, -1.0, 2.0, -30.0];
    let sampling = Sampling { seed: 5, ..all(0.8) };
    let weights: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / 0.8).exp()).collect();
    let total: f64 = weights.iter().sum();
    let n = 40_000;
    let mut counts = [0f64; 5];
    for i in 0..n {
        counts[sampling.pick(&[], &mut logits.clone(), i % 7, i / 7) as usize] += 1.0;
    }
    // Chi-square over the four tokens that occur; 3 degrees of freedom, above 16.3 in one of a thousand.
    let chi: f64 = (0..4)
        .map(|t| {
            let expected = n as f64 * weights[t] / total;
            (counts[t] - expected).powi(2) / expected
        })
        .sum();
    assert!(chi < 16.3, "chi-square {chi}, counts {counts:?}");
    assert_eq!(counts[4], 0.0);
}

#[test]
fn draws_are_a_function_of_seed_stream_and_place() {
    let logits: Vec<f32> = (0..1000).map(|i| (i % 17) as f32 * 0.01).collect();
    let draw =
        |seed, stream, place| Sampling { seed, ..all(1.0) }.pick(&[], &mut logits.clone(), stream, place);
    let text = |seed, stream| (0..20).map(|place| draw(seed, stream, place)).collect::<Vec<_>>();
    assert_eq!(text(1, 2), text(1, 2));
    assert_ne!(text(1, 2), text(2, 1));
    assert_ne!(text(1, 2), text(1, 3));
    assert_eq!(Sampling { top_k: Some(1), ..all(1.0) }.pick(&[], &mut [0.5, 2.0, 1.0], 3, 4), 1);
    assert_eq!(Sampling::GREEDY.pick(&[], &mut [0.5, 2.0, 2.0], 3, 4), 1);
    assert_eq!(Sampling { repetition_penalty: 3.0, ..Sampling::GREEDY }.pick(&[1], &mut [0.9, 2.0], 0, 0), 0);
}

#[test]
fn settings_that_cannot_be_are_named() {
    let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
    assert!(refused(all(-1.0)).starts_with("temperature is -1"));
    assert!(refused(all(f64::NAN)).starts_with("temperature is NaN"));
    assert!(refused(Sampling { top_k: Some(0), ..all(1.0) }).starts_with("top-k is 0"));
    assert!(refused(Sampling { top_p: 0.0, ..all(1.0) }).starts_with("top-p is 0"));
    assert!(refused(Sampling { min_p: 1.5, ..all(1.0) }).starts_with("min-p is 1.5"));
    assert!(refused(Sampling { repetition_penalty: 0.0, ..all(1.0) }).starts_with("repetition penalty is 0"));
}

fn llama2() -> Llama {
    let options = LoadOptions { kind: Some(tch::Kind::Float), ..LoadOptions::default() };
    Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &options).unwrap()
}

/// A sampled text does not depend on what is made beside it.
#[test]
fn sampled_texts_are_the_same_alone_and_side_by_side() {
    let model = llama2();
    let request = |n: i64| GenerateRequest { prompt: (3..3 + n).collect(), max_new_tokens: 12 };
    let requests = [request(4), request(9), request(4), request(2)];
    let sampling = Sampling { top_k: Some(50), seed: 3, ..all(1.0) };
    let run = |side_by_side| {
        generate(&model, Path::Grown, &requests, &sampling, side_by_side, &mut |_, _| false).unwrap()
    };
    let together = run(4);
    assert_eq!(together, run(1));
    assert_ne!(together[0], together[2], "one prompt, two streams");
}

/// Every answer of a conversation is the one that reading everything anew would give.
#[test]
fn a_session_reads_only_what_is_new_and_answers_alike() {
    let model = llama2();
    for sampling in [Sampling::GREEDY, Sampling { seed: 9, ..all(0.9) }] {
        let mut session = Session::new(&model, Path::Grown);
        let mut history: Vec<i64> = vec![5, 6, 7];
        for turn in 0..4 {
            let mut heard = 0;
            let answer = session
                .generate(&history, 6, &sampling, 0, &mut |new| {
                    heard = new.len();
                    turn == 2 && new.len() == 3
                })
                .unwrap();
            assert_eq!((answer.len(), heard), if turn == 2 { (3, 3) } else { (6, 6) });
            let request = GenerateRequest { prompt: history.clone(), max_new_tokens: answer.len() };
            let anew = generate(&model, Path::Grown, &[request], &sampling, 1, &mut |_, _| false).unwrap();
            assert_eq!(answer, anew[0], "turn {turn}");
            history.extend(&answer);
            history.extend([8 + turn, 11]);
            if turn == 1 {
                history.truncate(5); // the user takes something back
            }
        }
    }
    let most = model.config().max_position_embeddings;
    let mut session = Session::new(&model, Path::Grown);
    let error = session.generate(&vec![4; most + 1], 1, &Sampling::GREEDY, 0, &mut |_| false).unwrap_err();
    assert!(error.to_string().contains(&format!("reads at most {most}")), "{error}");
}
