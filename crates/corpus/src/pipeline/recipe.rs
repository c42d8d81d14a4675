//! The recipe of `prepare`, as TOML has it: sources with their filters, deduplication, decontamination, output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::decontaminate::Decontaminate;
use crate::dedup::{Dedup, LineDedup};
use crate::document::OnError;
use crate::error::{Error, Result};
use crate::filter::{Filters, Toggle};
use crate::source::SourceKind;
use llama_pro_text::FimOptions;

/// Everything that decides the bytes of a prepared corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CorpusRecipe {
    /// The folder that is written: shards, shards.json, report.json, report.html, and `work/` for a later run.
    pub out: PathBuf,
    /// A model folder, a tokenizer.json, or "embedded": that of the tiny base inside the program.
    pub tokenizer: String,
    /// What an input that cannot be read does: "stop" or "skip"; stop.
    #[serde(default)]
    pub on_error: OnError,
    /// Input files are read in parts of about so many bytes; a killed run loses at most the parts in progress.
    /// 64 MiB.
    #[serde(default = "default_part_bytes")]
    pub part_bytes: u64,
    /// Larger documents are dropped and counted, whatever the source. Bytes; 16 MiB.
    #[serde(default = "default_max_document_bytes")]
    pub max_document_bytes: u64,
    /// Whether `work/` stays after success, so that a changed recipe redoes only what it must; yes.
    #[serde(default = "yes")]
    pub keep_work: bool,
    /// How documents are divided and marked.
    #[serde(default)]
    pub split: SplitOptions,
    /// Which documents are the same.
    #[serde(default)]
    pub dedup: Dedup,
    /// Which benchmarks must not be in the corpus. Left out: none is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<Decontaminate>,
    /// Fill-in-the-middle: training documents turned so that a model learns to write what stands between two given
    /// parts. Held-out documents stay as they are. Left out: none is turned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fim: Option<FimOptions>,
    /// The run that the corpus is for; only the report's epochs depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Where documents come from, in order of precedence: of duplicates, the first is kept.
    pub sources: Vec<CorpusSource>,
}

/// One domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CorpusSource {
    /// Name in tables and file names.
    pub name: String,
    /// Share of the training rows, relative to the other sources; 1. For the report, and for whoever trains.
    #[serde(default = "one")]
    pub weight: f64,
    /// Training tokens are taken until there are so many: whole documents, a fair sample by their hash, so that the last
    /// one ends at this number or behind it. No limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Whether near duplicates are looked for among its documents; yes. Texts made from templates are all alike.
    #[serde(default = "yes")]
    pub near_dedup: bool,
    /// Lines that stand in many of its documents are taken out: `true`, or a table of what is many. Off.
    #[serde(default, skip_serializing_if = "Toggle::is_off")]
    pub line_dedup: Toggle<LineDedup>,
    /// Whether `[fim]` turns its documents; yes.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fim: bool,
    /// Rules that its documents must pass. None by default.
    #[serde(default)]
    pub filters: Filters,
    /// Where its documents come from.
    pub source: SourceKind,
}

/// How documents are divided and marked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SplitOptions {
    /// The share of documents, by hash, that is held out, from 0 up to but not including 1; 0.05.
    pub validation: f64,
    /// Decides which documents are held out and sampled; 0.
    pub seed: u64,
    /// BOS before each document. Default: if the tokenizer has one; true requires it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<bool>,
    /// EOS after each document. Default: if the tokenizer has one; true requires it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<bool>,
}

/// A training run, for the estimate of epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows per step.
    pub rows_per_step: u64,
    /// Tokens per row.
    pub sequence_length: u64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { validation: 0.05, seed: 0, bos: None, eos: None }
    }
}

const fn default_part_bytes() -> u64 {
    64 << 20
}

const fn default_max_document_bytes() -> u64 {
    16 << 20
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

const fn one() -> f64 {
    1.0
}

impl Training {
    /// Tokens that the run reads.
    pub fn tokens(&self) -> u64 {
        self.steps.saturating_mul(self.rows_per_step).saturating_mul(self.sequence_length)
    }
}

impl CorpusRecipe {
    /// Refuses what cannot be, before any file is looked at.
    ///
    /// # Errors
    /// Names the key, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        let refuse = |key, message| Err(Error::Setting { key, message });
        if self.out.as_os_str().is_empty() {
            return refuse("out", "expected a folder, found nothing".to_owned());
        }
        if !(0.0..1.0).contains(&self.split.validation) {
            let found = self.split.validation;
            return refuse("split.validation", format!("expected at least 0 and less than 1, found {found}"));
        }
        // The work folder stores the length of a document in 32 bits.
        for (key, value, most) in
            [("part-bytes", self.part_bytes, 40), ("max-document-bytes", self.max_document_bytes, 32)]
        {
            if !(1..1 << most).contains(&value) {
                return refuse(key, format!("expected 1 to 2^{most} - 1 bytes, found {value}"));
            }
        }
        if self.sources.is_empty() {
            return refuse("sources", "expected at least one [[sources]]".to_owned());
        }
        self.dedup.check()?;
        if let Some(decontaminate) = &self.decontaminate {
            decontaminate.check()?;
        }
        for (i, source) in self.sources.iter().enumerate() {
            crate::prepare::check_name(&source.name)?;
            if self.sources[..i].iter().any(|other| other.name == source.name) {
                return refuse("name", format!("`{}` is used twice; each source needs its own", source.name));
            }
            if !(source.weight.is_finite() && source.weight >= 0.0) {
                let (name, found) = (&source.name, source.weight);
                return refuse("weight", format!("expected 0 or more in source {name}, found {found}"));
            }
            if source.max_tokens == Some(0) {
                let message = format!("expected at least 1 in source {}, found 0", source.name);
                return refuse("max-tokens", message);
            }
            source.source.check()?;
            source.filters.check()?;
            source.line_dedup.get().map_or(Ok(()), LineDedup::check)?;
        }
        Ok(())
    }
}
