//! Texts to token shards and to rows. Shards are made once and found again by the digest of what they were made of, so
//! all runs share one cache.

use std::path::Path;

use anyhow::{Result, ensure};
use llama_pro_cli::output;
use llama_pro_corpus::{Environment, PrepareOptions, Prepared, SourceKind};
use llama_pro_eval::TokenRow;
use llama_pro_shards::{PackedRows, Packing, Row, TokenShard};
use llama_pro_text::Tokenizer;

/// How texts become rows.
pub(crate) struct Maker<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) environment: &'a Environment,
    /// Where shards are kept.
    pub(crate) cache: &'a Path,
    /// Tokens of the model.
    pub(crate) vocabulary: usize,
    pub(crate) settings: Settings,
}

/// What a recipe says about all its texts.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// Tokens of a row.
    pub(crate) length: usize,
    /// Decides which documents are held out.
    pub(crate) split_seed: u64,
    pub(crate) packing: Packing,
    pub(crate) mask_documents: bool,
    /// Asked for and not there is an error; not asked for, it is whatever the tokenizer has.
    pub(crate) bos: Option<bool>,
    pub(crate) eos: Option<bool>,
}

/// Rows that are only scored.
pub(crate) struct HeldOut {
    pub(crate) name: String,
    rows: PackedRows,
}

impl Maker<'_> {
    /// Prepares a text, of which a share is held out.
    pub(crate) fn prepare(
        &self,
        name: &str,
        source: &SourceKind,
        validation: f64,
        max_tokens: Option<u64>,
    ) -> Result<Prepared> {
        let options = PrepareOptions {
            validation,
            split_seed: self.settings.split_seed,
            bos: self.settings.bos.unwrap_or(self.tokenizer.bos().is_some()),
            eos: self.settings.eos.unwrap_or(self.tokenizer.eos().is_some()),
            max_tokens,
            ..PrepareOptions::default()
        };
        // Two recipes that cut the same source differently must not undo each other's work.
        let key = serde_json::to_string(&(source, &options, self.tokenizer.digest()))?;
        let folder = format!("{name}-{}", &llama_pro_checkpoint::digest(key.as_bytes())[7..19]);
        let out = self.cache.join(folder);
        let prepared =
            llama_pro_corpus::prepare(name, source, self.environment, self.tokenizer, &options, &out)?;
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

    /// The rows of a shard.
    pub(crate) fn rows(&self, prefix: &Path) -> Result<PackedRows> {
        let shard = TokenShard::open(prefix)?;
        shard.check_vocabulary(self.vocabulary)?;
        let rows = PackedRows::packed(shard, self.settings.length, self.settings.packing)?;
        Ok(rows.mask_documents(self.settings.mask_documents))
    }

    /// The rows that are only scored, where a part was held out.
    pub(crate) fn held_out(&self, name: &str, prefix: Option<&Path>) -> Result<Option<HeldOut>> {
        let Some(prefix) = prefix else { return Ok(None) };
        let rows = self.rows(prefix)?;
        ensure!(
            rows.n_rows() > 0,
            "{name}: its held-out part is shorter than one row of {} tokens; raise its validation share or give more text",
            self.settings.length
        );
        Ok(Some(HeldOut { name: name.to_owned(), rows }))
    }
}

impl HeldOut {
    /// At most `n` rows, evenly spread over the text.
    pub(crate) fn rows(&self, n: usize) -> impl Iterator<Item = TokenRow> + '_ {
        self.packed(n).map(|Row { inputs, targets, segments, positions }| TokenRow {
            inputs,
            targets,
            segments,
            positions,
        })
    }

    /// The same as training reads them.
    pub(crate) fn packed(&self, n: usize) -> impl Iterator<Item = Row> + '_ {
        let all = self.rows.n_rows();
        let n = n.min(all);
        (0..n).map(move |i| self.rows.row(i * all / n))
    }

    /// A digest of the text.
    pub(crate) fn digest(&self) -> String {
        self.rows.shard().content_digest()
    }
}
