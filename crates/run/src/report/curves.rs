//! From lines of metrics to charts: one for every number that a run wrote, the runs laid over each other.

use serde_json::Value;

use super::RunData;
use super::chart::{Chart, Series};

/// Keys that place a line and are no curves.
const NOT_CURVES: [&str; 3] = ["step", "tokens", "seconds"];

/// The charts of all runs: training loss, then groups such as validation, then the rest as they come.
pub(super) fn charts(runs: &[RunData]) -> Vec<Chart> {
    let mut keys: Vec<(Option<&str>, &str)> = Vec::new();
    for line in runs.iter().flat_map(|r| &r.metrics).filter(|l| l.contains_key("step")) {
        for (key, value) in line.iter().filter(|(k, _)| !NOT_CURVES.contains(&k.as_str())) {
            let mut add = |group, key| {
                if !keys.contains(&(group, key)) {
                    keys.push((group, key));
                }
            };
            match value {
                Value::Number(_) => add(None, key.as_str()),
                Value::Object(inside) => inside
                    .iter()
                    .filter(|(_, v)| v.is_number())
                    .for_each(|(k, _)| add(Some(key.as_str()), k.as_str())),
                _ => {}
            }
        }
    }
    // Stable: within a rank the order in which they were written.
    keys.sort_by_key(|(group, key)| match (group, *key) {
        (None, "loss") => 0,
        (Some(_), _) => 1,
        _ => 2,
    });
    keys.into_iter().map(|(group, key)| chart(runs, group, key)).collect()
}

fn chart(runs: &[RunData], group: Option<&str>, key: &str) -> Chart {
    let series = |(colour, run): (usize, &RunData)| {
        let mut points: Vec<(f64, f64)> = run
            .metrics
            .iter()
            .filter_map(|line| {
                let value = match group {
                    Some(group) => line.get(group)?.get(key)?,
                    None => line.get(key)?,
                };
                // JSON has no NaN; a loss that was one is written as null and breaks the line.
                Some((line.get("step")?.as_f64()?, value.as_f64().unwrap_or(f64::NAN)))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!points.is_empty()).then(|| Series { label: run.name.clone(), colour, points })
    };
    let (title, unit) = match (group, key) {
        (None, "loss") => ("Training loss".to_owned(), "nats per token"),
        (None, "grad_norm") => ("Gradient norm".to_owned(), ""),
        (None, "learning_rate") => ("Learning rate".to_owned(), ""),
        (None, "tokens_per_second") => ("Speed".to_owned(), "tokens per second"),
        (None, other) => (words(other), ""),
        (Some("validation"), set) => (format!("Validation: {set}"), "nats per token"),
        (Some(group), key) => (format!("{}: {key}", words(group)), ""),
    };
    let smooth = key != "learning_rate";
    Chart {
        title,
        unit: unit.to_owned(),
        smooth,
        series: runs.iter().enumerate().filter_map(series).collect(),
    }
}

/// `some_key` as `Some key`.
pub(super) fn words(key: &str) -> String {
    let spaced = key.replace(['_', '-'], " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
