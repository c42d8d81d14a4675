//! What is seen and kept of a run while it goes: the bar, metrics.jsonl, TensorBoard events, and plain lines where no
//! terminal is there.

use indicatif::ProgressBar;
use llama_pro_cli::progress;
use llama_pro_run::{EventWriter, MetricsWriter, Result, RunFolder};
use llama_pro_train::{Forgetting, Keep, Saved, StepReport, TrainConfig};
use serde_json::{Map, Value, json};

/// The files and the bar of one start of a run.
pub(crate) struct Live<'a> {
    run: &'a RunFolder,
    log_every: u64,
    keep: Keep,
    metrics: Option<MetricsWriter>,
    events: Option<EventWriter>,
    bar: ProgressBar,
}

impl<'a> Live<'a> {
    pub(crate) fn new(run: &'a RunFolder, config: &TrainConfig, keep: Keep) -> Self {
        let (bar, log_every) = (progress::steps(config.steps), config.log_every);
        Self { run, log_every, keep, metrics: None, events: None, bar }
    }

    /// Takes the bar off the screen.
    pub(crate) fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// A resumed run: its files are cut back to the checkpoint.
    pub(crate) fn resumed(&mut self, saved: &Saved) -> Result<()> {
        // A look that is made again says so again.
        let stays = |step, line: &Map<String, Value>| {
            step < saved.step || step == saved.step && !(saved.look_due && line.contains_key("validation"))
        };
        self.metrics = Some(MetricsWriter::resume_where(&self.run.metrics(), stays)?);
        self.events = Some(EventWriter::create(self.run.dir(), Some(saved.step + 1))?);
        self.bar.set_position(saved.step);
        self.bar.reset_eta();
        tracing::info!("going on after step {}", saved.step);
        Ok(())
    }

    pub(crate) fn step(&mut self, report: &StepReport) -> Result<()> {
        let stats = &report.stats;
        let mut line = Map::new();
        let mut scalars = vec![
            ("train/loss".to_owned(), stats.loss()),
            ("train/grad_norm".to_owned(), stats.grad_norm),
            ("train/learning_rate".to_owned(), report.learning_rate),
            ("train/tokens_per_second".to_owned(), report.tokens_per_second),
        ];
        for (key, value) in [
            ("step", json!(report.step)),
            ("loss", json!(stats.loss())),
            ("grad_norm", json!(stats.grad_norm)),
            ("learning_rate", json!(report.learning_rate)),
            ("tokens", json!(report.tokens)),
            ("targets", json!(stats.n_targets)),
            ("tokens_per_second", json!(report.tokens_per_second)),
            ("seconds", json!(report.seconds)),
        ] {
            line.insert(key.to_owned(), value);
        }
        let mut also = |key: &str, value: Value, number: f64| {
            line.insert(key.to_owned(), value);
            scalars.push((format!("train/{key}"), number));
        };
        if let Some(keep) = stats.keep_loss().filter(|_| stats.sums.new.1 > 0) {
            also("keep_loss", json!(keep), keep);
        }
        if self.keep.kl > 0.0 && stats.sums.keep.1 > 0 {
            let kl = stats.sums.kl / stats.sums.keep.1.max(1) as f64;
            also("keep_kl", json!(kl), kl);
        }
        if stats.skipped {
            also("skipped", json!(1), 1.0);
        }
        self.write(report.step, line, &scalars)?;

        self.bar.set_position(report.step);
        let text = format!("loss {:.3}  {:.0} tok/s", stats.loss(), report.tokens_per_second);
        if progress::on_terminal() {
            self.bar.set_message(text);
        } else if report.step.is_multiple_of(self.log_every) || report.step == report.steps {
            let mean = report.seconds / report.step as f64;
            let left = llama_pro_cli::output::seconds(mean * (report.steps - report.step) as f64);
            tracing::info!("step {}/{}  {text}  {left} left", report.step, report.steps);
        }
        Ok(())
    }

    /// A validation: nats per token by text, and how far the model has moved from its base on some of them.
    pub(crate) fn validated(
        &mut self,
        step: u64,
        scores: &[(String, f64)],
        moved: &[(String, Forgetting)],
    ) -> Result<()> {
        let object = |values: &[(String, f64)]| {
            let map: Map<String, Value> = values.iter().map(|(name, v)| (name.clone(), json!(v))).collect();
            Value::Object(map)
        };
        let mut scalars: Vec<(String, f64)> =
            scores.iter().map(|(name, nats)| (format!("validation/{name}"), *nats)).collect();
        let mut line =
            Map::from_iter([("step".to_owned(), json!(step)), ("validation".to_owned(), object(scores))]);
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
        self.write(step, line, &scalars)?;
        if !progress::on_terminal() {
            let words: Vec<String> = scores.iter().map(|(name, nats)| format!("{name} {nats:.3}")).collect();
            tracing::info!("step {step}: validation {} nats per token", words.join(", "));
        }
        Ok(())
    }

    /// What a checkpoint counts on is on disk before it.
    pub(crate) fn saving(&mut self) -> Result<()> {
        self.metrics.as_ref().map_or(Ok(()), MetricsWriter::sync)
    }

    /// The files are opened late: a resumed run first learns from which step on they are to be cut back.
    fn write(&mut self, step: u64, line: Map<String, Value>, scalars: &[(String, f64)]) -> Result<()> {
        let metrics = match &mut self.metrics {
            Some(metrics) => metrics,
            none => none.insert(MetricsWriter::create(&self.run.metrics())?),
        };
        metrics.write(&Value::Object(line))?;
        let events = match &mut self.events {
            Some(events) => events,
            none => none.insert(EventWriter::create(self.run.dir(), Some(1))?),
        };
        events.scalars(step, scalars)
    }
}

/// What says whether a validation is the best: the text that `monitor` names, or the mean over all.
pub(crate) fn monitored(scores: &[(String, f64)], monitor: Option<&str>) -> Option<f64> {
    let nats: Vec<f64> =
        scores.iter().filter(|(name, _)| monitor.is_none_or(|m| m == name)).map(|(_, n)| *n).collect();
    (!nats.is_empty()).then(|| nats.iter().sum::<f64>() / nats.len() as f64)
}
