//! Training checkpoints: trained weights, optimizer state and the place in the run, complete or absent.
//!
//! `checkpoints/step-NNNNNNNN/` holds `weights.safetensors` (float32 masters), `optimizer.safetensors`, `state.json` and,
//! written last, `manifest.json` with the size and digest of each. The folder is built under another name and renamed,
//! and renamed away before it is removed, so a kill leaves either all of it or nothing that looks like it. Frozen weights
//! have no place in it. Tensors are written and read one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use llama_pro_checkpoint::{Dtype, Source, Tensor, TensorFile, write_tensor_file};
use llama_pro_model::guarded;
use llama_pro_run::{RunFolder, digest_file, write_atomic};
use llama_pro_torch_ext::tensor_over_mapping;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::error::at;
use crate::export::{bytes_of, lazy};
use crate::folders::{exchange, partial_of, retire};
use crate::moments::Moments;
use crate::optimizer::Slot;
use crate::trainer::Trainer;
use crate::{Error, Result};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
/// What the manifest lists.
const FILES: [&str; 3] = [WEIGHTS, OPTIMIZER, STATE];

/// Where a run stands. The data order needs nothing but the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Steps taken, the skipped ones included.
    pub step: u64,
    /// Input tokens read.
    pub tokens: u64,
    /// Seconds of training, over all runs so far.
    pub seconds: f64,
    /// Steps whose update was skipped as an outlier.
    #[serde(default)]
    pub skipped: u64,
    /// Loss and gradient norm of the last steps, for judging the next ones; empty where none are judged.
    #[serde(default)]
    pub recent: Vec<(f64, f64)>,
    /// Whether a look at held-out rows, due after this step, was left for the next start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub look_due: bool,
    /// The best validation so far.
    #[serde(default)]
    pub best: Option<Best>,
    /// Validations since then.
    #[serde(default)]
    pub stale: u64,
    /// What the run was made of: name to value or digest. A resume with anything else is refused.
    pub inputs: BTreeMap<String, String>,
}

/// A validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken before it.
    pub step: u64,
    /// Nats per token of what is monitored.
    pub nats: f64,
}

#[derive(Serialize, Deserialize)]
struct FileDigest {
    bytes: u64,
    digest: String,
}

/// Everything of a checkpoint, in memory: either the trainer's own tensors or a copy of them. Moments stay as they are kept,
/// and become float32 one at a time while they are written.
pub(crate) struct Snapshot {
    slots: Vec<State>,
    saved: Saved,
}

/// Of one trained weight.
struct State {
    name: String,
    master: tch::Tensor,
    /// A tensor may be moved between threads but not shared; the lock makes sharing safe.
    moments: Arc<Mutex<Moments>>,
}

impl Snapshot {
    /// The state of a trainer. With `copy`, training may go on while it is written.
    ///
    /// # Errors
    /// No memory for the copy.
    pub(crate) fn of(trainer: &Trainer, saved: &Saved, copy: bool) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let take = |t: &tch::Tensor| match copy {
            true if t.device() == tch::Device::Cpu => t.detach().copy(),
            true => t.detach().to_device(tch::Device::Cpu),
            false => t.detach(),
        };
        let slots = guarded(Error::Torch, || {
            let state = |s: &Slot| State {
                name: s.name.clone(),
                master: take(&s.master),
                moments: Arc::new(Mutex::new(s.moments.map(&take))),
            };
            Ok(trainer.optimizer.slots.iter().map(state).collect())
        })?;
        Ok(Self { slots, saved: saved.clone() })
    }

    /// Writes it as the folder `target`, then removes `old` ones. A complete one of the same step is left as it is, since the
    /// same step of the same run has the same bytes; but for one that still waits for its look at held-out rows, whose place
    /// the one that has had it takes.
    ///
    /// # Errors
    /// Whatever the disk says; nothing half-written is left under the final name.
    pub(crate) fn write(&self, target: &Path, old: &[PathBuf]) -> Result<()> {
        if !is_written(target, &self.saved) {
            let there = target.join(MANIFEST).exists();
            let partial = partial_of(target);
            if !there {
                retire(target)?;
            }
            let result = self.fill(&partial).and_then(|()| {
                match there {
                    true => exchange(&partial, target).map_err(at(target))?,
                    false => fs::rename(&partial, target).map_err(at(target))?,
                }
                sync(target.parent().unwrap_or(target))
            });
            if there || result.is_err() {
                let _ = fs::remove_dir_all(&partial);
            }
            result?;
        }
        old.iter().try_for_each(|path| retire(path))
    }

    fn fill(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let entry = |name: String, state: &State, source| {
            let shape = state.master.size().iter().map(|&d| d as usize).collect();
            Tensor { name, dtype: Dtype::F32, shape, source }
        };
        let weights = self.slots.iter().map(|s| entry(s.name.clone(), s, lazy(&s.master))).collect();
        write_tensor_file(&dir.join(WEIGHTS), &BTreeMap::new(), weights)?;
        let moments = self.slots.iter().flat_map(|s| {
            [("exp_avg", false), ("exp_avg_sq", true)].map(|(key, second)| {
                let (moments, shape) = (Arc::clone(&s.moments), s.master.size());
                let read = move || {
                    let moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes_of(&moments.read_one(second, &shape))
                };
                entry(format!("{key}.{}", s.name), s, Source::Lazy(Box::new(read)))
            })
        });
        write_tensor_file(&dir.join(OPTIMIZER), &BTreeMap::new(), moments.collect())?;
        write_atomic(&dir.join(STATE), &json(&self.saved))?;
        let mut manifest = BTreeMap::new();
        for name in FILES {
            let path = dir.join(name);
            let bytes = fs::metadata(&path).map_err(at(&path))?.len();
            manifest.insert(name, FileDigest { bytes, digest: digest_file(&path)? });
        }
        write_atomic(&dir.join(MANIFEST), &json(&manifest))?;
        sync(dir)
    }
}

/// Whether the folder of a step holds what would be written there. A checkpoint that waits for its look at held-out rows is
/// not that of a run that has had it.
pub(crate) fn is_written(target: &Path, saved: &Saved) -> bool {
    let there = || serde_json::from_slice::<Saved>(&fs::read(target.join(STATE)).ok()?).ok();
    target.join(MANIFEST).exists() && there().is_some_and(|there| saved.look_due || !there.look_due)
}

/// Checkpoints that have a manifest, the newest first.
pub(crate) fn complete(run: &RunFolder) -> Result<Vec<PathBuf>> {
    let paths = run.checkpoints()?.into_iter().rev().map(|c| c.path);
    Ok(paths.filter(|path| path.join(MANIFEST).exists()).collect())
}

/// Goes back to the newest checkpoint that is whole; `None` where the run has none at all. Damaged ones on the way are
/// named in the log and moved aside, to `step-NNNNNNNN.damaged`, so that the run can write that step again.
///
/// # Errors
/// No checkpoint that is whole though there are some, or one of another run: its difference is named.
pub fn resume(
    run: &RunFolder,
    trainer: &mut Trainer,
    inputs: &BTreeMap<String, String>,
) -> Result<Option<Saved>> {
    let mut damaged: Vec<(PathBuf, Error)> = Vec::new();
    for checkpoint in run.checkpoints()?.into_iter().rev() {
        if let Err(error) = check_files(&checkpoint.path) {
            damaged.push((checkpoint.path, error));
            continue;
        }
        let saved = restore(&checkpoint.path, trainer, inputs)?;
        for (path, error) in damaged {
            let aside = path.with_extension("damaged");
            tracing::error!("{error}; going on from step {}, it is moved to {}", saved.step, aside.display());
            if aside.exists() {
                fs::remove_dir_all(&aside).map_err(at(&aside))?;
            }
            fs::rename(&path, &aside).map_err(at(&path))?;
        }
        return Ok(Some(saved));
    }
    match damaged.into_iter().next() {
        None => Ok(None),
        Some((_, Error::Checkpoint { path, reason })) => Err(Error::Checkpoint {
            path,
            reason: format!(
                "{reason}; no other checkpoint is whole. Remove the folder checkpoints to begin again"
            ),
        }),
        Some((_, error)) => Err(error),
    }
}

/// Puts a checkpoint back into a trainer that was made anew, after checking every digest. `inputs` is what this run is
/// made of.
///
/// # Errors
/// A damaged checkpoint, one of another run, or one that holds other tensors than are trained here. The trainer must
/// then be dropped.
pub fn load(dir: &Path, trainer: &mut Trainer, inputs: &BTreeMap<String, String>) -> Result<Saved> {
    check_files(dir)?;
    restore(dir, trainer, inputs)
}

/// [`load`] of a checkpoint whose files are known to be whole.
fn restore(dir: &Path, trainer: &mut Trainer, inputs: &BTreeMap<String, String>) -> Result<Saved> {
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
            slot.master.f_copy_(&stored(&weights, &slot.name, &slot.weight.size())?)?;
            let shape = slot.weight.size();
            let read = |name: &str| stored(&moments, &format!("{name}.{}", slot.name), &shape);
            slot.moments.write([&read("exp_avg")?, &read("exp_avg_sq")?]);
            slot.publish();
        }
        Ok(())
    })?;
    trainer.optimizer.set_steps(saved.step - saved.skipped.min(saved.step));
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
    for name in FILES {
        let stated = manifest.get(name).ok_or_else(|| damaged(&path, format!("does not list {name}")))?;
        let file = dir.join(name);
        let bytes = fs::metadata(&file).map_err(at(&file))?.len();
        if bytes != stated.bytes || digest_file(&file)? != stated.digest {
            return Err(damaged(&file, "damaged: size or digest differs from manifest.json".to_owned()));
        }
    }
    Ok(())
}

/// Refuses to go on with anything but what the run was made of, and says what differs.
fn same_inputs(dir: &Path, then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Result<()> {
    let differing = differences(then, now);
    match differing.is_empty() {
        true => Ok(()),
        false => Err(damaged(dir, format!("belongs to another run: {}", differing.join("; ")))),
    }
}

/// What differs between two descriptions of a run, as `key was OLD, is NEW`.
pub fn differences(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    // A digest says no more in full; a value must not fill the screen.
    let short = |value: Option<&String>| match value {
        None => "not there".to_owned(),
        Some(v) if v.starts_with("blake3:") => v.chars().take(19).collect(),
        Some(v) if v.chars().count() > 80 => v.chars().take(77).chain("...".chars()).collect(),
        Some(v) => v.clone(),
    };
    let differing = names.into_iter().filter(|n| then.get(*n) != now.get(*n));
    differing.map(|n| format!("{n} was {}, is {}", short(then.get(n)), short(now.get(n)))).collect()
}

/// A stored float32 tensor, over the mapped file.
fn stored(file: &TensorFile, name: &str, expected: &[i64]) -> Result<tch::Tensor> {
    let info = file.info(name)?;
    let shape: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
    if info.dtype != Dtype::F32 || shape != expected {
        let line = format!("`{name}` is {:?} {shape:?}, expected F32 {expected:?}", info.dtype);
        return Err(damaged(file.path(), line));
    }
    let (mapping, range) = file.mapped(name)?;
    Ok(tensor_over_mapping(mapping, range, &shape, Kind::Float)?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::{Keep, MicroBatch, MomentKind, TrainConfig};
    use llama_pro_checkpoint::ConfigFile;
    use llama_pro_model::{Llama, LoadOptions, Trained};
    use llama_pro_torch_ext::MemoryMeter;

    /// The copy that the plan of memory counts is the copy that is made, whatever the moments are kept in.
    #[test]
    fn a_copy_takes_what_is_planned() {
        let text = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":128,
            "intermediate_size":352,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":1000,
            "max_position_embeddings":256,"rms_norm_eps":1e-5,"hidden_act":"silu","tie_word_embeddings":false}"#;
        let config = ConfigFile::from_json(Path::new("config.json"), text).unwrap().llama().unwrap();
        for (kind, moments) in [(Kind::Float, MomentKind::Float32), (Kind::BFloat16, MomentKind::Eight)] {
            let options = LoadOptions { trained: Trained::All, kind: Some(kind), ..LoadOptions::default() };
            let model = Llama::random(config.clone(), &options).unwrap();
            let dtype = if kind == Kind::Float { crate::Dtype::F32 } else { crate::Dtype::Bf16 };
            let train = TrainConfig { moments, dtype, ..TrainConfig::new(1, 1, 1e-3) };
            let trainer = Trainer::new(model, None, &train, Keep::default()).unwrap();
            let micro = MicroBatch::tokens(&tch::Tensor::zeros([1, 8], (Kind::Int64, tch::Device::Cpu)));
            let planned = trainer.memory_plan(&micro).snapshot;
            let meter = MemoryMeter::start().unwrap();
            let snapshot = Snapshot::of(&trainer, &Saved::default(), true).unwrap();
            let measured = meter.read().unwrap().0 as f64;
            assert!((planned as f64 / measured - 1.0).abs() < 0.01, "{planned} planned, {measured} measured");
            drop(snapshot);
        }
    }
}
