//! `verify DIR`: its arguments, the structural proof from the bytes, and how both are shown. Running the models for
//! `--logits` is the other program's part.

use std::path::PathBuf;

use anyhow::Result;
use llama_pro_expand::Verification;
use serde::Serialize;

use crate::exit::Failed;
use crate::output;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// An expanded model folder.
    pub dir: PathBuf,
    /// The base it was grown from, to compare with byte for byte.
    #[arg(long)]
    pub base: Option<PathBuf>,
    /// Run both models on the CPU and compare every logit with ==. Without --base, the base is the folder itself with
    /// its new blocks skipped.
    #[arg(long)]
    pub logits: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What running both models side by side found.
#[derive(Serialize)]
pub struct LogitCheck {
    /// Logits compared.
    pub compared: u64,
    /// Of these, how many differ.
    pub different: u64,
    /// Dtype that was computed in.
    pub dtype: String,
    /// "grown": the whole model against the base; "skipped": the new blocks skipped, since they are trained.
    pub path: &'static str,
}

/// The structural proof.
///
/// # Errors
/// A folder that cannot be read or disagrees with its record; wrong bytes are failures in the result.
pub fn prove(args: &Args) -> Result<Verification> {
    Ok(llama_pro_expand::verify(&args.dir, args.base.as_deref())?)
}

/// Prints what was found.
///
/// # Errors
/// [`Failed`] when any check failed.
pub fn show(args: &Args, proof: &Verification, logits: Option<&LogitCheck>) -> Result<()> {
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
        if let Some(l) = logits {
            let mark = if l.different == 0 { "ok  " } else { "FAIL" };
            println!(
                "{mark} logits         {:>6} compared with == in {} ({} path)",
                l.compared, l.dtype, l.path
            );
        }
        println!(
            "{} tensors, {} read in {}",
            proof.tensors,
            output::bytes(proof.bytes),
            output::seconds(proof.seconds)
        );
    }
    let failures = proof.failures().count();
    if failures > 0 {
        return Err(Failed(format!("{}: {failures} check(s) failed", args.dir.display())).into());
    }
    if let Some(l) = logits.filter(|l| l.different > 0) {
        let line =
            format!("{}: {} of {} logits differ from the base", args.dir.display(), l.different, l.compared);
        return Err(Failed(line).into());
    }
    Ok(())
}
