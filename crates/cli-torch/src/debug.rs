//! `debug …`: what other programs check this one with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use llama_pro_checkpoint::{Checkpoint, ConfigFile, Dtype, FolderWriter, WriteOptions};
use llama_pro_expand::Expansion;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks, Trained, choose_device, describe};
use llama_pro_train::{Keep, MicroBatch, TrainConfig, Trainer, learning_rate};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tch::{Device, Kind, Tensor};

use llama_pro_cli::{output, progress};

use crate::scratch;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Debug,
}

#[derive(clap::Subcommand)]
enum Debug {
    /// Reads `input_ids` int64 [B,T] from a safetensors file, writes `logits` f32 [B,T,V].
    Logits(Logits),
    /// Replays fixed batches; writes loss, grad_norm and lr per step and the trained tensors.
    Train(Train),
    /// Writes a model folder with random weights, to measure with.
    MakeCheckpoint(MakeCheckpoint),
    /// Conversations of an sft recipe as the model reads them, with what is learned in colour.
    Mask(crate::sft::mask::Args),
}

/// A dtype to compute in.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Compute {
    F32,
    Bf16,
    F16,
}

impl Compute {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

#[derive(clap::Args)]
struct Logits {
    /// A model folder.
    model: PathBuf,
    /// Safetensors file with `input_ids`.
    #[arg(long)]
    ids: PathBuf,
    /// Safetensors file to write.
    #[arg(long)]
    out: PathBuf,
    /// Dtype to compute in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Compute,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Skip the new blocks: the base inside an expanded folder.
    #[arg(long)]
    base_path: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Which {
    Added,
    All,
}

#[derive(clap::Args)]
struct Train {
    /// A model folder.
    model: PathBuf,
    /// Safetensors file with `tokens` int64 [steps, micro-batches, rows, length].
    #[arg(long)]
    tokens: PathBuf,
    /// What is trained: the blocks that expansion.json (or the file's `added_layers`) names as new, or everything.
    #[arg(long, value_enum)]
    train: Which,
    /// Safetensors file to write.
    #[arg(long)]
    out: PathBuf,
    /// Peak learning rate; the schedule is 6 % warm-up, then a cosine to 0.
    #[arg(long, default_value_t = 2e-3)]
    learning_rate: f64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
}

#[derive(clap::Args)]
struct MakeCheckpoint {
    /// The new model folder.
    out: PathBuf,
    /// Blocks.
    #[arg(long, default_value_t = 22)]
    layers: usize,
    /// Width; heads have 64 dimensions.
    #[arg(long, default_value_t = 2048)]
    hidden: usize,
    /// Width inside the MLP.
    #[arg(long, default_value_t = 5632)]
    intermediate: usize,
    /// Key and value heads.
    #[arg(long, default_value_t = 4)]
    key_value_heads: usize,
    /// Vocabulary.
    #[arg(long, default_value_t = 32_000)]
    vocab: usize,
    /// Stored dtype (f32 or bf16).
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: Compute,
    /// Largest weight file, in bytes.
    #[arg(long, default_value_t = 1_000_000_000)]
    max_shard_bytes: u64,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Debug::Logits(args) => logits(args),
        Debug::Train(args) => train(args),
        Debug::MakeCheckpoint(args) => make_checkpoint(args),
        Debug::Mask(args) => crate::sft::mask::run(args),
    }
}

fn logits(args: &Logits) -> Result<()> {
    let ids = read(&args.ids, "input_ids", 2)?;
    let device = choose_device(&args.device)?;
    let checkpoint = Checkpoint::open(&args.model)?;
    let added = record(&checkpoint)?.map(|r| r.new_blocks()).unwrap_or_default();
    ensure!(
        !args.base_path || !added.is_empty(),
        "{}: not expanded, so there is no base path in it",
        args.model.display()
    );
    let options = LoadOptions { device, kind: Some(args.dtype.kind()), added, ..LoadOptions::default() };
    let model = Llama::load(&checkpoint, &options)?;
    tracing::info!("computing on {}", describe(device));
    let path = if args.base_path { Blocks::Base } else { Blocks::Grown };
    let logits = model.logits(&Inputs::tokens(&ids.to_device(device)), path)?;
    write(&args.out, &[("logits".to_owned(), logits.to_kind(Kind::Float))])
}

fn train(args: &Train) -> Result<()> {
    let tokens = read(&args.tokens, "tokens", 4)?;
    let device = choose_device(&args.device)?;
    let [steps, micros, rows, _] = tokens.size()[..] else {
        unreachable!("read() has checked the dimensions")
    };
    let checkpoint = Checkpoint::open(&args.model)?;
    let trained = match args.train {
        Which::All => Trained::All,
        Which::Added => Trained::Names(added_names(&checkpoint, args)?),
    };
    let added = record(&checkpoint)?.map(|r| r.new_blocks()).unwrap_or_default();
    let options = LoadOptions { device, kind: Some(Kind::Float), trained, added };
    let model = Llama::load(&checkpoint, &options)?;
    model.check_ids(&tokens)?;
    let config = TrainConfig {
        micro_rows: Some(rows as usize),
        ..TrainConfig::new(steps as u64, (micros * rows) as usize, args.learning_rate)
    };
    let mut trainer = Trainer::new(model, None, &config, Keep::default())?;
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let bar = progress::steps(steps as u64);
    for step in 0..steps {
        let at = |m| MicroBatch::tokens(&tokens.get(step).get(m).to_device(device));
        let batch: Vec<MicroBatch> = (0..micros).map(at).collect();
        let rate = learning_rate(&config, step as u64);
        let stats = trainer.step(&batch, step as u64 + 1, rate)?;
        losses.push(stats.loss() as f32);
        norms.push(stats.grad_norm as f32);
        rates.push(rate as f32);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut out: Vec<(String, Tensor)> = [("loss", &losses), ("grad_norm", &norms), ("lr", &rates)]
        .map(|(name, values)| (name.to_owned(), Tensor::from_slice(values)))
        .into();
    let parameters = trainer.model().parameters().iter().filter(|p| p.trained);
    out.extend(parameters.map(|p| (p.name.clone(), p.tensor.detach())));
    write(&args.out, &out)?;
    println!("loss {:.6} -> {:.6} in {steps} steps", losses[0], losses[losses.len() - 1]);
    Ok(())
}

/// The record of an expanded folder, refused where it disagrees with what lies there.
fn record(checkpoint: &Checkpoint) -> Result<Option<Expansion>> {
    let record = Expansion::read(checkpoint.dir())?;
    if let Some(record) = &record {
        record.check(checkpoint)?;
    }
    Ok(record)
}

/// The tensors of the new blocks: from expansion.json, or, for a folder that another program expanded, from the
/// `added_layers` that the token file states. Never guessed.
fn added_names(checkpoint: &Checkpoint, args: &Train) -> Result<Vec<String>> {
    if let Some(record) = record(checkpoint)? {
        return Ok(record.trained_names());
    }
    let added = read(&args.tokens, "added_layers", 1).with_context(|| {
        format!("{}: no expansion.json says which blocks are new", checkpoint.dir().display())
    })?;
    let prefixes: Vec<String> =
        Vec::<i64>::try_from(&added)?.iter().map(|i| format!("model.layers.{i}.")).collect();
    Ok(checkpoint.names().filter(|n| prefixes.iter().any(|p| n.starts_with(p))).map(str::to_owned).collect())
}

fn make_checkpoint(args: &MakeCheckpoint) -> Result<()> {
    let dtype = match args.dtype {
        Compute::F32 => Dtype::F32,
        Compute::Bf16 => Dtype::BF16,
        Compute::F16 => anyhow::bail!("--dtype f16: expected f32 or bf16"),
    };
    let torch_dtype = if dtype == Dtype::F32 { "float32" } else { "bfloat16" };
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": args.vocab,
        "hidden_size": args.hidden, "intermediate_size": args.intermediate, "num_hidden_layers": args.layers,
        "num_attention_heads": args.hidden / 64, "num_key_value_heads": args.key_value_heads,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": torch_dtype,
    });
    let config = ConfigFile::from_json(Path::new("[make-checkpoint]"), &json.to_string())?;
    let tensors = scratch::random_tensors(&config, dtype, args.seed)?;
    let options = WriteOptions {
        max_shard_bytes: args.max_shard_bytes,
        cancel: Some(progress::interrupted()?),
        ..WriteOptions::default()
    };
    let mut writer = FolderWriter::new(&args.out, options)?;
    writer.config(&config)?;
    let bar = progress::bytes("writing");
    bar.set_length(config.llama()?.parameter_count() * if dtype == Dtype::F32 { 4 } else { 2 });
    writer.tensors(tensors, &|more| bar.inc(more))?;
    let written = writer.finish()?;
    bar.finish_and_clear();
    println!("{}: {} in {} tensors", args.out.display(), output::bytes(written.bytes), written.digests.len());
    Ok(())
}

/// An int64 tensor of `dimensions` dimensions.
fn read(path: &Path, name: &str, dimensions: usize) -> Result<Tensor> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file =
        SafeTensors::deserialize(&bytes).with_context(|| format!("{}: not safetensors", path.display()))?;
    let view = file.tensor(name).map_err(|_| anyhow::anyhow!("{}: no tensor `{name}`", path.display()))?;
    ensure!(
        view.dtype() == safetensors::Dtype::I64
            && view.shape().len() == dimensions
            && !view.shape().contains(&0),
        "{}: `{name}` is {:?} {:?}, expected int64 with {dimensions} dimensions and nothing empty",
        path.display(),
        view.dtype(),
        view.shape()
    );
    let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, Kind::Int64)?)
}

/// Float32 tensors into a file that appears whole.
fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let raw = tensors.iter().map(|(name, tensor)| {
        let tensor = tensor.to_device(Device::Cpu).contiguous();
        let shape: Vec<usize> = tensor.size().iter().map(|&d| d as usize).collect();
        let mut bytes = vec![0u8; tensor.numel() * 4];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        (name, shape, bytes)
    });
    let raw: Vec<_> = raw.collect();
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(llama_pro_run::write_atomic(path, &safetensors::serialize(views, None)?)?)
}
