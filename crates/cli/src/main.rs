//! The program `llama-pro`: arguments, output and exit codes. What it does stands in the crates it calls.
//!
//! stdout carries results, stderr logs and progress. Exit codes: 0 done, 1 a run or a check that failed, 2 input that
//! cannot be used. This crate and xtask are the only ones that print, parse arguments or read the environment.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the program speaks; the libraries do not")]

mod commands;
mod exit;
mod output;
mod pretrain;
mod progress;
mod recipe;
mod scratch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Grows a pretrained LLaMA by block expansion, trains the new blocks and shows what was learned and what was kept.
#[derive(Parser)]
#[command(name = "llama-pro", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    /// Compute threads on the CPU [default: one per core].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a model folder holds: shape, parameters, dtypes, new blocks, memory to train it.
    Inspect(commands::inspect::Args),
    /// Block expansion: new blocks that change nothing until they are trained.
    Expand(commands::expand::Args),
    /// Proves from the bytes that an expanded folder is what it says.
    Verify(commands::verify::Args),
    /// Takes the new blocks out again.
    Strip(commands::strip::Args),
    /// Expands, trains the new blocks, evaluates before and after. With no argument: the embedded miniature.
    Pretrain(pretrain::Args),
    /// One self-contained HTML page about one or several runs.
    Report(commands::report::Args),
    /// Logits, replayed training curves and test checkpoints.
    Debug(commands::debug::Args),
}

fn main() -> ExitCode {
    exit::quiet_panics();
    start_logging();
    let cli = Cli::parse();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(cli)));
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("error: {}", exit::one_line(&error));
            ExitCode::from(exit::code(&error))
        }
        Err(_) => ExitCode::from(1), // the panic hook has said why
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    start_torch(cli.threads)?;
    match cli.command {
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Expand(args) => commands::expand::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Strip(args) => commands::strip::run(&args),
        Command::Pretrain(args) => pretrain::run(&args, cli.threads),
        Command::Report(args) => commands::report::run(&args),
        Command::Debug(args) => commands::debug::run(&args),
    }
}

/// Opens CUDA where it is there, before the first tensor, and fixes the number of threads: results on the CPU depend
/// on it in the last bit.
fn start_torch(threads: Option<u32>) -> anyhow::Result<()> {
    let folder = std::env::var_os("LIBTORCH").map(|p| std::path::Path::new(&p).join("lib"));
    llama_pro_torch_ext::load_cuda(folder.as_deref());
    if let Some(n) = threads {
        anyhow::ensure!((1..=4096).contains(&n), "--threads {n}: expected 1 to 4096");
        tch::set_num_threads(n as i32);
    }
    Ok(())
}

/// Logs on stderr; `LLAMA_PRO_LOG=debug` shows more.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LLAMA_PRO_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(progress::stderr).with_target(false).without_time().init();
}
