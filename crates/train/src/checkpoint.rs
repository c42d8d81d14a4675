//! Training checkpoints: trained weights, optimizer state and the place in the run, complete or absent.
//!
//! `checkpoints/step-NNNNNNNN/` holds `weights.safetensors` (float32 masters), `optimizer.safetensors`, `state.json` and,
//! written last, `manifest.json` with the size and digest of each. The folder is built under another name and renamed,
//! and renamed away before it is removed, so a kill leaves either all of it or nothing that looks like it. Frozen weights
//! have no place in it. Tensors are written and read one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use llama_pro_checkpoint::{Dtype, Tensor, TensorFile, write_tensor_file};
use llama_pro_model::guarded;
use llama_pro_run::{RunFolder, digest_file, write_atomic};
use llama_pro_torch_ext::tensor_over_mapping;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::error::at;
use crate::export::lazy;
use crate::trainer::Trainer;
use crate::{Error, Result};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// Where a run stands. The data order needs nothing but the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Steps taken.
    pub step: u64,
    /// Input tokens read.
    pub tokens: u64,
    /// Seconds of training, over all runs so far.
    pub seconds: f64,
    /// What the run was made of: name to digest. A resume with anything else is refused.
    pub inputs: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct FileDigest {
    bytes: u64,
    digest: String,
}

/// Writes a checkpoint and removes the oldest beyond `keep` (at least 1 stays). A complete one of the same step is left
/// as it is: the same step of the same run has the same bytes. Returns its folder.
///
/// # Errors
/// Whatever the disk says; nothing half-written is left under the final name.
pub fn save(run: &RunFolder, trainer: &Trainer, saved: &Saved, keep: usize) -> Result<PathBuf> {
    let target = run.checkpoint(saved.step);
    let parent = target.parent().unwrap_or(run.dir()).to_owned();
    clear_partial(run)?;
    if target.join(MANIFEST).exists() {
        return Ok(target);
    }
    retire(&target)?;
    let partial = partial_of(&target);
    let result = write(&partial, trainer, saved).and_then(|()| {
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(&parent)
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    result?;
    for old in run.checkpoints()?.iter().rev().skip(keep.max(1)) {
        retire(&old.path)?;
    }
    Ok(target)
}

/// Removes what a kill in the middle of a save or of a removal left behind.
pub(crate) fn clear_partial(run: &RunFolder) -> Result<()> {
    let target = run.checkpoint(0);
    let parent = target.parent().unwrap_or(run.dir());
    for entry in fs::read_dir(parent).map_err(at(parent))? {
        let path = entry.map_err(at(parent))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(".step-") && name.ends_with(".partial") {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Takes a checkpoint out of sight first, then removes it: a kill between the files leaves no half of one.
fn retire(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let partial = partial_of(path);
    fs::rename(path, &partial).map_err(at(path))?;
    fs::remove_dir_all(&partial).map_err(at(&partial))
}

fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("step");
    path.with_file_name(format!(".{name}.partial"))
}

fn write(dir: &Path, trainer: &Trainer, saved: &Saved) -> Result<()> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let slots = &trainer.optimizer.slots;
    let entry = |name: String, tensor: &tch::Tensor| {
        let shape = tensor.size().iter().map(|&d| d as usize).collect();
        Tensor { name, dtype: Dtype::F32, shape, source: lazy(tensor) }
    };
    let weights = slots.iter().map(|s| entry(s.name.clone(), &s.master)).collect();
    write_tensor_file(&dir.join(WEIGHTS), &BTreeMap::new(), weights)?;
    let moments = slots.iter().flat_map(|s| {
        [
            entry(format!("exp_avg.{}", s.name), &s.exp_avg),
            entry(format!("exp_avg_sq.{}", s.name), &s.exp_avg_sq),
        ]
    });
    write_tensor_file(&dir.join(OPTIMIZER), &BTreeMap::new(), moments.collect())?;
    write_atomic(&dir.join(STATE), &json(saved))?;
    let mut manifest = BTreeMap::new();
    for name in [WEIGHTS, OPTIMIZER, STATE] {
        let path = dir.join(name);
        let bytes = fs::metadata(&path).map_err(at(&path))?.len();
        manifest.insert(name, FileDigest { bytes, digest: digest_file(&path)? });
    }
    write_atomic(&dir.join(MANIFEST), &json(&manifest))?;
    sync(dir)
}

/// The newest checkpoint of a run that has a manifest.
///
/// # Errors
/// A checkpoints folder that cannot be read.
pub fn latest(run: &RunFolder) -> Result<Option<PathBuf>> {
    let complete = |path: &PathBuf| {
        let complete = path.join(MANIFEST).exists();
        if !complete {
            tracing::warn!("{} has no {MANIFEST} and is passed over", path.display());
        }
        complete
    };
    Ok(run.checkpoints()?.into_iter().rev().map(|c| c.path).find(complete))
}

/// Puts a checkpoint back into a trainer that was made anew, after checking every digest. `inputs` is what this run is
/// made of.
///
/// # Errors
/// A damaged checkpoint, one of another run, or one that holds other tensors than are trained here. The trainer must
/// then be dropped.
pub fn load(dir: &Path, trainer: &mut Trainer, inputs: &BTreeMap<String, String>) -> Result<Saved> {
    check_files(dir)?;
    let state = dir.join(STATE);
    let text = fs::read(&state).map_err(at(&state))?;
    let saved: Saved = serde_json::from_slice(&text).map_err(|e| damaged(&state, e.to_string()))?;
    same_inputs(dir, &saved.inputs, inputs)?;
    let (weights, moments) = (TensorFile::open(&dir.join(WEIGHTS))?, TensorFile::open(&dir.join(OPTIMIZER))?);
    let slots = &mut trainer.optimizer.slots;
    if weights.tensors().len() != slots.len() || moments.tensors().len() != 2 * slots.len() {
        let line =
            format!("holds {} trained tensors, this run trains {}", weights.tensors().len(), slots.len());
        return Err(damaged(weights.path(), line));
    }
    let _guard = tch::no_grad_guard();
    guarded(Error::Torch, || {
        for slot in slots {
            fill(&mut slot.master, &weights, &slot.name)?;
            fill(&mut slot.exp_avg, &moments, &format!("exp_avg.{}", slot.name))?;
            fill(&mut slot.exp_avg_sq, &moments, &format!("exp_avg_sq.{}", slot.name))?;
            slot.publish();
        }
        Ok(())
    })?;
    trainer.optimizer.set_steps(saved.step);
    Ok(saved)
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason }
}

/// Sizes and digests against the manifest.
fn check_files(dir: &Path) -> Result<()> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(at(&path))?;
    let manifest: BTreeMap<String, FileDigest> =
        serde_json::from_slice(&text).map_err(|e| damaged(&path, format!("not a manifest: {e}")))?;
    for name in [WEIGHTS, OPTIMIZER, STATE] {
        let stated = manifest.get(name).ok_or_else(|| damaged(&path, format!("does not list {name}")))?;
        let file = dir.join(name);
        let bytes = fs::metadata(&file).map_err(at(&file))?.len();
        if bytes != stated.bytes || digest_file(&file)? != stated.digest {
            let line = "damaged: size or digest differs from manifest.json; remove this checkpoint to resume from the \
                        one before";
            return Err(damaged(&file, line.to_owned()));
        }
    }
    Ok(())
}

/// Refuses to go on with anything but what the run was made of, and says what differs.
fn same_inputs(dir: &Path, then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Result<()> {
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let short = |value: Option<&String>| value.map_or("nothing".to_owned(), |v| v.chars().take(24).collect());
    let differing: Vec<String> = names
        .into_iter()
        .filter(|n| then.get(*n) != now.get(*n))
        .map(|n| format!("{n} was {}, is {}", short(then.get(n)), short(now.get(n))))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(damaged(dir, format!("belongs to another run: {}", differing.join("; "))))
}

/// Copies a stored float32 tensor into one that is there.
fn fill(into: &mut tch::Tensor, file: &TensorFile, name: &str) -> Result<()> {
    let info = file.info(name)?;
    let shape: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
    if info.dtype != Dtype::F32 || shape != into.size() {
        let line = format!("`{name}` is {:?} {shape:?}, expected F32 {:?}", info.dtype, into.size());
        return Err(damaged(file.path(), line));
    }
    let (mapping, range) = file.mapped(name)?;
    Ok(into.f_copy_(&tensor_over_mapping(mapping, range, &shape, Kind::Float)?)?)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // A map of strings and numbers always has a JSON form.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|f| f.sync_all()).map_err(at(dir))
}
