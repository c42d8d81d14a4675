//! Batches made ahead of their use by a thread of their own, in the order of the steps.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::error::{Result, io};
use crate::packed::Row;
use crate::sampler::{Sample, Sampler};

/// The batches of consecutive steps. What it gives is what [`Sampler::batch`] and [`Sampler::row`] give for the same
/// step, whatever the speed of either side; it holds no state that a resume would need.
#[derive(Debug)]
pub struct Prefetch {
    /// `None` while it is being dropped.
    receiver: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

/// The rows of one optimizer step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The step, from 0.
    pub step: u64,
    /// Each sample and its row.
    pub rows: Vec<(Sample, Row)>,
}

impl Prefetch {
    /// Starts at `step` with batches of `rows_per_step`. At most `ahead` batches wait for their use, and one more is
    /// being made; with 0, only that one.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(sampler: Arc<Sampler>, step: u64, rows_per_step: usize, ahead: usize) -> Result<Self> {
        let (sender, receiver) = sync_channel(ahead);
        let work = move || {
            for step in step.. {
                let samples = sampler.batch(step, rows_per_step);
                let rows = samples.into_iter().map(|sample| (sample, sampler.row(&sample))).collect();
                // Nobody waits for more.
                if sender.send(Batch { step, rows }).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("prefetch".into()).spawn(work);
        let thread = thread.map_err(io(std::path::Path::new("batches"), "start a thread for"))?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl Iterator for Prefetch {
    type Item = Batch;

    /// Waits for the next batch. The only end is that of numbers, or a defect that ended the thread.
    fn next(&mut self) -> Option<Batch> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // The thread sees that the other end is gone and ends.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported, and shows as the end of the batches.
            _ = thread.join();
        }
    }
}
