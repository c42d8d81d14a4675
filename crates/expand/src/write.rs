//! One way to write a model folder, for `expand`, `strip`, `delta` and `apply`: configuration, carried files, tensors,
//! and the record made from the digests of what was written, all in the folder before it appears.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llama_pro_checkpoint::{Checkpoint, ConfigFile, FolderWriter, Tensor, Weights, WriteOptions, Written};

use crate::error::{Error, Result};
use crate::record::{Expansion, FILE_NAME};

/// Called with the bytes of tensors done so far and the bytes in all.
pub type Progress<'a> = dyn Fn(u64, u64) + 'a;

/// How a folder is written.
pub(crate) struct Settings<'a> {
    pub(crate) weights: Weights,
    pub(crate) force: bool,
    pub(crate) max_shard_bytes: Option<u64>,
    pub(crate) keep_partial: bool,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
    pub(crate) progress: Option<&'a Progress<'a>>,
    /// Bytes of all tensors, for the progress.
    pub(crate) total: u64,
}

/// Writes `out`. `record` sees the digests of the written tensors and gives the record to put beside them; its error
/// leaves no folder.
pub(crate) fn folder(
    input: &Checkpoint,
    out: &Path,
    config: &ConfigFile,
    tensors: Vec<Tensor<'_>>,
    settings: Settings<'_>,
    record: impl FnOnce(&BTreeMap<String, String>) -> Result<Option<Expansion>>,
) -> Result<Written> {
    let mut options = WriteOptions {
        weights: settings.weights,
        force: settings.force,
        keep_partial: settings.keep_partial,
        cancel: settings.cancel,
        ..WriteOptions::default()
    };
    if let Some(bytes) = settings.max_shard_bytes {
        options.max_shard_bytes = bytes;
    }
    let mut writer = FolderWriter::new(out, options)?;
    writer.config(config)?;
    writer.carry(input.dir())?;
    let done = Cell::new(0);
    writer.tensors(tensors, &|more| {
        // A shard that is compared and then written anew after all counts twice: the sum must not pass the total.
        done.set((done.get() + more).min(settings.total));
        if let Some(progress) = settings.progress {
            progress(done.get(), settings.total);
        }
    })?;
    if let Some(record) = record(writer.digests())? {
        writer.file(FILE_NAME, record.to_json().as_bytes())?;
    }
    Ok(writer.finish()?)
}

/// The digest of a tensor that was written.
pub(crate) fn digest_of(digests: &BTreeMap<String, String>, name: &str) -> Result<String> {
    digests.get(name).cloned().ok_or_else(|| Error::Record {
        path: FILE_NAME.into(),
        reason: format!("tensor {name}: the writer gave no digest"),
    })
}
