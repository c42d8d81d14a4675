//! The closing table, summary.json and the report.

use anyhow::Result;
use llama_pro_cli::output;
use llama_pro_eval::{EvalTable, compare};
use llama_pro_run::RunFolder;
use llama_pro_run::report::RunData;
use llama_pro_train::{Finished, Trainer};
use serde_json::{Value, json};

use super::data::{Data, reasons};
use super::questions::Answers;
use super::recipe::Recipe;
use crate::job::benchmarks;
use crate::job::closing::{self, Arithmetic, line};

/// What a finished run knows of itself.
pub(super) struct Facts<'a> {
    pub(super) run: &'a RunFolder,
    pub(super) recipe: &'a Recipe,
    pub(super) data: &'a Data,
    pub(super) trainer: &'a Trainer,
    pub(super) before: &'a EvalTable,
    pub(super) after: &'a EvalTable,
    pub(super) asked: (&'a Answers, &'a Answers),
    /// Records of the benchmarks before and after, where there are any.
    pub(super) benchmarks: Option<(&'a Value, &'a Value)>,
    pub(super) done: Finished,
}

/// Writes summary.json and report.html and prints the tables.
pub(super) fn finish(facts: &Facts) -> Result<()> {
    let trained = facts.trainer.n_trained();
    let (optimizer, gradients) = facts.trainer.state_bytes();
    let done = &facts.done;
    let (before, after) = facts.asked;
    let score = |answers: &Answers| {
        let (right, all) = answers.score(None);
        (all > 0).then(|| right as f64 / all as f64)
    };
    let peak = llama_pro_cli::progress::peak_memory();
    let (train, length) = (&facts.recipe.train, facts.recipe.data.sequence_length);
    let arithmetic = Arithmetic::of(facts.trainer, train, length, done);
    facts.run.write_summary(&json!({
        "trained_parameters": trained,
        "optimizer_bytes": optimizer,
        "gradient_bytes": gradients,
        "peak_bytes": peak,
        "steps": done.step,
        "skipped_steps": done.skipped,
        "best_step": done.best.map(|b| b.step),
        "tokens": done.tokens,
        "train_seconds": done.seconds,
        "tokens_per_second": closing::speed(done),
        "arithmetic": arithmetic,
        "template": facts.data.maker.template().name(),
        "rows": facts.data.batches.n_rows(),
        "filled": facts.data.batches.filled(),
        "sets": facts.data.sets,
        "questions": after.answers.len(),
        "accuracy_before": score(before),
        "accuracy_after": score(after),
    }))?;
    let changes = compare(facts.before, facts.after)?;
    facts.run.write_eval("changes", &changes)?;
    let page = llama_pro_run::report::html(&[RunData::read(facts.run.dir())?]);
    llama_pro_run::write_atomic(&facts.run.report(), page.as_bytes())?;

    examples(facts);
    if !after.answers.is_empty() {
        let mut topics: Vec<&str> = Vec::new();
        for answer in &after.answers {
            if !topics.contains(&answer.topic.as_str()) {
                topics.push(&answer.topic);
            }
        }
        let topics = topics.into_iter().map(Some).chain([None]);
        let rows = topics.map(|topic| {
            let ((was, all), (is, _)) = (before.score(topic), after.score(topic));
            let share = |n: usize| format!("{:.1} %", 100.0 * n as f64 / all.max(1) as f64);
            vec![topic.unwrap_or("all").to_owned(), all.to_string(), share(was), share(is)]
        });
        println!("{}", output::table(&["held-out questions", "asked", "right before", "right after"], rows));
    }
    if !changes.is_empty() {
        let rows = changes.iter().map(|c| {
            let was = facts.before.set(&c.name).map_or(f64::NAN, |s| s.nats_per_token);
            vec![
                c.name.clone(),
                format!("{:.2}", c.before),
                format!("{:.2}", c.after),
                format!("{was:.3}"),
                format!("{:.3}", was + c.difference),
                format!("{:+.3}", c.difference),
            ]
        });
        let header = ["held-out text", "perplexity before", "after", "nats/token before", "after", "change"];
        println!("{}", output::table(&header, rows));
    }
    if let Some((before, after)) = facts.benchmarks {
        benchmarks::show(before, after)?;
    }
    line("trained", format!("{}, {} parameters", facts.recipe.trains(), output::count(trained)));
    for set in &facts.data.sets {
        let out = if set.dropped.is_empty() {
            String::new()
        } else {
            format!("; left out: {}", reasons(&set.dropped))
        };
        let cut = if set.truncated > 0 { format!(", {} cut", set.truncated) } else { String::new() };
        line(
            &set.name,
            format!("{} of {} conversations{cut}{out}", set.kept + set.held_out, set.conversations),
        );
    }
    closing::facts(facts.trainer, &facts.recipe.train, done, &arithmetic);
    line("model", facts.run.model().display());
    if facts.recipe.lora.is_some() {
        line("adapter", facts.run.dir().join("adapter").display());
    }
    line("report", facts.run.report().display());
    Ok(())
}

/// A few answers, as they were given before and after: the first of each topic in turn, right or wrong.
fn examples(facts: &Facts) {
    let (before, after) = facts.asked;
    let show = |text: &str| {
        let short: String = text.chars().take(120).collect();
        let cut = if short.len() < text.len() { "…" } else { "" };
        format!("{}{cut}", short.replace('\n', "\n            "))
    };
    let mut left: Vec<usize> = (0..after.answers.len()).collect();
    let mut last = "";
    for _ in 0..facts.recipe.eval.examples {
        let other =
            left.iter().position(|&i| after.answers[i].topic != last).or((!left.is_empty()).then_some(0));
        let Some(i) = other.map(|at| left.remove(at)) else { break };
        let (was, is) = (&before.answers[i], &after.answers[i]);
        last = &is.topic;
        println!("  question  {}", show(&is.question));
        println!("  before    {}", show(&was.answer));
        println!("  after     {}", show(&is.answer));
        println!(
            "  {}\n",
            if is.right { "right".to_owned() } else { format!("wrong: expected {}", show(&is.expected)) }
        );
    }
}
