//! What is seen and kept of a pretraining run while it goes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_pro_run::RunFolder;
use llama_pro_train::{Look, Observer, Saved, StepReport, Trainer};

use super::data::Data;
use super::evaluate;
use crate::job::live::{Live, monitored};
use crate::recipe::Recipe;

pub(super) struct Watch<'a> {
    recipe: &'a Recipe,
    data: &'a Data,
    live: Live<'a>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a RunFolder, recipe: &'a Recipe, data: &'a Data) -> Self {
        Self { recipe, data, live: Live::new(run, &recipe.train, recipe.keep_weights()) }
    }

    /// Takes the bar off the screen.
    pub(super) fn close(&self) {
        self.live.close();
    }
}

impl Observer for Watch<'_> {
    fn resumed(&mut self, saved: &Saved) -> llama_pro_train::Result<()> {
        Ok(self.live.resumed(saved)?)
    }

    fn step(&mut self, report: &StepReport) -> llama_pro_train::Result<()> {
        Ok(self.live.step(report)?)
    }

    fn validate(&mut self, step: u64, trainer: &Trainer, stop: &AtomicBool) -> llama_pro_train::Result<Look> {
        let looked = evaluate::glance(trainer.model(), self.data, self.recipe, stop).and_then(|scores| {
            let moved = evaluate::forgetting(trainer, self.data, self.recipe, stop)?;
            Ok((scores, moved))
        });
        // With rows left out it says nothing, be it an error.
        if stop.load(Ordering::Relaxed) {
            return Ok(Look::BrokenOff);
        }
        let (scores, moved) = looked?;
        self.live.validated(step, &scores, &moved)?;
        Ok(Look::Seen(monitored(&scores, self.recipe.train.monitor.as_deref())))
    }

    fn saving(&mut self, _step: u64) -> llama_pro_train::Result<()> {
        Ok(self.live.saving()?)
    }

    fn saved(&mut self, step: u64, path: &Path) {
        tracing::debug!("checkpoint of step {step} in {}", path.display());
    }
}
