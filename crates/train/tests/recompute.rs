//! Recomputed activations: the same gradients to the bit, whatever is recomputed, and less memory, as much as planned.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod common;

use std::path::Path;

use common::{Expected, fixture};
use llama_pro_checkpoint::cost::{MemoryPlan, Recompute, Step};
use llama_pro_checkpoint::{Checkpoint, ConfigFile, LlamaConfig};
use llama_pro_model::{Llama, LoadOptions, Trained};
use llama_pro_torch_ext::{MemoryMeter, WithoutKernels};
use llama_pro_train::{Dtype, Keep, MicroBatch, TrainConfig, Trainer, trained_parts};
use tch::{Kind, Tensor};

fn model(trained: Trained, kind: Kind) -> Llama {
    tch::set_num_threads(1);
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let options = LoadOptions { trained, kind: Some(kind), added: vec![2, 5], ..LoadOptions::default() };
    Llama::load(&checkpoint, &options).unwrap()
}

fn new_blocks() -> Trained {
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let new = |name: &&str| name.starts_with("model.layers.2.") || name.starts_with("model.layers.5.");
    Trained::Names(checkpoint.names().filter(new).map(str::to_owned).collect())
}

/// The trained weights after three steps, and the losses.
fn train(trained: Trained, kind: Kind, recompute: Recompute) -> (Vec<Tensor>, Vec<f64>) {
    let tokens = Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens");
    let dtype = if kind == Kind::Float { Dtype::F32 } else { Dtype::Bf16 };
    let config = TrainConfig { recompute, dtype, ..TrainConfig::new(3, 8, 2e-3) };
    let keep = Keep { replay: 0.5, kl: if matches!(trained, Trained::All) { 0.0 } else { 0.5 } };
    let mut trainer = Trainer::new(model(trained, kind), None, &config, keep).unwrap();
    let mut losses = Vec::new();
    for step in 0..3 {
        let micros: Vec<MicroBatch> = (0..2)
            .map(|m| MicroBatch { keep_rows: 1, ..MicroBatch::tokens(&tokens.get(step).get(m)) })
            .collect();
        losses.push(trainer.step(&micros, step as u64 + 1, 2e-3).unwrap().loss());
    }
    let learned = trainer.model().parameters().iter().filter(|p| p.trained);
    (learned.map(|p| p.tensor.detach().copy()).collect(), losses)
}

#[test]
fn the_same_bits_whatever_is_recomputed() {
    same_bits();
    let _as_on_a_gpu = WithoutKernels::new();
    same_bits();
}

fn same_bits() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for trained in [new_blocks, || Trained::All] {
            let (weights, losses) = train(trained(), kind, Recompute::None);
            for policy in [Recompute::NewBlocks, Recompute::AllBlocks] {
                let (again, again_losses) = train(trained(), kind, policy);
                assert_eq!(losses, again_losses, "{policy} in {kind:?}");
                for (i, (a, b)) in weights.iter().zip(&again).enumerate() {
                    assert!(a.equal(b), "{policy} in {kind:?}: trained tensor {i} differs");
                }
            }
        }
    }
}

#[test]
fn a_budget_that_nothing_fits_is_refused_before_a_step() {
    let tokens = Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens");
    let config = TrainConfig { recompute: Recompute::Budget(1000), ..TrainConfig::new(3, 8, 2e-3) };
    let mut trainer = Trainer::new(model(new_blocks(), Kind::Float), None, &config, Keep::default()).unwrap();
    let error = trainer.step(&[MicroBatch::tokens(&tokens.get(0).get(0))], 1, 1e-3).unwrap_err().to_string();
    assert!(error.starts_with("train.recompute = "), "{error}");
}

/// A step of several passes makes float32 sums in bfloat16; they are there from then on, be the next step a single pass.
#[test]
fn sums_of_gradients_stay_in_the_plan() {
    let tokens = Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens");
    let config = TrainConfig { dtype: Dtype::Bf16, ..TrainConfig::new(3, 8, 2e-3) };
    let mut trainer =
        Trainer::new(model(new_blocks(), Kind::BFloat16), None, &config, Keep::default()).unwrap();
    let micro = |step, m| MicroBatch::tokens(&tokens.get(step).get(m));
    let weights = trainer.n_trained();
    for (step, micros, bytes) in
        [(0, vec![micro(0, 0)], 2), (1, vec![micro(1, 0), micro(1, 1)], 6), (2, vec![micro(2, 0)], 6)]
    {
        trainer.step(&micros, step + 1, 2e-3).unwrap();
        assert_eq!(trainer.memory_plan(&micros[0]).gradients, bytes * weights, "step {step}");
    }
    assert_eq!(trainer.state_bytes().1, 6 * weights);
}

#[test]
fn the_plan_knows_what_is_trained() {
    let parts = trained_parts(&model(new_blocks(), Kind::Float));
    assert_eq!(parts.blocks, [false, false, true, false, false, true]);
    assert!(!parts.embedding && !parts.norm && !parts.head);
    let all = model(Trained::All, Kind::Float);
    let parts = trained_parts(&all);
    assert!(parts.embedding && parts.norm && parts.head && parts.blocks.iter().all(|&t| t));
    // State of the optimizer: two float32 numbers a weight, as the trainer counts them itself.
    let step = Step::new(4, 64, 4);
    let plan = MemoryPlan::new(all.config(), &parts, step, Recompute::None);
    let config = TrainConfig::new(3, 8, 2e-3);
    let trainer = Trainer::new(model(Trained::All, Kind::Float), None, &config, Keep::default()).unwrap();
    assert_eq!((plan.optimizer, plan.gradients), trainer.state_bytes());
}

/// A model large enough that its tensors are most of the memory, and small enough for a test.
fn config() -> LlamaConfig {
    let text = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":128,
        "intermediate_size":352,"num_hidden_layers":6,"num_attention_heads":4,"num_key_value_heads":2,
        "vocab_size":1000,"max_position_embeddings":256,"rms_norm_eps":1e-5,"hidden_act":"silu",
        "tie_word_embeddings":false}"#;
    ConfigFile::from_json(Path::new("config.json"), text).unwrap().llama().unwrap()
}

/// What the plan says against what libtorch's allocator reports, over two whole steps.
#[test]
fn the_plan_is_within_a_tenth_of_what_is_measured() {
    tch::set_num_threads(1);
    plan_and_measure("kernels");
    let _as_on_a_gpu = WithoutKernels::new();
    plan_and_measure("no kernels");
}

fn plan_and_measure(way: &str) {
    let names = |blocks: &[usize]| {
        let of = |name: &String| blocks.iter().any(|i| name.starts_with(&format!("model.layers.{i}.")));
        Trained::Names(config().parameters().into_iter().map(|spec| spec.name).filter(of).collect())
    };
    for kind in [Kind::Float, Kind::BFloat16] {
        for trained in [names(&[2, 5]), Trained::All] {
            for recompute in [Recompute::None, Recompute::NewBlocks, Recompute::AllBlocks] {
                let dtype = if kind == Kind::Float { Dtype::F32 } else { Dtype::Bf16 };
                // No checkpoint is written here: what its copy takes is a test of its own.
                let background_checkpoints = false;
                let train =
                    TrainConfig { recompute, dtype, background_checkpoints, ..TrainConfig::new(3, 8, 1e-3) };
                let meter = MemoryMeter::start().unwrap();
                let options =
                    LoadOptions { trained: trained.clone(), kind: Some(kind), ..LoadOptions::default() };
                let model = Llama::random(config(), &options).unwrap();
                let mut trainer = Trainer::new(model, None, &train, Keep::default()).unwrap();
                let ids = Tensor::randint(1000, [4, 160], (Kind::Int64, tch::Device::Cpu));
                let micro = MicroBatch::tokens(&ids);
                for step in 1..=2 {
                    trainer.step(std::slice::from_ref(&micro), step, 1e-3).unwrap();
                }
                let plan = trainer.memory_plan(&micro);
                let measured = meter.read().unwrap().1 as f64;
                let ratio = plan.total() as f64 / measured;
                let what = if matches!(trained, Trained::All) { "all" } else { "added" };
                println!("{way}, {what} {kind:?} {recompute}: plan / measured = {ratio:.3}");
                assert!(
                    (ratio - 1.0).abs() <= 0.1,
                    "{way}, {what} {kind:?} {recompute}: {ratio:.3} of {measured} bytes, {plan:?}"
                );
            }
        }
    }
}
