//! Sources to token shards, shards to rows, and the order in which training reads them.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use llama_pro_checkpoint::Checkpoint;
use llama_pro_cli::sources::environment;
use llama_pro_shards::Sampler;
use llama_pro_text::Tokenizer;

use crate::job::shards::{HeldOut, Maker, Settings};
use crate::recipe::Recipe;

/// What a run reads.
pub(super) struct Data {
    /// (seed, step) to training rows.
    pub(super) sampler: Arc<Sampler>,
    /// Index of the source that keeps the old ability, if there is one.
    pub(super) keep_sources: Vec<usize>,
    /// Held-out rows, the text to keep first.
    pub(super) held_out: Vec<HeldOut>,
}

/// Prepares every source (once: shards are found again by the digest of what they were made of) and opens it.
pub(super) fn prepare(recipe: &Recipe, checkpoint: &Checkpoint, cache: &Path) -> Result<Data> {
    let tokenizer = Tokenizer::from_dir(checkpoint.dir())?;
    let vocabulary = checkpoint.config().llama()?.vocab_size;
    let environment = environment(recipe.folder());
    let settings = Settings {
        length: recipe.data.sequence_length,
        split_seed: recipe.data.split_seed,
        packing: recipe.data.packing,
        mask_documents: recipe.data.mask_documents,
        bos: recipe.data.bos,
        eos: recipe.data.eos,
    };
    let maker = Maker { tokenizer: &tokenizer, environment: &environment, cache, vocabulary, settings };
    let mut sources = Vec::new();
    let mut held_out = Vec::new();
    let mut keep_sources = Vec::new();
    let kept_share = recipe.keep.as_ref().map_or(0.0, |k| k.share);
    if let Some(keep) = &recipe.keep {
        let share = keep.validation.unwrap_or(recipe.data.validation);
        let prepared = maker.prepare(&keep.name, &keep.source, share, None)?;
        keep_sources.push(0);
        sources.push((keep.name.clone(), maker.rows(&prepared.train)?, keep.share));
        held_out.extend(maker.held_out(&keep.name, prepared.validation.as_deref())?);
    }
    let sum: f64 = recipe.data.sources.iter().map(|s| s.weight).sum();
    for source in &recipe.data.sources {
        let prepared =
            maker.prepare(&source.name, &source.source, recipe.data.validation, source.max_tokens)?;
        let weight = source.weight / sum * (1.0 - kept_share);
        sources.push((source.name.clone(), maker.rows(&prepared.train)?, weight));
        held_out.extend(maker.held_out(&source.name, prepared.validation.as_deref())?);
    }
    for set in &recipe.eval.sets {
        let prepared = maker.prepare(&set.name, &set.source, 0.0, None)?;
        held_out.extend(maker.held_out(&set.name, Some(&prepared.train))?);
    }
    let sampler = Arc::new(Sampler::new(sources, recipe.seed)?);
    let data = Data { sampler, keep_sources, held_out };
    super::announce(recipe, &data);
    Ok(data)
}

impl Data {
    /// What training reads, by name: the digest of all of it, and of each text, so that a difference can be named.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let texts = self.sampler.names().iter().zip(self.sampler.rows());
        let each =
            texts.map(|(name, rows)| (format!("data {name}"), rows.shard().content_digest().to_owned()));
        std::iter::once(("data".to_owned(), self.sampler.fingerprint())).chain(each)
    }

    /// A digest over every text that is scored and over how many rows of it are.
    pub(super) fn held_out_digest(&self, recipe: &Recipe) -> String {
        let mut text = format!("{} rows of {}", recipe.eval.rows, recipe.data.sequence_length);
        for set in &self.held_out {
            text.push_str(&format!(", {} {}", set.name, set.digest()));
        }
        llama_pro_checkpoint::digest(text.as_bytes())
    }

    /// The mixture in words.
    pub(super) fn describe(&self) -> String {
        let parts = self.sampler.names().iter().zip(self.sampler.mixture().quotas());
        let all = self.sampler.mixture().period() as f64;
        let parts: Vec<String> =
            parts.map(|(name, &quota)| format!("{:.1} % {name}", 100.0 * quota as f64 / all)).collect();
        parts.join(", ")
    }
}
