//! Sources to token shards, shards to rows, and the order in which training reads them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_corpus::{Environment, PrepareOptions, Prepared, SourceKind};
use llama_pro_eval::TokenRow;
use llama_pro_shards::{PackedRows, Row, Sampler, TokenShard};
use llama_pro_text::Tokenizer;

use crate::recipe::Recipe;
use llama_pro_cli::output;

/// The pinned dependencies of this program: the texts of the miniature come from them.
const LOCKFILE: &str = include_str!("../../../../Cargo.lock");

/// What a run reads.
pub(super) struct Data {
    /// (seed, step) to training rows.
    pub(super) sampler: Sampler,
    /// Index of the source that keeps the old ability, if there is one.
    pub(super) keep_sources: Vec<usize>,
    /// Held-out rows, the text to keep first.
    pub(super) held_out: Vec<HeldOut>,
}

/// Rows that are only scored.
pub(super) struct HeldOut {
    pub(super) name: String,
    rows: PackedRows,
}

/// Prepares every source (once: shards are found again by the digest of what they were made of) and opens it.
pub(super) fn prepare(recipe: &Recipe, checkpoint: &Checkpoint, cache: &Path) -> Result<Data> {
    let tokenizer = Tokenizer::from_dir(checkpoint.dir())?;
    let vocabulary = checkpoint.config().llama()?.vocab_size;
    let environment = environment(recipe, cache)?;
    let maker = Maker { recipe, tokenizer: &tokenizer, environment, cache, vocabulary };
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
    let data = Data { sampler: Sampler::new(sources, recipe.seed)?, keep_sources, held_out };
    super::announce(recipe, &data);
    Ok(data)
}

struct Maker<'a> {
    recipe: &'a Recipe,
    tokenizer: &'a Tokenizer,
    environment: Environment,
    cache: &'a Path,
    /// Of the model.
    vocabulary: usize,
}

impl Maker<'_> {
    fn prepare(
        &self,
        name: &str,
        source: &SourceKind,
        validation: f64,
        max_tokens: Option<u64>,
    ) -> Result<Prepared> {
        let options = PrepareOptions {
            validation,
            split_seed: self.recipe.data.split_seed,
            // Asked for and not there is an error of `prepare`; not asked for, it is whatever the tokenizer has.
            bos: self.recipe.data.bos.unwrap_or(self.tokenizer.bos().is_some()),
            eos: self.recipe.data.eos.unwrap_or(self.tokenizer.eos().is_some()),
            max_tokens,
            ..PrepareOptions::default()
        };
        // Two recipes that cut the same source differently must not undo each other's work.
        let key = serde_json::to_string(&(source, &options, self.tokenizer.digest()))?;
        let folder = format!("{name}-{}", &llama_pro_checkpoint::digest(key.as_bytes())[7..19]);
        let out = self.cache.join(folder);
        let prepared =
            llama_pro_corpus::prepare(name, source, &self.environment, self.tokenizer, &options, &out)?;
        let counts = &prepared.manifest.train;
        tracing::info!(
            "{name}: {} documents, {} tokens, {:.2} bytes per token{}",
            counts.documents,
            output::count(counts.tokens),
            counts.bytes_per_token,
            if prepared.reused { ", found prepared" } else { "" }
        );
        Ok(prepared)
    }

    fn rows(&self, prefix: &Path) -> Result<PackedRows> {
        let shard = TokenShard::open(prefix)?;
        shard.check_vocabulary(self.vocabulary)?;
        let rows = PackedRows::packed(shard, self.recipe.data.sequence_length, self.recipe.data.packing)?;
        Ok(rows.mask_documents(self.recipe.data.mask_documents))
    }

    fn held_out(&self, name: &str, prefix: Option<&Path>) -> Result<Option<HeldOut>> {
        let Some(prefix) = prefix else { return Ok(None) };
        let rows = self.rows(prefix)?;
        ensure!(
            rows.n_rows() > 0,
            "{name}: its held-out part is shorter than one row of {} tokens; raise data.validation or give more text",
            self.recipe.data.sequence_length
        );
        Ok(Some(HeldOut { name: name.to_owned(), rows }))
    }
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
            text.push_str(&format!(", {} {}", set.name, set.rows.shard().content_digest()));
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

impl HeldOut {
    /// At most `n` rows, evenly spread over the text.
    pub(super) fn rows(&self, n: usize) -> impl Iterator<Item = TokenRow> + '_ {
        self.packed(n).map(|Row { inputs, targets, segments, positions }| TokenRow {
            inputs,
            targets,
            segments,
            positions,
        })
    }

    /// The same as training reads them.
    pub(super) fn packed(&self, n: usize) -> impl Iterator<Item = Row> + '_ {
        let all = self.rows.n_rows();
        let n = n.min(all);
        (0..n).map(move |i| self.rows.row(i * all / n))
    }
}

/// Where sources are looked for. The lock file inside the program is written beside the cache for the readers.
pub(super) fn environment(recipe: &Recipe, cache: &Path) -> Result<Environment> {
    std::fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
    let lockfile = cache.join("Cargo.lock");
    if std::fs::read(&lockfile).ok().as_deref() != Some(LOCKFILE.as_bytes()) {
        llama_pro_run::write_atomic(&lockfile, LOCKFILE.as_bytes())?;
    }
    let home = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| home("HOME").map(|h| h.join(".cargo")));
    Ok(Environment { base_dir: recipe.folder(), cargo_home, lockfile: Some(lockfile), vendor: None })
}
