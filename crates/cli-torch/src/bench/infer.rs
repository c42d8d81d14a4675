//! `bench choices` and `bench generate`: the work of tests/peers/eval_ref.py, on a model of its shape with random weights.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use llama_pro_checkpoint::ConfigFile;
use llama_pro_eval::{ChoiceRequest, GenerateRequest, LanguageModel};
use llama_pro_model::{Llama, LoadOptions, Path as Blocks, Sampling, Scorer, choose_device};
use serde_json::json;
use tch::Kind;

/// Vocabulary of the peer's model.
const VOCABULARY: i64 = 32_000;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Compute {
    F32,
    Bf16,
}

impl Compute {
    fn kind(self) -> (Kind, &'static str) {
        match self {
            Self::F32 => (Kind::Float, "f32"),
            Self::Bf16 => (Kind::BFloat16, "bf16"),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Choices {
    /// Dtype to compute in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Compute,
    /// Requests of four continuations after a context of 400 tokens of their own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
    /// Requests in a call of the scorer.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    call: u32,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(clap::Args)]
pub(crate) struct Generate {
    /// Dtype to compute in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Compute,
    /// Texts side by side; each has a prompt of 32 tokens and gets 128.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Rounds that are timed, after one that is not.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn choices(args: &Choices) -> Result<()> {
    let (model, dtype) = model(args.dtype, &args.device)?;
    let mut ids = Ids(1);
    let mut request = || ChoiceRequest {
        context: ids.take(400),
        continuations: [8, 12, 16, 20].map(|n| ids.take(n)).to_vec(),
    };
    let requests: Vec<ChoiceRequest> = (0..=args.requests).map(|_| request()).collect();
    let mut scorer = Scorer::new(&model, Blocks::Grown);
    scorer.choices(&requests[..1]).map_err(anyhow::Error::from_boxed)?;
    let started = Instant::now();
    let mut scores = Vec::new();
    for call in requests[1..].chunks(args.call as usize) {
        scores.extend(scorer.choices(call).map_err(anyhow::Error::from_boxed)?);
    }
    let seconds = started.elapsed().as_secs_f64() / f64::from(args.requests);
    let first: Vec<f64> = scores[0].iter().map(|s| s.log_likelihood).collect();
    println!(
        "{}",
        json!({
            "mode": "choices", "dtype": dtype, "requests": args.requests, "params": model.config().parameter_count(),
            "s_per_request": seconds, "s_64_requests": 64.0 * seconds, "first": first,
        })
    );
    Ok(())
}

pub(crate) fn generate(args: &Generate) -> Result<()> {
    const NEW: usize = 128;
    let (model, dtype) = model(args.dtype, &args.device)?;
    let mut ids = Ids(1);
    let requests: Vec<GenerateRequest> =
        (0..args.batch).map(|_| GenerateRequest { prompt: ids.take(32), max_new_tokens: NEW }).collect();
    let side_by_side = requests.len();
    let mut times = Vec::new();
    for _ in 0..=args.rounds {
        let started = Instant::now();
        llama_pro_model::generate(
            &model,
            Blocks::Grown,
            &requests,
            &Sampling::GREEDY,
            side_by_side,
            &mut |_, _| false,
        )?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_unstable_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let tokens = (requests.len() * NEW) as f64;
    println!(
        "{}",
        json!({
            "mode": "generate", "dtype": dtype, "batch": args.batch, "params": model.config().parameter_count(),
            "s": seconds, "tokens_per_s": tokens / seconds, "ms_per_step": seconds / NEW as f64 * 1e3,
        })
    );
    Ok(())
}

/// The shape of the peer's model: 134 M parameters.
fn model(dtype: Compute, device: &str) -> Result<(Llama, &'static str)> {
    let json = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 768,
        "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12,
        "vocab_size": VOCABULARY, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
    });
    let config = ConfigFile::from_json(Path::new("config.json"), &json.to_string())?.llama()?;
    let (kind, name) = dtype.kind();
    tch::manual_seed(0);
    let options = LoadOptions { device: choose_device(device)?, kind: Some(kind), ..LoadOptions::default() };
    Ok((Llama::random(config, &options)?, name))
}

/// Token ids without a pattern: a linear congruential generator's upper bits.
struct Ids(u64);

impl Ids {
    fn take(&mut self, n: usize) -> Vec<i64> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            3 + ((self.0 >> 33) % (VOCABULARY as u64 - 3)) as i64
        };
        (0..n).map(|_| next()).collect()
    }
}
