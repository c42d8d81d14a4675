//! The run itself: task after task, each from its documents to its scores.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::aggregate::{Score, aggregate};
use super::group::{GroupResult, summary};
use super::journal::Journal;
use super::sample::{Answered, Sample, task_hash};
use super::{generate, likelihood};
use crate::data::{DataFile, DataRoot};
use crate::encode::{Codec, Encoder};
use crate::filters::{Filter, Matcher};
use crate::prompt::{Prepared, Question, prepare};
use crate::python;
use crate::tasks::{Field, Metric, OutputType, Selection, TaskSpec};
use crate::{ChoiceScore, CodeRunner, Error, LanguageModel, Program, Protocol, Result, Tests};

/// What can be chosen about a run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which harness' numbers are to be met.
    pub protocol: Protocol,
    /// Whether texts begin with BOS, where protocol and tokenizer are not to decide.
    pub add_bos: Option<bool>,
    /// Examples in each prompt, where tasks are not to decide.
    pub shots: Option<usize>,
    /// Documents of each task at most.
    pub limit: Option<usize>,
    /// The most new tokens of a text, where tasks are not to decide.
    pub max_gen_toks: Option<usize>,
    /// Stop strings, where tasks are not to decide.
    pub until: Option<Vec<String>>,
    /// Generate, but run no program.
    pub predict_only: bool,
    /// Leave out standard errors that take 100,000 resamples.
    pub no_bootstrap: bool,
}

/// Hears how far a run is.
pub trait Watch {
    /// A task begins, with so many requests.
    fn requests(&mut self, task: &str, requests: usize);
    /// So many more of them are answered.
    fn done(&mut self, requests: usize);
}

/// How many requests a task had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: usize,
    /// Those whose context was cut on the left.
    pub cut: usize,
    /// Those whose context encodes differently on its own than with what follows.
    pub unsplit: usize,
    /// Tokens of the longest.
    pub longest: usize,
}

/// The result of one task.
#[derive(Clone, Debug)]
pub struct TaskResult {
    /// The task.
    pub spec: std::sync::Arc<TaskSpec>,
    /// Examples in each prompt.
    pub shots: usize,
    /// Scores, in the order of filters and metrics.
    pub scores: Vec<Score>,
    /// Documents, filter by filter.
    pub samples: Vec<Sample>,
    /// Documents there are, before a limit.
    pub original: usize,
    /// Documents that were evaluated.
    pub effective: usize,
    /// Its requests.
    pub counts: Counts,
    /// The hash over all documents, prompts and targets.
    pub hash: String,
    /// The files that its documents came from.
    pub files: Vec<DataFile>,
    /// Stop strings and tokens of generated texts.
    pub generation: Option<Value>,
}

/// The results of a run.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Tasks in the order asked for.
    pub tasks: Vec<TaskResult>,
    /// Groups.
    pub groups: Vec<GroupResult>,
    /// Whether texts began with BOS.
    pub has_bos: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Evaluates tasks. All documents are read and all prompts of a task encoded before its first request; answers go into
/// the journal as they come, so that a run that was cut off asks again only what is missing.
///
/// # Errors
/// [`Error::MissingData`] and [`Error::Data`] for documents; [`Error::Task`] for what a task or the model's answers have
/// wrong; [`Error::Died`] when the model fails.
#[expect(
    clippy::too_many_arguments,
    reason = "model, tokenizer, tasks, data, choices, sandbox, journal, progress"
)]
pub fn evaluate(
    model: &mut dyn LanguageModel,
    codec: &dyn Codec,
    selection: &Selection,
    data: &DataRoot,
    options: &Options,
    mut runner: Option<&mut dyn CodeRunner>,
    journal: &mut Journal,
    watch: &mut dyn Watch,
) -> Result<Evaluation> {
    let start = Instant::now();
    let encoder =
        Encoder::new(codec, options.protocol, options.add_bos, model.max_row()).map_err(Error::Input)?;
    // Everything is read before the model runs: a file that is missing for the last task is known at once.
    let mut prepared = Vec::new();
    for (spec, shots) in &selection.tasks {
        if spec.code.is_some() && runner.is_none() && !options.predict_only {
            return Err(Error::Task {
                task: spec.task.clone(),
                message: "runs programs that the model writes, and there is nothing to run them in"
                    .to_owned(),
            });
        }
        prepared.push(prepare(spec, data, options.protocol, shots.or(options.shots), options.limit)?);
    }
    let mut tasks = Vec::new();
    for ((spec, _), prepared) in selection.tasks.iter().zip(prepared) {
        let mut job = Job { spec, prepared: &prepared, encoder: &encoder, options, journal, watch };
        let mut done = match spec.output_type {
            OutputType::GenerateUntil => job.generate(model, &mut runner)?,
            _ => job.likelihood(model)?,
        };
        done.spec = std::sync::Arc::clone(spec);
        tasks.push(done);
    }
    let groups = selection.groups.iter().map(|g| summary(g, selection, &tasks, options.protocol)).collect();
    Ok(Evaluation { tasks, groups, has_bos: encoder.has_bos(), elapsed: start.elapsed() })
}

/// Reads everything that [`evaluate`] would read, so that a missing or broken file is known before other work begins.
///
/// # Errors
/// What is wrong with the data of a task.
pub fn check(selection: &Selection, data: &DataRoot, options: &Options) -> Result<()> {
    for (spec, shots) in &selection.tasks {
        prepare(spec, data, options.protocol, shots.or(options.shots), options.limit)?;
    }
    Ok(())
}

struct Job<'a> {
    spec: &'a std::sync::Arc<TaskSpec>,
    prepared: &'a Prepared,
    encoder: &'a Encoder<'a>,
    options: &'a Options,
    journal: &'a mut Journal,
    watch: &'a mut dyn Watch,
}

impl Job<'_> {
    fn likelihood(&mut self, model: &mut dyn LanguageModel) -> Result<TaskResult> {
        let questions = &self.prepared.questions;
        let rolling = self.spec.output_type == OutputType::LoglikelihoodRolling;
        let ask = if rolling { likelihood::texts } else { likelihood::pairs };
        let scored = ask(model, self.encoder, self.spec, questions, self.journal, self.watch)?;
        let sample = |(i, question): (usize, &Question)| {
            let scores = &scored.scores[i];
            let values = self
                .spec
                .metrics
                .iter()
                .map(|m| (*m, value(*m, question, scores, &scored.tokens[i])))
                .collect();
            let pair = |s: &ChoiceScore| json!([s.log_likelihood, s.is_greedy]);
            let filtered: Value = scores.iter().map(pair).collect();
            let resps = scores.iter().map(|s| json!([pair(s)])).collect();
            let answered = Answered { resps, filtered, settings: None, more: Map::new() };
            Sample::new(question, "none", values, rolling, answered)
        };
        let samples: Vec<Sample> = questions.iter().enumerate().map(sample).collect();
        Ok(self.result(samples, scored.counts, None))
    }

    fn generate(
        &mut self,
        model: &mut dyn LanguageModel,
        runner: &mut Option<&mut dyn CodeRunner>,
    ) -> Result<TaskResult> {
        let questions = &self.prepared.questions;
        let spec = self.spec;
        let own = spec.generation.as_ref();
        let new = self.options.max_gen_toks.or(own.map(|g| g.max_gen_toks)).unwrap_or(256);
        let leaderboard =
            spec.leaderboard.as_ref().filter(|_| self.options.protocol == Protocol::Leaderboard);
        let until = self.options.until.clone().or_else(|| leaderboard.map(|l| l.until.clone()));
        let until = until.or_else(|| own.map(|g| g.until.clone())).unwrap_or_default();
        let limits = generate::Limits { until: &until, new };
        let (written, counts) =
            generate::texts(model, self.encoder, spec, questions, &limits, self.journal, self.watch)?;
        let outcomes = self.judge(&written, runner)?;
        let settings = json!({ "until": until, "do_sample": false, "max_gen_toks": new });
        let own = leaderboard.and_then(|l| l.exact_match.as_ref()).or(spec.exact_match.as_ref());
        let matcher = Matcher::new(own)?;
        let mut samples = Vec::new();
        for filter in Filter::all(&spec.filters)? {
            for (i, question) in questions.iter().enumerate() {
                let text = &written[i].text;
                let mut more = Map::new();
                let (filtered, passed) = match outcomes.get(i) {
                    Some((program, verdict)) => {
                        more.insert(
                            "outcome".into(),
                            verdict.clone().err().unwrap_or("passed".into()).into(),
                        );
                        (json!([[program]]), verdict.is_ok())
                    }
                    None => {
                        let answer = filter.apply(text)?;
                        let same = matcher.same(&answer, &python::text(&question.target))?;
                        (json!([answer]), same)
                    }
                };
                let metrics = spec.metrics.iter().filter(|_| spec.code.is_none() || !outcomes.is_empty());
                let values = metrics.map(|m| (*m, (f64::from(u8::from(passed)), 0.0))).collect();
                let settings = Some(settings.clone());
                let answered = Answered { resps: json!([[text]]), filtered, settings, more };
                samples.push(Sample::new(question, &filter.name, values, false, answered));
            }
        }
        Ok(self.result(samples, counts, Some(settings)))
    }

    /// The program of each text, and how it went; nothing where the task has no programs or none are to be run.
    fn judge(
        &self,
        written: &[generate::Written],
        runner: &mut Option<&mut dyn CodeRunner>,
    ) -> Result<Vec<(String, Result<(), String>)>> {
        let (Some(code), Some(runner)) = (&self.spec.code, runner) else { return Ok(Vec::new()) };
        if self.options.predict_only {
            return Ok(Vec::new());
        }
        let fail = |message: String| Error::Task { task: self.spec.task.clone(), message };
        let templates = &self.prepared.templates;
        let mut programs = Vec::new();
        for (question, text) in self.prepared.questions.iter().zip(written) {
            let mut doc = question.doc.clone();
            doc.insert("completion".into(), text.joined.clone().into());
            let source = templates.text(Field::Program, &doc).map_err(fail)?;
            let part =
                |field| if templates.has(field) { templates.text(field, &doc) } else { Ok(String::new()) };
            let tests = Tests {
                context: part(Field::TestContext).map_err(fail)?,
                source: part(Field::Tests).map_err(fail)?,
                provided: part(Field::Provided)
                    .map_err(fail)?
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect(),
            };
            let tests = templates.has(Field::Tests).then_some(tests);
            programs.push(Program { source, tests, time_limit: Duration::from_secs_f64(code.time_limit) });
        }
        let outcomes = runner.run(&programs).map_err(|e| fail(e.to_string()))?;
        if outcomes.len() != programs.len() {
            return Err(fail(format!(
                "the sandbox answered {} of {} programs",
                outcomes.len(),
                programs.len()
            )));
        }
        let mut judged = Vec::new();
        for ((question, program), outcome) in self.prepared.questions.iter().zip(programs).zip(outcomes) {
            let mut verdict = outcome.result.map_err(|f| format!("{}: {}", f.kind, f.message));
            if verdict.is_ok() && templates.has(Field::Answer) {
                let expected = templates.text(Field::Answer, &question.doc).map_err(fail)?;
                verdict = printed(&outcome.stdout, &expected);
            }
            judged.push((program.source, verdict));
        }
        Ok(judged)
    }

    fn result(&self, samples: Vec<Sample>, counts: Counts, generation: Option<Value>) -> TaskResult {
        let mut scores = Vec::new();
        let mut filters: Vec<&str> = samples.iter().map(|s| s.filter.as_str()).collect();
        filters.dedup();
        for filter in filters {
            for metric in &self.spec.metrics {
                let of = samples.iter().filter(|s| s.filter == filter);
                let items: Vec<(f64, f64)> =
                    of.filter_map(|s| s.values.iter().find(|(m, _)| m == metric).map(|(_, v)| *v)).collect();
                if !items.is_empty() {
                    let (value, stderr) = aggregate(*metric, &items, !self.options.no_bootstrap);
                    scores.push(Score { metric: *metric, filter: filter.to_owned(), value, stderr });
                }
            }
        }
        TaskResult {
            spec: std::sync::Arc::clone(self.spec),
            shots: self.prepared.shots,
            scores,
            hash: task_hash(&samples),
            samples,
            original: self.prepared.original,
            effective: self.prepared.questions.len(),
            counts,
            files: self.prepared.files.clone(),
            generation,
        }
    }
}

/// The value of a document in a task of likelihoods.
fn value(metric: Metric, question: &Question, scores: &[ChoiceScore], tokens: &[usize]) -> (f64, f64) {
    let best = |norm: &dyn Fn(usize) -> f64| {
        // The first of equals, as numpy's argmax has it.
        let mut best = 0;
        for i in 1..scores.len() {
            if scores[i].log_likelihood / norm(i) > scores[best].log_likelihood / norm(best) {
                best = i;
            }
        }
        (f64::from(u8::from(question.gold.contains(&best))), 0.0)
    };
    let first = scores.first().copied().unwrap_or_default();
    let (words, bytes) = question.counts;
    match metric {
        Metric::Acc if !question.labels.is_empty() => {
            let of = |i: usize| scores[i].log_likelihood.exp();
            let all: f64 = (0..scores.len()).map(of).sum();
            let share = (0..scores.len()).filter(|i| question.labels[*i]).map(|i| of(i) / all).sum();
            (share, 0.0)
        }
        Metric::Acc if question.choices.is_empty() => (f64::from(u8::from(first.is_greedy)), 0.0),
        Metric::Acc => best(&|_| 1.0),
        Metric::AccNorm => best(&|i| question.choices[i].chars().count() as f64),
        Metric::AccBytes => best(&|i| question.choices[i].len() as f64),
        Metric::AccTokens => best(&|i| tokens[i] as f64),
        Metric::ExactMatch => (f64::from(u8::from(question.gold.iter().any(|i| scores[*i].is_greedy))), 0.0),
        Metric::Perplexity => (first.log_likelihood, 0.0),
        Metric::WordPerplexity => (first.log_likelihood, words as f64),
        Metric::BytePerplexity | Metric::BitsPerByte => (first.log_likelihood, bytes as f64),
        Metric::PassAt1 | Metric::PassAt1Mbpp => (0.0, 0.0),
    }
}

/// Whether the last printed line is the number, within 0.001.
fn printed(stdout: &str, expected: &str) -> Result<(), String> {
    let line = python::strip(stdout).rsplit('\n').next().unwrap_or("");
    let number = python::float(expected).ok_or_else(|| format!("answer: {expected} is no number"))?;
    match python::float(line) {
        Some(found) if (found - number).abs() < 1e-3 => Ok(()),
        Some(found) => Err(format!("answer: expected {number}, found {found}")),
        None => Err(format!("answer: expected {number}, found no number")),
    }
}
