//! `bench train-step`: the trainer's own step on the shapes of tests/peers/train_step.py.
//!
//! FLOPs are the least that the step needs (crates/checkpoint/src/cost.rs); the rate they are compared with is that of
//! matrix products of this very shape, measured in the same process after the steps.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use llama_pro_checkpoint::cost::{Recompute, Trained as Parts, flops_per_token};
use llama_pro_checkpoint::{ConfigFile, LlamaConfig};
use llama_pro_model::{Llama, LoadOptions, Trained, choose_device};
use llama_pro_torch_ext::MemoryMeter;
use llama_pro_train::{Dtype, Keep, MicroBatch, Parameters, TrainConfig, Trainer};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::parts;
use crate::{peak, rate};

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Shape {
    S,
    M,
    L,
    #[value(name = "7b")]
    SevenB,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Mode {
    /// Every weight is trained.
    Full,
    /// The new blocks alone: one after every four.
    Added,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Compute {
    F32,
    Bf16,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the model, as in tests/peers/train_step.py.
    #[arg(long, value_enum, default_value = "s")]
    shape: Shape,
    /// What is trained.
    #[arg(long, value_enum, default_value = "added")]
    mode: Mode,
    /// Dtype to compute in; masters, moments and gradient sums are float32 in both.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Compute,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Steps that are timed, after two that are not.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    steps: u64,
    /// Rows per step [default: the shape's].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    batch: Option<u64>,
    /// Rows per forward pass [default: all rows of the step].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    micro: Option<u64>,
    /// none, new-blocks, all-blocks, or a limit such as "24 GiB".
    #[arg(long, default_value = "none", value_parser = |text: &str| Recompute::parse(text).ok_or(Recompute::EXPECTED))]
    recompute: Recompute,
    /// Also times each part of a step alone, beside the rate of products and the memory bandwidth (CPU).
    #[arg(long)]
    parts: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let device = choose_device(&args.device)?;
    let (config, batch, length) = shape(args.shape)?;
    let batch = args.batch.unwrap_or(batch);
    let micro = args.micro.unwrap_or(batch).min(batch) as i64;
    let (kind, dtype) = match args.dtype {
        Compute::F32 => (Kind::Float, Dtype::F32),
        Compute::Bf16 => (Kind::BFloat16, Dtype::Bf16),
    };
    anyhow::ensure!(!args.parts || device == Device::Cpu, "--parts: expected --device cpu");
    anyhow::ensure!(!args.parts || args.micro.is_none(), "--parts: expected one pass, found --micro");
    let blocks: Vec<usize> = (4..config.num_hidden_layers).step_by(5).collect();
    let (learned, trained) = match args.mode {
        Mode::Full => (Parts::all(&config), Trained::All),
        Mode::Added => (Parts::blocks(&config, &blocks), Trained::Names(names(&config, &blocks))),
    };
    let flops = flops_per_token(&config, &learned, length) * (batch * length) as f64;
    let (vocabulary, hidden, inner) = (config.vocab_size, config.hidden_size, config.intermediate_size);
    let parameters = config.parameter_count();

    tch::manual_seed(0);
    let meter = MemoryMeter::start()?;
    let model =
        Llama::random(config.clone(), &LoadOptions { device, kind: Some(kind), trained, added: blocks })?;
    let train = TrainConfig {
        dtype,
        parameters: if args.mode == Mode::Full { Parameters::All } else { Parameters::Added },
        recompute: args.recompute,
        background_checkpoints: false,
        ..TrainConfig::new(args.steps + 2, batch as usize, 1e-4)
    };
    let mut trainer = Trainer::new(model, None, &train, Keep::default())?;
    trainer.expect((micro, length as i64), micro < batch as i64, false, false)?;
    let row = Tensor::zeros([micro, length as i64], (Kind::Int64, device));
    let plan = trainer.memory_plan(&MicroBatch::tokens(&row));
    let mut times = Vec::new();
    let mut loss = f64::NAN;
    for step in 0..args.steps + 2 {
        let ids = Tensor::randint(vocabulary as i64, [batch as i64, length as i64], (Kind::Int64, device));
        rate::settle(device);
        let started = Instant::now();
        let micros: Vec<MicroBatch> = ids.split(micro, 0).iter().map(MicroBatch::tokens).collect();
        loss = trainer.step(&micros, step + 1, 1e-4)?.loss();
        rate::settle(device);
        times.push(started.elapsed().as_secs_f64());
    }
    let peak = match device {
        Device::Cuda(index) => llama_pro_torch_ext::peak_bytes(index)?,
        _ => resident("VmHWM"),
    };
    let step_s = median(times.split_off(2));
    let rate = rate::products(micro * length as i64, hidden as i64, inner as i64, kind, device);
    let tensors = if device == Device::Cpu { meter.read()?.1.unsigned_abs() } else { peak };
    drop(meter);
    let round = |x: f64, digits: i32| (x * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let word =
        |v: Option<clap::builder::PossibleValue>| v.map(|v| v.get_name().to_owned()).unwrap_or_default();
    use clap::ValueEnum;
    let mut record = json!({
        "shape": word(args.shape.to_possible_value()), "mode": word(args.mode.to_possible_value()),
        "dtype": word(args.dtype.to_possible_value()), "recompute": args.recompute.to_string(),
        "batch": batch, "micro": micro, "seq": length, "step_s": round(step_s, 4),
        "tokens_per_s": round((batch * length) as f64 / step_s, 1), "peak_mib": peak >> 20,
        "tensor_mib": tensors >> 20, "plan_mib": plan.total() >> 20,
        "params": parameters, "trainable": trainer.n_trained(), "loss": round(loss, 4),
        "flops": flops, "gflops_per_s": round(flops / step_s / 1e9, 1), "gemm_gflops_per_s": round(rate / 1e9, 1),
        "gemm_fraction": round(flops / step_s / rate, 3),
    });
    if let Some(peak) = peak::of(device, kind) {
        record["mfu"] = json!(round(flops / step_s / peak, 4));
    }
    if args.parts {
        drop(trainer);
        let (rows, length) = (micro, length as i64);
        let step =
            parts::Step { config: &config, trained: &learned, rows, length, kind, seconds: step_s, rate };
        record["by_part"] = parts::measure(&step)?;
    }
    println!("{record}");
    Ok(())
}

/// Sizes, rows and row length. Layers count the new blocks; one in five is new.
fn shape(shape: Shape) -> Result<(LlamaConfig, u64, u64)> {
    let (hidden, inner, layers, heads, kv_heads, vocabulary, batch, length) = match shape {
        Shape::S => (256, 688, 10, 8, 4, 4096, 8, 256),
        Shape::M => (768, 2048, 15, 12, 12, 32000, 2, 512),
        Shape::L => (2048, 5632, 25, 32, 4, 32000, 1, 1024),
        Shape::SevenB => (4096, 11008, 40, 32, 32, 32000, 1, 4096),
    };
    let json = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "max_position_embeddings": length,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
    });
    let config = ConfigFile::from_json(Path::new("config.json"), &json.to_string())?.llama()?;
    Ok((config, batch, length))
}

fn names(config: &LlamaConfig, blocks: &[usize]) -> Vec<String> {
    let of = |name: &str| blocks.iter().any(|i| name.starts_with(&format!("model.layers.{i}.")));
    config.parameters().into_iter().map(|spec| spec.name).filter(|name| of(name)).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Bytes under a key of /proc/self/status; 0 on a system without it.
fn resident(key: &str) -> u64 {
    let read = || -> Result<u64> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find(|line| line.starts_with(key)).context("no such key")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
    };
    read().unwrap_or(0)
}
