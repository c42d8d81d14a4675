//! What is scored before, during and after: held-out conversations, and texts that should not be forgotten.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use llama_pro_corpus::{Environment, documents, is_validation};
use llama_pro_eval::{EvalTable, TokenRow, perplexity};
use llama_pro_model::{Llama, Path as Blocks, Scorer};
use llama_pro_text::Tokenizer;

use super::data::Data;
use super::recipe::Recipe;

/// The name of the held-out conversations in tables.
pub(super) const CONVERSATIONS: &str = "conversations";

/// The pinned dependencies of this program: the texts of the miniature come from them.
const LOCKFILE: &str = include_str!("../../../../Cargo.lock");

/// A text in rows.
pub(super) struct Scored {
    pub(super) name: String,
    pub(super) rows: Vec<TokenRow>,
}

/// Rows of everything that is scored.
pub(super) fn prepare(recipe: &Recipe, model: &Path, data: &Data, cache: &Path) -> Result<Vec<Scored>> {
    let mut all = Vec::new();
    if !data.held_out.is_empty() {
        all.push(Scored { name: CONVERSATIONS.to_owned(), rows: data.held_out.clone() });
    }
    if recipe.eval.texts.is_empty() {
        return Ok(all);
    }
    let tokenizer = Tokenizer::from_dir(model)?;
    let environment = environment(recipe, cache)?;
    for text in &recipe.eval.texts {
        let rows = rows(recipe, &tokenizer, documents(&text.source, &environment)?)?;
        ensure!(!rows.is_empty(), "eval.texts.{}: no document to score", text.name);
        all.push(Scored { name: text.name.clone(), rows });
    }
    Ok(all)
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

/// Perplexities.
pub(super) fn score(
    model: &Llama,
    texts: &[Scored],
    recipe: &Recipe,
    name: &str,
) -> Result<EvalTable, llama_pro_eval::Error> {
    let mut table = EvalTable::new(name);
    for text in texts {
        let mut scorer = Scorer::new(model, Blocks::Grown);
        let score = perplexity(&mut scorer, text.rows.iter().cloned(), recipe.eval.batch_rows)?;
        table.push(&text.name, score);
    }
    Ok(table)
}

fn environment(recipe: &Recipe, cache: &Path) -> Result<Environment> {
    std::fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
    let lockfile = cache.join("Cargo.lock");
    if std::fs::read(&lockfile).ok().as_deref() != Some(LOCKFILE.as_bytes()) {
        llama_pro_run::write_atomic(&lockfile, LOCKFILE.as_bytes())?;
    }
    let home = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| home("HOME").map(|h| h.join(".cargo")));
    Ok(Environment { base_dir: recipe.folder(), cargo_home, lockfile: Some(lockfile), vendor: None })
}
