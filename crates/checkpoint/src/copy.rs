//! Tensors into files, in constant memory, hashed on the way.
//!
//! What is copied from another checkpoint comes in blocks from a second thread (`ahead`); what lies in memory is
//! written as it is. Zero tensors are left as holes of the file, which read as zeros and cost neither time nor
//! space; their digests are made once per size.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::ahead::{Ahead, BLOCK, Outcome, Sink, blocks};
use crate::error::{Error, Result};
use crate::file::TensorFile;
use crate::plan::{PlannedFile, PlannedTensor};
use crate::tensor::{Source, label};

/// Bytes after which the system is told to begin with the way to the disk.
const STRETCH: u64 = 16 << 20;

/// What the caller of a write wants to hear and say while it runs.
pub(crate) struct Watch<'p> {
    /// Called with the number of bytes done since the last call.
    pub(crate) progress: &'p dyn Fn(u64),
    /// Raised to stop.
    pub(crate) cancel: Option<&'p AtomicBool>,
    /// The output, named in errors.
    pub(crate) out: &'p Path,
}

/// Runs `work` with an engine whose second thread reads ahead; gives the digests of all tensors by name.
pub(crate) fn with_engine<'p, T>(
    watch: Watch<'p>,
    work: impl FnOnce(&mut Engine<'p>) -> Result<T>,
) -> Result<(T, BTreeMap<String, String>)> {
    thread::scope(|scope| {
        let mut engine = Engine {
            watch,
            ahead: Ahead::start(scope),
            digests: BTreeMap::new(),
            copied: HashMap::new(),
            zeros: HashMap::new(),
            counted: true,
            uncounted: 0,
        };
        let value = work(&mut engine)?;
        Ok((value, engine.digests))
    })
}

/// Writes and verifies planned files.
pub(crate) struct Engine<'p> {
    watch: Watch<'p>,
    ahead: Ahead<'p>,
    /// Tensor name to digest.
    digests: BTreeMap<String, String>,
    /// A source (its open file, offset and length) to its digest: a block that is copied is hashed once.
    copied: HashMap<(*const TensorFile, u64, u64), String>,
    /// Length to the digest of as many zeros.
    zeros: HashMap<u64, String>,
    /// Off while a file is compared: only when all of it holds has something been done.
    counted: bool,
    uncounted: u64,
}

impl<'p> Engine<'p> {
    /// Writes a file from its first byte. `begin` is called with ranges that are written, for their way to the
    /// disk to begin; nothing is waited for here.
    pub(crate) fn write(
        &mut self,
        path: &Path,
        file: &File,
        plan: &'p PlannedFile<'p>,
        begin: &dyn Fn(Range<u64>),
    ) -> Result<()> {
        let fail = |e| Error::io("write", path, e);
        empty(file).and_then(|()| file.set_len(plan.size)).map_err(fail)?;
        file.write_all_at(&plan.header, 0).map_err(fail)?;
        let mut begun = 0;
        for planned in &plan.tensors {
            self.feed(planned, &mut |block, at| {
                file.write_all_at(block, planned.offset + at).map_err(fail)?;
                let end = planned.offset + at + block.len() as u64;
                if end - begun >= STRETCH {
                    begin(begun..end);
                    begun = end;
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// True when the file holds exactly what would be written; a lazy tensor counts as a difference.
    pub(crate) fn holds(&mut self, path: &Path, file: &File, plan: &'p PlannedFile<'p>) -> Result<bool> {
        (self.counted, self.uncounted) = (false, 0);
        let held = self.compare(path, file, plan);
        self.counted = true;
        if let Ok(true) = held {
            self.count(self.uncounted);
        }
        held
    }

    fn compare(&mut self, path: &Path, file: &File, plan: &'p PlannedFile<'p>) -> Result<bool> {
        let fail = |e| Error::io("read", path, e);
        let lazy = plan.tensors.iter().any(|t| matches!(t.tensor.source, Source::Lazy(_)));
        if lazy || file.metadata().map_err(fail)?.len() != plan.size {
            return Ok(false);
        }
        let mut header = vec![0; plan.header.len()];
        file.read_exact_at(&mut header, 0).map_err(fail)?;
        if header != plan.header {
            return Ok(false);
        }
        let mut there = vec![0; BLOCK];
        for planned in &plan.tensors {
            if matches!(planned.tensor.source, Source::Zeros) {
                for (at, size) in blocks(planned.len) {
                    self.check_cancel()?;
                    file.read_exact_at(&mut there[..size], planned.offset + at).map_err(fail)?;
                    if there[..size].iter().any(|&byte| byte != 0) {
                        return Ok(false);
                    }
                }
            }
            let same = self.feed(planned, &mut |block, at| {
                let there = &mut there[..block.len()];
                file.read_exact_at(there, planned.offset + at).map_err(fail)?;
                Ok(there == block)
            })?;
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a tensor's bytes to `sink` and notes their digest. False as soon as the sink says so. Zeros are not
    /// sent.
    fn feed(&mut self, planned: &'p PlannedTensor<'p>, sink: &mut Sink<'_>) -> Result<bool> {
        self.check_cancel()?;
        let tensor = &planned.tensor;
        let digest = match &tensor.source {
            Source::Zeros => {
                self.count(planned.len);
                Some(self.zeros.entry(planned.len).or_insert_with(|| zeros(planned.len)).clone())
            }
            Source::Bytes(bytes) => self.memory(bytes, sink)?,
            Source::Lazy(make) => {
                let bytes = make();
                if bytes.len() as u64 != planned.len {
                    let problem = format!("expected {} bytes, made were {}", planned.len, bytes.len());
                    return Err(Error::tensor(self.watch.out, &tensor.name, problem));
                }
                self.memory(&bytes, sink)?
            }
            Source::Copy { checkpoint, name } => {
                let info = checkpoint.info(name)?;
                self.copy(checkpoint.shards()[info.shard].file(), (info.offset, info.len), sink)?
            }
        };
        Ok(digest.map(|digest| self.digests.insert(tensor.name.clone(), digest)).is_some())
    }

    fn memory(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Option<String>> {
        let mut hasher = blake3::Hasher::new();
        for (at, len) in blocks(bytes.len() as u64) {
            self.check_cancel()?;
            let block = &bytes[at as usize..at as usize + len];
            hasher.update(block);
            if !sink(block, at)? {
                return Ok(None);
            }
            self.count(len as u64);
        }
        Ok(Some(label(&hasher.finalize())))
    }

    fn copy(
        &mut self,
        from: &'p TensorFile,
        range: (u64, u64),
        sink: &mut Sink<'_>,
    ) -> Result<Option<String>> {
        let key = (std::ptr::from_ref(from), range.0, range.1);
        let known = self.copied.get(&key).cloned();
        let mut uncounted = 0;
        let (watch, counted) = (&self.watch, self.counted);
        let outcome = self.ahead.read(from.file(), range, known.is_none(), &mut |block, at| {
            watch.check_cancel()?;
            let go_on = sink(block, at)?;
            if go_on && counted {
                (watch.progress)(block.len() as u64);
            } else {
                uncounted += block.len() as u64;
            }
            Ok(go_on)
        });
        self.uncounted += uncounted;
        match outcome {
            Outcome::Done(digest) => {
                let digest = known.or(digest).unwrap_or_default();
                self.copied.insert(key, digest.clone());
                Ok(Some(digest))
            }
            Outcome::Stopped => Ok(None),
            Outcome::Sink(error) => Err(error),
            Outcome::Read(error) => Err(Error::io("read", from.path(), error)),
        }
    }

    fn count(&mut self, bytes: u64) {
        if self.counted {
            (self.watch.progress)(bytes);
        } else {
            self.uncounted += bytes;
        }
    }

    fn check_cancel(&self) -> Result<()> {
        self.watch.check_cancel()
    }
}

impl Watch<'_> {
    fn check_cancel(&self) -> Result<()> {
        match self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Cancelled { path: self.out.into() }),
            _ => Ok(()),
        }
    }
}

fn zeros(len: u64) -> String {
    let block = vec![0; BLOCK];
    let mut hasher = blake3::Hasher::new();
    for (_, size) in blocks(len) {
        hasher.update(&block[..size]);
    }
    label(&hasher.finalize())
}

/// Takes away what is in a file, so that the parts that are not written read as zeros. An empty file is left
/// alone: ext4 writes out at once, on closing, whatever was ever cut to nothing.
pub(crate) fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.len() > 0 { file.set_len(0) } else { Ok(()) }
}
