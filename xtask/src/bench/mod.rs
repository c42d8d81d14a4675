//! `cargo xtask bench`: the program beside its peers, in one run.
//!
//! A figure is a ratio of medians. Ours and the peer's alternate, so that what else the machine does meets both alike.

mod data;
mod dedup;
mod eval;
pub(crate) mod peers;
mod prepare;
mod train;

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::error::Exit;
use crate::host::Host;
use crate::stages;

/// Runs one bench; the words after `bench`.
///
/// # Errors
/// Whatever stops ours or the peer.
pub(crate) fn run(host: &Host, words: &[OsString]) -> Result<()> {
    let (what, arguments) = words.split_first().context("nothing to measure")?;
    match what.to_str() {
        // One arm for each bench that has a peer: a module beside this one.
        Some("data") => data::bench(host, arguments),
        Some("train") => train::run(host, arguments),
        Some("eval") => eval::run(host, arguments),
        _ => {
            let all: Vec<OsString> = [OsString::from("bench"), what.clone()]
                .into_iter()
                .chain(arguments.iter().cloned())
                .collect();
            stages::program(host, &all)
        }
    }
}

/// Runs a command and reads the JSON object that each line of its output is; other lines are passed over.
///
/// # Errors
/// A command that does not start or fails, or that prints no JSON object.
pub(crate) fn records(command: &mut Command) -> Result<Vec<Value>> {
    let name = command.get_program().to_owned();
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {}", name.display()))?;
    if !output.status.success() {
        bail!(Exit::child(output.status));
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("what {} printed", name.display()))?;
    let objects: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(Value::is_object)
        .collect();
    if objects.is_empty() {
        bail!("{} printed no JSON object", name.display());
    }
    Ok(objects)
}

/// The number under `key`.
///
/// # Errors
/// Names the key and the record that lacks it.
pub(crate) fn number(record: &Value, key: &str) -> Result<f64> {
    record[key].as_f64().with_context(|| format!("no number `{key}` in {record}"))
}

/// The middle one; the mean of the two middle ones of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => values[n / 2],
        _ => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Words of a command line in a test.
#[cfg(test)]
pub(crate) fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn records_are_the_objects_among_the_lines() {
        let mut shell = Command::new("sh");
        let found = records(shell.args(["-c", "echo loading; echo '{\"a\": 1.5}'; echo 3"])).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(number(&found[0], "a").unwrap(), 1.5);
        assert!(number(&found[0], "b").unwrap_err().to_string().contains("`b`"));
        assert!(records(Command::new("sh").args(["-c", "echo nothing"])).is_err());
        assert!(records(Command::new("sh").args(["-c", "echo '{}'; exit 3"])).is_err());
    }
}
