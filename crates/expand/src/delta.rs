//! `delta` and `apply`: the new blocks of an expanded model in a folder of their own, and the whole model again from that
//! folder and the base. For models of one base the frozen tensors, most of the bytes, then lie on the disk once.
//!
//! A delta folder has the configuration and `expansion.json` of the whole model, its tokenizer and other small files, and
//! `new-blocks.safetensors` in place of the weights. The record has the digest of every tensor of the whole model, so what
//! `apply` writes is the model that `delta` was given, to the bit, or nothing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use llama_pro_checkpoint::{Checkpoint, Source, Tensor, Weights};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::names;
use crate::record::{Expansion, FILE_NAME, TensorRecord};
use crate::verify::base_names;
use crate::write::{self, Progress, Settings};
use crate::{config, output, read};

/// How a delta is written or applied.
#[derive(Clone, Default)]
pub struct DeltaOptions<'a> {
    /// Replace an output folder that exists.
    pub force: bool,
    /// Largest size of a weight file in bytes; `None` is the writer's default.
    pub max_shard_bytes: Option<u64>,
    /// Raised from outside to stop within one block of bytes.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Called with the bytes done and the bytes in all.
    pub progress: Option<&'a Progress<'a>>,
}

impl fmt::Debug for DeltaOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaOptions")
            .field("force", &self.force)
            .field("max_shard_bytes", &self.max_shard_bytes)
            .finish_non_exhaustive()
    }
}

/// What [`delta`] or [`apply`] wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeltaReport {
    /// The new blocks, in the numbers of the whole model.
    pub new_blocks: Vec<usize>,
    /// The digest of the base; see [`model_digest`](crate::model_digest).
    pub base: String,
    /// Tensors that were written.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the whole model's tensors.
    pub whole: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Writes the new blocks of the expanded model in `dir`, of all its generations, to the folder `out`.
///
/// # Errors
/// A folder that is not expanded or disagrees with its record; a base that was trained too, or whose bytes are not the
/// recorded ones, since what is not written could not be had again; an output folder that exists, or that is, holds or
/// lies in `dir`. Nothing is left in `out`.
pub fn delta(dir: &Path, out: &Path, options: &DeltaOptions<'_>) -> Result<DeltaReport> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(dir)?;
    let record = Expansion::read(dir)?.ok_or_else(|| Error::NotExpanded { path: dir.to_owned() })?;
    record.check(&checkpoint)?;
    record.check_delta(dir)?;
    output::check(dir, out, options.force)?;
    let found = config::digest(checkpoint.config().raw());
    if found != record.config {
        return Err(disagrees(dir, format!("config.json: expected {}, found {found}", record.config)));
    }
    for (name, found) in read::records(&checkpoint)? {
        held(dir, &record, &name, &found.digest)?;
    }
    let mut names: Vec<&str> = checkpoint.names().filter(|name| record.is_in_new_block(name)).collect();
    names.sort_unstable_by(|a, b| names::order(a).cmp(&names::order(b)));
    let tensors: Vec<Tensor<'_>> =
        names.iter().map(|name| copy(&checkpoint, name, name)).collect::<Result<_>>()?;
    let bytes = names.iter().map(|name| Ok(checkpoint.info(name)?.len)).sum::<Result<u64>>()?;
    let settings = settings(options, Weights::NewBlocks, bytes);
    write::folder(&checkpoint, out, checkpoint.config(), tensors, settings, |digests| {
        for (name, found) in digests {
            held(dir, &record, name, found)?;
        }
        Ok(Some(record.clone()))
    })?;
    Ok(DeltaReport {
        new_blocks: record.new_blocks(),
        base: record.base_digest().to_owned(),
        tensors: names.len(),
        bytes,
        whole: checkpoint.total_bytes(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Writes to `out` the whole model that the folder `delta` was made from, with the frozen tensors of `base`.
///
/// # Errors
/// A folder that is no delta; a base with another configuration, other tensors, or another byte in one of them; an output
/// folder that exists, or that is, holds or lies in one of the two. Nothing is left in `out`.
pub fn apply(base: &Path, delta: &Path, out: &Path, options: &DeltaOptions<'_>) -> Result<DeltaReport> {
    let start = Instant::now();
    let record = Expansion::read(delta)?.ok_or_else(|| Error::NotExpanded { path: delta.to_owned() })?;
    record.check_delta(delta)?;
    let new = Checkpoint::open_weights(delta, Weights::NewBlocks)?;
    let old = Checkpoint::open(base)?;
    output::check(base, out, options.force)?;
    output::check(delta, out, options.force)?;
    let found = config::digest(new.config().raw());
    if found != record.config {
        return Err(disagrees(delta, format!("config.json: expected {}, found {found}", record.config)));
    }
    check_config(&record, &old, &new)?;
    // The name that each tensor of the whole model has in the folder it comes from.
    let base_names = base_names(&record, 0);
    let mut moves: Vec<(&String, &TensorRecord, &Checkpoint, &str)> = Vec::new();
    for (name, tensor) in &record.tensors {
        let (from, there) = match base_names.get(name) {
            Some(there) => (&old, there.as_str()),
            None => (&new, name.as_str()),
        };
        let info = from.info(there)?;
        if (info.dtype, &info.shape) != (tensor.dtype, &tensor.shape) {
            let reason = format!(
                "tensor {there} is {:?} {:?}, the record has {:?} {:?}",
                info.dtype, info.shape, tensor.dtype, tensor.shape
            );
            return Err(Error::NotTheBase { path: from.dir().to_owned(), delta: delta.to_owned(), reason });
        }
        moves.push((name, tensor, from, there));
    }
    let counted = |folder: &Checkpoint| moves.iter().filter(|m| std::ptr::eq(m.2, folder)).count();
    for folder in [&old, &new] {
        let (there, used) = (folder.names().count(), counted(folder));
        if there != used {
            let reason = format!("it has {there} tensors, the record knows {used} of them");
            return Err(Error::NotTheBase { path: folder.dir().to_owned(), delta: delta.to_owned(), reason });
        }
    }
    moves.sort_by(|a, b| names::order(a.0).cmp(&names::order(b.0)));
    let tensors: Vec<Tensor<'_>> =
        moves.iter().map(|(name, _, from, there)| copy(from, there, name)).collect::<Result<_>>()?;
    let bytes = moves.iter().map(|(_, _, from, there)| Ok(from.info(there)?.len)).sum::<Result<u64>>()?;
    let settings = settings(options, Weights::Model, bytes);
    write::folder(&new, out, new.config(), tensors, settings, |digests| {
        for (name, tensor, from, there) in &moves {
            let found = write::digest_of(digests, name)?;
            if found != tensor.digest {
                let reason = format!("tensor {there}: expected {}, found {found}", tensor.digest);
                let (path, delta) = (from.dir().to_owned(), delta.to_owned());
                return Err(Error::NotTheBase { path, delta, reason });
            }
        }
        Ok(Some(record.clone()))
    })?;
    Ok(DeltaReport {
        new_blocks: record.new_blocks(),
        base: record.base_digest().to_owned(),
        tensors: moves.len(),
        bytes,
        whole: bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

impl Expansion {
    /// Whether the new blocks and the base are all of the model: where the base was trained too, they are not.
    ///
    /// # Errors
    /// Tensors of the base that training changed; `dir` is for the message.
    pub fn check_delta(&self, dir: &Path) -> Result<()> {
        match self.unfrozen.first() {
            None => Ok(()),
            Some(name) => Err(Error::Altered {
                path: dir.to_owned(),
                reason: format!(
                    "{} tensors of the base were trained, {name} among them: new blocks alone would not be the model",
                    self.unfrozen.len()
                ),
            }),
        }
    }
}

/// The base's configuration must be the one that the whole model's becomes without its new blocks.
fn check_config(record: &Expansion, old: &Checkpoint, new: &Checkpoint) -> Result<()> {
    let generations = record.generations.iter().rev();
    let expected = generations
        .fold(new.config().raw().clone(), |config, taken| config::restore(&config, &taken.config_before));
    let found = old.config().raw();
    let keys = expected.keys().chain(found.keys());
    match keys.into_iter().find(|key| expected.get(*key) != found.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let show = |value: Option<&serde_json::Value>| {
                value.map_or_else(|| "no such key".to_owned(), ToString::to_string)
            };
            Err(Error::NotTheBase {
                path: old.config().path().to_owned(),
                delta: new.dir().to_owned(),
                reason: format!(
                    "{key}: expected {}, found {}",
                    show(expected.get(key)),
                    show(found.get(key))
                ),
            })
        }
    }
}

fn copy<'a>(from: &'a Checkpoint, there: &str, name: &str) -> Result<Tensor<'a>> {
    let info = from.info(there)?;
    let source = Source::Copy { checkpoint: from, name: there.to_owned() };
    Ok(Tensor { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone(), source })
}

fn settings<'a>(options: &DeltaOptions<'a>, weights: Weights, total: u64) -> Settings<'a> {
    Settings {
        weights,
        force: options.force,
        max_shard_bytes: options.max_shard_bytes,
        keep_partial: false,
        cancel: options.cancel.clone(),
        progress: options.progress,
        total,
    }
}

/// A tensor whose bytes are not the recorded ones could not be had again from base and record.
fn held(dir: &Path, record: &Expansion, name: &str, found: &str) -> Result<()> {
    match record.digest(name) {
        Some(expected) if expected == found => Ok(()),
        expected => Err(disagrees(
            dir,
            format!("tensor {name}: expected {}, found {found}", expected.unwrap_or("no such tensor")),
        )),
    }
}

fn disagrees(dir: &Path, reason: String) -> Error {
    Error::Disagrees { path: dir.join(FILE_NAME), reason }
}
