//! `verify --logits`: both models run side by side, every logit compared with ==.

use std::path::Path;

use anyhow::{Result, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_cli::verify::{Args, LogitCheck, prove, show};
use llama_pro_expand::Expansion;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks};
use tch::{Kind, Tensor};

pub(crate) fn run(args: &Args) -> Result<()> {
    let proof = prove(args)?;
    // A folder whose bytes are wrong has nothing more to prove.
    let logits = if proof.is_ok() { Some(compare_logits(&args.dir, args.base.as_deref())?) } else { None };
    show(args, &proof, logits.as_ref())
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
