//! What a series of trainings did to a series of tasks, from the result files of its stages.
#![allow(clippy::print_stdout, reason = "the program speaks")]

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use llama_pro_cli::output;
use llama_pro_eval::continual::{Learned, Matrix};
use serde_json::Value;

/// The part of the arguments that this is about.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Result files of the base and of each stage after it, in order: shows what was learned, kept and forgotten.
    #[arg(long, num_args = 2.., value_names = ["BASE.json", "STAGE.json"], conflicts_with_all = ["model", "tasks", "compare"])]
    pub(super) stages: Vec<PathBuf>,
    /// The tasks that each stage trained, one word for each stage: TASK or TASK:METRIC, several joined by +, none as -.
    #[arg(long, num_args = 1.., value_name = "TASK", requires = "stages")]
    learned: Vec<String>,
    /// Draws the scores of all tasks after each stage into an SVG file.
    #[arg(long, value_name = "FILE.svg", requires = "stages")]
    heat_map: Option<PathBuf>,
}

pub(super) fn run(args: &Args, json: bool) -> Result<()> {
    let stages = args.stages.len() - 1;
    ensure!(
        args.learned.len() == stages,
        "--learned: expected a word for each of the {stages} stages after the base, found {}",
        args.learned.len()
    );
    let records: Vec<Value> = args.stages.iter().map(|path| super::read(path)).collect::<Result<_>>()?;
    let names: Vec<String> = args.stages.iter().map(|path| name(path)).collect();
    let mut tasks = Vec::new();
    for (stage, word) in args.learned.iter().enumerate() {
        for task in word.split('+').filter(|task| *task != "-") {
            let (task, metric) = match task.split_once(':') {
                Some((task, metric)) if metric.contains(',') => (task, Some(metric.to_owned())),
                Some((task, metric)) => (task, Some(format!("{metric},none"))),
                None => (task, None),
            };
            tasks.push(Learned { task: task.to_owned(), metric, stage: Some(stage) });
        }
    }
    tasks.extend(kept(&records, &tasks));
    let all: Vec<(&str, &Value)> = names.iter().map(String::as_str).zip(&records).collect();
    let matrix = Matrix::from_records(Some(all[0]), &all[1..], &tasks)?;
    let found = matrix.measure()?;
    if let Some(path) = &args.heat_map {
        llama_pro_run::write_atomic(path, matrix.heat_map().as_bytes())?;
        tracing::info!("{}", path.display());
    }
    if json {
        println!("{}", serde_json::to_string(&found)?);
        return Ok(());
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:+.4}"));
    let rows = [
        [
            "overall performance".to_owned(),
            format!("{:.4}", found.overall),
            "mean of the trained tasks at the end".to_owned(),
        ],
        [
            "backward transfer (TRACE)".to_owned(),
            number(Some(found.bwt_trace)),
            "over all trained tasks".to_owned(),
        ],
        [
            "backward transfer (GEM)".to_owned(),
            number(found.bwt_gem),
            "over those that a later stage followed".to_owned(),
        ],
        ["forgetting".to_owned(), number(found.forgetting), "below the best before the end".to_owned()],
        [
            "forward transfer".to_owned(),
            number(found.forward_transfer),
            "before the own stage, over the base".to_owned(),
        ],
        ["kept".to_owned(), number(found.kept), "change of tasks that no stage trained".to_owned()],
    ];
    println!("{}", output::table(&["number", "value", "meaning"], rows));
    Ok(())
}

/// The name of a stage: that of its file, or of its folder where files are all called the same.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The tasks that every file has and no stage trained, as far as more of their metric is better.
fn kept(records: &[Value], learned: &[Learned]) -> Vec<Learned> {
    // Groups are means of tasks that are there already.
    let Some(names) = records[0]["results"].as_object().map(|all| all.keys()) else { return Vec::new() };
    let groups = records[0]["groups"].as_object();
    let fits = |task: &&String| {
        let group = groups.is_some_and(|groups| groups.contains_key(*task));
        !group && !learned.iter().any(|other| other.task == **task)
    };
    let one = |task: &String| {
        let task = Learned { task: task.clone(), metric: None, stage: Some(0) };
        // Read as a series of its own, which fails where a file lacks it.
        let all: Vec<(&str, &Value)> = records.iter().map(|record| ("", record)).collect();
        let found = Matrix::from_records(None, &all, &[task]).ok()?.tasks.remove(0);
        Some(Learned { stage: None, ..found })
    };
    names.filter(fits).filter_map(one).collect()
}
