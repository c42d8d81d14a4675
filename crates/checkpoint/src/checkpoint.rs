//! A folder of safetensors, checked and mapped; no tensor is read until it is asked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapMut;

use crate::config::ConfigFile;
use crate::error::{Error, Result};
use crate::file::{TensorFile, read_text};
use crate::index::{Index, parse_index};
use crate::tensor::TensorInfo;
use crate::weights::Weights;

/// A Hugging Face model folder: its configuration and its weights.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: ConfigFile,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
}

/// One file of weights.
#[derive(Debug)]
pub struct Shard {
    name: String,
    file: TensorFile,
}

/// A weight map has some hundred bytes per tensor.
const LARGEST_INDEX: u64 = 512 << 20;

impl Checkpoint {
    /// Opens a model folder and checks everything that can be checked without reading the weights.
    ///
    /// `model.safetensors` is taken where it is there, else the shards of `model.safetensors.index.json`, in
    /// this order because transformers does so. Refused: a missing folder or file, damaged JSON, every fault of
    /// a header that [`crate::parse_header`] names, an index and shards that disagree in either direction, a
    /// tensor in two shards, and folders that hold pickle files only.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_weights(dir, Weights::Model)
    }

    /// [`Self::open`] for a folder whose files hold something else than a whole model.
    pub fn open_weights(dir: &Path, weights: Weights) -> Result<Self> {
        let config = ConfigFile::read(dir)?;
        let single = dir.join(weights.single());
        let index = dir.join(weights.index());
        if is_there(&single)? {
            let shards = vec![Shard { name: weights.single(), file: TensorFile::open(&single)? }];
            let tensors = collect(&shards)?;
            Ok(Self { dir: dir.into(), config, shards, tensors })
        } else if is_there(&index)? {
            let parsed = parse_index(&index, &read_text(&index, LARGEST_INDEX)?)?;
            let shards = open_shards(dir, &index, &parsed)?;
            let tensors = collect(&shards)?;
            compare(&index, &parsed, &shards, &tensors)?;
            Ok(Self { dir: dir.into(), config, shards, tensors })
        } else {
            Err(no_weights(dir, weights))
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its `config.json`.
    pub fn config(&self) -> &ConfigFile {
        &self.config
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dtype, shape and place of a tensor; the error names the folder and the tensor.
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| Error::tensor(&self.dir, name, "is not in this checkpoint"))
    }

    /// The bytes of a tensor, in the mapping of its shard.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.shards[self.info(name)?.shard].file.bytes(name)
    }

    /// The mapping of a tensor's shard and the tensor's range in it, for tensors that share this memory. They
    /// must never be written: the mapping is read-only.
    pub fn mapped(&self, name: &str) -> Result<(Arc<MmapMut>, Range<usize>)> {
        self.shards[self.info(name)?.shard].file.mapped(name)
    }

    /// Bytes of all tensors, without headers.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.len).sum()
    }

    /// The files of weights, in the order of their names.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The `__metadata__` of the first file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.shards[0].file.metadata()
    }
}

impl Shard {
    /// The plain file name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its size in bytes, header included.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// Its header and bytes.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }
}

/// False where nothing of that name is; a symbolic link that leads nowhere is an error when it is opened.
fn is_there(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

fn open_shards(dir: &Path, index_path: &Path, index: &Index) -> Result<Vec<Shard>> {
    let mut names: Vec<_> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    let open = |name: &String| match TensorFile::open(&dir.join(name)) {
        Ok(file) => Ok(Shard { name: name.clone(), file }),
        Err(Error::Missing { path, .. }) => {
            let note = Some(format!("a shard that {} names", index_path.display()));
            Err(Error::Missing { path, note })
        }
        Err(other) => Err(other),
    };
    names.into_iter().map(open).collect()
}

fn collect(shards: &[Shard]) -> Result<BTreeMap<String, TensorInfo>> {
    let mut all = BTreeMap::new();
    for (shard, Shard { file, .. }) in shards.iter().enumerate() {
        for tensor in file.tensors() {
            let info = TensorInfo {
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                shard,
                offset: file.data_begin() + tensor.begin,
                len: tensor.end - tensor.begin,
            };
            match all.entry(tensor.name.clone()) {
                Entry::Vacant(place) => {
                    place.insert(info);
                }
                Entry::Occupied(first) => {
                    let problem = format!("is also in {}", shards[first.get().shard].name);
                    return Err(Error::tensor(file.path(), &tensor.name, problem));
                }
            }
        }
    }
    Ok(all)
}

/// The index and the headers must say the same, in both directions.
fn compare(
    path: &Path,
    index: &Index,
    shards: &[Shard],
    tensors: &BTreeMap<String, TensorInfo>,
) -> Result<()> {
    for (name, file) in &index.weight_map {
        match tensors.get(name).map(|info| &shards[info.shard].name) {
            None => return Err(Error::tensor(path, name, format!("is not in {file}, nor in another shard"))),
            Some(actual) if actual != file => {
                return Err(Error::tensor(path, name, format!("is in {actual}, not in {file}")));
            }
            Some(_) => {}
        }
    }
    match tensors.iter().find(|(name, _)| !index.weight_map.contains_key(*name)) {
        Some((name, info)) => {
            let problem = format!("is not listed in {}", path.display());
            Err(Error::tensor(shards[info.shard].path(), name, problem))
        }
        None => Ok(()),
    }
}

/// Says what lies in a folder instead of weights that can be read.
fn no_weights(dir: &Path, wanted: Weights) -> Error {
    let mut names: Vec<String> = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(e) => return Error::io("read", dir, e),
    };
    names.sort_unstable();
    let missing = wanted.single();
    let begins = |stem: Weights| names.iter().any(|name| name.starts_with(stem.stem()));
    if wanted == Weights::Model && begins(Weights::NewBlocks) {
        let hint =
            " (it holds new blocks alone: `expand BASE OUT --delta` puts them into their base)".to_owned();
        return Error::NoWeights { dir: dir.into(), missing, hint };
    }
    if let Some(other) = names.iter().find(|name| name.ends_with(".safetensors")) {
        return Error::NoWeights {
            dir: dir.into(),
            missing,
            hint: format!(" (there is {other}, which is neither)"),
        };
    }
    let by_ending = |ending: &&str| names.iter().find(|name| name.ends_with(ending));
    match [".bin.index.json", ".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().find_map(by_ending) {
        Some(pickle) => Error::Pickle { path: dir.join(pickle) },
        None => Error::NoWeights { dir: dir.into(), missing, hint: String::new() },
    }
}
