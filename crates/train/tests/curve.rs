//! Training against PyTorch: 40 steps of AdamW on the committed batches, new blocks only and everything.
//!
//! Bounds: every loss within 1e-5 relative, every gradient norm within 1e-4. The weights afterwards are compared too.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use common::{Expected, fixture, max_difference};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Llama, LoadOptions, Trained};
use llama_pro_torch_ext::WithoutKernels;
use llama_pro_train::{Keep, MicroBatch, TrainConfig, Trainer, learning_rate};
use tch::Kind;

/// The numbers of tests/fixtures/llama2-train-*: see the head of tests/reference/train_reference.py.
fn config(steps: u64) -> TrainConfig {
    TrainConfig { micro_rows: Some(4), ..TrainConfig::new(steps, 8, 2e-3) }
}

// Models this small are faster on one thread, and other tests run beside.
fn trainer(folder: &std::path::Path, trained: Trained, config: &TrainConfig) -> Trainer {
    tch::set_num_threads(1);
    let checkpoint = Checkpoint::open(folder).unwrap();
    let model = Llama::load(&checkpoint, &LoadOptions { trained, ..LoadOptions::default() }).unwrap();
    Trainer::new(model, None, config, Keep::default()).unwrap()
}

/// In the kernels, and as where there are none.
fn replay(name: &str, trained: Trained) {
    replay_once(name, trained.clone());
    let _as_on_a_gpu = WithoutKernels::new();
    replay_once(name, trained);
}

fn replay_once(name: &str, trained: Trained) {
    let curve = Expected::read(&fixture(name).join("curve.safetensors"));
    let tokens = curve.get("tokens");
    let [steps, micros, ..] = tokens.size()[..] else { panic!("shape of tokens") };
    let config = config(steps as u64);
    let mut trainer = trainer(&fixture("llama2-train-added/expanded"), trained, &config);
    let (losses, norms, rates) = (curve.get("loss"), curve.get("grad_norm"), curve.get("lr"));
    let (mut worst_loss, mut worst_norm) = (0f64, 0f64);
    for step in 0..steps {
        let batch: Vec<MicroBatch> =
            (0..micros).map(|m| MicroBatch::tokens(&tokens.get(step).get(m))).collect();
        let rate = learning_rate(&config, step as u64);
        let reference = rates.double_value(&[step]);
        assert!(
            (rate - reference).abs() <= 1e-6 * reference.abs() + 1e-12,
            "rate {rate} against {reference}"
        );
        let stats = trainer.step(&batch, step as u64 + 1, rate).unwrap();
        let relative = |got: f64, reference: f64| (got - reference).abs() / reference.abs();
        worst_loss = worst_loss.max(relative(stats.loss(), losses.double_value(&[step])));
        worst_norm = worst_norm.max(relative(stats.grad_norm, norms.double_value(&[step])));
    }
    println!("{name}: worst relative difference, loss {worst_loss:.1e}, gradient norm {worst_norm:.1e}");
    assert!(worst_loss <= 1e-5, "{name}: loss {worst_loss:e}");
    assert!(worst_norm <= 1e-4, "{name}: gradient norm {worst_norm:e}");
    let after = Expected::read(&fixture(name).join("trained.safetensors"));
    let trained: Vec<_> = trainer.model().parameters().iter().filter(|p| p.trained).collect();
    let mut names: Vec<&str> = trained.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    let mut expected = after.names();
    expected.sort_unstable();
    assert_eq!(names, expected, "the trained tensors");
    for parameter in trained {
        let difference = max_difference(&parameter.tensor, &after.get(&parameter.name));
        assert!(difference < 2e-4, "{name}: {} differs by {difference:e} after training", parameter.name);
    }
}

/// Blocks 2 and 5 of the six are the new ones; the fixture says so in `added_layers`.
fn added_names() -> Vec<String> {
    let curve = Expected::read(&fixture("llama2-train-added").join("curve.safetensors"));
    let added = Vec::<i64>::try_from(&curve.get("added_layers")).unwrap();
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let of_added = |name: &str| added.iter().any(|i| name.starts_with(&format!("model.layers.{i}.")));
    checkpoint.names().filter(|n| of_added(n)).map(str::to_owned).collect()
}

#[test]
fn new_blocks_follow_pytorch() {
    replay("llama2-train-added", Trained::Names(added_names()));
}

#[test]
fn full_training_follows_pytorch() {
    replay("llama2-train-full", Trained::All);
}

/// The paper's structure shows in the first gradient: behind a zero matrix nothing flows, so only o_proj and down_proj
/// of the new blocks learn at step 1. Frozen weights have none at any step.
#[test]
fn at_the_first_step_only_the_zeroed_matrices_have_gradients() {
    let tokens = Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens");
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let trained = Trained::Names(added_names());
    let model = Llama::load(&checkpoint, &LoadOptions { trained, ..LoadOptions::default() }).unwrap();
    assert_eq!(model.first_trained_block(), 2);
    let micro = MicroBatch::tokens(&tokens.get(0).get(0));
    let context = model.context(&micro.inputs()).unwrap();
    let hidden =
        model.run(model.embed(&micro.ids), 0..model.n_blocks(), &context, llama_pro_model::Path::Grown);
    model.head(&model.finish(&hidden)).square().mean(Kind::Float).backward();
    let mut with_gradient = 0;
    for parameter in model.parameters() {
        let grad = parameter.tensor.grad();
        let largest = if grad.defined() { grad.abs().max().double_value(&[]) } else { 0.0 };
        let zeroed = parameter.name.contains("o_proj") || parameter.name.contains("down_proj");
        assert_eq!(largest > 0.0, parameter.trained && zeroed, "{}: gradient {largest:e}", parameter.name);
        with_gradient += usize::from(largest > 0.0);
        assert!(parameter.trained || !grad.defined(), "{} is frozen and has a gradient", parameter.name);
    }
    assert_eq!(with_gradient, 4);
}

/// Accumulation is normalised by the targets of the whole step, so unequal micro-batches give the same gradients.
#[test]
fn splitting_a_step_changes_nothing() {
    let tokens =
        Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens").get(0);
    let config = config(10);
    let masked = |rows: &tch::Tensor| {
        let mut micro = MicroBatch::tokens(rows);
        // Ignore most targets of the first row, so that micro-batches hold different numbers of targets.
        let _ = micro.targets.narrow(1, 5, 50).fill_(-100);
        micro.n_targets = micro.targets.not_equal(-100).sum(Kind::Int64).int64_value(&[]) as u64;
        micro
    };
    let norm = |micros: &[MicroBatch]| {
        let mut trainer = trainer(&fixture("llama2-train-added/expanded"), Trained::All, &config);
        let stats = trainer.step(micros, 1, 1e-3).unwrap();
        (stats.grad_norm, stats.loss())
    };
    let (first, second) = (tokens.get(0), tokens.get(1));
    let whole = norm(&[masked_whole(&masked(&first), &MicroBatch::tokens(&second))]);
    let split = norm(&[masked(&first), MicroBatch::tokens(&second)]);
    assert!((whole.0 - split.0).abs() / whole.0 < 1e-6, "{whole:?} against {split:?}");
    assert!((whole.1 - split.1).abs() / whole.1 < 1e-6);
}

fn masked_whole(a: &MicroBatch, b: &MicroBatch) -> MicroBatch {
    MicroBatch {
        ids: tch::Tensor::concat(&[&a.ids, &b.ids], 0),
        targets: tch::Tensor::concat(&[&a.targets, &b.targets], 0),
        positions: None,
        segments: None,
        keep_rows: 0,
        n_targets: a.n_targets + b.n_targets,
    }
}
