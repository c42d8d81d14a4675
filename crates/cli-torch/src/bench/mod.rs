//! `bench …`: what this program does in a second, as one JSON line. `cargo xtask bench` runs the peers beside it.

mod infer;
mod parts;
mod train_step;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Training steps on random tokens with random weights: tokens/s, memory, and the share of the machine's GEMM rate.
    TrainStep(train_step::Args),
    /// Multiple choice on random tokens with random weights: seconds a request.
    Choices(infer::Choices),
    /// Greedy text from random weights: tokens a second.
    Generate(infer::Generate),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.bench {
        Bench::TrainStep(args) => train_step::run(args),
        Bench::Choices(args) => infer::choices(args),
        Bench::Generate(args) => infer::generate(args),
    }
}
