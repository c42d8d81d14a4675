//! What is seen and kept of a run while it goes: the bar, metrics.jsonl and TensorBoard events.

use indicatif::ProgressBar;
use llama_pro_cli::progress;
use llama_pro_run::{EventWriter, MetricsWriter, RunFolder};
use llama_pro_train::{Observer, Saved, StepReport, Trainer};
use serde_json::{Map, Value, json};

use super::recipe::Recipe;
use super::texts::{self, Scored};

pub(super) struct Watch<'a> {
    run: &'a RunFolder,
    recipe: &'a Recipe,
    texts: &'a [Scored],
    metrics: Option<MetricsWriter>,
    events: Option<EventWriter>,
    bar: ProgressBar,
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a RunFolder, recipe: &'a Recipe, texts: &'a [Scored]) -> Self {
        let bar = progress::steps(recipe.train.steps);
        Self { run, recipe, texts, metrics: None, events: None, bar }
    }

    /// Takes the bar off the screen.
    pub(super) fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// The files are opened late: a resumed run first learns from which step on they are to be cut back.
    fn write(
        &mut self,
        step: u64,
        line: Map<String, Value>,
        scalars: &[(String, f64)],
    ) -> llama_pro_run::Result<()> {
        if self.metrics.is_none() {
            self.metrics = Some(MetricsWriter::create(&self.run.metrics())?);
        }
        if self.events.is_none() {
            self.events = Some(EventWriter::create(self.run.dir(), Some(1))?);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.write(&Value::Object(line))?;
        }
        match &mut self.events {
            Some(events) => events.scalars(step, scalars),
            None => Ok(()),
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
        let line = Map::from_iter(
            [
                ("step", json!(report.step)),
                ("loss", json!(stats.loss())),
                ("grad_norm", json!(stats.grad_norm)),
                ("learning_rate", json!(report.learning_rate)),
                ("tokens", json!(report.tokens)),
                ("targets", json!(stats.n_targets)),
                ("tokens_per_second", json!(report.tokens_per_second)),
                ("seconds", json!(report.seconds)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let scalars = [("train/loss", stats.loss()), ("train/grad_norm", stats.grad_norm)];
        self.write(report.step, line, &scalars.map(|(name, x)| (name.to_owned(), x)))?;
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
        if self.texts.is_empty() {
            return Ok(None);
        }
        let table = texts::score(trainer.model(), self.texts, self.recipe, "validation")?;
        let values = table.sets.iter().map(|s| (s.name.clone(), json!(s.nats_per_token)));
        let line = Map::from_iter([
            ("step".to_owned(), json!(step)),
            ("validation".to_owned(), Value::Object(values.collect())),
        ]);
        let scalars: Vec<(String, f64)> =
            table.sets.iter().map(|s| (format!("validation/{}", s.name), s.nats_per_token)).collect();
        self.write(step, line, &scalars)?;
        let monitor = self.recipe.train.monitor.as_deref().unwrap_or(texts::CONVERSATIONS);
        Ok(table.set(monitor).map(|s| s.nats_per_token))
    }

    fn saving(&mut self, _step: u64) -> llama_pro_train::Result<()> {
        if let Some(metrics) = &self.metrics {
            metrics.sync()?;
        }
        Ok(())
    }
}
