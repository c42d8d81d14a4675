//! `inspect DIR`: what a model folder holds and what it takes to train it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::Expansion;
use serde::Serialize;

use llama_pro_cli::output;

use super::memory::{self, StepMemory};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model folder.
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Tokens of a row, for the memory of a training step [default: the model's context, at most 4096].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    length: Option<u64>,
    /// GiB that a training step may take [default: what this machine has left].
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory: Option<u64>,
}

#[derive(Serialize)]
struct Inspection {
    architecture: String,
    blocks: usize,
    hidden_size: u64,
    intermediate_size: u64,
    attention_heads: u64,
    key_value_heads: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    tied_embeddings: bool,
    parameters: u64,
    bytes: u64,
    shards: usize,
    dtypes: BTreeMap<String, u64>,
    new_blocks: Vec<usize>,
    new_parameters: u64,
    trained: Option<bool>,
    generations: usize,
    supported: Option<String>,
    train_memory: Vec<Memory>,
    /// Tokens of a row and bytes that may be taken, for the plans below.
    step_length: u64,
    step_limit: u64,
    step_memory: Vec<StepMemory>,
}

/// What must lie in memory to train, activations aside.
#[derive(Serialize)]
struct Memory {
    mode: &'static str,
    dtype: &'static str,
    weights: u64,
    gradients: u64,
    optimizer: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let inspection = inspect(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        show(&inspection);
    }
    Ok(())
}

fn inspect(args: &Args) -> Result<Inspection> {
    let checkpoint = Checkpoint::open(&args.dir)?;
    let record = Expansion::read(&args.dir)?;
    if let Some(record) = &record {
        record.check(&checkpoint)?;
    }
    let new_names = record.as_ref().map(Expansion::trained_names).unwrap_or_default();
    let (mut parameters, mut new_parameters, mut dtypes) = (0, 0, BTreeMap::new());
    for name in checkpoint.names() {
        let info = checkpoint.info(name)?;
        let n: u64 = info.shape.iter().map(|&d| d as u64).product();
        parameters += n;
        *dtypes.entry(format!("{:?}", info.dtype)).or_insert(0) += n;
        if new_names.binary_search_by(|x| x.as_str().cmp(name)).is_ok() {
            new_parameters += n;
        }
    }
    let config = checkpoint.config();
    let number = |key: &str| config.raw().get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    if let Some(llama) = config.llama_if_computable()? {
        checkpoint.check_parameters(&llama)?;
    }
    let llama = config.llama();
    let text =
        |key: &str| config.raw().get(key).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
    let architecture =
        config.raw().get("architectures").and_then(|a| a.get(0)).and_then(serde_json::Value::as_str);
    let state = |mode, trained: u64, dtype, width: u64| Memory {
        mode,
        dtype,
        weights: parameters * width,
        // Below float32 a float32 sum over the micro-batches stands beside the gradient, and masters beside the moments.
        gradients: trained * if width == 4 { 4 } else { 2 + 4 },
        optimizer: trained * if width == 4 { 8 } else { 4 + 8 },
    };
    let mut train_memory = Vec::new();
    for (dtype, width) in [("f32", 4), ("bf16", 2)] {
        if new_parameters > 0 {
            train_memory.push(state("added", new_parameters, dtype, width));
        }
        train_memory.push(state("all", parameters, dtype, width));
    }
    let step_length = args.length.unwrap_or_else(|| number("max_position_embeddings").clamp(1, 4096));
    let step_limit = args.memory.map_or_else(memory::available, |gib| gib << 30);
    let new_blocks = record.as_ref().map(Expansion::new_blocks).unwrap_or_default();
    let step_memory = match &llama {
        Ok(config) => memory::plans(config, &new_blocks, step_length, step_limit),
        Err(_) => Vec::new(),
    };
    Ok(Inspection {
        architecture: architecture.map_or_else(|| text("model_type"), str::to_owned),
        blocks: config.num_hidden_layers()?,
        hidden_size: number("hidden_size"),
        intermediate_size: number("intermediate_size"),
        attention_heads: number("num_attention_heads"),
        key_value_heads: llama
            .as_ref()
            .map_or(number("num_key_value_heads"), |c| c.num_key_value_heads as u64),
        vocab_size: number("vocab_size"),
        max_position_embeddings: number("max_position_embeddings"),
        tied_embeddings: llama.as_ref().is_ok_and(|c| c.tie_word_embeddings),
        parameters,
        bytes: checkpoint.total_bytes(),
        shards: checkpoint.shards().len(),
        dtypes,
        new_blocks,
        new_parameters,
        trained: record.as_ref().map(Expansion::is_trained),
        generations: record.as_ref().map_or(0, |r| r.generations().len()),
        supported: llama.err().map(|e| e.to_string()),
        train_memory,
        step_length,
        step_limit,
        step_memory,
    })
}

fn show(x: &Inspection) {
    println!("{}", x.architecture);
    let line = |name: &str, value: String| println!("  {name:<16} {value}");
    line("shape", format!("{} blocks, width {} / {}", x.blocks, x.hidden_size, x.intermediate_size));
    line("heads", format!("{} query, {} key and value", x.attention_heads, x.key_value_heads));
    let tied = if x.tied_embeddings { ", tied head" } else { "" };
    line("vocabulary", format!("{}{tied}; context {}", x.vocab_size, x.max_position_embeddings));
    line("parameters", format!("{} ({})", output::count(x.parameters), x.parameters));
    let dtypes: Vec<String> = x.dtypes.iter().map(|(d, n)| format!("{d} {}", output::count(*n))).collect();
    line("stored as", format!("{} in {} file(s): {}", output::bytes(x.bytes), x.shards, dtypes.join(", ")));
    match x.trained {
        None => line("new blocks", "none: not expanded".to_owned()),
        Some(trained) => line(
            "new blocks",
            format!(
                "{:?}, {} parameters, {}",
                x.new_blocks,
                output::count(x.new_parameters),
                if trained {
                    "trained"
                } else {
                    "not trained yet: the model computes what its base computes"
                }
            ),
        ),
    }
    if let Some(reason) = &x.supported {
        line("cannot be run", reason.clone());
    }
    println!("  to train it, activations aside:");
    let rows = x.train_memory.iter().map(|m| {
        let sum = m.weights + m.gradients + m.optimizer;
        [m.mode.to_owned(), m.dtype.to_owned()]
            .into_iter()
            .chain([m.weights, m.gradients, m.optimizer, sum].map(output::bytes))
            .collect::<Vec<_>>()
    });
    println!("{}", output::table(&["trained", "dtype", "weights", "gradients", "optimizer", "sum"], rows));
    if !x.step_memory.is_empty() {
        memory::show(&x.step_memory, x.step_length, x.step_limit);
    }
}
