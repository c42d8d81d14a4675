//! Perplexities of the held-out texts.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use llama_pro_eval::{EvalTable, perplexity};
use llama_pro_model::{Llama, Path, Scorer};
use llama_pro_train::{Forgetting, MicroBatch, Trainer};

use super::data::Data;
use crate::recipe::Recipe;
use llama_pro_cli::progress;

/// Scores every held-out text on one path of the model.
pub(super) fn score(
    model: &Llama,
    path: Path,
    data: &Data,
    recipe: &Recipe,
    name: &str,
) -> Result<EvalTable> {
    let mut table = EvalTable::new(name);
    let bar = progress::steps(data.held_out.len() as u64);
    for set in &data.held_out {
        bar.set_message(format!("scoring {}", set.name));
        let mut scorer = Scorer::new(model, path);
        let score = perplexity(&mut scorer, set.rows(recipe.eval.rows), recipe.eval.batch_rows)?;
        tracing::debug!("{name} {}: {:.4} nats per token", set.name, score.nats_per_token);
        table.push(&set.name, score);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(table)
}

/// Nats per token of each held-out text, on few rows: a look during the run. Rows are left out once `stop` is raised.
pub(super) fn glance(
    model: &Llama,
    data: &Data,
    recipe: &Recipe,
    stop: &AtomicBool,
) -> llama_pro_train::Result<Vec<(String, f64)>> {
    let score = |set: &crate::job::shards::HeldOut| {
        let mut scorer = Scorer::new(model, Path::Grown);
        let rows = set.rows(recipe.eval.validation_rows).take_while(|_| !stop.load(Ordering::Relaxed));
        Ok((set.name.clone(), perplexity(&mut scorer, rows, recipe.eval.batch_rows)?.nats_per_token))
    };
    data.held_out.iter().map(score).collect()
}

/// How far the model is from its base on the general texts: the one to keep, and those that are only scored. Rows are left
/// out once `stop` is raised.
pub(super) fn forgetting(
    trainer: &Trainer,
    data: &Data,
    recipe: &Recipe,
    stop: &AtomicBool,
) -> llama_pro_train::Result<Vec<(String, Forgetting)>> {
    let learned = |name: &str| recipe.data.sources.iter().any(|s| s.name == name);
    let device = trainer.model().device();
    let mut all = Vec::new();
    for set in data.held_out.iter().filter(|set| !learned(&set.name)) {
        let rows = set.packed(recipe.eval.validation_rows).take_while(|_| !stop.load(Ordering::Relaxed));
        let moved = trainer.forgetting(rows.map(|row| MicroBatch::new(&[(row, false)], device)))?;
        all.extend(moved.map(|moved| (set.name.clone(), moved)));
    }
    Ok(all)
}
