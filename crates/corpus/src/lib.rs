//! Code and math documents: read, split and turned into token shards.
//!
//! A source ([`SourceKind`]) says where documents come from. [`documents`] reads it as a stream of clean,
//! distinct [`Document`]s with every loss counted; [`prepare`] divides them into training and validation by
//! their own hash, tokenises them and writes two Megatron shards with a manifest, once.
//!
//! [`prepare_corpus`] is the whole pipeline for corpora of any size: filters, near-duplicates, benchmarks, out of
//! core and resumable, with a report. A recipe of pretraining takes its shards as a source of kind "prepared".

mod cargo;
mod decontaminate;
mod dedup;
mod document;
mod error;
pub mod filter;
mod instructions;
mod math;
mod pipeline;
mod prepare;
mod prepared;
mod readers;
mod report;
mod source;
mod split;

#[cfg(test)]
#[path = "../tests/it/cases.rs"]
mod cases;

pub use cargo::CargoSource;
pub use decontaminate::{Benchmark, Decontaminate, Kind, Match};
pub use dedup::{Dedup, LineDedup, MinHash, Near, clusters, optimal_bands};
pub use document::{Counts, Document, Documents, Loss, Meta, OnError};
pub use error::{Error, Result};
pub use instructions::{HELD_OUT, Instruction, held_out_instructions, training_instructions};
pub use math::{MathSource, problem};
pub use pipeline::{
    Contamination, Corpus, CorpusRecipe, CorpusSource, Example, Job, Progress, SplitOptions, Stage, Training,
    prepare_corpus,
};
pub use prepare::{Manifest, OutputFile, PrepareOptions, Prepared, Side, prepare};
pub use prepared::PreparedSource;
pub use readers::{Fields, FilesSource, JsonlSource, ParquetSource, Paths, Split, TextSource};
pub use report::{
    ClusterSize, CorpusReport, DuplicateExample, Duplicates, FimReport, LineReport, RuleReport, SideReport,
    SourceReport,
};
pub use source::{Environment, Lockfile, SourceKind, documents};
pub use split::{is_validation, sample_key};
