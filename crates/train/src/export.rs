//! The trained model as a Hugging Face folder: frozen tensors copied byte for byte from the folder that was loaded,
//! trained ones rounded from their float32 masters to the dtype they are stored in, one at a time, and the record of the
//! expansion carried on.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use llama_pro_checkpoint::{Checkpoint, FolderWriter, Source, Tensor, Weights, WriteOptions};
use llama_pro_expand::{Expansion, FILE_NAME, order};
use llama_pro_model::{guarded, kind_of};
use tch::{Device, Kind};

use crate::trainer::Trainer;
use crate::{Error, Result};

impl Trainer {
    /// Writes the model, which was loaded from `source`, into the folder `out`; an unfinished or older one is replaced.
    /// With [`Weights::NewBlocks`] the new blocks alone, as [`llama_pro_expand::apply`] takes them. `progress` hears the
    /// bytes written since its last call. Returns how many frozen tensors were compared with the digests of the
    /// expansion record.
    ///
    /// # Errors
    /// A full disk, a raised `cancel`, or a frozen tensor that is not what the record says; new blocks alone where there
    /// are none, or where other tensors were trained too. `out` is as before then.
    pub fn export(
        &self,
        source: &Checkpoint,
        out: &Path,
        weights: Weights,
        cancel: Option<Arc<AtomicBool>>,
        progress: &dyn Fn(u64),
    ) -> Result<usize> {
        let record = Expansion::read(source.dir())?;
        let checked = self.check_frozen(source)?;
        let masters: HashMap<&str, &tch::Tensor> =
            self.optimizer.slots.iter().map(|s| (s.name.as_str(), &s.master)).collect();
        let tied = source.config().llama()?.tie_word_embeddings;
        let is_new = |name: &str| record.as_ref().is_some_and(|record| record.is_in_new_block(name));
        if weights == Weights::NewBlocks {
            self.check_only_new(source, &is_new)?;
        }
        let mut list = Vec::new();
        for name in source.names() {
            if weights == Weights::NewBlocks && !is_new(name) {
                continue;
            }
            let info = source.info(name)?;
            // A file may hold the tied head as well: it is the embedding under another name.
            let owner = if tied && name == "lm_head.weight" { "model.embed_tokens.weight" } else { name };
            let from = match masters.get(owner) {
                Some(master) => rounded(master, kind_of(info.dtype, name)?),
                None => match self.adapted(source, name, &masters)? {
                    Some(merged) => merged,
                    None => Source::Copy { checkpoint: source, name: name.to_owned() },
                },
            };
            list.push(Tensor {
                name: name.to_owned(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                source: from,
            });
        }
        // As the expander writes them, so that new blocks put into their base give the same files.
        list.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
        let options = WriteOptions { weights, force: true, cancel, ..WriteOptions::default() };
        let mut writer = FolderWriter::new(out, options)?;
        writer.config(source.config())?;
        writer.carry(source.dir())?;
        writer.tensors(list, progress)?;
        if let Some(record) = record {
            let digests: BTreeMap<String, String> = writer.digests().clone();
            let trained = record.mark_trained(&digests)?;
            if weights == Weights::NewBlocks {
                trained.check_delta(source.dir())?;
            }
            writer.file(FILE_NAME, trained.to_json().as_bytes())?;
        }
        writer.finish()?;
        Ok(checked)
    }

    /// New blocks alone are the model only where nothing else was trained.
    fn check_only_new(&self, source: &Checkpoint, is_new: &dyn Fn(&str) -> bool) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::Setup(format!("{}: new blocks alone: {reason}", source.dir().display())))
        };
        if !source.names().any(is_new) {
            return refuse("it has none".to_owned());
        }
        match self.optimizer.slots.iter().find(|slot| !is_new(&slot.name)) {
            Some(slot) => refuse(format!("{} was trained too", slot.name)),
            None => Ok(()),
        }
    }

    /// A frozen matrix with its low-rank adapter merged in, made when it is its turn to be written.
    fn adapted(
        &self,
        source: &Checkpoint,
        name: &str,
        masters: &HashMap<&str, &tch::Tensor>,
    ) -> Result<Option<Source<'static>>> {
        let (Some(scale), Some(module)) = (self.model.lora_scale(), name.strip_suffix(".weight")) else {
            return Ok(None);
        };
        let part = |part: &str| masters.get(format!("{module}.{part}.weight").as_str()).map(|t| t.detach());
        let (Some(a_rd), Some(b_or)) = (part("lora_A"), part("lora_B")) else { return Ok(None) };
        let info = source.info(name)?;
        let shape: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
        let kind = kind_of(info.dtype, name)?;
        // As it is stored: the model may compute in less.
        let stored = tch::Tensor::f_from_data_size(source.bytes(name)?, &shape, kind)?;
        let weight = stored.to_device(self.model.device());
        let cell = Mutex::new((weight, a_rd, b_or));
        Ok(Some(Source::Lazy(Box::new(move || {
            let parts = cell.lock().unwrap_or_else(PoisonError::into_inner);
            bytes_of(&llama_pro_model::merged(&parts.0, &parts.1, &parts.2, scale).to_kind(kind))
        }))))
    }

    /// Writes the low-rank adapters alone, as the peft package reads them, into the folder `out`: adapter_model.safetensors
    /// and adapter_config.json. `base` is what the config names as the model they belong to.
    ///
    /// # Errors
    /// A model without adapters, or whatever the disk says.
    pub fn export_adapter(&self, out: &Path, base: &Path) -> Result<()> {
        let Some(scale) = self.model.lora_scale() else {
            return Err(Error::Setup("the model has no low-rank adapters to write".to_owned()));
        };
        std::fs::create_dir_all(out).map_err(crate::error::at(out))?;
        let slots = self.optimizer.slots.iter().filter(|s| s.name.contains(".lora_"));
        let (mut list, mut modules, mut rank) = (Vec::new(), std::collections::BTreeSet::new(), 0);
        for slot in slots {
            let mut parts = slot.name.rsplit('.').skip(1);
            if parts.next() == Some("lora_A") {
                rank = slot.master.size()[0];
            }
            modules.extend(parts.next().map(str::to_owned));
            list.push(Tensor {
                name: format!("base_model.model.{}", slot.name),
                dtype: llama_pro_checkpoint::Dtype::F32,
                shape: slot.master.size().iter().map(|&d| d as usize).collect(),
                source: lazy(&slot.master),
            });
        }
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        llama_pro_checkpoint::write_tensor_file(&out.join("adapter_model.safetensors"), &metadata, list)?;
        let config = serde_json::json!({
            "base_model_name_or_path": base.display().to_string(),
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": scale * rank as f64,
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": rank,
            "target_modules": modules,
            "task_type": "CAUSAL_LM",
        });
        let text = format!("{config:#}\n");
        Ok(llama_pro_run::write_atomic(&out.join("adapter_config.json"), text.as_bytes())?)
    }

    /// Holds every frozen tensor in memory against the file it came from, bit for bit, and the file against the digests
    /// that the expansion recorded. Returns how many were compared; 0 for a model that was not expanded.
    ///
    /// # Errors
    /// The first tensor that differs.
    pub fn check_frozen(&self, source: &Checkpoint) -> Result<usize> {
        let Some(record) = Expansion::read(source.dir())? else { return Ok(0) };
        let mut checked = 0;
        for parameter in self.model.parameters().iter().filter(|p| !p.trained) {
            let Some(expected) = record.digest(&parameter.name) else { continue };
            let same = llama_pro_checkpoint::digest(source.bytes(&parameter.name)?) == expected
                && guarded(Error::Torch, || {
                    Ok(same_bits(&self.model.stored(source, &parameter.name)?, &parameter.tensor))
                })?;
            if !same {
                return Err(Error::FrozenChanged(parameter.name.clone()));
            }
            checked += 1;
        }
        Ok(checked)
    }
}

/// Compared as integers: == on floats would let -0.0 pass for 0.0 and fail a NaN against itself.
fn same_bits(a: &tch::Tensor, b: &tch::Tensor) -> bool {
    let kind = if a.kind().elt_size_in_bytes() == 4 { Kind::Int } else { Kind::Int16 };
    a.size() == b.size() && a.kind() == b.kind() && a.view_dtype(kind).equal(&b.view_dtype(kind))
}

/// The bytes of a master in another dtype, made when it is its turn to be written.
fn rounded(master: &tch::Tensor, kind: Kind) -> Source<'static> {
    // A tensor may be moved between threads but not shared; the lock makes sharing safe.
    let cell = Mutex::new(master.detach());
    Source::Lazy(Box::new(move || {
        bytes_of(&cell.lock().unwrap_or_else(PoisonError::into_inner).to_kind(kind))
    }))
}

/// A tensor as it is, made into bytes when it is its turn to be written.
pub(crate) fn lazy(tensor: &tch::Tensor) -> Source<'static> {
    rounded(tensor, tensor.kind())
}

/// The little-endian bytes of a tensor of any kind and device.
pub(crate) fn bytes_of(tensor: &tch::Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}
