//! The way of written files to the disk, in the background.
//!
//! A file must be on the disk before its folder is renamed, or a power cut could leave the name without the
//! bytes. Waiting for it at the end would make the disk idle first and the processor idle afterwards, so writing
//! to the disk is begun for each stretch of a file as soon as it is filled.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};

/// A thread that flushes files; the first failure is kept.
pub(crate) struct Flusher<'scope> {
    jobs: Sender<Job>,
    thread: ScopedJoinHandle<'scope, io::Result<()>>,
}

enum Job {
    Begin(Arc<File>, Range<u64>),
    Finish(Arc<File>),
}

impl<'scope> Flusher<'scope> {
    pub(crate) fn start<'env>(scope: &'scope Scope<'scope, 'env>) -> Self {
        let (jobs, inbox) = channel();
        let work = move || {
            inbox.iter().try_for_each(|job| match job {
                Job::Begin(file, range) => {
                    begin(&file, range);
                    Ok(())
                }
                Job::Finish(file) => file.sync_all(),
            })
        };
        Self { jobs, thread: scope.spawn(work) }
    }

    /// A range of the file is written and may go to the disk.
    pub(crate) fn begin(&self, file: &Arc<File>, range: Range<u64>) {
        self.tell(Job::Begin(Arc::clone(file), range));
    }

    /// The file is complete.
    pub(crate) fn finish(&self, file: Arc<File>) {
        self.tell(Job::Finish(file));
    }

    /// Waits until every finished file is on the disk.
    pub(crate) fn wait(self) -> io::Result<()> {
        drop(self.jobs);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn tell(&self, job: Job) {
        // After a failure nobody listens; `wait` reports it.
        let _ = self.jobs.send(job);
    }
}

/// Linux answers this advice by starting to write the dirty pages of the range, without waiting. It is a hint:
/// where it does nothing, the sync at the end does all the work.
#[cfg(target_os = "linux")]
fn begin(file: &File, range: Range<u64>) {
    let len = std::num::NonZeroU64::new(range.end - range.start);
    let _ = rustix::fs::fadvise(file, range.start, len, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn begin(_: &File, _: Range<u64>) {}
