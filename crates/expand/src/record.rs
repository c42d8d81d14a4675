//! `expansion.json`: which blocks are new, what each was copied from, what is zero, and the digest of every tensor.
//!
//! The record is the one source of truth for the trainer's freeze set, for `verify` and for `strip`: nothing is
//! guessed from layer counts or folder names. It is a history: each expansion of the same folder adds a generation,
//! written in the block numbers of its own time, and the numbers of today follow by composing the maps. It holds no
//! time and no path, so that the same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use llama_pro_checkpoint::{Checkpoint, Dtype};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config;
use crate::error::{Error, Result};
use crate::history::{is_digest, positions};
use crate::names::{self, Place};
use crate::placement::{Placement, PlannedLayer};

/// The record's file name in the folder.
pub const FILE_NAME: &str = "expansion.json";
pub(crate) const FORMAT: &str = "llama-pro-expansion/1";
pub(crate) const TOOL: &str = concat!("llama-pro-expand ", env!("CARGO_PKG_VERSION"));
/// A record of 65,536 blocks is smaller; a larger file is something else and is not read into memory.
const MAX_BYTES: u64 = 512 << 20;

/// The record beside an expanded model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expansion {
    pub(crate) format: String,
    pub(crate) tool: String,
    pub(crate) base: Base,
    /// The new blocks of all generations, as the model lies there.
    pub(crate) new_blocks: Vec<usize>,
    pub(crate) generations: Vec<Generation>,
    /// Digest of the value of config.json.
    pub(crate) config: String,
    /// Tensors outside the new blocks that training changed on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unfrozen: Vec<String>,
    pub(crate) tensors: BTreeMap<String, TensorRecord>,
}

/// The model before the first expansion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Base {
    /// See [`model_digest`](crate::model_digest).
    pub(crate) digest: String,
    pub(crate) layers: usize,
}

/// One expansion, in the block numbers of the model that it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    pub(crate) placement: Placement,
    pub(crate) state: State,
    /// Digest of the model that was expanded.
    pub(crate) source: String,
    pub(crate) layers: Vec<PlannedLayer>,
    pub(crate) zeroed: Vec<String>,
    /// The former values of the configuration keys that changed.
    pub(crate) config_before: Map<String, Value>,
}

impl Generation {
    /// The placement as asked.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether its blocks have been trained since.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The digest of the model that it grew from.
    #[must_use]
    pub fn source_digest(&self) -> &str {
        &self.source
    }

    /// Its blocks, in the numbers of the model that it made.
    #[must_use]
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }
}

/// Whether new blocks are still the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Copies with zeroed outputs.
    Untrained,
    /// Trained: only their names, types and shapes are known.
    Trained,
}

/// What is recorded of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorRecord {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) digest: String,
}

/// Where a block of the model as it lies there comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The block's index.
    pub block: usize,
    /// The block of the first base that it descends from.
    pub base: usize,
    /// The generation (from 1) that added it; `None` for a block of the base.
    pub generation: Option<usize>,
    /// The block that it was copied from, as the model lies there; `None` for a block of the base.
    pub copy_of: Option<usize>,
}

impl Expansion {
    /// Reads the record of a folder; `None` when there is none.
    ///
    /// # Errors
    /// A file that cannot be read, is not this format, or contradicts itself.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        let io = |source| Error::Io { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            // A link that leads nowhere is an error of the open below, and a pipe would wait for ever.
            Ok(meta) if meta.is_file() || meta.is_symlink() => {}
            Ok(_) => return Err(Error::Record { path, reason: "it is no regular file".to_owned() }),
        }
        let file = fs::File::open(&path).map_err(io)?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
        Self::from_json(&path, &text).map(Some)
    }

    /// Reads a record from its text; `path` is for messages.
    ///
    /// # Errors
    /// Text that is not this format, or contradicts itself.
    pub fn from_json(path: &Path, text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::Record { path: path.to_owned(), reason };
        let format = serde_json::from_str::<FormatOnly>(text).map_err(|error| invalid(error.to_string()))?;
        if format.format != FORMAT {
            return Err(invalid(format!("format: expected {FORMAT}, found {:.60}", format.format)));
        }
        let record: Self = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        record.validate().map_err(invalid)?;
        Ok(record)
    }

    /// The record's text: the same record gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[expect(clippy::expect_used, reason = "maps with string keys and plain fields always serialize")]
        let mut text = serde_json::to_string_pretty(self).expect("a record serializes");
        text.push('\n');
        text
    }

    /// The indices of the new blocks of all generations in the model as it lies there, ascending.
    #[must_use]
    pub fn new_blocks(&self) -> Vec<usize> {
        self.new_blocks.clone()
    }

    /// The number of blocks of the model as it lies there.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.generations.last().map_or(self.base.layers, |last| last.layers.len())
    }

    /// The number of blocks of the model before the first expansion.
    #[must_use]
    pub fn base_layers(&self) -> usize {
        self.base.layers
    }

    /// The digest of the model before the first expansion; see [`model_digest`](crate::model_digest).
    #[must_use]
    pub fn base_digest(&self) -> &str {
        &self.base.digest
    }

    /// The expansions, first to last.
    #[must_use]
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The exact names of every weight of the new blocks, sorted: what the trainer trains. Buffers that old files
    /// carry are no weights.
    #[must_use]
    pub fn trained_names(&self) -> Vec<String> {
        let trained = |name: &&String| self.is_in_new_block(name) && !names::is_buffer(name);
        self.tensors.keys().filter(trained).cloned().collect()
    }

    /// The exact names of the tensors that expansion set to zero, in the model as it lies there, sorted.
    #[must_use]
    pub fn zeroed_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            (0..self.generations.len()).flat_map(|generation| self.zeroed_of(generation)).collect();
        names.sort_unstable();
        names
    }

    /// The tensors outside the new blocks that training changed on purpose, sorted.
    #[must_use]
    pub fn unfrozen_names(&self) -> &[String] {
        &self.unfrozen
    }

    /// The recorded digest of a tensor.
    #[must_use]
    pub fn digest(&self, tensor: &str) -> Option<&str> {
        self.tensors.get(tensor).map(|record| record.digest.as_str())
    }

    /// Whether any block has been trained since it was added.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.generations.iter().any(|generation| generation.state == State::Trained)
    }

    /// Where each block of the model as it lies there comes from.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let mut origins: Vec<Origin> = (0..self.base.layers)
            .map(|block| Origin { block, base: block, generation: None, copy_of: None })
            .collect();
        for (number, generation) in self.generations.iter().enumerate() {
            let moved = positions(&generation.layers);
            origins = generation
                .layers
                .iter()
                .map(|layer| {
                    let source = &origins[layer.source];
                    if layer.new {
                        let copy_of = Some(moved[layer.source]);
                        Origin {
                            block: layer.index,
                            base: source.base,
                            generation: Some(number + 1),
                            copy_of,
                        }
                    } else {
                        let copy_of = source.copy_of.map(|block| moved[block]);
                        Origin { block: layer.index, copy_of, ..*source }
                    }
                })
                .collect();
        }
        origins
    }

    /// The record to write beside trained weights: the digests given replace the recorded ones, and the new blocks
    /// count as trained. Tensors that are not named keep their digest: they were frozen. A changed tensor outside
    /// the new blocks (full fine-tuning) is recorded as unfrozen on purpose.
    ///
    /// # Errors
    /// A name that the record does not have, or a digest that is none.
    pub fn mark_trained(&self, digests: &BTreeMap<String, String>) -> Result<Self> {
        let invalid = |reason| Error::Record { path: FILE_NAME.into(), reason };
        let mut record = self.clone();
        let mut unfrozen: BTreeSet<String> = record.unfrozen.drain(..).collect();
        for (name, digest) in digests {
            if !is_digest(digest) {
                return Err(invalid(format!("trained tensor {name}: {digest:.80} is not a digest")));
            }
            let Some(tensor) = record.tensors.get_mut(name) else {
                return Err(invalid(format!("trained tensor {name} is not in the record")));
            };
            if tensor.digest != *digest {
                tensor.digest.clone_from(digest);
                if !self.is_in_new_block(name) {
                    unfrozen.insert(name.clone());
                }
            }
        }
        record.unfrozen = unfrozen.into_iter().collect();
        for generation in &mut record.generations {
            generation.state = State::Trained;
        }
        Ok(record)
    }

    /// Whether the folder's configuration and tensors (names, types, shapes) are the recorded ones. Digests are
    /// [`verify`](crate::verify())'s.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let disagrees = |reason: String| Error::Disagrees { path: checkpoint.dir().join(FILE_NAME), reason };
        let layers = config::layer_count(checkpoint.config().path(), checkpoint.config().raw())?;
        if layers != self.layers() {
            return Err(disagrees(format!("config.json has {layers} blocks, the record {}", self.layers())));
        }
        for key in self.generations.iter().flat_map(|generation| generation.config_before.keys()) {
            let value = checkpoint.config().raw().get(key);
            if let Some(list) = value.and_then(Value::as_array).filter(|list| list.len() != layers) {
                return Err(disagrees(format!(
                    "{key} in config.json has {} entries, not {layers}",
                    list.len()
                )));
            }
        }
        let mut there = BTreeSet::new();
        for name in checkpoint.names() {
            let info = checkpoint.info(name)?;
            let Some(record) = self.tensors.get(name) else {
                return Err(disagrees(format!("tensor {name} is in the folder and not in the record")));
            };
            if record.dtype != info.dtype || record.shape != info.shape {
                return Err(disagrees(format!(
                    "tensor {name} is {:?} {:?} in the folder and {:?} {:?} in the record",
                    info.dtype, info.shape, record.dtype, record.shape
                )));
            }
            there.insert(name);
        }
        match self.tensors.keys().find(|name| !there.contains(name.as_str())) {
            Some(name) => Err(disagrees(format!("tensor {name} is in the record and not in the folder"))),
            None => Ok(()),
        }
    }

    /// Whether a tensor belongs to a new block of the model as it lies there.
    #[must_use]
    pub fn is_in_new_block(&self, name: &str) -> bool {
        match names::place(name) {
            Place::Block(index, _) => self.new_blocks.binary_search(&index).is_ok(),
            _ => false,
        }
    }
}

/// Only the format, so that a record of another version is told from a broken one.
#[derive(Deserialize)]
struct FormatOnly {
    format: String,
}
