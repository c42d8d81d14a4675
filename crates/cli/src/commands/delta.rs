//! `delta DIR OUT`: the new blocks alone; and the way back, `expand BASE OUT --delta DIR`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use llama_pro_expand::{DeltaOptions, DeltaReport};

use llama_pro_cli::{output, progress};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An expanded model folder.
    dir: PathBuf,
    /// The new folder with the new blocks alone and the digest of their base.
    out: PathBuf,
    /// Replace OUT if it exists.
    #[arg(long)]
    force: bool,
    /// Largest weight file, in bytes [default: 5000000000].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    max_shard_bytes: Option<u64>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let report = with_bar("writing new blocks", args.force, args.max_shard_bytes, |options| {
        llama_pro_expand::delta(&args.dir, &args.out, options)
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "new blocks {:?}: {} of {} in {}",
        report.new_blocks,
        output::bytes(report.bytes),
        output::bytes(report.whole),
        output::seconds(report.seconds)
    );
    println!("the base they belong to: {}", report.base);
    println!("the whole model again: llama-pro expand BASE OUT --delta {}", args.out.display());
    Ok(())
}

/// `expand BASE OUT --delta DELTA`.
pub(crate) fn apply(
    base: &Path,
    delta: &Path,
    out: &Path,
    force: bool,
    max_shard_bytes: Option<u64>,
    json: bool,
) -> Result<()> {
    let report = with_bar("putting blocks in", force, max_shard_bytes, |options| {
        llama_pro_expand::apply(base, delta, out, options)
    })?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "put blocks {:?} into {}: {} in {}, every tensor with the digest of the model they were taken from",
        report.new_blocks,
        base.display(),
        output::bytes(report.bytes),
        output::seconds(report.seconds)
    );
    Ok(())
}

fn with_bar(
    what: &'static str,
    force: bool,
    max_shard_bytes: Option<u64>,
    work: impl FnOnce(&DeltaOptions<'_>) -> llama_pro_expand::Result<DeltaReport>,
) -> Result<DeltaReport> {
    let bar = progress::bytes(what);
    let show = |done: u64, all: u64| progress::advance(&bar, done, all);
    let cancel = Some(progress::interrupted()?);
    let report = work(&DeltaOptions { force, max_shard_bytes, cancel, progress: Some(&show) });
    bar.finish_and_clear();
    Ok(report?)
}
