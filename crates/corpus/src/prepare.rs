//! From a source to two token shards and a manifest, once.
//!
//! Documents come as a stream, are divided by their hash, tokenised in parallel by batches of a few megabytes
//! and written in the order in which they came. The bytes of every output depend on the inputs, the options and
//! the tokenizer alone: not on the number of threads, the order in which a folder is listed, or the time.

mod collect;
mod fingerprint;
mod manifest;

use std::path::{Path, PathBuf};

use llama_pro_shards::ShardWriter;
use llama_pro_text::Tokenizer;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::document::{Document, Documents, OnError};
use crate::error::{Error, Result};
use crate::source::{Environment, SourceKind};
use crate::split::{is_validation, sample_key};
use collect::Collector;
pub(crate) use fingerprint::file_digest;
pub use manifest::{Manifest, OutputFile, Side};

/// How documents become shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PrepareOptions {
    /// The share of documents for validation, from 0 up to but not including 1; 0.05. At 0 there is no
    /// validation shard.
    pub validation: f64,
    /// Another seed gives another split and another sample; 0.
    pub split_seed: u64,
    /// Begin every document with the tokenizer's BOS; yes.
    pub bos: bool,
    /// End every document with the tokenizer's EOS; yes.
    pub eos: bool,
    /// Stop after so many training tokens. Whole documents are taken in the order of their hash, so that they
    /// are a fair sample of the source, until there are at least so many. They and no others are held in
    /// memory. No limit.
    pub max_tokens: Option<u64>,
    /// The same for validation. No limit.
    pub max_validation_tokens: Option<u64>,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            validation: 0.05,
            split_seed: 0,
            bos: true,
            eos: true,
            max_tokens: None,
            max_validation_tokens: None,
        }
    }
}

/// Where the shards lie.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Training shard: this path with `.bin` and `.idx`.
    pub train: PathBuf,
    /// Validation shard, unless the fraction is 0.
    pub validation: Option<PathBuf>,
    /// What `<out>/<name>.json` says.
    pub manifest: Manifest,
    /// The shards were there already and nothing was written.
    pub reused: bool,
}

/// About so much text is tokenised at a time.
const BATCH_BYTES: usize = 4 << 20;

/// Makes `<out>/<name>-train.{bin,idx}`, `<out>/<name>-validation.{bin,idx}` and `<out>/<name>.json`, unless they
/// are there and were made from the same content, options, tokenizer and format. Existing files are verified by
/// size and digest before they are used again. The folder is created if need be.
///
/// # Errors
/// For a source that cannot be read (see [`crate::documents`]), changes meanwhile, is empty, or leaves one side of the split empty;
/// for options that make no sense; for an output folder that cannot be written.
pub fn prepare(
    name: &str,
    source: &SourceKind,
    environment: &Environment,
    tokenizer: &Tokenizer,
    options: &PrepareOptions,
    out: &Path,
) -> Result<Prepared> {
    check_name(name)?;
    options.check()?;
    source.check()?;
    if let SourceKind::Prepared(prepared) = source {
        return prepared.open(name, environment, tokenizer, options);
    }
    let marks = Marks::new(tokenizer, options)?;
    let inputs = source.inputs(environment, OnError::Stop)?;
    let fingerprint = fingerprint::of(source, &inputs, tokenizer, &marks, options)?;
    let manifest_path = out.join(format!("{name}.json"));
    let train = out.join(format!("{name}-train"));
    let validation = (options.validation > 0.0).then(|| out.join(format!("{name}-validation")));
    if let Some(manifest) = manifest::reusable(&manifest_path, &fingerprint) {
        tracing::info!(source = name, "token shards are up to date");
        return Ok(Prepared { train, validation, manifest, reused: true });
    }

    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let vocab_size = tokenizer.vocab_size();
    let mut sides = Sides {
        train: Collector::new(ShardWriter::new(&train, vocab_size)?, options.max_tokens),
        validation: match &validation {
            Some(prefix) => {
                Some(Collector::new(ShardWriter::new(prefix, vocab_size)?, options.max_validation_tokens))
            }
            None => None,
        },
    };
    let mut documents = Documents::new(source.open(&inputs, OnError::Stop)?);
    loop {
        let batch = next_batch(&mut documents)?;
        if batch.is_empty() {
            break;
        }
        sides.take(tokenise(batch, &sides, tokenizer, &marks, options)?)?;
    }
    sides.check(name, &documents, options.validation)?;
    // Otherwise a later run would take these shards for those of the content that was hashed.
    if fingerprint::of(source, &inputs, tokenizer, &marks, options)? != fingerprint {
        return Err(Error::Changed { name: name.to_owned(), place: inputs.place });
    }
    let manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        name: name.to_owned(),
        fingerprint,
        source: source.clone(),
        tokenizer: tokenizer.digest().to_owned(),
        vocab_size,
        options: options.clone(),
        documents: documents.counts().clone(),
        train: sides.train.finish()?,
        validation: sides.validation.map(Collector::finish).transpose()?,
    };
    manifest.write(&manifest_path)?;
    tracing::info!(source = name, documents = %manifest.documents, tokens = manifest.train.tokens, "prepared");
    Ok(Prepared { train, validation, manifest, reused: false })
}

/// The tokens around every document.
struct Marks {
    bos: Option<u32>,
    eos: Option<u32>,
}

impl Marks {
    fn new(tokenizer: &Tokenizer, options: &PrepareOptions) -> Result<Self> {
        let want = |wanted: bool, key, token: Option<u32>| match (wanted, token) {
            (true, None) => Err(Error::NoSpecialToken { key }),
            (true, token) => Ok(token),
            (false, _) => Ok(None),
        };
        Ok(Self {
            bos: want(options.bos, "bos", tokenizer.bos())?,
            eos: want(options.eos, "eos", tokenizer.eos())?,
        })
    }
}

impl PrepareOptions {
    fn check(&self) -> Result<()> {
        // Also refuses NaN.
        if !(0.0..1.0).contains(&self.validation) {
            let message = format!("expected at least 0 and less than 1, found {}", self.validation);
            return Err(Error::Setting { key: "validation", message });
        }
        for (key, limit) in
            [("max-tokens", self.max_tokens), ("max-validation-tokens", self.max_validation_tokens)]
        {
            if limit == Some(0) {
                return Err(Error::Setting { key, message: "expected at least 1, found 0".to_owned() });
            }
        }
        Ok(())
    }
}

/// The name becomes part of file names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let message = format!("expected letters, digits, `-`, `_` and `.` for file names, found {name:?}");
        return Err(Error::Setting { key: "name", message });
    }
    Ok(())
}

fn next_batch(documents: &mut Documents) -> Result<Vec<Document>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES {
        let Some(document) = documents.next().transpose()? else { break };
        bytes += document.text.len();
        batch.push(document);
    }
    Ok(batch)
}

/// A document on its way to a shard.
struct Tokenised {
    validation: bool,
    key: u128,
    text_bytes: u64,
    /// `None` when its place in the sample is behind the limit already.
    tokens: Option<Vec<u32>>,
}

/// Both sides of the split.
struct Sides {
    train: Collector,
    validation: Option<Collector>,
}

impl Sides {
    fn side(&self, validation: bool) -> &Collector {
        match &self.validation {
            Some(side) if validation => side,
            _ => &self.train,
        }
    }

    fn take(&mut self, batch: Vec<Tokenised>) -> Result<()> {
        for document in batch {
            let side = match &mut self.validation {
                Some(side) if document.validation => side,
                _ => &mut self.train,
            };
            side.push(document)?;
        }
        Ok(())
    }

    /// An empty side would only be noticed after hours of training.
    fn check(&self, name: &str, documents: &Documents, fraction: f64) -> Result<()> {
        let (name, place, counts) = (name.to_owned(), documents.place().to_owned(), documents.counts());
        if counts.kept == 0 {
            return Err(Error::Empty { name, place, counts: counts.to_string() });
        }
        let side = match &self.validation {
            _ if self.train.documents() == 0 => "training",
            Some(validation) if validation.documents() == 0 => "validation",
            _ => return Ok(()),
        };
        Err(Error::EmptySide { name, place, side, documents: counts.kept, fraction })
    }
}

fn tokenise(
    batch: Vec<Document>,
    sides: &Sides,
    tokenizer: &Tokenizer,
    marks: &Marks,
    options: &PrepareOptions,
) -> Result<Vec<Tokenised>> {
    let one = |document: Document| {
        let Document { id, text, .. } = document;
        let validation = is_validation(&text, options.validation, options.split_seed);
        let key = sample_key(&text, options.split_seed);
        let text_bytes = text.len() as u64;
        let tokens = if sides.side(validation).wants(key) {
            let ids = tokenizer.encode(&text).map_err(|source| Error::Tokenize { id, source })?;
            Some(marks.bos.into_iter().chain(ids).chain(marks.eos).collect())
        } else {
            None
        };
        Ok(Tokenised { validation, key, text_bytes, tokens })
    };
    // An indexed parallel iterator keeps the order. With several errors, the first of the batch is reported.
    let results: Vec<Result<Tokenised>> = batch.into_par_iter().map(one).collect();
    results.into_iter().collect()
}
