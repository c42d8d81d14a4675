//! A bounded pipeline: one thread reads, all threads work, one thread writes, in the order of reading.
//!
//! At most four batches are in memory at a time, so the memory does not grow with the input, and what is written
//! does not depend on the number of threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

use crate::error::{Error, Result};

/// About so many bytes travel together.
const BATCH_BYTES: usize = 2 << 20;

/// Gathers items into batches and sends them on.
pub(super) struct Batches<T> {
    sender: SyncSender<Vec<T>>,
    batch: Vec<T>,
    bytes: usize,
}

impl<T> Batches<T> {
    /// Adds an item of so many bytes; false when nobody wants more.
    pub(super) fn push(&mut self, item: T, bytes: usize) -> bool {
        self.batch.push(item);
        // An item has a cost besides its bytes.
        self.bytes += bytes + 64;
        self.bytes < BATCH_BYTES || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.bytes = 0;
        self.sender.send(std::mem::take(&mut self.batch)).is_ok()
    }
}

/// Runs `read`, `work` on each item that it gives, and `write` on each result. The first error of the three, in the
/// order of items, ends all.
pub(super) fn run<T: Send, U: Send>(
    cancel: &AtomicBool,
    read: impl FnOnce(&mut Batches<T>) -> Result<()> + Send,
    work: impl Fn(T) -> Result<U> + Sync,
    write: impl FnMut(U) -> Result<()> + Send,
) -> Result<()> {
    let (to_work, batches) = sync_channel::<Vec<T>>(1);
    let (to_write, results) = sync_channel::<Vec<U>>(1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut out = Batches { sender: to_work, batch: Vec::new(), bytes: 0 };
            let result = read(&mut out);
            out.flush();
            result
        });
        let writer = scope.spawn(move || drain(&results, write));
        let mut worked = Ok(());
        for batch in batches {
            if cancel.load(Ordering::Relaxed) {
                worked = Err(Error::Stopped);
                break;
            }
            let results: Vec<Result<U>> = batch.into_par_iter().map(&work).collect();
            match results.into_iter().collect::<Result<Vec<U>>>() {
                Ok(results) => {
                    // Nobody takes results after the writer has failed; it says why.
                    if to_write.send(results).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    worked = Err(error);
                    break;
                }
            }
        }
        drop(to_write);
        // A thread of ours that panics is a defect; it goes on in this one.
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(worked).and(read)
    })
}

fn drain<U>(results: &Receiver<Vec<U>>, mut write: impl FnMut(U) -> Result<()>) -> Result<()> {
    for batch in results {
        for item in batch {
            write(item)?;
        }
    }
    Ok(())
}
