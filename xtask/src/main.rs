//! The runner behind `cargo xtask`: gets libtorch, sets the one environment that every build uses, and runs
//! llama-pro, the tests and the checks.
//!
//! It links no project crate and no tch, so it builds in seconds on a machine that has nothing yet. The habit
//! is matklad's `cargo-xtask`: the project's commands are a Rust program, not shell scripts.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people: it prints")]

mod bench;
mod cargo;
mod error;
mod fetch;
mod host;
mod layout;
mod libtorch;
mod manifest;
mod pins;
mod probe;
mod progress;
mod python;
mod regress;
mod stages;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Exit;
use crate::host::Host;
use crate::libtorch::Want;

/// Everything this project does, from a fresh clone on.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true, after_help = PROGRAM)]
struct Arguments {
    #[command(subcommand)]
    word: Option<Word>,
}

#[derive(Subcommand)]
enum Word {
    /// Get libtorch 2.11.0 ready: LIBTORCH, a python torch, or a download into the user's cache
    Setup {
        /// The full libtorch with CUDA (about 2.5 GB to fetch) in place of the CPU one
        #[arg(long)]
        cuda: bool,
        /// Read every library again and compare its digest with the one noted when it was unpacked
        #[arg(long)]
        verify: bool,
    },
    /// Print the exports for a shell in which you call cargo yourself: eval "$(cargo xtask env)"
    Env,
    /// Build in release and run the tests of the whole workspace; arguments go to cargo test
    Test {
        /// Passed to cargo test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Formatting, boundaries, tidiness, clippy, cargo-deny: the cheapest first
    Check,
    /// test, then check, with the time of each stage
    Ci,
    /// The first steps of training runs against the curves in tests/golden
    Regress {
        /// Write the curves down in place of comparing, with the reason why they may change
        #[arg(long, value_name = "REASON")]
        bless: Option<String>,
    },
    /// Measure beside the peers in one run, as medians of alternating runs. What is not known here is llama-pro's bench
    Bench {
        /// What to measure, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<OsString>,
    },
    /// Any other word: built in release and run as llama-pro
    #[command(external_subcommand)]
    Program(Vec<OsString>),
}

/// The program's own commands, for the help text: one line each.
const PROGRAM: &str = "\
Every other word goes to llama-pro, built in release with libtorch in place:
  inspect   What a model folder holds: shape, parameters, dtypes, new blocks, memory to train it
  expand    Block expansion: BASE OUT, --blocks N or --at I,J
  verify    Prove that an expanded model is its base, from the bytes or (--logits) by running both
  strip     Take the new blocks out again: the base's tensors byte for byte
  delta     The new blocks alone, for `expand BASE OUT --delta DIR`
  prepare   Raw corpora to token shards, with an account of every document
  pretrain  Train the new blocks; with no argument the embedded miniature, start to end
  sft       Instruction tuning; with no argument of the last pretrain run
  generate  Continue texts, or hold a conversation (--chat)
  eval      Benchmarks with lm-evaluation-harness' prompts and numbers
  report    One self-contained HTML page from run folders
  debug     Logits, replayed training and large random checkpoints, for tests

`cargo xtask pretrain --help` is `llama-pro pretrain --help`.";

fn main() -> ExitCode {
    let outcome = run(Arguments::parse());
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let exit = error.downcast_ref::<Exit>();
    // The child has already said what is wrong.
    if !matches!(exit, Some(Exit::Child(_))) {
        eprintln!("xtask: {error:#}");
    }
    ExitCode::from(exit.map_or(1, Exit::code))
}

fn run(arguments: Arguments) -> Result<()> {
    let Some(word) = arguments.word else {
        Arguments::command().print_long_help()?;
        return Ok(());
    };
    let host = Host::from_environment();
    match word {
        Word::Setup { cuda, verify } => {
            let libtorch = libtorch::locate(&host, Want { cuda })?;
            if verify {
                libtorch::verify(&libtorch)?;
            }
            println!("libtorch {}: {} ({})", layout::VERSION, libtorch.root.display(), libtorch.origin);
            Ok(())
        }
        Word::Env => {
            print!("{}", cargo::exports(&libtorch::locate(&host, Want::default())?.root)?);
            Ok(())
        }
        Word::Test { args } => stages::test(&host, &args),
        Word::Check => stages::check(&host),
        Word::Ci => stages::ci(&host),
        Word::Regress { bless } => regress::run(&host, bless.as_deref()),
        Word::Bench { words } => bench::run(&host, &words),
        Word::Program(words) => stages::program(&host, &words),
    }
}
