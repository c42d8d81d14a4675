//! The model that a run starts from: a folder, the embedded one, or a new one; and the same with new blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_cli::output;
use llama_pro_cli::sources::environment;
use llama_pro_corpus::{Environment, SourceKind, documents};
use llama_pro_expand::{ExpandOptions, Expansion, model_digest};
use llama_pro_run::RunFolder;

use crate::recipe::{EMBEDDED, Recipe};
use crate::scratch::Scratch;

/// The tiny base inside the program: see data/base-tiny.
const TINY: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../../../data/base-tiny/config.json")),
    ("model.safetensors", include_bytes!("../../../../data/base-tiny/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../../data/base-tiny/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../../data/base-tiny/tokenizer_config.json")),
];

/// The folder of the base model, made in the run folder where it does not exist yet.
pub(super) fn folder(recipe: &Recipe, run: &RunFolder) -> Result<PathBuf> {
    let inside = run.dir().join("base");
    match (&recipe.base.model, &recipe.base.scratch) {
        (Some(name), _) if name == EMBEDDED => {
            if !inside.exists() {
                unpack(&inside)?;
            }
            Ok(inside)
        }
        (Some(path), _) => Ok(recipe.resolve(path)),
        (None, Some(scratch)) => {
            if !inside.exists() {
                make(scratch, recipe, &environment(recipe.folder()), &inside)?;
            }
            Ok(inside)
        }
        (None, None) => bail!("[base]: expected one of `model` and `scratch`"),
    }
}

/// The folder that is trained: the base itself, or the base with new blocks in the run folder.
pub(super) fn expanded(
    recipe: &Recipe,
    run: &RunFolder,
    base: &Path,
    stop: &Arc<AtomicBool>,
) -> Result<PathBuf> {
    let Some(expand) = &recipe.expand else { return Ok(base.to_owned()) };
    if Expansion::read(base)?.is_some() {
        tracing::info!("{} is expanded already: [expand] of the recipe is left alone", base.display());
        return Ok(base.to_owned());
    }
    let out = run.dir().join("expanded");
    if let Some(record) = Expansion::read(&out)? {
        ensure!(
            record.base_digest() == model_digest(&Checkpoint::open(base)?)?,
            "{}: was grown from another model than {} is now",
            out.display(),
            base.display()
        );
    } else {
        let options = ExpandOptions { cancel: Some(Arc::clone(stop)), ..ExpandOptions::default() };
        let report = llama_pro_expand::expand(base, &out, &expand.placement()?, &options)?;
        let blocks = (report.plan.base_layers(), report.plan.layers().len());
        let (new, size) = (report.plan.new_blocks(), output::bytes(report.bytes));
        tracing::info!("expanded from {} to {} blocks, new: {new:?}, {size}", blocks.0, blocks.1);
    }
    Ok(out)
}

fn unpack(out: &Path) -> Result<()> {
    let partial = out.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?;
    }
    std::fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
    for (name, bytes) in TINY {
        llama_pro_run::write_atomic(&partial.join(name), bytes)?;
    }
    std::fs::rename(&partial, out).with_context(|| out.display().to_string())
}

/// A model from scratch. Its tokenizer is trained on every document of the sources, the held-out ones included: it
/// counts pairs of characters and learns nothing else from them.
fn make(scratch: &Scratch, recipe: &Recipe, environment: &Environment, out: &Path) -> Result<()> {
    let mut texts = Vec::new();
    for source in &recipe.data.sources {
        texts.extend(read_all(&source.source, environment)?);
    }
    tracing::info!("training a tokenizer of {} tokens on {} documents", scratch.vocab_size, texts.len());
    let tokenizer = llama_pro_text::train_byte_bpe(texts.into_iter(), scratch.vocab_size)?;
    scratch.write(out, &tokenizer, recipe.seed)
}

fn read_all(source: &SourceKind, environment: &Environment) -> Result<Vec<String>> {
    documents(source, environment)?.map(|d| Ok(d?.text)).collect()
}
