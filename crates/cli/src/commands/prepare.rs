//! `prepare`: raw corpora to token shards, and what became of every document.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use llama_pro_cli::sources::environment;
use llama_pro_cli::{output, progress};
use llama_pro_corpus::{Corpus, CorpusRecipe, CorpusReport, Job, Progress, Stage, prepare_corpus};
use llama_pro_text::Tokenizer;

/// The recipe that runs when none is named.
const MINIATURE: &str = include_str!("../../../../configs/corpus/miniature.toml");

/// The tokenizer of the tiny base.
const TOKENIZER: &[u8] = include_bytes!("../../../../data/base-tiny/tokenizer.json");
const EMBEDDED: &str = "embedded";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The recipe [default: the miniature inside the program].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides a key of the recipe, as a.b=v; sources by their name: sources.code.weight=2.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Forget what earlier runs left, and do everything anew.
    #[arg(long)]
    force: bool,
    /// The report as one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
}

pub(crate) fn run(args: &Args, threads: Option<u32>) -> Result<()> {
    let recipe = load(args.config.as_deref(), &args.overrides)?;
    recipe.check()?;
    let tokenizer = tokenizer(&recipe.tokenizer)?;
    let environment = environment(std::env::current_dir()?);
    if let Some(threads) = args.threads.or(threads) {
        rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global()?;
    }
    let bar = progress::steps(0);
    let told = |told: Progress| {
        bar.set_message(match told.stage {
            Stage::Read => "reading",
            Stage::Deduplicate => "looking for duplicates",
            Stage::Tokenize => "tokenizing",
            Stage::Join => "joining shards",
        });
        progress::advance(&bar, told.done, told.all);
    };
    let cancel = progress::interrupted()?;
    let start = Instant::now();
    let job = Job {
        recipe: &recipe,
        environment: &environment,
        tokenizer: &tokenizer,
        force: args.force,
        cancel: &cancel,
        progress: &told,
    };
    let corpus = prepare_corpus(&job);
    bar.finish_and_clear();
    let corpus = corpus?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let mut json = serde_json::to_value(&corpus.report)?;
        json["out"] = corpus.out.display().to_string().into();
        json["reused"] = corpus.reused.into();
        json["seconds"] = seconds.into();
        json["peak_bytes"] = progress::peak_memory().into();
        println!("{json:#}");
        return Ok(());
    }
    show(&corpus, seconds);
    Ok(())
}

fn load(path: Option<&Path>, overrides: &[String]) -> Result<CorpusRecipe> {
    let (path, text) = match path {
        Some(path) => (path, std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => (Path::new("configs/corpus/miniature.toml"), MINIATURE.to_owned()),
    };
    Ok(llama_pro_run::load_recipe::<CorpusRecipe>(path, &text, overrides)?.0)
}

fn tokenizer(name: &str) -> Result<Tokenizer> {
    let path = Path::new(name);
    if name == EMBEDDED {
        return Ok(Tokenizer::from_bytes(Path::new("the embedded tokenizer.json"), TOKENIZER)?);
    }
    if path.is_dir() {
        return Ok(Tokenizer::from_dir(path)?);
    }
    if !path.exists() {
        bail!(
            "tokenizer = {name:?}: expected a model folder, a tokenizer.json or \"embedded\"; there is no such file"
        );
    }
    Ok(Tokenizer::from_file(path)?)
}

fn show(corpus: &Corpus, seconds: f64) {
    let report = &corpus.report;
    println!("{}", sources(report));
    println!("{}", rules(report));
    let duplicates = &report.duplicates;
    println!(
        "duplicates: {} exact, {} near{}; contaminated by benchmarks: {}",
        duplicates.exact,
        duplicates.near,
        duplicates.clusters.last().map_or_else(String::new, |size| {
            let clusters: u64 = duplicates.clusters.iter().map(|size| size.clusters).sum();
            format!(" ({clusters} clusters, the largest of {})", size.documents)
        }),
        report.contaminated,
    );
    let (seen, kept, dropped, failed) = report.totals();
    println!("checked: {seen} in = {kept} kept + {dropped} dropped + {failed} failed");
    let bytes: u64 = report.sources.iter().map(|source| source.input_bytes).sum();
    println!(
        "{} in {} ({}/s), peak memory {}",
        output::bytes(bytes),
        output::seconds(seconds),
        output::bytes((bytes as f64 / seconds) as u64),
        progress::peak_memory().map_or_else(|| "unknown".to_owned(), output::bytes),
    );
    let out = corpus.out.display();
    if corpus.reused {
        println!("{out} was up to date; nothing was written");
    } else {
        println!("token shards and shards.json in {out}; the whole account in {out}/report.html");
    }
}

fn sources(report: &CorpusReport) -> comfy_table::Table {
    let header =
        ["source", "documents", "kept", "dropped", "failed", "tokens", "held out", "bytes/token", "epochs"];
    let row = |source: &llama_pro_corpus::SourceReport| {
        let counts = &source.documents;
        [
            source.name.clone(),
            counts.seen.to_string(),
            counts.kept.to_string(),
            counts.dropped.values().sum::<u64>().to_string(),
            counts.failed.values().sum::<u64>().to_string(),
            output::count(source.train.tokens),
            source.validation.map_or_else(|| "-".to_owned(), |side| output::count(side.tokens)),
            format!("{:.3}", source.bytes_per_token),
            source.epochs.map_or_else(|| "-".to_owned(), |epochs| format!("{epochs:.2}")),
        ]
    };
    output::table(&header, report.sources.iter().map(row))
}

fn rules(report: &CorpusReport) -> comfy_table::Table {
    let rows = report.sources.iter().flat_map(|source| {
        let counts = &source.documents;
        let losses =
            counts.dropped.iter().map(|l| ("dropped", l)).chain(counts.failed.iter().map(|l| ("failed", l)));
        losses.map(|(what, (rule, n))| {
            let examples = source.rules.iter().find(|report| report.rule == *rule);
            let example = examples.and_then(|report| report.examples.first());
            let mut words = example.map_or_else(String::new, |e| format!("{}: {}", e.id, e.detail));
            if words.chars().count() > 60 {
                words = words.chars().take(59).chain(['…']).collect();
            }
            let words = words.replace('\n', " ");
            [format!("{} {what} by {rule}", source.name), n.to_string(), words]
        })
    });
    output::table(&["rule", "documents", "for example"], rows.collect::<Vec<_>>())
}
