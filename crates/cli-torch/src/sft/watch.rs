//! What is seen and kept of an instruction-tuning run while it goes.

use std::sync::atomic::{AtomicBool, Ordering};

use llama_pro_run::RunFolder;
use llama_pro_train::{Forgetting, Look, MicroBatch, Observer, Result, Saved, StepReport, Trainer};

use super::recipe::Recipe;
use super::texts::{self, Texts};
use crate::job::live::{Live, monitored};

pub(super) struct Watch<'a> {
    recipe: &'a Recipe,
    texts: &'a Texts,
    live: Live<'a>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a RunFolder, recipe: &'a Recipe, texts: &'a Texts) -> Self {
        Self { recipe, texts, live: Live::new(run, &recipe.train, recipe.keep_weights()) }
    }

    /// Takes the bar off the screen.
    pub(super) fn close(&self) {
        self.live.close();
    }

    /// How far the model is from its base on the text to keep, where the base is at hand.
    fn forgetting(&self, trainer: &Trainer, stop: &AtomicBool) -> Result<Vec<(String, Forgetting)>> {
        let Some(kept) = &self.texts.kept else { return Ok(Vec::new()) };
        let device = trainer.model().device();
        let rows = kept.held_out.packed(self.recipe.eval.validation_rows);
        let rows = rows.take_while(|_| !stop.load(Ordering::Relaxed));
        let moved = trainer.forgetting(rows.map(|row| MicroBatch::new(&[(row, false)], device)))?;
        Ok(moved.into_iter().map(|moved| (kept.held_out.name.clone(), moved)).collect())
    }
}

impl Observer for Watch<'_> {
    fn resumed(&mut self, saved: &Saved) -> Result<()> {
        Ok(self.live.resumed(saved)?)
    }

    fn step(&mut self, report: &StepReport) -> Result<()> {
        Ok(self.live.step(report)?)
    }

    fn validate(&mut self, step: u64, trainer: &Trainer, stop: &AtomicBool) -> Result<Look> {
        if self.texts.scored.is_empty() {
            return Ok(Look::Seen(None));
        }
        let looked = texts::score(trainer.model(), &self.texts.scored, self.recipe, "validation", stop);
        let looked = looked.map_err(llama_pro_train::Error::from);
        let looked = looked.and_then(|table| Ok((table, self.forgetting(trainer, stop)?)));
        // With rows left out it says nothing, be it an error.
        if stop.load(Ordering::Relaxed) {
            return Ok(Look::BrokenOff);
        }
        let (table, moved) = looked?;
        let scores: Vec<(String, f64)> =
            table.sets.iter().map(|set| (set.name.clone(), set.nats_per_token)).collect();
        self.live.validated(step, &scores, &moved)?;
        let monitor = self.recipe.train.monitor.as_deref().unwrap_or(texts::CONVERSATIONS);
        Ok(Look::Seen(monitored(&scores, Some(monitor))))
    }

    fn saving(&mut self, _step: u64) -> Result<()> {
        Ok(self.live.saving()?)
    }
}
