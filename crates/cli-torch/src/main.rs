//! The program `llama-pro-torch`: the commands of `llama-pro` that run a model. People call `llama-pro`, which starts
//! this one with the same arguments.
#![expect(clippy::print_stdout, reason = "the program speaks")]

mod bench;
mod debug;
mod eval;
mod generate;
mod job;
mod peak;
mod pretrain;
mod rate;
mod recipe;
mod scratch;
mod sft;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use llama_pro_cli::exit;
use llama_pro_eval::Error as Eval;
use llama_pro_model::Error as Model;
use llama_pro_train::Error as Train;

#[derive(Parser)]
#[command(name = "llama-pro", bin_name = "llama-pro", version, disable_help_subcommand = true)]
struct Cli {
    /// Compute threads on the CPU [default: one per core].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Expands, trains the new blocks, evaluates before and after. With no argument: the embedded miniature.
    Pretrain(pretrain::Args),
    /// How fast training and the model are on this machine, as JSON lines.
    Bench(bench::Args),
    /// Continues texts: greedy or sampled, one or many at a time.
    Generate(generate::Args),
    /// Instruction tuning of a model folder or of the last pretrain run. With no argument: the embedded miniature.
    Sft(sft::Args),
    /// Logits, replayed training curves and test checkpoints.
    Debug(debug::Args),
    /// Benchmarks with lm-evaluation-harness' prompts and numbers, or two result files compared.
    Eval(Box<eval::Args>),
    /// Proves from the bytes that an expanded folder is what it says, and runs it beside its base.
    Verify(llama_pro_cli::verify::Args),
}

fn main() -> ExitCode {
    // The program is also what starts model-written code, in a process of its own and before anything else is there.
    if let Some(code) = llama_pro_sandbox::launcher(std::env::args_os()) {
        return code;
    }
    exit::report(|| run(Cli::parse()), failed, llama_pro_model::is_guarded)
}

/// Failures of a run, as opposed to input that cannot be used.
fn failed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let train = cause.downcast_ref::<Train>();
        matches!(
            train,
            Some(
                Train::NonFinite { .. }
                    | Train::Outlier { .. }
                    | Train::NoSpace { .. }
                    | Train::Torch(_)
                    | Train::Shim(_)
                    | Train::FrozenChanged(_)
            )
        ) || matches!(cause.downcast_ref::<Model>(), Some(Model::Torch(_) | Model::Shim(_)))
            || matches!(cause.downcast_ref::<Eval>(), Some(Eval::Died { .. }))
    })
}

fn run(cli: Cli) -> Result<()> {
    start_torch(cli.threads);
    match cli.command {
        Command::Pretrain(args) => pretrain::run(&args, cli.threads),
        Command::Bench(args) => bench::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Sft(args) => sft::run(&args, cli.threads),
        Command::Debug(args) => debug::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// Opens CUDA where it is there, before the first tensor, and fixes the number of threads: results on the CPU depend
/// on it in the last bit.
fn start_torch(threads: Option<u32>) {
    let folder = std::env::var_os("LIBTORCH").map(|p| std::path::Path::new(&p).join("lib"));
    if let Err(error) = llama_pro_torch_ext::load_cuda(folder.as_deref()) {
        tracing::warn!("libtorch_cuda.so is there but does not open, so no GPU is seen: {error}");
    }
    if let Some(n) = threads {
        tch::set_num_threads(n as i32);
    }
}
