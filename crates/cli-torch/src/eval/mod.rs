//! `eval`: benchmark tasks over a model folder, and the comparison of two result files.
#![allow(clippy::print_stdout, reason = "the program speaks")]

mod model;
mod shift;
mod stages;
pub(crate) mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use llama_pro_cli::{output, progress};
use llama_pro_eval::{
    Catalog, CodeRunner, Evaluation, Journal, Options, PAPER, Protocol, Selection, TaskSpec, Watch, evaluate,
    report,
};
use llama_pro_sandbox::{Config, Isolation, Sandbox};
use serde_json::Value;

pub(crate) use model::adds_bos;

use crate::job::benchmarks::data;

/// Scores a model on benchmarks as lm-evaluation-harness does, with the same prompts, numbers and result file.
///
/// With no task named: small tasks that need no data. See docs/evaluation.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model folder.
    #[arg(required_unless_present_any = ["compare", "list", "stages"])]
    model: Option<PathBuf>,
    /// Scores the model that a completions server has, http://HOST:PORT/v1; MODEL is its tokenizer's folder.
    #[arg(long, value_name = "URL", conflicts_with_all = ["device", "dtype", "shift"])]
    url: Option<String>,
    /// The name under which the server has the model [default: the name of MODEL].
    #[arg(long, value_name = "NAME", requires = "url")]
    served_as: Option<String>,
    /// How long the server may take for one answer before it is asked again, and given up after four times [default: 120].
    #[arg(long, value_name = "SECONDS", requires = "url")]
    timeout: Option<f64>,
    #[command(flatten)]
    stages: stages::Args,
    #[command(flatten)]
    shift: shift::Args,
    /// Tasks, groups or task files, with commas between; NAME:N asks for N examples.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    tasks: Vec<String>,
    /// The tasks and examples of a paper: LLaMA Pro's Table 1.
    #[arg(long, value_name = "NAME", value_parser = ["paper"], conflicts_with = "tasks")]
    preset: Option<String>,
    /// Folder with the benchmarks' files.
    #[arg(long, value_name = "DIR", default_value = "data/eval")]
    data: PathBuf,
    /// Examples in each prompt, where the task has no number of its own to keep to.
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// The first N documents of each task only.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Whose numbers are to be met: those of the harness now, of 0.4.0 to 0.4.9.1, or of the first leaderboard.
    #[arg(long, value_name = "NAME", default_value = "current", value_parser = ["current", "0.4.0", "leaderboard"])]
    protocol: String,
    /// Begin texts with BOS, or not, whatever protocol and tokenizer say.
    #[arg(long, value_name = "BOOL")]
    add_bos: Option<bool>,
    /// The most new tokens of a generated text.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_gen_toks: Option<u32>,
    /// A string that ends a generated text, instead of the task's own; may be repeated.
    #[arg(long, value_name = "TEXT")]
    until: Vec<String>,
    /// Result file. Answers are kept beside it until it is written.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "list", "shift", "stages"])]
    out: Option<PathBuf>,
    /// Go on from the answers that an earlier run with the same --out left.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Leave the documents out of the result file.
    #[arg(long)]
    no_samples: bool,
    /// Generate code, but do not run it.
    #[arg(long)]
    predict_only: bool,
    /// Run model-written programs even where they cannot be kept from harm: on a machine that may be lost only.
    #[arg(long)]
    i_accept_unsandboxed: bool,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Type to compute in [default: that of the weights].
    #[arg(long, value_name = "NAME", value_parser = ["f32", "bf16", "f16"], conflicts_with = "shift")]
    dtype: Option<String>,
    /// Shows the differences between two result files.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with_all = ["model", "tasks"])]
    compare: Option<Vec<PathBuf>>,
    /// Shows the names of all tasks and groups.
    #[arg(long)]
    list: bool,
    /// The result as one JSON record on stdout.
    #[arg(long)]
    json: bool,
}

/// What is run where no task is named: nothing of it needs a file but the texts of the miniature.
const EMBEDDED: [&str; 6] = [
    "mini_prose_ppl",
    "miniature_prose",
    "miniature_code",
    "miniature_math",
    "mini_arithmetic_mc",
    "mini_arithmetic",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(files) = &args.compare {
        return compare(&files[0], &files[1], args.json);
    }
    if !args.stages.stages.is_empty() {
        return stages::run(&args.stages, args.json);
    }
    let mut catalog = Catalog::builtin()?;
    if args.list {
        match args.json {
            true => println!("{}", serde_json::to_string_pretty(&catalog.names().collect::<Vec<_>>())?),
            false => catalog.names().for_each(|name| println!("{name}")),
        }
        return Ok(());
    }
    let folder = args.model.as_deref().context("expected a model folder")?;
    if let Some(text) = &args.shift.shift {
        return shift::run(&args.shift, text, folder, &args.device, args.limit, args.json);
    }
    let selection = select(args, &mut catalog)?;
    // What is wrong with the output is known before the model is loaded.
    if let Some(out) = &args.out {
        ensure!(!out.is_dir(), "{}: --out expects a file, found a folder", out.display());
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(parent.is_dir(), "{}: there is no such folder", parent.display());
    }
    let options = options(args)?;
    let data = data(args.data.clone(), &selection)?;
    let mut runner = runner(args, &selection)?;
    let mut loaded = match &args.url {
        Some(url) => model::served(folder, url, args.served_as.as_deref(), args.timeout)?,
        None => model::load(folder, &args.device, args.dtype.as_deref())?,
    };
    let about = loaded.about.clone();
    let digest = about.digest.clone().unwrap_or_default();
    let (mut journal, place) = journal(args, &digest)?;
    let mut bar = Bar::new();
    let found = loaded.score(|model, codec| {
        let runner = runner.as_mut().map(|runner| &mut **runner as &mut dyn CodeRunner);
        evaluate(model, codec, &selection, &data, &options, runner, &mut journal, &mut bar)
    });
    bar.finish();
    let found = found?;
    tell(&found, about.max_length);
    let record = report::record(&found, &options, &about, args.out.is_some() && !args.no_samples);
    if let Some(out) = &args.out {
        llama_pro_run::write_atomic(out, format!("{}\n", serde_json::to_string_pretty(&record)?).as_bytes())?;
        tracing::info!("{}", out.display());
    }
    drop(journal);
    if let Some(place) = place {
        let _ = std::fs::remove_file(place); // the answers are in the result now
    }
    if args.json {
        let mut record = record;
        record.as_object_mut().map(|map| map.remove("samples"));
        println!("{}", serde_json::to_string(&record)?);
    } else {
        println!("{}", output::table(&report::HEADERS, report::rows(&found)));
    }
    Ok(())
}

fn select(args: &Args, catalog: &mut Catalog) -> Result<Selection> {
    texts::add_tasks(catalog)?;
    if args.preset.is_some() {
        let names: Vec<String> = PAPER.iter().map(|(name, shots)| format!("{name}:{shots}")).collect();
        return Ok(catalog.select(names.iter().map(String::as_str))?);
    }
    if args.tasks.is_empty() {
        return Ok(catalog.select(EMBEDDED)?);
    }
    Ok(catalog.select(args.tasks.iter().map(|name| name.trim()))?)
}

fn options(args: &Args) -> Result<Options> {
    let protocol = match args.protocol.as_str() {
        "current" => Protocol::Current,
        "0.4.0" => Protocol::V040,
        "leaderboard" => Protocol::Leaderboard,
        other => bail!("there is no protocol \"{other}\""),
    };
    Ok(Options {
        protocol,
        add_bos: args.add_bos,
        shots: args.shots,
        limit: args.limit.map(|n| n as usize),
        max_gen_toks: args.max_gen_toks.map(|n| n as usize),
        until: (!args.until.is_empty()).then(|| args.until.clone()),
        predict_only: args.predict_only,
        no_bootstrap: false,
    })
}

/// What runs programs, where a task has any.
fn runner(args: &Args, selection: &Selection) -> Result<Option<Box<dyn CodeRunner>>> {
    let has_code = |(task, _): &(std::sync::Arc<TaskSpec>, _)| task.code.is_some();
    if args.predict_only || !selection.tasks.iter().any(has_code) {
        return Ok(None);
    }
    let isolation = if args.i_accept_unsandboxed { Isolation::Unsandboxed } else { Isolation::Full };
    let sandbox = Sandbox::open(&Config { isolation, ..Config::default() })?;
    Ok(Some(Box::new(sandbox)))
}

/// The journal beside the result file, and its place.
fn journal(args: &Args, digest: &str) -> Result<(Journal, Option<PathBuf>)> {
    let Some(out) = &args.out else { return Ok((Journal::in_memory(), None)) };
    let mut name = out.file_name().context("--out expects a file")?.to_os_string();
    name.push(".answers");
    let place = out.with_file_name(name);
    let journal = Journal::open(&place, digest, args.resume)?;
    if args.resume {
        tracing::info!("{} answers found", journal.len());
    }
    Ok((journal, Some(place)))
}

/// What a reader of the scores must know.
fn tell(found: &Evaluation, max: Option<usize>) {
    for task in &found.tasks {
        let counts = task.counts;
        let name = &task.spec.task;
        if counts.cut > 0 {
            let max = max.unwrap_or_default();
            tracing::warn!(
                "{name}: {} of {} contexts were cut on the left: the longest request has {} tokens, the model reads {max}",
                counts.cut,
                counts.requests,
                counts.longest,
            );
        }
        if counts.unsplit > 0 {
            tracing::warn!(
                "{name}: {} of {} contexts encode differently on their own; split as the harness does",
                counts.unsplit,
                counts.requests
            );
        }
    }
}

fn compare(a: &Path, b: &Path, json: bool) -> Result<()> {
    let changes = report::changes(&read(a)?, &read(b)?).map_err(anyhow::Error::msg)?;
    if json {
        for c in &changes {
            println!(
                "{}",
                serde_json::json!({
                    "task": c.task, "metric": c.metric, "a": c.a, "b": c.b, "difference": c.b - c.a,
                    "stderr": c.stderr, "paired": c.paired, "z": c.z(), "p": c.p, "verdict": c.verdict(),
                })
            );
        }
    } else {
        println!("{}", output::table(&report::CHANGE_HEADERS, changes.iter().map(report::Change::cells)));
    }
    Ok(())
}

/// A result file.
fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: not a result file", path.display()))
}

/// A progress bar for each task.
pub(crate) struct Bar {
    bar: Option<indicatif::ProgressBar>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self { bar: None }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bar {
    fn requests(&mut self, task: &str, requests: usize) {
        self.finish();
        let bar = progress::steps(requests as u64);
        bar.set_message(task.to_owned());
        self.bar = Some(bar);
    }

    fn done(&mut self, requests: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(requests as u64);
        }
    }
}
