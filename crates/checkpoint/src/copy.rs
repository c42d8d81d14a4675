//! Tensors into files, in constant memory, hashed on the way.
//!
//! Blocks of 1 MiB are read into a few buffers that go round: this thread writes a block while a second one
//! hashes it, so that the disk and the hash overlap. Zero tensors are left as holes of the file, which read as
//! zeros and cost neither time nor space.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::error::{Error, Result};
use crate::plan::{PlannedFile, PlannedTensor};
use crate::tensor::{Source, label};

/// Bytes per read and write: long enough that system calls do not count, short enough to stay in the cache.
const BLOCK: usize = 1 << 20;
/// Bytes after which the system is told to begin with the way to the disk.
const STRETCH: u64 = 16 << 20;
/// Buffers in flight.
const BUFFERS: usize = 6;

/// What the caller of a write wants to hear and say while it runs.
pub(crate) struct Watch<'a> {
    /// Called with the number of bytes done since the last call.
    pub(crate) progress: &'a dyn Fn(u64),
    /// Raised to stop.
    pub(crate) cancel: Option<&'a AtomicBool>,
    /// The output, named in errors.
    pub(crate) out: &'a Path,
}

/// Runs `work` with an engine whose second thread hashes; gives the digests of all tensors by name.
pub(crate) fn with_engine<'a, T>(
    watch: Watch<'a>,
    work: impl FnOnce(&mut Engine<'a>) -> Result<T>,
) -> Result<(T, BTreeMap<String, String>)> {
    thread::scope(|scope| {
        let (jobs, inbox) = sync_channel(BUFFERS);
        let (back, free) = channel();
        for _ in 0..BUFFERS {
            // The receiver lives in this function, so this cannot fail.
            let _ = back.send(vec![0; BLOCK]);
        }
        let hasher = scope.spawn(move || hash_all(&inbox));
        let mut engine =
            Engine { watch, jobs, free, back, known: HashMap::new(), counted: true, uncounted: 0 };
        let done = work(&mut engine);
        drop(engine);
        let digests = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.map(|value| (value, digests))
    })
}

/// What the hashing thread is told, in the order of the bytes.
enum Job {
    Block(Arc<Block>),
    Zeros(u64),
    /// The tensor that the blocks so far made up is complete.
    End(String),
    /// Forget the blocks since the last end.
    Reset,
    /// A tensor with the same bytes as one that was named before.
    Same(String, String),
}

/// A buffer on loan: it goes back when the last of the two threads lets it go.
struct Block {
    buffer: Vec<u8>,
    len: usize,
    back: Sender<Vec<u8>>,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Fails only when the engine is gone already, and then nobody wants the buffer.
        let _ = self.back.send(std::mem::take(&mut self.buffer));
    }
}

fn hash_all(inbox: &Receiver<Job>) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    let mut of_zeros: HashMap<u64, String> = HashMap::new();
    let mut all_zero = None;
    let mut hasher = blake3::Hasher::new();
    for job in inbox {
        match job {
            Job::Block(block) => {
                hasher.update(block.bytes());
            }
            Job::Zeros(len) => {
                all_zero = Some(of_zeros.entry(len).or_insert_with(|| zeros(len)).clone());
            }
            Job::End(name) => {
                let digest = all_zero.take().unwrap_or_else(|| label(&hasher.finalize()));
                digests.insert(name, digest);
                hasher.reset();
            }
            Job::Reset => {
                hasher.reset();
            }
            Job::Same(name, as_before) => {
                let digest = digests.get(&as_before).cloned().unwrap_or_default();
                digests.insert(name, digest);
            }
        }
    }
    digests
}

fn zeros(len: u64) -> String {
    let block = vec![0; BLOCK];
    let mut hasher = blake3::Hasher::new();
    for (_, size) in blocks(len) {
        hasher.update(&block[..size]);
    }
    label(&hasher.finalize())
}

/// Writes and verifies planned files.
pub(crate) struct Engine<'a> {
    watch: Watch<'a>,
    jobs: SyncSender<Job>,
    free: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    /// Place of a source in its file to the name under which it was hashed first.
    known: HashMap<(PathBuf, u64), String>,
    /// Off while a file is compared: only when all of it holds has something been done.
    counted: bool,
    uncounted: u64,
}

impl Engine<'_> {
    /// Writes a file from its first byte. `begin` is called with ranges that are written, for their way to the
    /// disk to begin; nothing is waited for here.
    pub(crate) fn write(
        &mut self,
        path: &Path,
        file: &File,
        plan: &PlannedFile<'_>,
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
    pub(crate) fn holds(&mut self, path: &Path, file: &File, plan: &PlannedFile<'_>) -> Result<bool> {
        (self.counted, self.uncounted) = (false, 0);
        let held = self.compare(path, file, plan);
        self.counted = true;
        if let Ok(true) = held {
            self.count(self.uncounted);
        }
        held
    }

    fn compare(&mut self, path: &Path, file: &File, plan: &PlannedFile<'_>) -> Result<bool> {
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

    /// Sends a tensor's bytes to `sink` and to the hash. False as soon as the sink says so. Zeros are hashed
    /// only.
    fn feed(
        &mut self,
        planned: &PlannedTensor<'_>,
        sink: &mut dyn FnMut(&[u8], u64) -> Result<bool>,
    ) -> Result<bool> {
        let tensor = &planned.tensor;
        let name = tensor.name.clone();
        let go_on = match &tensor.source {
            Source::Zeros => {
                self.check_cancel()?;
                self.tell(Job::Zeros(planned.len));
                self.count(planned.len);
                true
            }
            Source::Bytes(bytes) => self.pump(planned.len, true, &mut from_memory(bytes), sink)?,
            Source::Lazy(make) => {
                let bytes = make();
                if bytes.len() as u64 != planned.len {
                    let problem = format!("expected {} bytes, made were {}", planned.len, bytes.len());
                    return Err(Error::tensor(self.watch.out, &name, problem));
                }
                self.pump(planned.len, true, &mut from_memory(&bytes), sink)?
            }
            Source::Copy { checkpoint, name: source } => {
                let info = checkpoint.info(source)?;
                let shard = checkpoint.shards()[info.shard].file();
                let mut read = |buffer: &mut [u8], at: u64| {
                    let place = info.offset + at;
                    shard.file().read_exact_at(buffer, place).map_err(|e| Error::io("read", shard.path(), e))
                };
                let key = (shard.path().to_path_buf(), info.offset);
                let before = self.known.get(&key).cloned();
                let go_on = self.pump(planned.len, before.is_none(), &mut read, sink)?;
                match before {
                    Some(before) if go_on => {
                        self.tell(Job::Same(name, before));
                        return Ok(true);
                    }
                    None if go_on => {
                        self.known.insert(key, name.clone());
                    }
                    _ => {}
                }
                go_on
            }
        };
        self.tell(if go_on { Job::End(name) } else { Job::Reset });
        Ok(go_on)
    }

    fn pump(
        &mut self,
        len: u64,
        hash: bool,
        read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>,
        sink: &mut dyn FnMut(&[u8], u64) -> Result<bool>,
    ) -> Result<bool> {
        for (at, size) in blocks(len) {
            self.check_cancel()?;
            // The engine holds a sender itself, so a buffer always comes.
            let mut buffer = self.free.recv().unwrap_or_else(|_| vec![0; BLOCK]);
            read(&mut buffer[..size], at)?;
            let block = Arc::new(Block { buffer, len: size, back: self.back.clone() });
            if hash {
                self.tell(Job::Block(Arc::clone(&block)));
            }
            if !sink(block.bytes(), at)? {
                return Ok(false);
            }
            self.count(size as u64);
        }
        Ok(true)
    }

    fn count(&mut self, bytes: u64) {
        if self.counted {
            (self.watch.progress)(bytes);
        } else {
            self.uncounted += bytes;
        }
    }

    fn tell(&self, job: Job) {
        // Fails only when the hashing thread has panicked, which joining it passes on.
        let _ = self.jobs.send(job);
    }

    fn check_cancel(&self) -> Result<()> {
        match self.watch.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => {
                Err(Error::Cancelled { path: self.watch.out.into() })
            }
            _ => Ok(()),
        }
    }
}

/// Takes away what is in a file, so that the parts that are not written read as zeros. An empty file is left
/// alone: ext4 writes out at once, on closing, whatever was ever cut to nothing.
pub(crate) fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.len() > 0 { file.set_len(0) } else { Ok(()) }
}

fn from_memory(bytes: &[u8]) -> impl FnMut(&mut [u8], u64) -> Result<()> {
    move |buffer, at| {
        let at = at as usize;
        buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
        Ok(())
    }
}

/// Offsets and sizes of the blocks of `len` bytes.
fn blocks(len: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..len.div_ceil(BLOCK as u64)).map(move |n| {
        let at = n * BLOCK as u64;
        (at, (len - at).min(BLOCK as u64) as usize)
    })
}
