//! What is seen and kept of a run while it goes: the bar, metrics.jsonl, TensorBoard events, and plain lines where no
//! terminal is there.

use std::path::Path;

use anyhow::Result;
use indicatif::ProgressBar;
use llama_pro_run::{EventWriter, MetricsWriter, RunFolder};
use llama_pro_train::{Forgetting, Observer, Saved, StepReport, Trainer};
use serde_json::{Map, Value, json};

use super::data::Data;
use super::evaluate;
use crate::recipe::Recipe;
use llama_pro_cli::progress;

pub(super) struct Watch<'a> {
    run: &'a RunFolder,
    recipe: &'a Recipe,
    data: &'a Data,
    metrics: Option<MetricsWriter>,
    events: Option<EventWriter>,
    bar: ProgressBar,
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a RunFolder, recipe: &'a Recipe, data: &'a Data) -> Result<Self> {
        let bar = progress::steps(recipe.train.steps);
        Ok(Self { run, recipe, data, metrics: None, events: None, bar })
    }

    /// Takes the bar off the screen.
    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// The files are opened late: a resumed run first learns from which step on they are to be cut back.
    fn writers(&mut self) -> llama_pro_run::Result<(&mut MetricsWriter, &mut EventWriter)> {
        if self.metrics.is_none() {
            self.metrics = Some(MetricsWriter::create(&self.run.metrics())?);
        }
        if self.events.is_none() {
            self.events = Some(EventWriter::create(self.run.dir(), Some(1))?);
        }
        match (&mut self.metrics, &mut self.events) {
            (Some(metrics), Some(events)) => Ok((metrics, events)),
            _ => unreachable!("both were just made"),
        }
    }
}

impl Observer for Watch<'_> {
    fn resumed(&mut self, saved: &Saved) -> llama_pro_train::Result<()> {
        self.metrics = Some(MetricsWriter::resume_at(&self.run.metrics(), saved.step)?);
        self.events = Some(EventWriter::create(self.run.dir(), Some(saved.step + 1))?);
        self.bar.set_position(saved.step);
        self.bar.reset_eta();
        tracing::info!("going on after step {}", saved.step);
        Ok(())
    }

    fn step(&mut self, report: &StepReport) -> llama_pro_train::Result<()> {
        let stats = &report.stats;
        let mut line = Map::new();
        let mut scalars = vec![
            ("train/loss", stats.loss()),
            ("train/grad_norm", stats.grad_norm),
            ("train/learning_rate", report.learning_rate),
            ("train/tokens_per_second", report.tokens_per_second),
        ];
        for (key, value) in [
            ("step", json!(report.step)),
            ("loss", json!(stats.loss())),
            ("grad_norm", json!(stats.grad_norm)),
            ("learning_rate", json!(report.learning_rate)),
            ("tokens", json!(report.tokens)),
            ("tokens_per_second", json!(report.tokens_per_second)),
            ("seconds", json!(report.seconds)),
        ] {
            line.insert(key.to_owned(), value);
        }
        if let Some(keep) = stats.keep_loss().filter(|_| stats.sums.new.1 > 0) {
            line.insert("keep_loss".to_owned(), json!(keep));
            scalars.push(("train/keep_loss", keep));
        }
        if self.recipe.keep_weights().kl > 0.0 && stats.sums.keep.1 > 0 {
            let kl = stats.sums.kl / stats.sums.keep.1.max(1) as f64;
            line.insert("keep_kl".to_owned(), json!(kl));
            scalars.push(("train/keep_kl", kl));
        }
        if stats.skipped {
            line.insert("skipped".to_owned(), json!(1));
            scalars.push(("train/skipped", 1.0));
        }
        let (metrics, events) = self.writers()?;
        metrics.write(&Value::Object(line))?;
        events.scalars(report.step, &scalars)?;

        self.bar.set_position(report.step);
        let text = format!("loss {:.3}  {:.0} tok/s", stats.loss(), report.tokens_per_second);
        if progress::on_terminal() {
            self.bar.set_message(text);
        } else if report.step.is_multiple_of(self.recipe.train.log_every) || report.step == report.steps {
            let mean = report.seconds / report.step as f64;
            let left = llama_pro_cli::output::seconds(mean * (report.steps - report.step) as f64);
            tracing::info!("step {}/{}  {text}  {left} left", report.step, report.steps);
        }
        Ok(())
    }

    fn validate(&mut self, step: u64, trainer: &Trainer) -> llama_pro_train::Result<Option<f64>> {
        let scores = evaluate::glance(trainer.model(), self.data, self.recipe)?;
        let moved = evaluate::forgetting(trainer, self.data, self.recipe)?;
        let monitored = evaluate::monitored(&scores, self.recipe);
        let mut scalars: Vec<(String, f64)> =
            scores.iter().map(|(name, nats)| (format!("validation/{name}"), *nats)).collect();
        let object = |values: &[(String, f64)]| {
            let map: Map<String, Value> = values.iter().map(|(name, v)| (name.clone(), json!(v))).collect();
            Value::Object(map)
        };
        let mut line =
            Map::from_iter([("step".to_owned(), json!(step)), ("validation".to_owned(), object(&scores))]);
        type Get = fn(&Forgetting) -> f64;
        let parts: [(&str, Get); 4] = [
            ("kl_to_base", |f| f.kl),
            ("unshifted", |f| f.unshifted),
            ("marginal", |f| f.marginal),
            ("shifted", |f| f.shifted),
        ];
        for (key, get) in parts.into_iter().filter(|_| !moved.is_empty()) {
            let values: Vec<(String, f64)> = moved.iter().map(|(name, f)| (name.clone(), get(f))).collect();
            line.insert(key.to_owned(), object(&values));
            scalars.extend(values.into_iter().map(|(name, v)| (format!("forgetting/{name}/{key}"), v)));
        }
        let (metrics, events) = self.writers()?;
        metrics.write(&Value::Object(line))?;
        events.scalars(step, &scalars)?;
        if !progress::on_terminal() {
            let words: Vec<String> = scores.iter().map(|(name, nats)| format!("{name} {nats:.3}")).collect();
            tracing::info!("step {step}: validation {} nats per token", words.join(", "));
        }
        Ok(monitored)
    }

    fn saving(&mut self, _step: u64) -> llama_pro_train::Result<()> {
        if let Some(metrics) = &self.metrics {
            metrics.sync()?;
        }
        Ok(())
    }

    fn saved(&mut self, step: u64, path: &Path) {
        tracing::debug!("checkpoint of step {step} in {}", path.display());
    }
}
