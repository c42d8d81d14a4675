//! The table of perplexities before and after.

use serde_json::Value;

use super::RunData;
use super::markup::{Cell, table};
use super::number::perplexity as shown;

/// The table, or `None` when no run has scores.
pub(super) fn before_and_after(runs: &[RunData]) -> Option<String> {
    let runs: Vec<&RunData> = runs.iter().filter(|r| r.before.is_some() || r.after.is_some()).collect();
    let mut sets: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|r| [&r.before, &r.after]).flat_map(names) {
        if !sets.contains(&name) {
            sets.push(name);
        }
    }
    if sets.is_empty() {
        return None;
    }
    let groups: Vec<_> = runs.iter().map(|r| (r.name.clone(), 3)).collect();
    let mut headings = vec!["text".to_owned()];
    headings.extend(runs.iter().flat_map(|_| ["before", "after", "change"].map(str::to_owned)));
    let rows: Vec<_> = sets
        .iter()
        .map(|set| ((*set).to_owned(), runs.iter().flat_map(|r| cells(r, set)).collect()))
        .collect();
    Some(table("Perplexity before and after (lower is better)", &groups, &headings, &rows))
}

fn cells(run: &RunData, set: &str) -> [Cell; 3] {
    let perplexity =
        |table: &Option<Value>| find(table.as_ref()?.get("sets")?, set)?.get("perplexity")?.as_f64();
    let (before, after) = (perplexity(&run.before), perplexity(&run.after));
    let number = |x: Option<f64>| Cell::number(x.map_or_else(|| "-".to_owned(), shown));
    let verdict = run
        .changes
        .as_ref()
        .and_then(|c| find(c, set))
        .and_then(|c| c.get("verdict")?.as_str())
        .unwrap_or("");
    // The words carry what the colours say.
    let (word, class) = match verdict {
        "better" => (", better", "n good"),
        "worse" => (", worse", "n bad"),
        "same" => (", no difference seen", "n"),
        _ => ("", "n"),
    };
    let change = before.zip(after).map_or_else(
        || Cell::number("-"),
        |(b, a)| Cell { text: format!("{:+.1} %{word}", (a / b - 1.0) * 100.0), class },
    );
    [number(before), number(after), change]
}

fn names(table: &Option<Value>) -> Vec<&str> {
    let sets = table.as_ref().and_then(|t| t.get("sets")?.as_array());
    sets.into_iter().flatten().filter_map(|s| s.get("name")?.as_str()).collect()
}

fn find<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|s| s.get("name").and_then(Value::as_str) == Some(name))
}
