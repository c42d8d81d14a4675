//! The loop. It calls named functions and holds no arithmetic of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use llama_pro_model::Llama;
use llama_pro_run::RunFolder;

use crate::checkpoint::{self, Saved};
use crate::trainer::{StepStats, Trainer};
use crate::{Batches, Result, TrainConfig, learning_rate};

/// What a run needs besides its trainer.
pub struct Fit<'a> {
    /// Loop and optimizer settings.
    pub config: &'a TrainConfig,
    /// Step to batch.
    pub batches: &'a dyn Batches,
    /// Where checkpoints go.
    pub run: &'a RunFolder,
    /// What the run is made of; a checkpoint of anything else is refused.
    pub inputs: BTreeMap<String, String>,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// Raised from outside (Ctrl-C): the loop saves and returns.
    pub stop: &'a AtomicBool,
}

/// One line of the training curve.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps taken, from 1.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Sums, targets and gradient norm.
    pub stats: StepStats,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Input tokens so far.
    pub tokens: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Input tokens per second of this step.
    pub tokens_per_second: f64,
}

/// Hears what happens. Every method does nothing unless written.
pub trait Observer {
    /// A step is done.
    ///
    /// # Errors
    /// A metrics file that cannot be written stops the run.
    fn step(&mut self, report: &StepReport) -> Result<()> {
        let _ = report;
        Ok(())
    }
    /// Time to score held-out rows, every `validate-every` steps.
    ///
    /// # Errors
    /// Whatever stops the scoring stops the run.
    fn validate(&mut self, step: u64, model: &Llama) -> Result<()> {
        let _ = (step, model);
        Ok(())
    }
    /// A checkpoint is about to be written: what stands beside it must be on disk first.
    ///
    /// # Errors
    /// A metrics file that cannot be synced stops the run.
    fn saving(&mut self, step: u64) -> Result<()> {
        let _ = step;
        Ok(())
    }
    /// A checkpoint is on disk.
    fn saved(&mut self, step: u64, path: &Path) {
        let _ = (step, path);
    }
    /// The run goes on from a checkpoint.
    ///
    /// # Errors
    /// A metrics file that cannot be cut back stops the run.
    fn resumed(&mut self, saved: &Saved) -> Result<()> {
        let _ = saved;
        Ok(())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done.
    Finished {
        /// Input tokens read.
        tokens: u64,
        /// Seconds of training.
        seconds: f64,
    },
    /// Stopped from outside after this many steps, with a checkpoint of them.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// Trains to the last step, from the beginning or from a checkpoint.
///
/// # Errors
/// A loss or gradient that is no number (checkpoints stay), a disk that is full, or a checkpoint that cannot be used.
pub fn fit(trainer: &mut Trainer, fit: &Fit, observer: &mut dyn Observer) -> Result<Outcome> {
    let config = fit.config;
    checkpoint::clear_partial(fit.run)?;
    let mut at = Saved { step: 0, tokens: 0, seconds: 0.0, inputs: fit.inputs.clone() };
    if let Some(path) = &fit.resume {
        at = checkpoint::load(path, trainer, &fit.inputs)?;
        observer.resumed(&at)?;
    }
    while at.step < config.steps {
        let begun = Instant::now();
        let micros = fit.batches.micro_batches(at.step, trainer.model().device())?;
        let rate = learning_rate(config, at.step);
        let stats = trainer.step(&micros, at.step + 1, rate)?;
        let took = begun.elapsed().as_secs_f64();
        let inputs = fit.batches.tokens(&micros);
        at = Saved { step: at.step + 1, tokens: at.tokens + inputs, seconds: at.seconds + took, ..at };
        observer.step(&StepReport {
            step: at.step,
            steps: config.steps,
            stats,
            learning_rate: rate,
            tokens: at.tokens,
            seconds: at.seconds,
            tokens_per_second: inputs as f64 / took,
        })?;
        let last = at.step == config.steps;
        if due(at.step, config.validate_every) && !last {
            observer.validate(at.step, trainer.model())?;
        }
        let stop = fit.stop.load(Ordering::Relaxed);
        if last || stop || due(at.step, config.checkpoint_every) {
            observer.saving(at.step)?;
            let path = checkpoint::save(fit.run, trainer, &at, config.keep_checkpoints)?;
            observer.saved(at.step, &path);
        }
        if stop && !last {
            return Ok(Outcome::Stopped { step: at.step });
        }
    }
    Ok(Outcome::Finished { tokens: at.tokens, seconds: at.seconds })
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
