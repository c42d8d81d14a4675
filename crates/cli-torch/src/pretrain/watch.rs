//! What is seen and kept of a pretraining run while it goes.

use std::path::Path;

use llama_pro_run::RunFolder;
use llama_pro_train::{Observer, Saved, StepReport, Trainer};

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

    fn validate(&mut self, step: u64, trainer: &Trainer) -> llama_pro_train::Result<Option<f64>> {
        let scores = evaluate::glance(trainer.model(), self.data, self.recipe)?;
        let moved = evaluate::forgetting(trainer, self.data, self.recipe)?;
        self.live.validated(step, &scores, &moved)?;
        Ok(monitored(&scores, self.recipe.train.monitor.as_deref()))
    }

    fn saving(&mut self, _step: u64) -> llama_pro_train::Result<()> {
        Ok(self.live.saving()?)
    }

    fn saved(&mut self, step: u64, path: &Path) {
        tracing::debug!("checkpoint of step {step} in {}", path.display());
    }
}
