//! Training checkpoints: trained weights, optimizer state and the place in the run, complete or absent.
//!
//! `checkpoints/step-NNNNNNNN/` holds `weights.safetensors` (float32 masters), `optimizer.safetensors`, `state.json` and,
//! written last, `manifest.json` with the size and digest of each. The folder is built under another name and renamed,
//! so a kill leaves either all of it or nothing that looks like it. Frozen weights have no place in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use llama_pro_checkpoint::Checkpoint;
use llama_pro_run::{RunFolder, digest_file, write_atomic};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::at;
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
    /// Counted targets seen.
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

/// Writes a checkpoint and removes the oldest beyond `keep`. Returns its folder.
///
/// # Errors
/// Whatever the disk says; nothing half-written is left under the final name.
pub fn save(run: &RunFolder, trainer: &Trainer, saved: &Saved, keep: usize) -> Result<PathBuf> {
    let target = run.checkpoint(saved.step);
    if target.join(MANIFEST).exists() {
        return Ok(target); // the same step of the same run: the same bytes
    }
    let parent = target.parent().unwrap_or(run.dir()).to_owned();
    let partial = parent.join(format!(".step-{:08}.partial", saved.step));
    let result = write(&partial, trainer, saved).and_then(|()| {
        fs::rename(&partial, &target).map_err(at(&target))?;
        sync(&parent)
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    result?;
    let all = run.checkpoints()?;
    for old in all.iter().rev().skip(keep) {
        fs::remove_dir_all(&old.path).map_err(at(&old.path))?;
    }
    Ok(target)
}

fn write(dir: &Path, trainer: &Trainer, saved: &Saved) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(at(dir))?; // left by a kill
    }
    fs::create_dir_all(dir).map_err(at(dir))?;
    let slots = &trainer.optimizer.slots;
    tensors(&dir.join(WEIGHTS), slots.iter().map(|s| (s.name.clone(), &s.master)).collect())?;
    let moments = slots.iter().flat_map(|s| {
        [(format!("exp_avg.{}", s.name), &s.exp_avg), (format!("exp_avg_sq.{}", s.name), &s.exp_avg_sq)]
    });
    tensors(&dir.join(OPTIMIZER), moments.collect())?;
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

/// The newest checkpoint of a run.
///
/// # Errors
/// A checkpoints folder that cannot be read.
pub fn latest(run: &RunFolder) -> Result<Option<PathBuf>> {
    Ok(run.checkpoints()?.pop().map(|c| c.path))
}

/// Puts a checkpoint back into a trainer that was made anew, after checking every digest. `inputs` is what this run is
/// made of.
///
/// # Errors
/// A damaged checkpoint, one of another run, or one that holds other tensors than are trained here. The trainer must
/// then be dropped.
pub fn load(dir: &Path, trainer: &mut Trainer, inputs: &BTreeMap<String, String>) -> Result<Saved> {
    let damaged = |path: PathBuf, reason: String| Error::Checkpoint { path, reason };
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read(&path).map_err(at(&path))
    };
    let manifest: BTreeMap<String, FileDigest> = serde_json::from_slice(&read(MANIFEST)?)
        .map_err(|e| damaged(dir.join(MANIFEST), format!("not a manifest: {e}")))?;
    for name in [WEIGHTS, OPTIMIZER, STATE] {
        let path = dir.join(name);
        let stated = manifest.get(name).ok_or_else(|| damaged(dir.join(MANIFEST), format!("does not list {name}")))?;
        let bytes = fs::metadata(&path).map_err(at(&path))?.len();
        if bytes != stated.bytes || digest_file(&path)? != stated.digest {
            let line = "damaged: size or digest differs from manifest.json; remove this checkpoint to resume from the \
                        one before";
            return Err(damaged(path, line.to_owned()));
        }
    }
    let saved: Saved = serde_json::from_slice(&read(STATE)?).map_err(|e| damaged(dir.join(STATE), e.to_string()))?;
    let names: std::collections::BTreeSet<&String> = saved.inputs.keys().chain(inputs.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|n| saved.inputs.get(*n) != inputs.get(*n))
        .map(|n| {
            let show = |m: &BTreeMap<String, String>| m.get(n).map_or("nothing", |v| &v[..v.len().min(24)]).to_owned();
            format!("{n} was {}, is {}", show(&saved.inputs), show(inputs))
        })
        .collect();
    if !differing.is_empty() {
        return Err(damaged(dir.to_owned(), format!("belongs to another run: {}", differing.join("; "))));
    }
    let weights = read(WEIGHTS)?;
    let moments = read(OPTIMIZER)?;
    let weights = parse(&weights, &dir.join(WEIGHTS))?;
    let moments = parse(&moments, &dir.join(OPTIMIZER))?;
    let slots = &mut trainer.optimizer.slots;
    if weights.len() != slots.len() || moments.len() != 2 * slots.len() {
        let line = format!("holds {} trained tensors, this run trains {}", weights.len(), slots.len());
        return Err(damaged(dir.join(WEIGHTS), line));
    }
    let _guard = tch::no_grad_guard();
    for slot in slots {
        let fill = |into: &mut Tensor, file: &SafeTensors, name: &str, path: PathBuf| {
            let view = file.tensor(name).map_err(|e| damaged(path.clone(), format!("`{name}`: {e}")))?;
            let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
            if view.dtype() != Dtype::F32 || shape != into.size() {
                let line = format!("`{name}` is {:?} {shape:?}, expected F32 {:?}", view.dtype(), into.size());
                return Err(damaged(path, line));
            }
            Ok(into.f_copy_(&Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?)?)
        };
        fill(&mut slot.master, &weights, &slot.name, dir.join(WEIGHTS))?;
        fill(&mut slot.exp_avg, &moments, &format!("exp_avg.{}", slot.name), dir.join(OPTIMIZER))?;
        fill(&mut slot.exp_avg_sq, &moments, &format!("exp_avg_sq.{}", slot.name), dir.join(OPTIMIZER))?;
        slot.publish();
    }
    trainer.optimizer.set_steps(saved.step);
    Ok(saved)
}

fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes)
        .map_err(|e| Error::Checkpoint { path: path.to_owned(), reason: format!("not a safetensors file: {e}") })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // A map of strings and numbers always has a JSON form.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Hands one tensor at a time to the writer, so that a checkpoint needs memory for one.
struct Lazy<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(bytes_of(self.tensor))
    }
    fn data_len(&self) -> usize {
        self.tensor.numel() * 4
    }
}

/// The little-endian bytes of a tensor of any kind and device.
pub(crate) fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

fn tensors(path: &Path, list: Vec<(String, &Tensor)>) -> Result<()> {
    let views = list.into_iter().map(|(name, tensor)| {
        let shape = tensor.size().iter().map(|&d| d as usize).collect();
        (name, Lazy { tensor, shape })
    });
    safetensors::serialize_to_file(views, None, path)
        .map_err(|e| Error::Checkpoint { path: path.to_owned(), reason: e.to_string() })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The library writes through a private temporary file; others may read checkpoints.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(at(path))?;
    }
    File::open(path).and_then(|f| f.sync_all()).map_err(at(path))
}

fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|f| f.sync_all()).map_err(at(dir))
}

/// The digest of a tensor as it lies in a checkpoint folder.
pub(crate) fn stored_digest(checkpoint: &Checkpoint, name: &str) -> Result<String> {
    Ok(llama_pro_checkpoint::digest(checkpoint.bytes(name)?))
}
