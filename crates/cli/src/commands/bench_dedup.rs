//! `bench dedup`: near duplicates among the documents of a JSONL file. The record has the keys of
//! tests/peers/dedup_numpy.py, and clusters.json what tests/peers/dedup_score.py reads.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use llama_pro_cli::progress;
use llama_pro_corpus::{Dedup, Near, clusters};
use serde_json::json;

use super::bench::{cpu_time, read_texts};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of {"text": …} lines.
    #[arg(long, value_name = "F")]
    input: PathBuf,
    /// Where to write one cluster number per document, as JSON.
    #[arg(long, value_name = "F")]
    clusters: Option<PathBuf>,
    /// Jaccard similarity to aim at.
    #[arg(long, default_value_t = 0.7)]
    threshold: f64,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Passes over the file; the figure is the median.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    passes: u16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(usize::from(args.threads)).build_global()?;
    let near = Near { threshold: args.threshold, ..Near::default() };
    let (bands, rows) = near.shape();
    let dedup = Dedup { near: Some(near), ..Dedup::default() };
    let (mut wall, mut cpu, mut found, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..args.passes {
        // Reading and parsing count: the peers' figures include them.
        let (started, used) = (Instant::now(), cpu_time());
        let texts = read_texts(&args.input)?;
        bytes = texts.iter().map(String::len).sum();
        found = clusters(&texts, &dedup)?;
        wall.push(started.elapsed().as_secs_f64());
        cpu.push((cpu_time().saturating_sub(used)).as_secs_f64());
    }
    if found.is_empty() {
        bail!("{}: no documents", args.input.display());
    }
    if let Some(path) = &args.clusters {
        std::fs::write(path, serde_json::to_vec(&found)?).with_context(|| path.display().to_string())?;
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let mb = bytes as f64 / 1e6;
    let removed = found.iter().enumerate().filter(|(i, first)| **first as usize != *i).count();
    let record = json!({
        "method": "llama-pro",
        "threads": args.threads,
        "docs": found.len(),
        "mb": mb,
        "removed": removed,
        "bands": bands,
        "rows": rows,
        "wall_mb_s": mb / wall[wall.len() / 2],
        "cpu_mb_s": mb / cpu[cpu.len() / 2],
        "peak_bytes": progress::peak_memory(),
    });
    println!("{record}");
    Ok(())
}
