//! One hash over everything that decides the bytes of the outputs.
//!
//! Inputs enter with their content, not with their time: a fresh clone has other times and the same content,
//! and an edit that keeps size and time is found. Hashing runs at the speed of the disk, far above that of
//! tokenising. Where the files lie does not matter, only what they are called inside the source.

use llama_pro_text::Tokenizer;
use rayon::prelude::*;

use super::{Marks, PrepareOptions, manifest};
use crate::error::{Error, Result};
use crate::readers::{InputFile, Listing};
use crate::source::SourceKind;

pub(super) fn of(
    source: &SourceKind,
    inputs: &Listing,
    tokenizer: &Tokenizer,
    marks: &Marks,
    options: &PrepareOptions,
) -> Result<String> {
    let json = |what| move |source| Error::Json { what, source };
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        // The length in front keeps neighbours apart.
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(manifest::FORMAT.as_bytes());
    part(&serde_json::to_vec(source).map_err(json("the source"))?);
    part(&serde_json::to_vec(options).map_err(json("the options"))?);
    part(tokenizer.digest().as_bytes());
    part(format!("{:?} {:?} {}", marks.bos, marks.eos, tokenizer.vocab_size()).as_bytes());
    let digests: Vec<Result<[u8; 32]>> = inputs.files.par_iter().map(digest).collect();
    for (file, digest) in inputs.files.iter().zip(digests) {
        part(file.id.as_bytes());
        part(&digest?);
    }
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}

/// The content of a file, or its size where it is left out unopened.
fn digest(file: &InputFile) -> Result<[u8; 32]> {
    if file.loss.is_some() {
        return Ok(*blake3::hash(&file.len.to_le_bytes()).as_bytes());
    }
    file_digest(&file.path())
}

pub(crate) fn file_digest(path: &std::path::Path) -> Result<[u8; 32]> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(Error::io("read", path))?;
    Ok(*hasher.finalize().as_bytes())
}
