//! `bench WHAT`: how fast one part is, as one JSON line on stdout. What runs a model is measured by the other program.

use std::ffi::{OsStr, OsString};

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::bench_tokenize;

#[derive(Parser)]
#[command(name = "llama-pro bench", disable_help_subcommand = true)]
struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Text to ids: throughput, and a hash of the ids to compare with other programs.
    Tokenize(bench_tokenize::Args),
}

/// Whether the words after `bench` are for this program.
pub(crate) fn is_here(words: &[OsString]) -> bool {
    matches!(words.first().and_then(|word| OsStr::to_str(word)), Some("tokenize"))
}

pub(crate) fn run(words: Vec<OsString>) -> Result<()> {
    let name = OsString::from("llama-pro bench");
    match Bench::parse_from([name].into_iter().chain(words)).what {
        What::Tokenize(args) => bench_tokenize::run(&args),
    }
}
