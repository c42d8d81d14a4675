//! The writer of model folders: deterministic, streaming, resumable, atomic.
//!
//! The same calls give the same bytes, whatever was there before and however often a run was killed. Names and
//! metadata are those of Hugging Face, so that a folder loads in transformers unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crate::carry;
use crate::config::ConfigFile;
use crate::copy::{Engine, Watch, empty, with_engine};
use crate::error::{Error, Result};
use crate::file::open_regular;
use crate::flush::Flusher;
use crate::folder::PartialFolder;
use crate::index::{self, is_plain_name};
use crate::plan::{self, PlannedFile};
use crate::tensor::{Source, Tensor};
use crate::weights::Weights;

/// How a folder is written.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// What the files hold, which decides their names.
    pub weights: Weights,
    /// A new shard begins where the next tensor would take the current one beyond this.
    pub max_shard_bytes: u64,
    /// Replace an output that is there already; the old one is removed last.
    pub force: bool,
    /// After an error, leave the partial folder for the next run to take up. Off, an error leaves nothing.
    pub keep_partial: bool,
    /// Wait until the bytes are on the disk before the folder gets its name. Off, a power cut right after the end
    /// can leave a damaged folder; a killed process never does.
    pub durable: bool,
    /// Raised from outside to stop: the write ends with [`Error::Cancelled`] within one block.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            max_shard_bytes: 5_000_000_000,
            force: false,
            keep_partial: false,
            durable: true,
            cancel: None,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Tensor name to the digest of its bytes, in the spelling of [`crate::digest`].
    pub digests: BTreeMap<String, String>,
    /// Bytes of all files of the folder.
    pub bytes: u64,
    /// Of these, bytes of shards that an earlier, killed run had written already.
    pub resumed: u64,
}

/// Writes a model folder. Dropped before [`Self::finish`], it leaves nothing behind.
pub struct FolderWriter {
    folder: PartialFolder,
    options: WriteOptions,
    names: BTreeSet<String>,
    written: Written,
    has_tensors: bool,
}

/// Room for small files beside the weights when free space is checked.
const SLACK: u64 = 1 << 20;

impl FolderWriter {
    /// Begins the folder `out`, whose parent must be there. Refuses an existing one unless forced, and a folder
    /// that another process is writing now. Forced, only a model folder (or an empty one) is replaced.
    pub fn new(out: &Path, options: WriteOptions) -> Result<Self> {
        let folder = PartialFolder::new(out, options.force, options.keep_partial)?;
        let (names, written) = (BTreeSet::new(), Written::default());
        Ok(Self { folder, options, names, written, has_tensors: false })
    }

    /// Writes `config.json`.
    pub fn config(&mut self, config: &ConfigFile) -> Result<()> {
        self.file("config.json", config.to_json().as_bytes())
    }

    /// Copies the tokenizer, generation, licence and card files of another model folder, and names them. What
    /// was written by name before is kept. Not copied: weights, pickles, `config.json`, `expansion.json`, hidden
    /// files, folders, and files beyond 256 MiB.
    pub fn carry(&mut self, from: &Path) -> Result<Vec<String>> {
        self.check_source(from)?;
        let names: Vec<_> =
            carry::names(from)?.into_iter().filter(|name| !self.names.contains(name)).collect();
        for name in &names {
            let (mut source, _) = open_regular(&from.join(name))?;
            self.small(name, &mut source)?;
        }
        Ok(names)
    }

    /// Writes a small file under a plain name; a second call with the same name replaces the first.
    pub fn file(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        if !is_plain_name(name) || name.ends_with(".safetensors") {
            return Err(Error::usage(
                self.folder.out(),
                format!("{name:?} is no name for a file beside the weights"),
            ));
        }
        self.small(name, &mut bytes)
    }

    /// Writes all tensors: `model.safetensors` (or what [`Weights`] names), or shards with their index. Shards that an
    /// earlier run left in the partial folder are kept when they hold exactly the bytes that would be written.
    /// `progress` is called on this thread with the number of bytes done since its last call. To be called once.
    pub fn tensors(&mut self, tensors: Vec<Tensor<'_>>, progress: &dyn Fn(u64)) -> Result<()> {
        let out = self.folder.out().to_path_buf();
        if self.has_tensors {
            return Err(Error::usage(&out, "the tensors are written already"));
        }
        if tensors.is_empty() {
            return Err(Error::usage(&out, "a checkpoint needs a tensor"));
        }
        for tensor in &tensors {
            if let Source::Copy { checkpoint, .. } = &tensor.source {
                self.check_source(checkpoint.dir())?;
            }
        }
        let plan = plan::shards(&out, tensors, self.options.max_shard_bytes, self.options.weights)?;
        self.check_space(&plan)?;
        let watch = Watch { progress, cancel: self.options.cancel.as_deref(), out: &out };
        let dir = self.folder.path().to_path_buf();
        let durable = self.options.durable;
        let (resumed, digests) = with_engine(watch, |engine| write_all(engine, &dir, &plan, durable))?;
        self.written.resumed = resumed;
        self.written.bytes += plan.iter().map(|file| file.size).sum::<u64>();
        self.written.digests = digests;
        self.names.extend(plan.iter().map(|file| file.name.clone()));
        if plan.len() > 1 {
            let map = plan.iter().flat_map(|file| {
                file.tensors.iter().map(|planned| (planned.tensor.name.clone(), file.name.clone()))
            });
            let total = plan.iter().flat_map(|file| &file.tensors).map(|planned| planned.len).sum();
            let index = index::build(total, &map.collect());
            self.file(&self.options.weights.index(), index.as_bytes())?;
        }
        self.has_tensors = true;
        Ok(())
    }

    /// The digests of the tensors, known once they are written, for manifests in the same folder.
    pub fn digests(&self) -> &BTreeMap<String, String> {
        &self.written.digests
    }

    /// Puts the folder in its place. Needs a configuration and tensors.
    pub fn finish(self) -> Result<Written> {
        let out = self.folder.out();
        if !self.has_tensors || !self.names.contains("config.json") {
            return Err(Error::usage(out, "a model folder needs config.json and tensors"));
        }
        self.remove_strays()?;
        self.folder.commit(self.options.durable)?;
        Ok(self.written)
    }

    fn small(&mut self, name: &str, source: &mut dyn io::Read) -> Result<()> {
        let path = self.folder.path().join(name);
        let fail = |e| Error::io("write", &path, e);
        let mut file = create(&path)?;
        empty(&file).map_err(fail)?;
        let len = io::copy(source, &mut file).map_err(fail)?;
        if self.options.durable {
            file.sync_all().map_err(fail)?;
        }
        if self.names.insert(name.to_owned()) {
            self.written.bytes += len;
        }
        Ok(())
    }

    /// What an earlier run left and this one did not write.
    fn remove_strays(&self) -> Result<()> {
        let dir = self.folder.path();
        let fail = |e| Error::io("clean", dir, e);
        for entry in fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let known = entry.file_name().to_str().is_some_and(|name| self.names.contains(name));
            if !known {
                let is_dir = entry.file_type().map_err(fail)?.is_dir();
                if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
                    .map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Replacing a folder by something made from it would lose the original when it is wrong.
    fn check_source(&self, from: &Path) -> Result<()> {
        let (Ok(from), Ok(out)) = (from.canonicalize(), self.folder.out().canonicalize()) else {
            return Ok(());
        };
        if from.starts_with(&out) {
            let reason = "what is written is made from it".to_owned();
            return Err(Error::NotReplaced { path: out, reason });
        }
        Ok(())
    }

    fn check_space(&self, plan: &[PlannedFile<'_>]) -> Result<()> {
        let Some(available) = self.folder.free_bytes() else { return Ok(()) };
        let there = |file: &PlannedFile<'_>| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(self.folder.path().join(&file.name)).map_or(0, |meta| meta.blocks() * 512)
        };
        let needed = plan.iter().map(|file| file.stored().saturating_sub(there(file))).sum::<u64>() + SLACK;
        if needed > available {
            let path = self.folder.out().into();
            return Err(Error::NoSpace { path, needed, available: Some(available) });
        }
        Ok(())
    }
}

/// Every file, flushed in the background; gives the bytes that were there already.
fn write_all<'p>(
    engine: &mut Engine<'p>,
    dir: &Path,
    plan: &'p [PlannedFile<'p>],
    durable: bool,
) -> Result<u64> {
    thread::scope(|scope| {
        let flusher = durable.then(|| Flusher::start(scope));
        let mut resumed = 0;
        for planned in plan {
            let path = dir.join(&planned.name);
            let file = Arc::new(create(&path)?);
            if engine.holds(&path, &file, planned)? {
                resumed += planned.size;
            } else {
                let begin =
                    |range| flusher.iter().for_each(|flusher| flusher.begin(&file, Range::clone(&range)));
                engine.write(&path, &file, planned, &begin)?;
            }
            if let Some(flusher) = &flusher {
                flusher.finish(file);
            }
        }
        flusher.map_or(Ok(()), Flusher::wait).map_err(|e| Error::io("write", dir, e))?;
        Ok(resumed)
    })
}

/// Opens a file for writing without emptying it, with mode 0644 whatever the umask says. What is no regular
/// file, such as a symbolic link planted in the partial folder, is removed first.
fn create(path: &PathBuf) -> Result<File> {
    let fail = |e| Error::io("create", path, e);
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        fs::remove_file(path).map_err(fail)?;
    }
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
    file.set_permissions(Permissions::from_mode(0o644)).map_err(fail)?;
    Ok(file)
}
