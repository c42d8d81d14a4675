//! Keeping the old ability: replay and KL to the base, against the same sums written out with plain operations.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::{Expected, fixture, max_difference};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path, Trained};
use llama_pro_shards::Row;
use llama_pro_torch_ext::WithoutKernels;
use llama_pro_train::{Keep, MicroBatch, TrainConfig, Trainer};
use tch::{Device, Kind, Tensor};

const ADDED: [usize; 2] = [2, 5];

fn config() -> TrainConfig {
    TrainConfig::new(10, 4, 1e-2)
}

fn grown(trained: Trained) -> Llama {
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let options = LoadOptions { trained, added: ADDED.to_vec(), ..LoadOptions::default() };
    Llama::load(&checkpoint, &options).unwrap()
}

fn added_names() -> Trained {
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let new = |n: &str| ADDED.iter().any(|i| n.starts_with(&format!("model.layers.{i}.")));
    Trained::Names(checkpoint.names().filter(|n| new(n)).map(str::to_owned).collect())
}

/// Packed rows of two documents each; every second row keeps the old ability, so that the batch must sort them.
fn rows() -> Vec<(Row, bool)> {
    let ids = Expected::read(&fixture("llama2/expected.safetensors")).get("input_ids");
    (0..4)
        .map(|i| {
            let tokens = Vec::<i64>::try_from(&ids.get(i % 2)).unwrap();
            let cut = 10 + 7 * i as usize;
            let mut targets: Vec<i64> = tokens[1..].to_vec();
            targets[cut - 1] = -100;
            let inputs = tokens[..47].to_vec();
            let segments = (0..47).map(|t| i32::from(t >= cut)).collect();
            let positions = (0..47).map(|t| if t >= cut { t - cut } else { t } as i64).collect();
            (Row { inputs, targets, segments, positions }, i % 2 == 0)
        })
        .collect()
}

/// The objective written out, one row at a time, with two whole models and no sharing.
fn objective(model: &Llama, base: &Llama, keep: Keep) -> Tensor {
    let mut sum = Tensor::zeros([], (Kind::Float, Device::Cpu));
    let mut n = 0;
    for (row, kept) in rows() {
        let tensor = |v: &[i64]| Tensor::from_slice(v).unsqueeze(0);
        let segments: Vec<i64> = row.segments.iter().map(|&s| i64::from(s)).collect();
        let (ids, positions, segments) = (tensor(&row.inputs), tensor(&row.positions), tensor(&segments));
        let inputs = Inputs { ids: &ids, positions: Some(&positions), segments: Some(&segments) };
        let context = model.context(&inputs).unwrap();
        let x = model.run(model.embed(&ids), 0..model.n_blocks(), &context, Path::Grown);
        let ours = model.head(&model.finish(&x)).get(0).log_softmax(-1, Kind::Float);
        let theirs = base.logits(&inputs, Path::Grown).unwrap().get(0).log_softmax(-1, Kind::Float);
        for (t, &target) in row.targets.iter().enumerate().filter(|(_, target)| **target != -100) {
            let (p, q) = (ours.get(t as i64), theirs.get(t as i64));
            let nats = -p.get(target);
            let weight = if kept { keep.replay } else { 1.0 };
            sum += nats * weight;
            if kept {
                sum += (q.exp() * (&q - &p)).sum(Kind::Float) * keep.kl;
            }
            n += 1;
        }
    }
    sum / f64::from(n)
}

/// Trains a little, so that the grown model is no longer the base and every term is at work.
fn moved(trained: Trained, reference: Option<Llama>, keep: Keep) -> (Trainer, MicroBatch) {
    let micro = MicroBatch::new(&rows(), Device::Cpu);
    let mut trainer = Trainer::new(grown(trained), reference, &config(), keep).unwrap();
    for step in 1..=3 {
        trainer.step(&[MicroBatch::new(&rows(), Device::Cpu)], step, 1e-2).unwrap();
    }
    (trainer, micro)
}

/// In the kernels, and as where there are none.
fn check(trained: Trained, full: bool, keep: Keep) {
    check_once(trained.clone(), full, keep);
    let _as_on_a_gpu = WithoutKernels::new();
    check_once(trained, full, keep);
}

fn check_once(trained: Trained, with_reference: bool, keep: Keep) {
    tch::set_num_threads(1);
    let base = Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &LoadOptions::default()).unwrap();
    let reference =
        || Llama::load(&Checkpoint::open(&fixture("llama2")).unwrap(), &LoadOptions::default()).unwrap();
    let (mut trainer, micro) = moved(trained, with_reference.then(reference), keep);
    let expected = objective(trainer.model(), &base, keep);
    expected.backward();
    let grads = |t: &Trainer| {
        let trained = t.model().parameters().iter().filter(|p| p.trained);
        trained.map(|p| p.tensor.grad().copy()).collect::<Vec<_>>()
    };
    let reference_grads = grads(&trainer);
    let norm: f64 =
        reference_grads.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();
    for parameter in trainer.model().parameters() {
        parameter.tensor.shallow_clone().zero_grad();
    }
    let stats = trainer.step(&[micro], 4, 0.0).unwrap();
    let total = stats.sums.objective / stats.n_targets as f64;
    let wanted = expected.double_value(&[]);
    assert!((total - wanted).abs() < 1e-5 * wanted.abs().max(1.0), "objective {total} against {wanted}");
    assert!((stats.grad_norm - norm).abs() < 1e-4 * norm, "norm {} against {norm}", stats.grad_norm);
    assert!(stats.sums.keep.1 > 0 && stats.sums.new.1 > 0);
    assert_eq!(stats.sums.kl > 1e-4, keep.kl > 0.0, "KL {}", stats.sums.kl);
}

#[test]
fn replay_and_kl_with_the_base_inside_the_model() {
    check(added_names(), false, Keep { replay: 0.5, kl: 2.0 });
}

#[test]
fn kl_alone() {
    check(added_names(), false, Keep { replay: 0.0, kl: 1.0 });
}

#[test]
fn replay_alone() {
    check(added_names(), false, Keep { replay: 1.0, kl: 0.0 });
}

#[test]
fn kl_of_full_training_needs_the_base_beside_it() {
    check(Trained::All, true, Keep { replay: 0.5, kl: 2.0 });
}

/// Before the first step the grown model is its base: the KL is exactly zero.
#[test]
fn the_kl_of_an_untrained_expansion_is_zero() {
    tch::set_num_threads(1);
    let keep = Keep { replay: 1.0, kl: 1.0 };
    let mut trainer = Trainer::new(grown(added_names()), None, &config(), keep).unwrap();
    let stats = trainer.step(&[MicroBatch::new(&rows(), Device::Cpu)], 1, 1e-3).unwrap();
    assert_eq!(stats.sums.kl, 0.0);
}

/// A loss that is no number stops the step before the weights change.
#[test]
fn a_non_finite_loss_leaves_the_weights_alone() {
    tch::set_num_threads(1);
    let mut trainer = Trainer::new(grown(added_names()), None, &config(), Keep::default()).unwrap();
    let weights = |t: &Trainer| t.model().parameters().iter().map(|p| p.tensor.copy()).collect::<Vec<_>>();
    let before = weights(&trainer);
    let poisoned = trainer.model().parameters().iter().find(|p| p.trained).unwrap();
    let name = poisoned.name.clone();
    let _ = tch::no_grad(|| poisoned.tensor.shallow_clone().fill_(f64::NAN));
    let error = trainer.step(&[MicroBatch::new(&rows(), Device::Cpu)], 7, 1e-2).unwrap_err().to_string();
    assert!(error.contains("step 7") && error.contains("NaN"), "{error}");
    for (parameter, old) in trainer.model().parameters().iter().zip(&before).filter(|(p, _)| p.name != name) {
        assert_eq!(max_difference(&parameter.tensor, old), 0.0, "{}", parameter.name);
        let grad = parameter.tensor.grad();
        let left = if grad.defined() { grad.abs().max().double_value(&[]) } else { 0.0 };
        assert_eq!(left, 0.0, "{}: a gradient of the refused step is left", parameter.name);
    }
}

/// The KL needs a base that is really the base.
#[test]
fn a_kl_without_a_base_is_refused() {
    let keep = Keep { replay: 0.0, kl: 1.0 };
    let refused = |model: Llama| Trainer::new(model, None, &config(), keep).err().unwrap().to_string();
    assert!(refused(grown(Trained::All)).contains("of the base itself is trained"));
    let plain = Checkpoint::open(&fixture("llama2")).unwrap();
    let options = LoadOptions { trained: Trained::All, ..LoadOptions::default() };
    assert!(refused(Llama::load(&plain, &options).unwrap()).contains("no new blocks"));
    let upper: Vec<String> = match added_names() {
        Trained::Names(names) => names.into_iter().filter(|n| n.starts_with("model.layers.5.")).collect(),
        _ => unreachable!(),
    };
    assert!(refused(grown(Trained::Names(upper))).contains("older expansion"));
}
