//! `generate MODEL --prompt TEXT | --chat`: text from a model, with keys and values kept from token to token.

mod chat;
mod source;
mod stream;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use llama_pro_eval::GenerateRequest;
use llama_pro_model::Sampling;
use serde::Serialize;

use crate::debug::Compute;
use source::{Load, Source};
use stream::TextStream;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model folder with its tokenizer.
    model: PathBuf,
    /// Text to continue; several are continued side by side.
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// File with a prompt per line; a line that is a JSON object gives its field `prompt`.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Hold a conversation in the terminal: questions line by line from stdin.
    #[arg(long, conflicts_with_all = ["prompt", "prompts", "samples", "batch", "json"])]
    chat: bool,
    /// System prompt of the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A built-in chat template instead of the model's own.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Continuations of each prompt.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Texts that are continued side by side at most.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// One JSON object per text instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// What prompts and conversations have in common.
#[derive(clap::Args)]
struct Options {
    /// The most tokens to add.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Only the K likeliest tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Only the likeliest tokens that together have this likelihood.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Only tokens at least this fraction as likely as the likeliest.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f64,
    /// Above 1, tokens that were there before become less likely.
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Seed of the draws: the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Text at which to end; it is left out. May be given several times; \n is a line break.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on after a token that ends a text.
    #[arg(long)]
    ignore_eos: bool,
    /// Dtype to compute in [default: the one that is stored].
    #[arg(long, value_enum)]
    dtype: Option<Compute>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Skip the new blocks: the base inside an expanded folder.
    #[arg(long)]
    base_path: bool,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Finish {
    /// A token that ends a text.
    Eos,
    /// A stop string.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The model can read no more.
    Context,
}

/// One text, as `--json` writes it.
#[derive(Serialize)]
struct Answer<'a> {
    /// Number of the prompt, from 0.
    index: usize,
    prompt: &'a str,
    /// What was added, without stop string and special tokens.
    text: &'a str,
    prompt_tokens: usize,
    /// The ids that were added, whatever ends them included.
    tokens: &'a [i64],
    finish: Finish,
}

impl Options {
    fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        };
        sampling.check()?;
        Ok(sampling)
    }

    fn stops(&self) -> Result<Vec<String>> {
        let stops: Vec<String> = self.stop.iter().map(|stop| stop.replace("\\n", "\n")).collect();
        ensure!(stops.iter().all(|stop| !stop.is_empty()), "--stop: an empty text stops nothing");
        Ok(stops)
    }

    fn open(&self, model: &std::path::Path) -> Result<Source> {
        let kind = self.dtype.map(Compute::kind);
        let mut source =
            Source::open(model, &Load { kind, device: &self.device, base_path: self.base_path })?;
        if self.ignore_eos {
            source.ends.clear();
        }
        Ok(source)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (sampling, stops) = (args.options.sampling()?, args.options.stops()?);
    if args.chat {
        let settings = chat::Settings {
            system: args.system.as_deref(),
            template: args.template.as_deref(),
            sampling,
            stops,
            max_new_tokens: args.options.max_new_tokens,
        };
        return chat::run(&args.model, &args.options.open(&args.model)?, settings);
    }
    for (flag, given) in [("--system", &args.system), ("--template", &args.template)] {
        ensure!(given.is_none(), "{flag}: expected --chat beside it; a prompt is continued as it is");
    }
    let prompts = prompts(args)?;
    match &args.prompts {
        Some(file) => ensure!(!prompts.is_empty(), "{}: no prompt in it", file.display()),
        None => ensure!(!prompts.is_empty(), "expected --prompt TEXT, --prompts FILE or --chat"),
    }
    let source = args.options.open(&args.model)?;
    let ids: Vec<Vec<i64>> = prompts
        .iter()
        .enumerate()
        .map(|(i, text)| source.prompt(text).with_context(|| format!("prompt {i}")))
        .collect::<Result<_>>()?;
    let samples = args.samples as usize;
    let n = prompts.len() * samples;
    let requests: Vec<GenerateRequest> = (0..n)
        .map(|i| GenerateRequest {
            prompt: ids[i / samples].clone(),
            max_new_tokens: args.options.max_new_tokens,
        })
        .collect();
    let mut streams: Vec<TextStream> = requests
        .iter()
        .map(|request| {
            let ids: Vec<u32> = request.prompt.iter().map(|&id| id as u32).collect();
            TextStream::new(&source.tokenizer, &ids, &stops)
        })
        .collect();
    let live = n == 1 && !args.json;
    let mut out = std::io::stdout().lock();
    // The prompt is shown with the first token, so that a prompt which the model refuses leaves stdout empty.
    let mut prompt_to_show = if live { prompts[0].as_str() } else { "" };
    let start = Instant::now();
    let mut failure = None;
    let mut hear = |i: usize, new: &[i64]| -> Result<bool> {
        out.write_all(std::mem::take(&mut prompt_to_show).as_bytes())?;
        let last = new[new.len() - 1];
        if source.ends.contains(&last) {
            return Ok(true);
        }
        let piece = streams[i].push(last as u32)?;
        if live {
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(streams[i].stopped())
    };
    let answers = llama_pro_model::generate(
        &source.model,
        source.path,
        &requests,
        &sampling,
        args.batch as usize,
        &mut |i, new| match hear(i, new) {
            Ok(done) => done,
            Err(error) => {
                failure.get_or_insert(error);
                true
            }
        },
    )?;
    failure.map_or(Ok(()), Err)?;
    let seconds = start.elapsed().as_secs_f64();
    for (i, (stream, tokens)) in streams.iter_mut().zip(&answers).enumerate() {
        let rest = stream.finish()?;
        if live {
            writeln!(out, "{prompt_to_show}{rest}")?; // no token was asked for: the prompt is still to be shown
            continue;
        }
        let prompt = i / samples;
        let finish = match tokens.last() {
            _ if stream.stopped() => Finish::Stop,
            Some(last) if source.ends.contains(last) => Finish::Eos,
            _ if tokens.len() == args.options.max_new_tokens => Finish::Length,
            _ => Finish::Context,
        };
        let (text, prompt_tokens) = (stream.text(), ids[prompt].len());
        let answer = Answer { index: prompt, prompt: &prompts[prompt], text, prompt_tokens, tokens, finish };
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string(&answer)?)?,
            false => writeln!(out, "--- {}\n{}{text}", i + 1, prompts[prompt])?,
        }
    }
    let tokens: usize = answers.iter().map(Vec::len).sum();
    tracing::info!("{tokens} tokens in {seconds:.2} s, {:.1} a second", tokens as f64 / seconds);
    Ok(())
}

fn prompts(args: &Args) -> Result<Vec<String>> {
    let mut prompts = args.prompt.clone();
    let Some(path) = &args.prompts else { return Ok(prompts) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(serde_json::Value::Object(record)) => {
                let prompt = record.get("prompt").and_then(serde_json::Value::as_str);
                let why = || format!("{}: line {}: no string `prompt`", path.display(), number + 1);
                prompts.push(prompt.with_context(why)?.to_owned());
            }
            _ => prompts.push(line.to_owned()),
        }
    }
    Ok(prompts)
}
