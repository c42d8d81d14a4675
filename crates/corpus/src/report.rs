//! What `prepare` says it did: report.json, and the same as a page.

mod html;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dedup::lines::Stripped;
use crate::document::Counts;
use crate::error::{Error, Result};
use crate::filter::PiiCounts;
use crate::pipeline::{Contamination, Example};

/// The whole account. No time and no path of the machine is in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CorpusReport {
    /// Hash over inputs, recipe and tokenizer.
    pub fingerprint: String,
    /// One entry per source, in the order of the recipe.
    pub sources: Vec<SourceReport>,
    /// Duplicates over all sources.
    pub duplicates: Duplicates,
    /// Documents that hold a piece of a benchmark.
    pub contaminated: u64,
    /// The first of them, with what was found.
    pub contaminations: Vec<Contamination>,
    /// Tokens that the recipe's training run reads.
    pub training_tokens: Option<u64>,
}

/// One source.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name in the recipe.
    pub name: String,
    /// Files that were looked at.
    pub files: u64,
    /// Their bytes on disk, without those that were not opened.
    pub input_bytes: u64,
    /// Bytes of text after the filters and before duplicates went.
    pub text_bytes: u64,
    /// In = kept + dropped + failed.
    pub documents: Counts,
    /// Every rule that took a document, with examples.
    pub rules: Vec<RuleReport>,
    /// What was replaced.
    pub pii: PiiCounts,
    /// Repeated lines that were taken out, where the recipe looks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<LineReport>,
    /// Documents that fill-in-the-middle turned, where the recipe has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fim: Option<FimReport>,
    /// What is trained on.
    pub train: SideReport,
    /// What is held out.
    pub validation: Option<SideReport>,
    /// Of the training side.
    pub bytes_per_token: f64,
    /// Its share of the rows, relative to the others.
    pub weight: f64,
    /// How often the recipe's training run reads it.
    pub epochs: Option<f64>,
}

/// One rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RuleReport {
    /// Its name.
    pub rule: String,
    /// Documents that it took.
    pub documents: u64,
    /// Whether they could not be read, as opposed to left out on purpose.
    pub failed: bool,
    /// The first ones. Those of duplicates are with the duplicates.
    pub examples: Vec<Example>,
}

/// Lines that were taken out because they stand in many documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReport {
    /// Lines, each time one was taken out.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents of which nothing was left; they are among the dropped.
    pub emptied: u64,
    /// Three of the lines.
    pub examples: Vec<String>,
}

impl LineReport {
    /// Adds what was taken out of a document.
    pub(crate) fn add(&mut self, stripped: Stripped) {
        self.lines += stripped.lines;
        self.bytes += stripped.bytes;
        self.show(stripped.example);
    }

    /// Adds those of a part.
    pub(crate) fn join(&mut self, other: &Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.emptied += other.emptied;
        self.show(other.examples.iter().cloned());
    }

    fn show(&mut self, examples: impl IntoIterator<Item = String>) {
        for example in examples {
            let example: String = example.chars().take(200).collect();
            if self.examples.len() < 3 && !self.examples.contains(&example) {
                self.examples.push(example);
            }
        }
    }
}

/// Documents that fill-in-the-middle turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FimReport {
    /// Prefix, suffix, middle.
    pub psm: u64,
    /// Suffix, then prefix and middle as one.
    pub spm: u64,
}

/// One side of the split.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SideReport {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, BOS and EOS included.
    pub tokens: u64,
}

/// Duplicates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Duplicates {
    /// Documents whose text came before.
    pub exact: u64,
    /// Documents that are nearly one that came before.
    pub near: u64,
    /// Clusters by size.
    pub clusters: Vec<ClusterSize>,
    /// The first ones of both kinds.
    pub examples: Vec<DuplicateExample>,
}

/// How many clusters have so many documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSize {
    /// Documents of a cluster.
    pub documents: u64,
    /// Clusters of this size.
    pub clusters: u64,
}

/// A document that was dropped and the one that stands for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DuplicateExample {
    /// Id of the one that was dropped.
    pub dropped: String,
    /// Id of the one that was kept, the first of the cluster.
    pub kept: String,
    /// Near, as opposed to equal.
    pub near: bool,
    /// How the one begins.
    pub dropped_excerpt: String,
    /// How the other begins.
    pub kept_excerpt: String,
}

impl CorpusReport {
    /// Writes `report.json` and `report.html`.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Json { what: "the report", source })?;
        json.push(b'\n');
        llama_pro_run::write_atomic(&out.join("report.json"), &json)?;
        llama_pro_run::write_atomic(&out.join("report.html"), html::page(self).as_bytes())?;
        Ok(())
    }

    /// Documents that came in over all sources, and kept, dropped and failed.
    pub fn totals(&self) -> (u64, u64, u64, u64) {
        let sum = |f: &dyn Fn(&Counts) -> u64| self.sources.iter().map(|source| f(&source.documents)).sum();
        (
            sum(&|counts| counts.seen),
            sum(&|counts| counts.kept),
            sum(&|counts| counts.dropped.values().sum()),
            sum(&|counts| counts.failed.values().sum()),
        )
    }
}
