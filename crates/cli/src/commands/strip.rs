//! `strip DIR OUT`: the way back to the base.

use std::path::PathBuf;

use anyhow::Result;
use llama_pro_expand::StripOptions;

use llama_pro_cli::{output, progress};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An expanded model folder.
    dir: PathBuf,
    /// The new folder without the new blocks.
    out: PathBuf,
    /// Take out the blocks of every expansion, not only of the last.
    #[arg(long)]
    all: bool,
    /// Go on although old tensors are no longer what they were.
    #[arg(long)]
    allow_altered: bool,
    /// Replace OUT if it exists.
    #[arg(long)]
    force: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let bar = progress::bytes("stripping");
    let show = |done: u64, all: u64| progress::advance(&bar, done, all);
    let stripped = llama_pro_expand::strip(
        &args.dir,
        &args.out,
        &StripOptions {
            force: args.force,
            all: args.all,
            allow_altered: args.allow_altered,
            cancel: Some(progress::interrupted()?),
            progress: Some(&show),
            ..StripOptions::default()
        },
    );
    bar.finish_and_clear();
    let stripped = stripped?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&stripped)?);
        return Ok(());
    }
    println!(
        "took out blocks {:?}: {} blocks remain, {} in {}",
        stripped.removed,
        stripped.layers,
        output::bytes(stripped.bytes),
        output::seconds(stripped.seconds)
    );
    match stripped.identical {
        true => println!("every tensor and the configuration are those of the model that was expanded"),
        false => {
            println!("the old tensors or the configuration are NOT those of the model that was expanded")
        }
    }
    Ok(())
}
