//! Checkpoints beside the training: the state is copied, a thread writes the copy, and the loop goes on.
//!
//! At most one write is under way. What stalls the loop is the copy and, where the disk is slower than the distance
//! between two checkpoints, the rest of the write before. A write that fails ends the run at the next step.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use llama_pro_run::RunFolder;

use crate::checkpoint::{self, Saved, Snapshot};
use crate::fit::Observer;
use crate::folders::clear_partial;
use crate::trainer::Trainer;
use crate::{Error, Result, TrainConfig};

/// Room that must be left over beside a checkpoint, for metrics and the like.
const SLACK: u64 = 64 << 10;

pub(crate) struct Saver<'a> {
    run: &'a RunFolder,
    keep: usize,
    keeps_best: bool,
    background: bool,
    /// Bytes of a checkpoint.
    bytes: u64,
    busy: Option<Writing>,
}

/// A checkpoint on its way to the disk.
struct Writing {
    step: u64,
    path: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl<'a> Saver<'a> {
    /// Removes what a kill has left, and sees to it that a first checkpoint will find room.
    pub(crate) fn new(run: &'a RunFolder, config: &TrainConfig, trainer: &Trainer) -> Result<Self> {
        clear_partial(run)?;
        // Master and two moments in float32, and a header that grows with the names.
        let names: u64 = trainer.optimizer.slots.iter().map(|s| 3 * (s.name.len() as u64 + 100)).sum();
        let bytes = 12 * trainer.n_trained() + names;
        let (keep, background) = (config.keep_checkpoints, config.background_checkpoints);
        let saver = Self { run, keep, keeps_best: config.keeps_best(), background, bytes, busy: None };
        if checkpoint::complete(run)?.is_empty() {
            saver.check_space()?;
            let all = bytes * (config.keep_checkpoints as u64 + 1 + u64::from(config.keeps_best()));
            if free(run.dir()).is_some_and(|free| free < all) {
                let (all, place) = (all >> 20, run.dir().display());
                tracing::warn!(
                    "{place}: the checkpoints of this run take up to {all} MiB, and there is less"
                );
            }
        }
        Ok(saver)
    }

    /// Saves the state after `saved.step` steps and removes what is neither among the newest nor the best.
    pub(crate) fn save(
        &mut self,
        trainer: &Trainer,
        saved: &Saved,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.finish(observer)?;
        observer.saving(saved.step)?;
        let path = self.run.checkpoint(saved.step);
        let before = checkpoint::complete(self.run)?;
        let others = before.iter().filter(|p| **p != path);
        let best = saved.best.filter(|_| self.keeps_best).map(|b| self.run.checkpoint(b.step));
        let old = others.skip(self.keep.max(1) - 1).filter(|p| Some(*p) != best.as_ref()).cloned();
        let old: Vec<PathBuf> = old.collect();
        if !checkpoint::is_written(&path, saved) {
            self.check_space()?;
        }
        let snapshot = Snapshot::of(trainer, saved, self.background)?;
        let (step, target) = (saved.step, path.clone());
        if !self.background {
            snapshot.write(&target, &old)?;
            observer.saved(step, &path);
            return Ok(());
        }
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || snapshot.write(&target, &old)).map_err(crate::error::at(&path))?;
        self.busy = Some(Writing { step, path, thread });
        Ok(())
    }

    /// Hears whether the write under way is done, without waiting.
    pub(crate) fn poll(&mut self, observer: &mut dyn Observer) -> Result<()> {
        match &self.busy {
            Some(writing) if writing.thread.is_finished() => self.finish(observer),
            _ => Ok(()),
        }
    }

    /// Waits for the write under way.
    pub(crate) fn finish(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(Writing { step, path, thread }) = self.busy.take() else { return Ok(()) };
        let failed = || Error::Checkpoint { path: path.clone(), reason: "its writer panicked".to_owned() };
        thread.join().map_err(|_| failed())??;
        observer.saved(step, &path);
        Ok(())
    }

    fn check_space(&self) -> Result<()> {
        let needed = self.bytes + SLACK;
        match free(self.run.dir()) {
            Some(free) if free < needed => {
                Err(Error::NoSpace { path: self.run.dir().join("checkpoints"), needed, free })
            }
            _ => Ok(()),
        }
    }
}

/// Whatever ends the run, a checkpoint under way is written to its end: nothing half of one is left.
impl Drop for Saver<'_> {
    fn drop(&mut self) {
        if let Some(writing) = self.busy.take() {
            let _ = writing.thread.join();
        }
    }
}

/// Bytes that may still be written where `dir` is; `None` where the system does not say.
fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
