//! Continual learning: what a series of trainings did to a series of tasks.
//!
//! `R[t][i]` is the score of task `i` after stage `t`. The numbers are those of the literature, each under its own name,
//! because two of them are called backward transfer:
//!
//! - overall performance and `bwt_trace`: TRACE (Wang et al., arXiv 2310.06762);
//! - `bwt_gem` and forward transfer: GEM (Lopez-Paz and Ranzato, arXiv 1706.08840);
//! - forgetting: Chaudhry et al., arXiv 1801.10112.

mod heat_map;

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// A task of the series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Its name in the result files.
    pub task: String,
    /// Metric and filter, as `acc_norm,none`; `None` for the first of the task for which more is better.
    pub metric: Option<String>,
    /// Number of the stage that trained it, from 0 for the first stage after the base; `None` for a task that no stage
    /// trained, which shows what was kept.
    pub stage: Option<usize>,
}

/// Scores of tasks before and after each stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Names of the stages.
    pub stages: Vec<String>,
    /// The tasks.
    pub tasks: Vec<Learned>,
    /// Scores before any stage, one for each task; `None` where there was no such file.
    pub base: Option<Vec<f64>>,
    /// Scores after each stage, `[stages][tasks]`.
    pub scores: Vec<Vec<f64>>,
}

/// What the matrix says. Scores are in the units of the tasks, mostly shares from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Continual {
    /// Mean score, after the last stage, of the tasks that some stage trained.
    pub overall: f64,
    /// Mean, over all trained tasks, of the score after the last stage less that after their own stage. The last task
    /// counts with 0.
    pub bwt_trace: f64,
    /// The same over the tasks that a later stage followed: `bwt_trace` of T tasks times T / (T - 1). `None` with one.
    pub bwt_gem: Option<f64>,
    /// Mean, over the tasks that a later stage followed, of the best score after any stage before the last less that
    /// after the last. `None` with one task.
    pub forgetting: Option<f64>,
    /// Mean, over the trained tasks that an earlier stage came before, of the score just before their own stage less
    /// that of the base. `None` without a base or with one task.
    pub forward_transfer: Option<f64>,
    /// Overall performance after each stage, over the tasks trained so far.
    pub overall_by_stage: Vec<f64>,
    /// Mean change, from the base to the last stage, of the tasks that no stage trained. `None` without such tasks or
    /// without a base.
    pub kept: Option<f64>,
}

impl Matrix {
    /// Reads the scores out of result files in the harness' schema: that of the base, where there is one, and one for
    /// each stage, each with the name that messages and the heat map give it.
    ///
    /// # Errors
    /// [`Error::Input`]: no stage, no task, a task or metric that a file lacks, a metric for which less is better, a stage
    /// that is not there.
    pub fn from_records(
        base: Option<(&str, &Value)>,
        stages: &[(&str, &Value)],
        tasks: &[Learned],
    ) -> Result<Self> {
        let mut tasks = tasks.to_vec();
        let Some((name, first)) = stages.first() else {
            return Err(Error::Input("no stage: expected a result file for each".to_owned()));
        };
        for task in &mut tasks {
            if task.metric.is_none() {
                task.metric = Some(first_metric(name, first, &task.task)?);
            }
        }
        let row = |(name, record): (&str, &Value)| -> Result<Vec<f64>> {
            tasks.iter().map(|task| score(name, record, task)).collect()
        };
        let base = base.map(row).transpose()?;
        let scores = stages.iter().map(|stage| row(*stage)).collect::<Result<_>>()?;
        let stages = stages.iter().map(|(name, _)| (*name).to_owned()).collect();
        let matrix = Self { stages, tasks: tasks.clone(), base, scores };
        matrix.check()?;
        Ok(matrix)
    }

    /// Whether the parts fit together.
    ///
    /// # Errors
    /// [`Error::Input`] says what does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Input(message));
        if self.scores.len() != self.stages.len() || self.stages.is_empty() {
            return wrong(format!("{} stages have {} rows of scores", self.stages.len(), self.scores.len()));
        }
        let rows = self.scores.iter().chain(&self.base);
        for row in rows {
            if row.len() != self.tasks.len() {
                return wrong(format!("{} tasks have a row of {} scores", self.tasks.len(), row.len()));
            }
            if let Some(i) = row.iter().position(|score| !score.is_finite()) {
                return wrong(format!("{}: the score {} is no number", self.tasks[i].task, row[i]));
            }
        }
        for task in &self.tasks {
            if let Some(stage) = task.stage.filter(|stage| *stage >= self.stages.len()) {
                return wrong(format!("{}: stage {stage} of {}", task.task, self.stages.len()));
            }
        }
        if self.tasks.iter().all(|task| task.stage.is_none()) {
            return wrong("no task was trained by a stage".to_owned());
        }
        Ok(())
    }

    /// What the matrix says.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn measure(&self) -> Result<Continual> {
        self.check()?;
        let last = self.stages.len() - 1;
        let at = |stage: usize, task: usize| self.scores[stage][task];
        // Task and the stage that trained it.
        let trained: Vec<(usize, usize)> =
            self.tasks.iter().enumerate().filter_map(|(i, task)| Some((i, task.stage?))).collect();
        let followed: Vec<(usize, usize)> =
            trained.iter().copied().filter(|(_, stage)| *stage < last).collect();
        let change = |(task, stage): &(usize, usize)| at(last, *task) - at(*stage, *task);
        let overall_after = |stage: usize| {
            mean(trained.iter().filter(|(_, own)| *own <= stage).map(|(task, _)| at(stage, *task)))
        };
        let best = |task: usize| (0..last).map(|stage| at(stage, task)).fold(f64::NEG_INFINITY, f64::max);
        let forward = self.base.as_ref().and_then(|base| {
            let later = trained.iter().filter(|(_, stage)| *stage > 0);
            mean(later.map(|(task, stage)| at(stage - 1, *task) - base[*task]))
        });
        let kept = self.base.as_ref().and_then(|base| {
            let never = self.tasks.iter().enumerate().filter(|(_, task)| task.stage.is_none());
            mean(never.map(|(i, _)| at(last, i) - base[i]))
        });
        Ok(Continual {
            overall: overall_after(last).unwrap_or(f64::NAN),
            bwt_trace: mean(trained.iter().map(change)).unwrap_or(f64::NAN),
            bwt_gem: mean(followed.iter().map(change)),
            forgetting: mean(followed.iter().map(|(task, _)| best(*task) - at(last, *task))),
            forward_transfer: forward,
            overall_by_stage: (0..=last).map(|stage| overall_after(stage).unwrap_or(f64::NAN)).collect(),
            kept,
        })
    }

    /// The matrix as an SVG picture: a row for the base and each stage, a column for each task.
    pub fn heat_map(&self) -> String {
        heat_map::draw(self)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Whether less of this metric is better.
fn falls(metric: &str) -> bool {
    let name = metric.split(',').next().unwrap_or(metric);
    name.ends_with("perplexity") || name == "bits_per_byte"
}

fn results<'a>(name: &str, record: &'a Value, task: &str) -> Result<&'a serde_json::Map<String, Value>> {
    let all = record["results"].as_object();
    let all = all.ok_or_else(|| Error::Input(format!("{name} is no result file: it has no \"results\"")))?;
    let row = all.get(task).and_then(Value::as_object);
    row.ok_or_else(|| Error::Input(format!("{name} has no result of the task \"{task}\"")))
}

fn first_metric(name: &str, record: &Value, task: &str) -> Result<String> {
    let row = results(name, record, task)?;
    let fits = |key: &&String| {
        let metric = key.split_once(',').map(|(metric, _)| metric);
        metric.is_some_and(|metric| !metric.ends_with("_stderr") && !falls(metric)) && row[*key].is_number()
    };
    let found = row.keys().find(fits).cloned();
    found.ok_or_else(|| {
        Error::Input(format!("{name}: the task \"{task}\" has no metric of which more is better"))
    })
}

fn score(name: &str, record: &Value, task: &Learned) -> Result<f64> {
    let row = results(name, record, &task.task)?;
    let metric = task.metric.as_deref().unwrap_or_default();
    if falls(metric) {
        let what =
            format!("{}: of \"{metric}\" less is better; expected a metric of which more is", task.task);
        return Err(Error::Input(what));
    }
    let value = row.get(metric).and_then(Value::as_f64);
    value.ok_or_else(|| {
        let found: Vec<&str> = row.keys().map(String::as_str).filter(|key| key.contains(',')).collect();
        let (task, found) = (&task.task, found.join(" "));
        Error::Input(format!("{name}: the task \"{task}\" has no \"{metric}\"; it has {found}"))
    })
}
