//! What can be refused before anything is written: a run that cannot work leaves no folder.

use anyhow::{Result, bail, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::{Expansion, plan};
use llama_pro_model::choose_device;
use llama_pro_text::Tokenizer;
use llama_pro_train::Parameters;

use crate::recipe::{EMBEDDED, Recipe};

/// Why `parameters = "added"` cannot be.
pub(super) const NOTHING_ADDED: &str = "train.parameters = \"added\", but the base has no new blocks: add [expand] to \
                                        the recipe, or set train.parameters = \"all\"";

/// Device, base, shapes, placement, tokenizer and freeze set against each other.
pub(super) fn check(recipe: &Recipe, control: bool) -> Result<()> {
    choose_device(&recipe.device)?;
    ensure!(
        !recipe.delta || recipe.train.parameters == Parameters::Added,
        "delta: new blocks alone are the model only where nothing else is trained; expected train.parameters = \"added\""
    );
    if let Some(benchmarks) = &recipe.benchmarks {
        benchmarks.check(&recipe.folder())?;
    }
    if recipe.base.scratch.is_some() {
        ensure!(
            recipe.train.parameters == Parameters::All,
            "train.parameters = \"added\": a model from random weights has nothing frozen to build on; expected \"all\""
        );
        return Ok(());
    }
    let expanded_before = match recipe.base.model.as_deref() {
        None | Some(EMBEDDED) => false,
        Some(path) => check_folder(recipe, &recipe.resolve(path))?,
    };
    ensure!(
        !(control && expanded_before),
        "--control full: {} is expanded already; the control starts from the unexpanded base, which `strip` gives",
        recipe.base.model.as_deref().unwrap_or_default()
    );
    if recipe.train.parameters == Parameters::Added && recipe.expand.is_none() && !expanded_before {
        bail!(NOTHING_ADDED);
    }
    Ok(())
}

/// Whether the base folder, which is sound, is expanded already.
fn check_folder(recipe: &Recipe, dir: &std::path::Path) -> Result<bool> {
    let checkpoint = Checkpoint::open(dir)?;
    let config = checkpoint.config().llama()?;
    checkpoint.check_parameters(&config)?;
    let length = recipe.data.sequence_length;
    let longest = config.max_position_embeddings;
    ensure!(
        length <= longest,
        "data.sequence-length = {length}: {} reads at most {longest} positions",
        dir.display()
    );
    let tokens = Tokenizer::from_dir(dir)?.vocab_size();
    ensure!(
        tokens <= config.vocab_size,
        "{}: its tokenizer has {tokens} tokens, the model only {}",
        dir.display(),
        config.vocab_size
    );
    let record = Expansion::read(dir)?;
    if let (Some(expand), None) = (&recipe.expand, &record) {
        plan(checkpoint.config(), &expand.placement()?)?;
    }
    Ok(record.is_some())
}
