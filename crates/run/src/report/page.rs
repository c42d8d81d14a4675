//! The page: what was run, what came of it, the curves, and the details to run it again.

use serde_json::{Map, Value};

use super::RunData;
use super::curves::{charts, words};
use super::markup::{Cell, escape, table};
use super::{chart, number, scores};

/// One HTML page about `runs`, in their order. The same runs give the same bytes.
pub fn html(runs: &[RunData]) -> String {
    let names: Vec<&str> = runs.iter().map(|r| r.name.as_str()).collect();
    let title = match names.as_slice() {
        [] => "No runs".to_owned(),
        [one] => format!("Run {one}"),
        many => format!("{} runs side by side", many.len()),
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n<style>\n{1}</style>\n</head>\n\
         <body>\n<main>\n<h1>{0}</h1>\n",
        escape(&title),
        include_str!("style.css")
    );
    if !runs.is_empty() {
        section(&mut out, "What was run", &overview(runs));
    }
    if let Some(table) = scores::before_and_after(runs) {
        section(&mut out, "What was learned, what was kept", &table);
    }
    let summary = summary(runs);
    if !summary.is_empty() {
        section(&mut out, "In figures", &summary);
    }
    let charts: Vec<String> =
        charts(runs).iter().enumerate().map(|(i, c)| chart::figure(c, &format!("chart-{i}"))).collect();
    if !charts.is_empty() {
        section(&mut out, "Curves", &format!("<div class=\"charts\">\n{}</div>\n", charts.concat()));
    }
    if !runs.is_empty() {
        section(&mut out, "To run it again", &runs.iter().map(details).collect::<String>());
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, heading: &str, content: &str) {
    out.push_str(&format!("<section>\n<h2>{}</h2>\n{content}</section>\n", escape(heading)));
}

/// One row per run: when, how long, how far.
fn overview(runs: &[RunData]) -> String {
    let headings = ["run", "started", "steps", "tokens", "time", "tokens/s", "last loss", "recipe"];
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let last = |key: &str| run.metrics.iter().rev().find_map(|l| l.get(key)?.as_f64());
            let show =
                |x: Option<f64>, f: fn(f64) -> String| Cell::number(x.map_or_else(|| "-".to_owned(), f));
            let whole: fn(f64) -> String = |x| number::whole(x as u64);
            let started = run.provenance.as_ref().map_or("-", |p| p.begun.started.as_str());
            let speed = last("tokens").zip(last("seconds")).filter(|(_, s)| *s > 0.0).map(|(t, s)| t / s);
            let cells = vec![
                Cell::text(started),
                show(last("step"), whole),
                show(last("tokens"), whole),
                show(last("seconds"), number::duration),
                show(speed, number::short),
                show(last_loss(run), number::short),
                Cell::text(recipe_digest(run)),
            ];
            (run.name.clone(), cells)
        })
        .collect();
    let caption = "The last loss is a mean over the last steps: one in twenty of them, 20 at most.";
    table(caption, &[], &headings.map(str::to_owned), &rows)
}

/// The mean loss of the last twentieth of the steps, 20 at most: one step alone says little.
fn last_loss(run: &RunData) -> Option<f64> {
    let losses: Vec<f64> = run.metrics.iter().filter_map(|l| l.get("loss")?.as_f64()).collect();
    let count = (losses.len() / 20).clamp(1, 20);
    let last = losses.get(losses.len().checked_sub(count)?..)?;
    Some(last.iter().sum::<f64>() / count as f64)
}

/// The first digits of the digest of the recipe: two runs with the same ones ran the same recipe.
fn recipe_digest(run: &RunData) -> String {
    let digest = crate::digest(recipe_text(run).as_bytes());
    digest.chars().take("blake3:".len() + 12).collect()
}

fn recipe_text(run: &RunData) -> String {
    // A table that was read from TOML can be written as TOML.
    toml::to_string(&run.recipe).unwrap_or_default()
}

/// What the runs say about themselves, one row per key, one column per run.
fn summary(runs: &[RunData]) -> String {
    let runs: Vec<&RunData> = runs.iter().filter(|r| !r.summary.is_empty()).collect();
    let flat: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|r| {
            let mut pairs = Vec::new();
            flatten("", &r.summary, &mut pairs);
            pairs
        })
        .collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in flat.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return String::new();
    }
    let headings: Vec<_> =
        std::iter::once(String::new()).chain(runs.iter().map(|r| r.name.clone())).collect();
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            let value =
                |pairs: &Vec<(String, String)>| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            (
                words(key),
                flat.iter()
                    .map(|pairs| Cell::number(value(pairs).unwrap_or_else(|| "-".to_owned())))
                    .collect(),
            )
        })
        .collect();
    table("Summary", &[], &headings, &rows)
}

fn flatten(above: &str, object: &Map<String, Value>, pairs: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let key = if above.is_empty() { key.clone() } else { format!("{above}: {key}") };
        match value {
            Value::Object(inside) => flatten(&key, inside, pairs),
            other => pairs.push((key, number::json(other))),
        }
    }
}

/// Command, machine, inputs and recipe of one run, folded away.
fn details(run: &RunData) -> String {
    let mut rows: Vec<(String, Vec<Cell>)> = Vec::new();
    if let Some(p) = &run.provenance {
        let mut row = |key: &str, value: String| rows.push((key.to_owned(), vec![Cell::text(value)]));
        row("program", p.program.clone());
        row("command", p.begun.command.join(" "));
        for again in &p.resumed {
            row("resumed", format!("{}: {}", again.started, again.command.join(" ")));
        }
        let machine = &p.platform;
        let cpu = machine.cpu_model.as_deref().unwrap_or("processor unnamed");
        row("machine", format!("{} {}, {} processors, {cpu}", machine.os, machine.arch, machine.cpus));
        row("libtorch", p.libtorch.clone().unwrap_or_else(|| "-".to_owned()));
        for (name, digest) in &p.inputs {
            row(&format!("input {name}"), digest.clone());
        }
    }
    let mut out = format!("<details>\n<summary>{}</summary>\n", escape(&run.name));
    if !rows.is_empty() {
        out.push_str(&table("Provenance", &[], &["what".to_owned(), "value".to_owned()], &rows));
    }
    out.push_str(&format!("<pre>{}</pre>\n</details>\n", escape(&recipe_text(run))));
    out
}
