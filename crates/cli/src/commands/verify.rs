//! `verify DIR`: the structural proof from the bytes and, with `--logits`, both models side by side.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::Expansion;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks};
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::exit::Failed;
use crate::output;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// An expanded model folder.
    dir: PathBuf,
    /// The base it was grown from, to compare with byte for byte.
    #[arg(long)]
    base: Option<PathBuf>,
    /// Run both models on the CPU and compare every logit with ==. Without --base, the base is the folder itself with
    /// its new blocks skipped.
    #[arg(long)]
    logits: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What the side-by-side run found.
#[derive(Serialize)]
struct LogitCheck {
    compared: u64,
    different: u64,
    dtype: String,
    /// "grown": the whole model against the base; "skipped": the new blocks skipped, since they are trained.
    path: &'static str,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let proof = llama_pro_expand::verify(&args.dir, args.base.as_deref())?;
    let logits = if args.logits { Some(compare_logits(&args.dir, args.base.as_deref())?) } else { None };
    if args.json {
        println!("{:#}", serde_json::json!({ "proof": proof, "logits": logits }));
    } else {
        for check in &proof.checks {
            let mark = if check.failures.is_empty() { "ok  " } else { "FAIL" };
            println!("{mark} {:<14} {:>6} checked  {}", check.name, check.checked, check.meaning);
        }
        for (check, failure) in proof.failures() {
            let place = failure.offset.map(|o| format!(" at byte {o}")).unwrap_or_default();
            println!("     {check}: {}{place}: {}", failure.what, failure.reason);
        }
        if let Some(l) = &logits {
            let mark = if l.different == 0 { "ok  " } else { "FAIL" };
            println!("{mark} logits         {:>6} compared with == in {} ({} path)", l.compared, l.dtype, l.path);
        }
        println!("{} tensors, {} read in {}", proof.tensors, output::bytes(proof.bytes), output::seconds(proof.seconds));
    }
    let failures = proof.failures().count();
    if failures > 0 {
        return Err(Failed(format!("{}: {failures} check(s) failed", args.dir.display())).into());
    }
    if let Some(l) = logits.filter(|l| l.different > 0) {
        let line = format!("{}: {} of {} logits differ from the base", args.dir.display(), l.different, l.compared);
        return Err(Failed(line).into());
    }
    Ok(())
}

fn compare_logits(dir: &Path, base: Option<&Path>) -> Result<LogitCheck> {
    let checkpoint = Checkpoint::open(dir)?;
    let record = Expansion::read(dir)?;
    let added = record.as_ref().map(Expansion::new_blocks).unwrap_or_default();
    let trained = record.as_ref().is_some_and(Expansion::is_trained);
    ensure!(
        base.is_some() || !trained,
        "{}: its new blocks are trained, so it computes something else than its base; give --base",
        dir.display()
    );
    let grown = Llama::load(&checkpoint, &LoadOptions { added, ..LoadOptions::default() })?;
    let base = base
        .map(|b| Ok::<_, anyhow::Error>(Llama::load(&Checkpoint::open(b)?, &LoadOptions::default())?))
        .transpose()?;
    let path = if trained { Blocks::Base } else { Blocks::Grown };
    let length = grown.config().max_position_embeddings.min(64) as i64;
    let vocabulary = grown.config().vocab_size as i64;
    // Every id of a small vocabulary, a stride through a large one: any tokens will do, these are the same each time.
    let ids: Vec<i64> = (0..4 * length).map(|i| i * 7919 % vocabulary).collect();
    let ids = Tensor::from_slice(&ids).view([4, length]);
    let inputs = Inputs::tokens(&ids);
    let a = grown.logits(&inputs, path)?;
    let b = match &base {
        Some(base) => base.logits(&inputs, Blocks::Grown)?,
        None => grown.logits(&inputs, Blocks::Base)?,
    };
    ensure!(a.size() == b.size(), "{} and its base have vocabularies of different size", dir.display());
    Ok(LogitCheck {
        compared: a.numel() as u64,
        different: a.not_equal_tensor(&b).sum(Kind::Int64).int64_value(&[]) as u64,
        dtype: format!("{:?}", llama_pro_model::dtype_of(grown.kind())?),
        path: if trained { "skipped" } else { "grown" },
    })
}
