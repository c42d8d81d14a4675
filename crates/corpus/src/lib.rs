//! Code and math documents: read, split and turned into token shards.
//!
//! A source ([`SourceKind`]) says where documents come from. [`documents`] reads it as a stream of clean,
//! distinct [`Document`]s with every loss counted; [`prepare`] divides them into training and validation by
//! their own hash, tokenises them and writes two Megatron shards with a manifest, once.

mod cargo;
mod document;
mod error;
mod instructions;
mod math;
mod prepare;
mod readers;
mod source;
mod split;

pub use cargo::CargoSource;
pub use document::{Counts, Document, Documents};
pub use error::{Error, Result};
pub use instructions::{HELD_OUT, Instruction, held_out_instructions, training_instructions};
pub use math::{MathSource, problem};
pub use prepare::{Manifest, OutputFile, PrepareOptions, Prepared, Side, prepare};
pub use readers::{FilesSource, JsonlSource, Paths, Split, TextSource};
pub use source::{Environment, SourceKind, documents};
pub use split::{is_validation, sample_key};
