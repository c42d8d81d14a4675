//! The loop. It calls named functions and holds no arithmetic of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use llama_pro_run::RunFolder;

use crate::checkpoint::{self, Best, Saved};
use crate::saver::Saver;
use crate::trainer::{StepStats, Trainer};
use crate::watchdog::Watchdog;
use crate::{Batches, Keeps, Result, TrainConfig, learning_rate};

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
    /// Whether to go on from the newest checkpoint that is whole, if there is one.
    pub resume: bool,
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

/// What a look at held-out rows came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// Nats per token of what is monitored, which say whether this is the best state so far; `None` where nothing is.
    Seen(Option<f64>),
    /// The run is to stop, and the look was broken off. The next start begins with it.
    BrokenOff,
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
    /// Time to score held-out rows, every `validate-every` steps. It may be broken off where `stop` is raised meanwhile, and
    /// only there: whoever stops a run may not wait for long.
    ///
    /// # Errors
    /// Whatever stops the scoring stops the run.
    fn validate(&mut self, step: u64, trainer: &Trainer, stop: &AtomicBool) -> Result<Look> {
        let _ = (step, trainer, stop);
        Ok(Look::Seen(None))
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
    /// All steps are done, or validation has not become better for long enough.
    Finished(Finished),
    /// Stopped from outside after this many steps, with a checkpoint of them.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

/// A run that came to its end. The trainer holds the weights that the config asks for: the last ones or the best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// Steps taken.
    pub step: u64,
    /// Input tokens read.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Steps whose update was skipped as an outlier.
    pub skipped: u64,
    /// The best validation, where there was one.
    pub best: Option<Best>,
}

/// Trains to the last step, from the beginning or from a checkpoint.
///
/// # Errors
/// A loss or gradient that is no number (checkpoints stay), a disk that is full, or a checkpoint that cannot be used.
pub fn fit(trainer: &mut Trainer, fit: &Fit, observer: &mut dyn Observer) -> Result<Outcome> {
    let config = fit.config;
    let mut saver = Saver::new(fit.run, config, trainer)?;
    let mut at = Saved { inputs: fit.inputs.clone(), ..Saved::default() };
    if fit.resume
        && let Some(saved) = checkpoint::resume(fit.run, trainer, &fit.inputs)?
    {
        observer.resumed(&saved)?;
        at = saved;
    }
    let mut watchdog = Watchdog::new(config.outliers, std::mem::take(&mut at.recent));
    let stopped = || fit.stop.load(Ordering::Relaxed);
    while !at.done(config) {
        // A run that was stopped before its look at held-out rows goes on with that.
        let owed = at.look_due;
        if !owed {
            let begun = Instant::now();
            let micros = fit.batches.micro_batches(at.step, trainer.model().device())?;
            let (step, rate) = (at.step + 1, learning_rate(config, at.step));
            let mut admit = |stats: &StepStats| watchdog.admit(step, stats.loss(), stats.grad_norm);
            let stats = trainer.step_if(&micros, step, rate, &mut admit)?;
            let (inputs, took) = (fit.batches.tokens(&micros), begun.elapsed().as_secs_f64());
            at.count(inputs, took, stats.skipped);
            saver.poll(observer)?;
            observer.step(&StepReport::new(&at, config, stats, rate, inputs, took))?;
            let last = at.step == config.steps;
            at.look_due =
                due(at.step, config.validate_every) && !last || last && config.result == Keeps::Best;
        }
        let mut better = false;
        if at.look_due
            && !stopped()
            && let Look::Seen(nats) = observer.validate(at.step, trainer, fit.stop)?
        {
            at.look_due = false;
            better = at.judge(nats);
        }
        let stop = stopped();
        let made_up = owed && !at.look_due;
        let due = due(at.step, config.checkpoint_every) || made_up || better && config.keeps_best();
        if at.done(config) || stop || due {
            at.recent = watchdog.recent();
            saver.save(trainer, &at, observer)?;
        }
        if stop && !at.done(config) {
            saver.finish(observer)?;
            return Ok(Outcome::Stopped { step: at.step });
        }
    }
    saver.finish(observer)?;
    if let (Keeps::Best, Some(best)) = (config.result, at.best)
        && best.step != at.step
    {
        checkpoint::load(&fit.run.checkpoint(best.step), trainer, &fit.inputs)?;
    }
    let Saved { step, tokens, seconds, skipped, best, .. } = at;
    Ok(Outcome::Finished(Finished { step, tokens, seconds, skipped, best }))
}

impl StepReport {
    fn new(at: &Saved, config: &TrainConfig, stats: StepStats, rate: f64, inputs: u64, took: f64) -> Self {
        Self {
            step: at.step,
            steps: config.steps,
            stats,
            learning_rate: rate,
            tokens: at.tokens,
            seconds: at.seconds,
            tokens_per_second: inputs as f64 / took.max(1e-9),
        }
    }
}

impl Saved {
    fn count(&mut self, tokens: u64, seconds: f64, skipped: bool) {
        self.step += 1;
        self.tokens += tokens;
        self.seconds += seconds;
        self.skipped += u64::from(skipped);
    }

    /// Takes note of a validation. Whether it is the best so far.
    fn judge(&mut self, nats: Option<f64>) -> bool {
        let Some(nats) = nats else { return false };
        let better = self.best.is_none_or(|best| nats < best.nats);
        if better {
            self.best = Some(Best { step: self.step, nats });
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        better
    }

    /// Whether the run is at its end: the last step, or early, and everything was looked at.
    fn done(&self, config: &TrainConfig) -> bool {
        !self.look_due && self.step >= config.steps
            || config.early_stop.is_some_and(|patience| self.stale >= patience)
    }
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
