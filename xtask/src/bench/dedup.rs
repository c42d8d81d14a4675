//! The row `dedup` of `cargo xtask bench data`: near-duplicate removal beside the peers, on one set with a known truth.
//!
//! Every arm's clusters are scored by the same script. Precision and recall go against each other, and a threshold
//! chooses between them: who removes less is right more often. So ours runs at two thresholds, and a peer is met
//! where one of the two is below it in neither.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::data::Setup;
use super::{median, number, records};
use crate::cargo::{command, run};

/// One program with one setting.
struct Arm {
    label: &'static str,
    ours: bool,
    /// Prints one JSON object.
    command: Command,
    /// Where it leaves its clusters.
    clusters: PathBuf,
    /// How often it runs; in the first rounds of the bench.
    rounds: usize,
}

/// Of removals, at the Jaccard similarity of the truth.
#[derive(Clone, Copy)]
struct Score {
    precision: f64,
    recall: f64,
}

/// What an arm came to.
struct Outcome {
    label: &'static str,
    ours: bool,
    rounds: usize,
    /// Median of its rounds, MB/s.
    speed: f64,
    score: Score,
}

/// Measures and prints the row.
///
/// # Errors
/// A set that cannot be made, or an arm that fails.
pub(super) fn dedup(setup: &Setup, scratch: &Path) -> Result<()> {
    let set = scratch.join("dedup");
    if !set.join("pairs.jsonl").exists() {
        eprintln!("xtask: making the set with planted duplicates, once");
        run(setup.peers.script("make_dedup_set.py").arg(&set).stdout(Stdio::null()))?;
    }
    let mut arms = arms(setup, &set);
    let (mut speeds, mut mb) = (vec![Vec::new(); arms.len()], 0.0);
    for round in 0..setup.options.repeats {
        for (arm, speeds) in arms.iter_mut().zip(&mut speeds).filter(|(arm, _)| round < arm.rounds) {
            let record = records(&mut arm.command).with_context(|| arm.label.to_owned())?.swap_remove(0);
            speeds.push(if arm.ours {
                mb = number(&record, "mb")?;
                number(&record, "wall_mb_s")?
            } else {
                // The peers print seconds, and ours has run before them.
                mb / (number(&record, "signatures")? + number(&record, "cluster")?)
            });
        }
    }
    let mut outcomes = Vec::new();
    for (arm, speeds) in arms.iter().zip(speeds) {
        let score = score(setup, &set, &arm.clusters).with_context(|| arm.label.to_owned())?;
        let rounds = speeds.len();
        outcomes.push(Outcome { label: arm.label, ours: arm.ours, rounds, speed: median(speeds), score });
    }
    println!(
        "dedup, {mb:.1} MB, {} threads; precision and recall of removals at Jaccard 0.7",
        setup.options.threads
    );
    print!("{}", lines(&outcomes));
    Ok(())
}

/// Ours first. datatrove takes a minute, so it runs once, with one worker: one file is one task to it. Its row with
/// BigCode's words says how much of its figures comes from its own words, which are not those of the truth.
fn arms(setup: &Setup, set: &Path) -> Vec<Arm> {
    let Setup { options, peers, .. } = setup;
    let threads = options.threads.to_string();
    let ours = |label, threshold: &str, clusters: &str| {
        let clusters = set.join(clusters);
        let mut command = command(&setup.program, Some(&setup.libtorch));
        command.args(["bench", "dedup", "--passes", "1", "--threads", &threads, "--threshold", threshold]);
        command.arg("--input").arg(set.join("docs.jsonl")).arg("--clusters").arg(&clusters);
        Arm { label, ours: true, command, clusters, rounds: options.repeats }
    };
    let peer = |label, script: &str, folder: &str, last: &str, rounds| {
        let folder = set.join(folder);
        let mut command = peers.script(script);
        command.arg(set).arg(&folder).args(["0.7", "256", last]);
        Arm { label, ours: false, command, clusters: folder.join("clusters.json"), rounds }
    };
    let datatrove = "dedup_datatrove.py";
    vec![
        ours("llama-pro", "0.7", "ours.json"),
        ours("llama-pro, at 0.8", "0.8", "ours-0.8.json"),
        peer("dedup_numpy.py", "dedup_numpy.py", "numpy", &threads, options.repeats),
        peer("datatrove, 1 worker", datatrove, "datatrove", "spacy", 1),
        peer("datatrove, 1 worker, BigCode's words", datatrove, "datatrove-bigcode", "bigcode", 1),
    ]
}

fn score(setup: &Setup, set: &Path, clusters: &Path) -> Result<Score> {
    let record: Value = records(setup.peers.script("dedup_score.py").arg(set).arg(clusters))?.swap_remove(0);
    let (precision, recall) = (number(&record, "removal_precision")?, number(&record, "removal_recall")?);
    Ok(Score { precision, recall })
}

/// The table: ratios are those of our first arm over the arm's.
fn lines(outcomes: &[Outcome]) -> String {
    let ours: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.ours).collect();
    let mut text = String::new();
    for outcome in outcomes {
        let Outcome { label, rounds, speed, score, .. } = outcome;
        let ratio = ours[0].speed / speed;
        let line = format!(
            "  {label:<36} {speed:>7.2} MB/s {ratio:>7.2}x  rounds {rounds}  precision {:.4}  recall {:.4}  {}",
            score.precision,
            score.recall,
            if outcome.ours { String::new() } else { mark(&ours, *score) }
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Which arm of ours is below a peer in neither precision nor recall; where none is, what our first one lacks.
fn mark(ours: &[&Outcome], peer: Score) -> String {
    let below = |outcome: &Outcome| {
        let score = outcome.score;
        (score.precision < peer.precision, score.recall < peer.recall)
    };
    match ours.iter().find(|outcome| below(outcome) == (false, false)) {
        Some(outcome) => format!("met by {}", outcome.label),
        None => match below(ours[0]) {
            (true, true) => "NOT MET: both lower".to_owned(),
            (true, false) => "NOT MET: precision lower".to_owned(),
            _ => "NOT MET: recall lower".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(label: &'static str, ours: bool, speed: f64, precision: f64, recall: f64) -> Outcome {
        Outcome { label, ours, rounds: 3, speed, score: Score { precision, recall } }
    }

    #[test]
    fn a_peer_is_met_by_one_setting_in_both() {
        let (wide, sure) = (outcome("wide", true, 1.0, 0.9, 0.9), outcome("sure", true, 1.0, 0.99, 0.7));
        let ours = [&wide, &sure];
        let mark = |precision, recall| mark(&ours, Score { precision, recall });
        assert_eq!(mark(0.9, 0.9), "met by wide");
        assert_eq!(mark(0.98, 0.7), "met by sure");
        // Above one of the two each: no single setting is as good in both.
        assert_eq!(mark(0.95, 0.8), "NOT MET: precision lower");
        assert_eq!(mark(0.8, 0.95), "NOT MET: recall lower");
        assert_eq!(mark(1.0, 1.0), "NOT MET: both lower");
    }

    #[test]
    fn ratios_are_over_our_first_arm() {
        let text = lines(&[outcome("ours", true, 50.0, 0.9, 0.9), outcome("peer", false, 2.0, 0.8, 0.8)]);
        assert!(text.contains("25.00x") && text.ends_with("met by ours\n"), "{text}");
        assert_eq!(text.matches("met by").count(), 1);
    }
}
