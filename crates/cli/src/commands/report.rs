//! `report RUN…`: one self-contained HTML page.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use llama_pro_run::report::RunData;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run folders; several are laid over each other.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where to write the page [default: report.html in the first run folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for run in &args.runs {
        ensure!(run.is_dir(), "{}: no such run folder", run.display());
    }
    let runs = args.runs.iter().map(|r| Ok(RunData::read(r)?)).collect::<Result<Vec<_>>>()?;
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join("report.html"));
    llama_pro_run::write_atomic(&out, llama_pro_run::report::html(&runs).as_bytes())?;
    println!("{}", out.display());
    Ok(())
}
