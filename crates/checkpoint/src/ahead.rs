//! A second thread that reads and hashes ahead of the one that writes.
//!
//! Copying a file is one pass over memory in the kernel for each of reading and writing, and hashing is a third.
//! Writing is the longest of them, so it has a thread to itself, and reading and hashing share the other one.
//! A few buffers go round between the two, which is all the memory that a copy of any size takes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use crate::error::{Error, Result};
use crate::tensor::label;

/// Bytes per read and write: long enough that system calls do not count, short enough to stay in the cache.
pub(crate) const BLOCK: usize = 1 << 20;
/// Buffers that go round.
const BUFFERS: usize = 4;

/// The writing thread's end.
pub(crate) struct Ahead<'p> {
    jobs: SyncSender<Job<'p>>,
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
}

/// A range of a file to be read.
struct Job<'p> {
    file: &'p File,
    offset: u64,
    len: u64,
    hash: bool,
}

enum Event {
    Block(Arc<Block>, u64),
    Failed(io::Error),
    /// The range is read, or given up; the digest where it was asked for.
    End(Option<String>),
}

/// Takes a block and its offset in the tensor; false ends the tensor early.
pub(crate) type Sink<'s> = dyn FnMut(&[u8], u64) -> Result<bool> + 's;

/// How reading a range ended.
pub(crate) enum Outcome {
    /// All of it went to the sink; the digest where it was asked for.
    Done(Option<String>),
    /// The sink had enough.
    Stopped,
    /// The sink failed.
    Sink(Error),
    /// Reading failed.
    Read(io::Error),
}

impl<'p> Ahead<'p> {
    /// Starts the thread, which ends when this value is dropped.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self
    where
        'p: 'scope,
    {
        let (jobs, inbox) = sync_channel(1);
        let (outbox, events) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        scope.spawn(move || Reader::new(outbox, flag).run(&inbox));
        Self { jobs, events, stop }
    }

    /// Reads a range block by block into `sink`, which is given each block and its offset in the range, and says
    /// whether to go on.
    pub(crate) fn read(
        &self,
        file: &'p File,
        (offset, len): (u64, u64),
        hash: bool,
        sink: &mut Sink<'_>,
    ) -> Outcome {
        // A closed channel means that the thread has panicked; the scope passes that on when it ends.
        let gone = || Outcome::Read(io::Error::other("the reading thread has ended"));
        if self.jobs.send(Job { file, offset, len, hash }).is_err() {
            return gone();
        }
        let mut outcome = None;
        loop {
            match self.events.recv() {
                Err(_) => return gone(),
                Ok(Event::End(digest)) => {
                    self.stop.store(false, Ordering::Release);
                    return outcome.unwrap_or(Outcome::Done(digest));
                }
                Ok(Event::Failed(error)) => outcome = outcome.or(Some(Outcome::Read(error))),
                // What was on its way when the sink had enough.
                Ok(Event::Block(..)) if outcome.is_some() => {}
                Ok(Event::Block(block, at)) => {
                    outcome = match sink(block.bytes(), at) {
                        Ok(true) => None,
                        Ok(false) => Some(Outcome::Stopped),
                        Err(error) => Some(Outcome::Sink(error)),
                    };
                    if outcome.is_some() {
                        self.stop.store(true, Ordering::Release);
                    }
                }
            }
        }
    }
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
        // Fails only when the reader is gone, and then nobody wants the buffer.
        let _ = self.back.send(std::mem::take(&mut self.buffer));
    }
}

/// The second thread.
struct Reader {
    outbox: Sender<Event>,
    stop: Arc<AtomicBool>,
    free: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
}

impl Reader {
    fn new(outbox: Sender<Event>, stop: Arc<AtomicBool>) -> Self {
        let (back, free) = channel();
        for _ in 0..BUFFERS {
            // The receiver lives as long as this value.
            let _ = back.send(Vec::new());
        }
        Self { outbox, stop, free, back }
    }

    fn run(&self, inbox: &Receiver<Job<'_>>) {
        for job in inbox {
            let end = match self.one(&job) {
                Ok(digest) => Event::End(digest),
                Err(error) => {
                    let _ = self.outbox.send(Event::Failed(error));
                    Event::End(None)
                }
            };
            if self.outbox.send(end).is_err() {
                return;
            }
        }
    }

    fn one(&self, job: &Job<'_>) -> io::Result<Option<String>> {
        let mut hasher = blake3::Hasher::new();
        for (at, len) in blocks(job.len) {
            if self.stop.load(Ordering::Acquire) {
                return Ok(None);
            }
            // This value holds a sender itself, so a buffer always comes.
            let mut buffer = self.free.recv().unwrap_or_default();
            buffer.resize(BLOCK, 0);
            job.file.read_exact_at(&mut buffer[..len], job.offset + at)?;
            let block = Arc::new(Block { buffer, len, back: self.back.clone() });
            if self.outbox.send(Event::Block(Arc::clone(&block), at)).is_err() {
                return Ok(None);
            }
            if job.hash {
                hasher.update(block.bytes());
            }
        }
        Ok(job.hash.then(|| label(&hasher.finalize())))
    }
}

/// Offsets and sizes of the blocks of `len` bytes.
pub(crate) fn blocks(len: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..len.div_ceil(BLOCK as u64)).map(move |n| {
        let at = n * BLOCK as u64;
        (at, (len - at).min(BLOCK as u64) as usize)
    })
}
