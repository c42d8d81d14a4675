//! `expand BASE OUT`: block expansion, and with --delta the whole model from its base and its new blocks.

use std::path::PathBuf;

use anyhow::{Result, bail};
use llama_pro_expand::{ExpandOptions, Placement};

use llama_pro_checkpoint::Checkpoint;
use llama_pro_cli::{output, progress};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model folder to grow.
    base: PathBuf,
    /// The new model folder.
    out: PathBuf,
    /// New blocks in all, spread evenly, the last on top.
    #[arg(long, value_name = "N", conflicts_with = "at")]
    blocks: Option<usize>,
    /// How many new blocks go on top of each group [default: 1].
    #[arg(long, value_name = "P", conflicts_with = "at")]
    per_group: Option<usize>,
    /// Places of the new blocks in the grown model, as 4,9,14: each a copy of the old block below it.
    #[arg(long, value_name = "I,J,…", value_delimiter = ',')]
    at: Option<Vec<usize>>,
    /// Puts trained new blocks, which `delta` or `pretrain --delta` wrote, into their base: the whole model again.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["blocks", "at", "per_group", "dry_run"])]
    delta: Option<PathBuf>,
    /// Show the plan and write nothing.
    #[arg(long)]
    dry_run: bool,
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
    if let Some(delta) = &args.delta {
        return super::delta::apply(
            &args.base,
            delta,
            &args.out,
            args.force,
            args.max_shard_bytes,
            args.json,
        );
    }
    let placement = match (args.blocks, &args.at) {
        (Some(blocks), _) => Placement::Blocks { blocks, per_group: args.per_group.unwrap_or(1) },
        (None, Some(at)) => Placement::At(at.clone()),
        (None, None) => bail!("expected --blocks N (the paper uses 8 for 32), --at I,J,… or --delta DIR"),
    };
    let options = ExpandOptions { force: args.force, dry_run: true, ..ExpandOptions::default() };
    llama_pro_expand::expand(&args.base, &args.out, &placement, &options)?;
    // The expander moves bytes of any family. One that is known must be whole: a wrong shape would only be carried on.
    let checkpoint = Checkpoint::open(&args.base)?;
    if let Some(config) = checkpoint.config().llama_if_computable()? {
        checkpoint.check_parameters(&config)?;
    }
    drop(checkpoint);
    let bar = progress::bytes("expanding");
    let show = |done: u64, all: u64| progress::advance(&bar, done, all);
    let report = llama_pro_expand::expand(
        &args.base,
        &args.out,
        &placement,
        &ExpandOptions {
            force: args.force,
            dry_run: args.dry_run,
            max_shard_bytes: args.max_shard_bytes,
            cancel: Some(progress::interrupted()?),
            progress: Some(&show),
            ..ExpandOptions::default()
        },
    );
    bar.finish_and_clear();
    let report = report?;
    let peak = progress::peak_memory();
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["peak_bytes"] = peak.into();
        json["bytes_per_second"] = (report.bytes as f64 / report.seconds).into();
        println!("{json:#}");
        return Ok(());
    }
    println!("{}", report.plan);
    let new = report.plan.new_blocks().len();
    let (blocks, bytes) = (report.plan.layers().len(), output::bytes(report.bytes));
    if !report.written {
        println!(
            "{} -> {blocks} blocks, {new} new; {bytes} would be written (dry run)",
            report.plan.base_layers()
        );
        return Ok(());
    }
    println!(
        "{} -> {blocks} blocks, {new} new; {bytes} in {} ({}/s), peak memory {}",
        report.plan.base_layers(),
        output::seconds(report.seconds),
        output::bytes((report.bytes as f64 / report.seconds) as u64),
        peak.map_or_else(|| "unknown".to_owned(), output::bytes),
    );
    println!("{} computes what {} computes until it is trained", args.out.display(), args.base.display());
    Ok(())
}
