//! `bench WHAT`: how fast one part is, as one JSON line on stdout. What runs a model is measured by the other program.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::{bench_dedup, bench_prepare, bench_tokenize};

#[derive(Parser)]
#[command(name = "llama-pro bench", disable_help_subcommand = true)]
struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Near duplicates: throughput and clusters.
    Dedup(bench_dedup::Args),
    /// The whole of `prepare` on an input of some size.
    Prepare(bench_prepare::Args),
    /// Text to ids: throughput, and a hash of the ids to compare with other programs.
    Tokenize(bench_tokenize::Args),
}

/// Whether the words after `bench` are for this program.
pub(crate) fn is_here(words: &[OsString]) -> bool {
    matches!(words.first().and_then(|word| OsStr::to_str(word)), Some("dedup" | "prepare" | "tokenize"))
}

pub(crate) fn run(words: Vec<OsString>) -> Result<()> {
    let name = OsString::from("llama-pro bench");
    match Bench::parse_from([name].into_iter().chain(words)).what {
        What::Dedup(args) => bench_dedup::run(&args),
        What::Prepare(args) => bench_prepare::run(&args),
        What::Tokenize(args) => bench_tokenize::run(&args),
    }
}

/// Processor time of all threads up to here.
pub(super) fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

/// The texts of a file of {"text": …} lines.
pub(super) fn read_texts(path: &Path) -> Result<Vec<String>> {
    let content = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let line = serde_json::from_str::<Line>(line);
            Ok(line.with_context(|| format!("{} line {}", path.display(), number + 1))?.text)
        })
        .collect()
}
