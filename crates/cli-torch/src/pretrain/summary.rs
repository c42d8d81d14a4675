//! The closing table, summary.json and the report: honest whatever they say.

use anyhow::Result;
use llama_pro_eval::{EvalTable, Verdict, compare};
use llama_pro_run::RunFolder;
use llama_pro_run::report::RunData;
use llama_pro_train::{Finished, Parameters, Trainer};
use serde_json::{Value, json};

use crate::job::benchmarks;
use crate::job::closing::{self, Arithmetic, line};
use crate::recipe::Recipe;
use llama_pro_cli::output;

/// What a finished run knows of itself.
pub(super) struct Facts<'a> {
    pub(super) run: &'a RunFolder,
    pub(super) recipe: &'a Recipe,
    pub(super) trainer: &'a Trainer,
    pub(super) before: &'a EvalTable,
    pub(super) after: &'a EvalTable,
    /// Records of the benchmarks before and after, where there are any.
    pub(super) benchmarks: Option<(&'a Value, &'a Value)>,
    pub(super) frozen_checked: usize,
    pub(super) base_path_identical: Option<bool>,
    pub(super) new_blocks: Vec<usize>,
    pub(super) done: Finished,
}

/// Writes summary.json and report.html and prints the table.
pub(super) fn finish(facts: &Facts) -> Result<()> {
    let parameters: u64 = facts.trainer.model().parameters().iter().map(|p| p.tensor.numel() as u64).sum();
    let trained = facts.trainer.n_trained();
    let (optimizer, gradients) = facts.trainer.state_bytes();
    let train = &facts.recipe.train;
    let done = &facts.done;
    let peak = llama_pro_cli::progress::peak_memory();
    let arithmetic = Arithmetic::of(facts.trainer, train, facts.recipe.data.sequence_length, done);
    facts.run.write_summary(&json!({
        "parameters": parameters,
        "trained_parameters": trained,
        "new_blocks": facts.new_blocks,
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
        "frozen_tensors_checked": facts.frozen_checked,
        "base_path_identical": facts.base_path_identical,
    }))?;
    let changes = compare(facts.before, facts.after)?;
    facts.run.write_eval("changes", &changes)?;
    let page = llama_pro_run::report::html(&[RunData::read(facts.run.dir())?]);
    llama_pro_run::write_atomic(&facts.run.report(), page.as_bytes())?;

    let keep = facts.recipe.keep.as_ref().map(|k| k.name.as_str());
    let rows = changes.iter().map(|c| {
        let before = facts.before.set(&c.name).map_or(f64::NAN, |s| s.nats_per_token);
        let role = if keep == Some(c.name.as_str()) { "to keep" } else { "" };
        let word = match c.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Same => "same within 2 s.e.",
            Verdict::Unknown => "",
        };
        vec![
            c.name.clone(),
            role.to_owned(),
            format!("{:.2}", c.before),
            format!("{:.2}", c.after),
            format!("{before:.3}"),
            format!("{:.3}", before + c.difference),
            format!("{:+.3}", c.difference),
            word.to_owned(),
        ]
    });
    let header = [
        "held-out text",
        "",
        "perplexity before",
        "after",
        "nats/token before",
        "after",
        "change",
        "verdict",
    ];
    println!("{}", output::table(&header, rows));
    if let Some((before, after)) = facts.benchmarks {
        benchmarks::show(before, after)?;
    }
    let share = 100.0 * trained as f64 / parameters as f64;
    line(
        "trained",
        format!("{} of {} parameters ({share:.1} %)", output::count(trained), output::count(parameters)),
    );
    if !facts.new_blocks.is_empty() {
        line("new blocks", format!("{:?}", facts.new_blocks));
    }
    closing::facts(facts.trainer, train, done, &arithmetic);
    if facts.frozen_checked > 0 {
        line(
            "frozen weights",
            format!("{} tensors have the digest they had before training", facts.frozen_checked),
        );
    }
    if let Some(identical) = facts.base_path_identical {
        let text = match (identical, train.parameters) {
            (true, _) => "the base again: every score as before, to the bit",
            (false, Parameters::All) => "not the base: its own weights were trained too",
            (false, Parameters::Added) => "NOT the scores of before, though every frozen weight is the same",
        };
        line("new blocks skipped", text);
    }
    match facts.recipe.delta {
        true => line("new blocks alone", facts.run.delta().display()),
        false => line("model", facts.run.model().display()),
    }
    line("report", facts.run.report().display());
    Ok(())
}
