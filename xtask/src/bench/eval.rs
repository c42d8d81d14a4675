//! `cargo xtask bench eval [--rounds N] [--requests N] [--dtypes f32,bf16]`: multiple choice and greedy text beside those of
//! transformers (tests/peers/eval_ref.py), dtype against the same dtype.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Parser;

use super::peers::Peers;
use super::{median, number, records};
use crate::cargo;
use crate::host::Host;
use crate::libtorch::{self, Want};

#[derive(Parser)]
#[command(name = "cargo xtask bench eval")]
struct Arguments {
    /// How often each is run, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Multiple-choice requests of a run
    #[arg(long, default_value_t = 16)]
    requests: usize,
    /// Dtypes
    #[arg(long, value_delimiter = ',', default_value = "f32,bf16")]
    dtypes: Vec<String>,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_value = "choices,generate")]
    what: Vec<String>,
}

/// One comparison: ours, the peer's words, the key of the figure, and what must be reached.
struct Row {
    name: String,
    ours: Vec<String>,
    peer: Vec<String>,
    key: (&'static str, &'static str),
    /// Peer over ours for seconds, ours over the peer for speeds: at least.
    least: f64,
    speed: bool,
}

/// Runs all arms in turns and prints a table of ratios.
///
/// # Errors
/// Whatever stops an arm; no rounds.
pub(crate) fn run(host: &Host, words: &[OsString]) -> Result<()> {
    let arguments =
        Arguments::try_parse_from(std::iter::once(OsString::from("eval")).chain(words.iter().cloned()))
            .unwrap_or_else(|error| error.exit());
    ensure!(arguments.rounds > 0, "--rounds 0 measures nothing");
    let libtorch = libtorch::locate(host, Want::default())?;
    let program = cargo::build_program(host, &libtorch.root)?;
    let peers = Peers::locate(host)?;
    let rows = rows(&arguments);
    let mut figures: BTreeMap<(bool, String), Vec<f64>> = BTreeMap::new();
    for round in 0..arguments.rounds {
        eprintln!("xtask: round {} of {}", round + 1, arguments.rounds);
        // An arm that stands in two rows runs once a round.
        let mut ran: BTreeMap<(bool, String), f64> = BTreeMap::new();
        for row in &rows {
            let mut ours = cargo::command(&program, Some(&libtorch.root));
            ours.arg("bench").args(&row.ours);
            measure(&mut ran, (true, row.ours.join(" ")), ours, row.key.0)?;
            let mut peer = peers.script("eval_ref.py");
            peer.args(&row.peer);
            measure(&mut ran, (false, row.peer.join(" ")), peer, row.key.1)?;
        }
        for (arm, figure) in ran {
            figures.entry(arm).or_default().push(figure);
        }
    }
    println!("| work | ours | transformers | ratio | at least | |");
    println!("|---|---|---|---|---|---|");
    for row in &rows {
        let middle = |arm: (bool, String)| median(figures.get(&arm).cloned().unwrap_or_default());
        let (ours, peer) = (middle((true, row.ours.join(" "))), middle((false, row.peer.join(" "))));
        let ratio = if row.speed { ours / peer } else { peer / ours };
        let unit = if row.speed { "tokens/s" } else { "s a request" };
        let digits = if row.speed { 1 } else { 3 };
        let verdict = if ratio >= row.least { "reached" } else { "short" };
        println!(
            "| {} | {ours:.digits$} {unit} | {peer:.digits$} {unit} | {ratio:.2} | {} | {verdict} |",
            row.name, row.least
        );
    }
    Ok(())
}

fn measure(
    ran: &mut BTreeMap<(bool, String), f64>,
    arm: (bool, String),
    mut command: Command,
    key: &str,
) -> Result<()> {
    if let Entry::Vacant(place) = ran.entry(arm) {
        let figure = number(&records(&mut command)?[0], key)?;
        let (ours, words) = place.key();
        eprintln!("xtask: {} {words}: {figure}", if *ours { "ours" } else { "transformers" });
        place.insert(figure);
    }
    Ok(())
}

fn rows(arguments: &Arguments) -> Vec<Row> {
    let list = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let n = arguments.requests;
    let mut rows = Vec::new();
    for dtype in &arguments.dtypes {
        let seconds = ("s_per_request", "s_per_request");
        for (way, least) in [("choice", 5.0), ("prefix", 1.0)] {
            if !arguments.what.iter().any(|what| what == "choices") {
                continue;
            }
            rows.push(Row {
                name: format!("multiple choice, {dtype}, against `{way}`"),
                ours: list(&format!("choices --dtype {dtype} --requests {n}")),
                peer: list(&format!("{way} {dtype} {n}")),
                key: seconds,
                least,
                speed: false,
            });
        }
        for batch in [1, 8] {
            if !arguments.what.iter().any(|what| what == "generate") {
                continue;
            }
            rows.push(Row {
                name: format!("greedy text, {dtype}, batch {batch}"),
                ours: list(&format!("generate --dtype {dtype} --batch {batch}")),
                peer: list(&format!("gen {dtype} {batch}")),
                key: ("tokens_per_s", "tokens_per_s"),
                least: 1.3,
                speed: true,
            });
        }
    }
    rows
}
