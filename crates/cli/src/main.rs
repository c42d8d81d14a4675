//! The program `llama-pro`: arguments, output and exit codes. What it does stands in the crates it calls.
//!
//! stdout carries results, stderr logs and progress. Exit codes: 0 done, 1 a run or a check that failed, 2 input that
//! cannot be used.
#![expect(clippy::print_stdout, reason = "the program speaks")]

mod commands;

use std::ffi::OsString;
use std::process::{Command as Process, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use llama_pro_cli::{exit, verify};

/// Grows a pretrained LLaMA by block expansion, trains the new blocks and shows what was learned and what was kept.
#[derive(Parser)]
#[command(name = "llama-pro", version, disable_help_subcommand = true)]
struct Cli {
    /// Compute threads on the CPU, where a model is run [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How fast one part is, as one JSON line: tokenize; train-step and others by the other program.
    #[command(disable_help_flag = true)]
    Bench(Passed),
    /// What a model folder holds: shape, parameters, dtypes, new blocks, memory to train it.
    Inspect(commands::inspect::Args),
    /// Block expansion: new blocks that change nothing until they are trained.
    Expand(commands::expand::Args),
    /// Proves from the bytes that an expanded folder is what it says; with --logits also by running it.
    Verify(verify::Args),
    /// Takes the new blocks out again.
    Strip(commands::strip::Args),
    /// The new blocks alone, for `expand --delta`: a trained model without another copy of its base.
    Delta(commands::delta::Args),
    /// Raw corpora to token shards, with an account of every document. With no argument: the embedded miniature.
    Prepare(commands::prepare::Args),
    /// Expands, trains the new blocks, evaluates before and after. With no argument: the embedded miniature.
    #[command(disable_help_flag = true)]
    Pretrain(Passed),
    /// Continues texts: greedy or sampled, one or many at a time.
    #[command(disable_help_flag = true)]
    Generate(Passed),
    /// Benchmarks with lm-evaluation-harness' prompts and numbers, or two result files compared.
    #[command(disable_help_flag = true)]
    Eval(Passed),
    /// Instruction tuning of a model folder or of the last pretrain run. With no argument: the embedded miniature.
    #[command(disable_help_flag = true)]
    Sft(Passed),
    /// One self-contained HTML page about one or several runs.
    Report(commands::report::Args),
    /// Logits, replayed training curves and test checkpoints.
    #[command(disable_help_flag = true)]
    Debug(Passed),
}

/// Arguments that the other program reads.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

fn main() -> ExitCode {
    exit::report(|| run(Cli::parse()), |_| false, || false)
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Bench(Passed { rest }) if commands::bench::is_here(&rest) => commands::bench::run(rest),
        Command::Bench(_) => with_torch(),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Expand(args) => commands::expand::run(&args),
        Command::Verify(args) if args.logits => with_torch(),
        Command::Verify(args) => verify::show(&args, &verify::prove(&args)?, None),
        Command::Strip(args) => commands::strip::run(&args),
        Command::Delta(args) => commands::delta::run(&args),
        Command::Prepare(args) => commands::prepare::run(&args, cli.threads),
        Command::Report(args) => commands::report::run(&args),
        Command::Pretrain(Passed { rest })
        | Command::Debug(Passed { rest })
        | Command::Eval(Passed { rest })
        | Command::Generate(Passed { rest })
        | Command::Sft(Passed { rest }) => {
            drop((rest, cli.threads)); // they go over as they were typed
            with_torch()
        }
    }
}

/// Becomes `llama-pro-torch` with the arguments that this program was given, so that signals reach it directly.
fn with_torch() -> Result<()> {
    let torch = std::env::current_exe()?.with_file_name("llama-pro-torch");
    let mut process = Process::new(&torch);
    process.args(std::env::args_os().skip(1));
    let why = || format!("{}: cannot be started; `cargo xtask` builds both programs", torch.display());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(process.exec()).with_context(why)
    }
    #[cfg(not(unix))]
    {
        let status = process.status().with_context(why)?;
        std::process::exit(status.code().unwrap_or(1))
    }
}
