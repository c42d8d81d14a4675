//! What is scored before, during and after: held-out conversations, and texts that should not be forgotten.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use llama_pro_cli::sources::environment;
use llama_pro_corpus::{Environment, documents, is_validation};
use llama_pro_eval::{EvalTable, TokenRow, perplexity};
use llama_pro_model::{Llama, Path as Blocks, Scorer};
use llama_pro_shards::{Packing, Sampler};
use llama_pro_text::Tokenizer;

use super::data::Data;
use super::recipe::Recipe;
use crate::job::shards::{HeldOut, Maker, Settings};
use crate::recipe::KeepText;

/// The name of the held-out conversations in tables.
pub(super) const CONVERSATIONS: &str = "conversations";

/// Share of the text to keep that is held out where the recipe does not say.
const KEPT_VALIDATION: f64 = 0.05;

/// A text in rows.
pub(super) struct Scored {
    pub(super) name: String,
    pub(super) rows: Vec<TokenRow>,
}

/// The text that keeps the old ability.
pub(super) struct Kept {
    /// What comes beside the conversations.
    pub(super) sampler: Arc<Sampler>,
    /// What is only scored.
    pub(super) held_out: HeldOut,
}

/// Texts beside the conversations.
pub(super) struct Texts {
    pub(super) kept: Option<Kept>,
    /// Rows of everything that is scored, held-out conversations first.
    pub(super) scored: Vec<Scored>,
}

/// Reads the text to keep and everything that is scored.
pub(super) fn prepare(
    recipe: &Recipe,
    model: &Path,
    vocabulary: usize,
    data: &Data,
    cache: &Path,
) -> Result<Texts> {
    let mut all = Vec::new();
    if !data.held_out.is_empty() {
        all.push(Scored { name: CONVERSATIONS.to_owned(), rows: data.held_out.clone() });
    }
    if recipe.eval.texts.is_empty() && recipe.keep.is_none() {
        return Ok(Texts { kept: None, scored: all });
    }
    let tokenizer = Tokenizer::from_dir(model)?;
    let environment = environment(recipe.folder());
    let keep = |keep| kept(recipe, keep, &tokenizer, vocabulary, &environment, cache);
    let kept = recipe.keep.as_ref().map(keep).transpose()?;
    if let Some(Kept { held_out, .. }) = &kept {
        let rows = held_out.rows(recipe.eval.rows).collect();
        all.push(Scored { name: held_out.name.clone(), rows });
    }
    for text in &recipe.eval.texts {
        let rows = rows(recipe, &tokenizer, documents(&text.source, &environment)?)?;
        ensure!(!rows.is_empty(), "eval.texts.{}: no document to score", text.name);
        all.push(Scored { name: text.name.clone(), rows });
    }
    Ok(Texts { kept, scored: all })
}

/// Rows of the text to keep, as pretraining reads them.
fn kept(
    recipe: &Recipe,
    keep: &KeepText,
    tokenizer: &Tokenizer,
    vocabulary: usize,
    environment: &Environment,
    cache: &Path,
) -> Result<Kept> {
    let settings = Settings {
        length: recipe.data.sequence_length,
        split_seed: recipe.eval.split_seed,
        packing: Packing::default(),
        mask_documents: true,
        bos: None,
        eos: None,
    };
    let maker = Maker { tokenizer, environment, cache, vocabulary, settings };
    let share = keep.validation.unwrap_or(KEPT_VALIDATION);
    let prepared = maker.prepare(&keep.name, &keep.source, share, None)?;
    let Some(held_out) = maker.held_out(&keep.name, prepared.validation.as_deref())? else {
        anyhow::bail!("keep.validation = {share}: no document of {} is held out", keep.name)
    };
    let rows = maker.rows(&prepared.train)?;
    let sampler = Sampler::new(vec![(keep.name.clone(), rows, 1.0)], recipe.seed)?;
    Ok(Kept { sampler: Arc::new(sampler), held_out })
}

/// The beginnings of documents, a row each, until there are enough.
fn rows(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    documents: impl Iterator<Item = llama_pro_corpus::Result<llama_pro_corpus::Document>>,
) -> Result<Vec<TokenRow>> {
    let mut rows = Vec::new();
    for document in documents {
        let text = document?.text;
        if !is_validation(&text, recipe.eval.share, recipe.eval.split_seed) {
            continue;
        }
        let mut ids: Vec<i64> = tokenizer.bos().into_iter().map(i64::from).collect();
        ids.extend(tokenizer.encode(&text)?.into_iter().map(i64::from));
        ids.truncate(recipe.data.sequence_length + 1);
        if ids.len() > 1 {
            rows.push(TokenRow::document(&ids));
        }
        if rows.len() == recipe.eval.rows {
            break;
        }
    }
    Ok(rows)
}

/// Perplexities. Rows are left out once `stop` is raised.
pub(super) fn score(
    model: &Llama,
    texts: &[Scored],
    recipe: &Recipe,
    name: &str,
    stop: &AtomicBool,
) -> Result<EvalTable, llama_pro_eval::Error> {
    let mut table = EvalTable::new(name);
    for text in texts {
        let mut scorer = Scorer::new(model, Blocks::Grown);
        let rows = text.rows.iter().cloned().take_while(|_| !stop.load(Ordering::Relaxed));
        let score = perplexity(&mut scorer, rows, recipe.eval.batch_rows)?;
        table.push(&text.name, score);
    }
    Ok(table)
}
