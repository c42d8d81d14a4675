//! `bench …`: what this program does in a second, as one JSON line. `cargo xtask bench` runs the peers beside it.

mod infer;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Multiple choice on random tokens with random weights: seconds a request.
    Choices(infer::Choices),
    /// Greedy text from random weights: tokens a second.
    Generate(infer::Generate),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.bench {
        Bench::Choices(args) => infer::choices(args),
        Bench::Generate(args) => infer::generate(args),
    }
}
