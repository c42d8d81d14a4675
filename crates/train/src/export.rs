//! The trained model as a Hugging Face folder: frozen tensors copied byte for byte from the folder that was loaded,
//! trained ones rounded to the dtype they are stored in, and the record of the expansion carried on.

use std::collections::BTreeMap;
use std::path::Path;

use llama_pro_checkpoint::{Checkpoint, FolderWriter, Source, Tensor, WriteOptions};
use llama_pro_expand::Expansion;
use llama_pro_model::{Llama, kind_of};

use crate::checkpoint::{bytes_of, stored_digest};
use crate::{Error, Result};

/// What was written.
#[derive(Clone, Debug)]
pub struct Export {
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Frozen tensors whose digest was compared with the record.
    pub frozen_checked: usize,
}

/// Writes `model`, which was loaded from `source`, into the new folder `out`.
///
/// # Errors
/// An existing folder, a full disk, or a frozen tensor that is not what the expansion record says; nothing is left under
/// the final name then.
pub fn export(model: &Llama, source: &Checkpoint, out: &Path) -> Result<Export> {
    let record = Expansion::read(source.dir())?;
    let frozen_checked = check_frozen(model, source, record.as_ref())?;
    let mut trained = BTreeMap::new();
    let mut list = Vec::new();
    for name in source.names() {
        let info = source.info(name)?;
        let parameter = model.parameters().iter().find(|p| p.name == name && p.trained);
        let bytes = match parameter {
            Some(p) => {
                let bytes = bytes_of(&p.tensor.detach().to_kind(kind_of(info.dtype, name)?));
                trained.insert(name.to_owned(), llama_pro_checkpoint::digest(&bytes));
                Source::Bytes(bytes.into())
            }
            None => Source::Copy { checkpoint: source, name: name.to_owned() },
        };
        list.push(Tensor { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone(), source: bytes });
    }
    let mut writer = FolderWriter::new(out, WriteOptions::default())?;
    writer.config(source.config())?;
    writer.carry(source.dir())?;
    if let Some(record) = record {
        writer.file("expansion.json", record.mark_trained(&trained)?.to_json().as_bytes())?;
    }
    writer.tensors(list, &|_| {})?;
    let written = writer.finish()?;
    Ok(Export { bytes: written.bytes, frozen_checked })
}

/// Compares every frozen tensor with the digest that the expansion recorded: in the memory of the model where it lies
/// there as stored, else in the file it was read from. Returns how many were compared.
///
/// # Errors
/// The first tensor that differs.
pub fn check_frozen(model: &Llama, source: &Checkpoint, record: Option<&Expansion>) -> Result<usize> {
    let Some(record) = record else { return Ok(0) };
    let mut checked = 0;
    for parameter in model.parameters().iter().filter(|p| !p.trained) {
        let Some(expected) = record.digest(&parameter.name) else { continue };
        let as_stored = kind_of(source.info(&parameter.name)?.dtype, &parameter.name)? == parameter.tensor.kind();
        let found = match as_stored {
            true => llama_pro_checkpoint::digest(&bytes_of(&parameter.tensor)),
            false => stored_digest(source, &parameter.name)?,
        };
        if found != expected {
            return Err(Error::FrozenChanged(parameter.name.clone()));
        }
        checked += 1;
    }
    Ok(checked)
}
