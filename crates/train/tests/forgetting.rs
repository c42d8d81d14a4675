//! The distance of a grown model to its base, against two whole models and ranks counted by sorting.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::tiny::{Replay, trainer};
use common::{Expected, fixture};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path, Trained};
use llama_pro_train::{Batches, Keep, MicroBatch, TrainConfig, Trainer};
use tch::{Device, Kind};

fn config() -> TrainConfig {
    TrainConfig::new(10, 8, 2e-2)
}

fn text() -> Vec<MicroBatch> {
    let ids = Expected::read(&fixture("llama2/expected.safetensors")).get("input_ids");
    (0..ids.size()[0]).map(|i| MicroBatch::tokens(&ids.get(i).unsqueeze(0))).collect()
}

#[test]
fn an_untrained_expansion_has_not_moved() {
    let moved = trainer(&config()).forgetting(text()).unwrap().unwrap();
    assert_eq!((moved.kl, moved.unshifted, moved.marginal, moved.shifted), (0.0, 1.0, 0.0, 0.0));
}

#[test]
fn kl_and_token_shift_are_those_of_two_whole_models() {
    let mut trainer = trainer(&config());
    for step in 0..3 {
        let micros = Replay::new().micro_batches(step, Device::Cpu).unwrap();
        trainer.step(&micros, step + 1, 2e-3).unwrap();
    }
    let base = Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &LoadOptions::default()).unwrap();
    let (mut kl, mut counts, mut n) = (0.0, [0u64; 3], 0u64);
    for micro in text() {
        let inputs = Inputs::tokens(&micro.ids);
        let t = micro.ids.size()[1] - 1;
        let of = |model: &Llama| {
            model.logits(&inputs, Path::Grown).unwrap().get(0).narrow(0, 0, t).to_kind(Kind::Double)
        };
        let (grown, base) = (of(trainer.model()), of(&base));
        let rows = |x: &tch::Tensor| Vec::<Vec<f64>>::try_from(x).unwrap();
        for (grown, base) in rows(&grown).iter().zip(&rows(&base)) {
            let log_softmax = |x: &[f64]| {
                let sum = x.iter().map(|v| v.exp()).sum::<f64>().ln();
                x.iter().map(|v| v - sum).collect::<Vec<_>>()
            };
            let (p, q) = (log_softmax(grown), log_softmax(base));
            kl += q.iter().zip(&p).map(|(q, p)| q.exp() * (q - p)).sum::<f64>();
            let said = (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
            let mut order: Vec<usize> = (0..q.len()).collect();
            order.sort_by(|&a, &b| q[b].total_cmp(&q[a]));
            match order.iter().position(|&id| id == said).unwrap() {
                0 => counts[0] += 1,
                1 | 2 => counts[1] += 1,
                _ => counts[2] += 1,
            }
            n += 1;
        }
    }
    let moved = trainer.forgetting(text()).unwrap().unwrap();
    assert_eq!(moved.tokens, n);
    let share = |i: usize| counts[i] as f64 / n as f64;
    assert!((moved.kl - kl / n as f64).abs() < 1e-5 * moved.kl, "{} against {}", moved.kl, kl / n as f64);
    assert_eq!((moved.unshifted, moved.marginal, moved.shifted), (share(0), share(1), share(2)));
    assert!(counts.iter().all(|&c| c > 0), "{counts:?}: a kind of shift is not tested");
    assert!(trainer.forgetting(Vec::new()).is_err());
}

/// With the base's own weights trained there is nothing to compare with, unless a base is given.
#[test]
fn without_a_base_there_is_no_answer() {
    tch::set_num_threads(1);
    let load = |folder: &str, trained| {
        let checkpoint = Checkpoint::open(&fixture(folder)).unwrap();
        Llama::load(&checkpoint, &LoadOptions { trained, ..LoadOptions::default() }).unwrap()
    };
    let full = || load("llama2", Trained::All);
    let alone = Trainer::new(full(), None, &config(), Keep::default()).unwrap();
    assert_eq!(alone.forgetting(text()).unwrap(), None);
    let beside = Some(load("llama2", Trained::Names(Vec::new())));
    let both = Trainer::new(full(), beside, &config(), Keep::default()).unwrap();
    assert_eq!(both.forgetting(text()).unwrap().unwrap().kl, 0.0);
}
