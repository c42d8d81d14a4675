//! Instruction batches: nothing is lost, nothing is predicted across a boundary, and packing changes no gradient.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::fixture;
use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Llama, LoadOptions, Trained};
use llama_pro_train::{Batches, Conversation, ConversationBatches, Keep, MicroBatch, TrainConfig, Trainer};
use tch::{Device, Tensor};

/// Conversations of mixed lengths with a prompt and an answer; numbers from a linear congruence.
fn conversations(n: usize) -> Vec<Conversation> {
    let mut state = 7u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    (0..n)
        .map(|_| {
            let length = 2 + next(18) as usize;
            let prompt = next(length as u64 - 1) as usize + 1;
            Conversation {
                ids: (0..length).map(|_| next(100) as u32 + 3).collect(),
                trained: (0..length).map(|i| i >= prompt).collect(),
            }
        })
        .collect()
}

fn batches(all: &[Conversation], packed: bool, rows: usize, micro: usize) -> ConversationBatches {
    ConversationBatches::new(all.to_vec(), 32, packed, rows, micro, 3).unwrap()
}

/// The conversations that stand in a batch, taken apart by segment, as (inputs, targets, positions).
fn taken_apart(micros: &[MicroBatch]) -> Vec<(Vec<i64>, Vec<i64>, Vec<i64>)> {
    let list = |t: &Tensor| Vec::<i64>::try_from(t.view([-1])).unwrap();
    let mut all = Vec::new();
    for micro in micros {
        let (b, t) = (micro.ids.size()[0], micro.ids.size()[1]);
        let zeros = || Tensor::zeros([b, t], (tch::Kind::Int64, Device::Cpu));
        let segments = micro.segments.as_ref().map_or_else(zeros, Tensor::shallow_clone);
        let counted = || Tensor::arange(t, (tch::Kind::Int64, Device::Cpu)).repeat([b, 1]);
        let positions = micro.positions.as_ref().map_or_else(counted, Tensor::shallow_clone);
        for row in 0..b {
            let part = |t: &Tensor| list(&t.get(row));
            let (ids, targets) = (part(&micro.ids), part(&micro.targets));
            let (segments, positions) = (part(&segments), part(&positions));
            for segment in 0..=segments.iter().copied().max().unwrap() {
                let pick = |from: &[i64]| {
                    from.iter()
                        .zip(&segments)
                        .filter(|(_, s)| **s == segment)
                        .map(|(x, _)| *x)
                        .collect::<Vec<_>>()
                };
                all.push((pick(&ids), pick(&targets), pick(&positions)));
            }
            for (target, segment) in targets.iter().zip(&segments) {
                assert!(*segment >= 0 || *target == -100, "padding is never a target");
            }
        }
    }
    all.sort();
    all
}

#[test]
fn an_epoch_has_every_conversation_once_and_whole() {
    let all = conversations(200);
    let mut expected: Vec<_> = all
        .iter()
        .map(|c| {
            let n = c.ids.len() - 1;
            let targets = (1..=n).map(|i| if c.trained[i] { i64::from(c.ids[i]) } else { -100 });
            (c.ids[..n].iter().map(|&id| i64::from(id)).collect(), targets.collect(), (0..n as i64).collect())
        })
        .collect();
    expected.sort();
    let places: u64 = all.iter().map(|c| c.ids.len() as u64 - 1).sum();
    for packed in [true, false] {
        let rows = batches(&all, packed, 1, 1).n_rows();
        let whole = batches(&all, packed, rows, 1);
        for step in [0, 1] {
            let micros = whole.micro_batches(step, Device::Cpu).unwrap();
            assert!(taken_apart(&micros) == expected, "packed {packed}, epoch {step}");
            assert_eq!(whole.tokens(&micros), places);
        }
        let ids = |step| {
            whole.micro_batches(step, Device::Cpu).unwrap().iter().map(|m| m.ids.copy()).collect::<Vec<_>>()
        };
        assert!(ids(0) == ids(0) && ids(0) != ids(1), "the order is of the epoch");
    }
    let packed = batches(&all, true, 1, 1);
    // No packing needs fewer rows than the places fill.
    assert!(packed.n_rows() as u64 >= places.div_ceil(32) && packed.filled() > 0.9, "{}", packed.filled());
}

#[test]
fn what_decides_the_batches_is_in_the_fingerprint() {
    let all = conversations(20);
    let mut other = all.clone();
    other[3].trained[1] ^= true;
    let print = |all: &[Conversation], packed, micro| batches(all, packed, 4, micro).fingerprint();
    assert_eq!(print(&all, true, 4), print(&all, true, 2), "how a step is cut is no part of it");
    assert_ne!(print(&all, true, 4), print(&other, true, 4));
    assert_ne!(print(&all, true, 4), print(&all, false, 4));
    assert!(ConversationBatches::new(all.clone(), 4, true, 4, 4, 0).is_err(), "longer than a row");
    assert!(ConversationBatches::new(Vec::new(), 4, true, 4, 4, 0).is_err());
}

/// Loss and update of one step over all conversations. With an epsilon far above every gradient, Adam's first update is
/// the gradient times a constant, so equal updates are equal gradients.
fn step(all: &[Conversation], packed: bool, passes: usize) -> (f64, f64, Vec<Tensor>) {
    let rows = batches(all, packed, 1, 1).n_rows();
    let micros = batches(all, packed, rows, 1).micro_batches(0, Device::Cpu).unwrap();
    assert_eq!(micros.len(), passes);
    let checkpoint = Checkpoint::open(&fixture("llama2")).unwrap();
    let load = || {
        Llama::load(&checkpoint, &LoadOptions { trained: Trained::All, ..LoadOptions::default() }).unwrap()
    };
    let (before, model) = (load(), load());
    let config = TrainConfig { eps: 1e3, weight_decay: 0.0, clip: 1e9, ..TrainConfig::new(10, rows, 1e3) };
    let mut trainer = Trainer::new(model, None, &config, Keep::default()).unwrap();
    let stats = trainer.step(&micros, 1, 1e3).unwrap();
    let pairs = trainer.model().parameters().iter().zip(before.parameters());
    let moved = pairs.map(|(now, then)| now.tensor.detach() - then.tensor.detach()).collect();
    (stats.loss(), stats.grad_norm, moved)
}

#[test]
fn packing_changes_no_gradient() {
    // In several passes with unequal numbers of targets.
    let all = conversations(240);
    let (loss, norm, moved) = step(&all, false, 3);
    let (other_loss, other_norm, other) = step(&all, true, 2);
    assert!((loss - other_loss).abs() < 1e-6 * loss, "{loss} {other_loss}");
    assert!((norm - other_norm).abs() < 1e-5 * norm, "{norm} {other_norm}");
    for (a, b) in moved.iter().zip(&other) {
        let largest = a.abs().max().double_value(&[]);
        let apart = (a - b).abs().max().double_value(&[]);
        assert!(largest > 0.0 && apart < 1e-4 * largest, "{apart} of {largest}");
    }
}
