//! `cargo xtask bench train [--shapes s,m] [--rounds N] [--steps N] [--modes added,full]`: training steps of this program
//! beside those of transformers (tests/peers/train_step.py), best dtype against best dtype.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use super::peers::Peers;
use super::{median, number, records};
use crate::cargo;
use crate::host::Host;
use crate::libtorch::{self, Want};

/// What must be reached, as ratios of tokens/s: shape, our mode, the peer's mode, at least.
const TARGETS: [(&str, &str, &str, f64); 6] = [
    ("s", "added", "added", 1.5),
    ("m", "added", "added", 1.3),
    ("s", "added", "added-ckpt", 2.4),
    ("m", "added", "added-ckpt", 1.9),
    ("s", "full", "full", 1.3),
    ("m", "full", "full", 1.15),
];

/// Ours may take so much of the peer's memory, both training new blocks.
const MEMORY: f64 = 0.6;

#[derive(Parser)]
#[command(name = "cargo xtask bench train")]
struct Arguments {
    /// Shapes, as in tests/peers/train_step.py
    #[arg(long, value_delimiter = ',', default_value = "s,m")]
    shapes: Vec<String>,
    /// What is trained
    #[arg(long, value_delimiter = ',', default_value = "added,full")]
    modes: Vec<String>,
    /// How often each is run, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Timed steps of a run
    #[arg(long, default_value_t = 6)]
    steps: usize,
}

/// tokens/s and MiB of the rounds of one arm.
#[derive(Default)]
struct Arm {
    speeds: Vec<f64>,
    peaks: Vec<f64>,
}

/// Side, shape, mode, dtype.
type Key = (&'static str, String, String, String);

/// Runs all arms in turns and prints the table of ratios.
///
/// # Errors
/// Whatever stops an arm.
pub(crate) fn run(host: &Host, words: &[OsString]) -> Result<()> {
    let arguments =
        Arguments::try_parse_from(std::iter::once(OsString::from("train")).chain(words.iter().cloned()))
            .unwrap_or_else(|error| error.exit());
    let libtorch = libtorch::locate(host, Want::default())?;
    let program = cargo::build_program(host, &libtorch.root)?;
    let peers = Peers::locate(host)?;
    let steps = arguments.steps.to_string();
    let mut arms: BTreeMap<Key, Arm> = BTreeMap::new();
    for round in 0..arguments.rounds {
        for shape in &arguments.shapes {
            for mode in &arguments.modes {
                for dtype in ["f32", "bf16"] {
                    let mut ours = cargo::command(&program, Some(&libtorch.root));
                    ours.args(["bench", "train-step"]);
                    measure(&mut arms, "ours", ours, shape, mode, dtype, &steps)?;
                    let rivals =
                        if mode == "added" { vec!["added", "added-ckpt"] } else { vec![mode.as_str()] };
                    for rival in rivals {
                        // autocast is the third way; it keeps float32 weights.
                        for dtype in if dtype == "bf16" { vec!["bf16", "amp"] } else { vec!["f32"] } {
                            let script = peers.script("train_step.py");
                            measure(&mut arms, "peer", script, shape, rival, dtype, &steps)?;
                        }
                    }
                }
            }
        }
        eprintln!("xtask: round {} of {} done", round + 1, arguments.rounds);
    }
    show(&arms)
}

fn measure(
    arms: &mut BTreeMap<Key, Arm>,
    side: &'static str,
    mut command: Command,
    shape: &str,
    mode: &str,
    dtype: &str,
    steps: &str,
) -> Result<()> {
    command.args(["--shape", shape, "--mode", mode, "--dtype", dtype, "--steps", steps]);
    let found = records(&mut command)?;
    let record: &Value = found.last().context("no record")?;
    let arm = arms.entry((side, shape.to_owned(), mode.to_owned(), dtype.to_owned())).or_default();
    arm.speeds.push(number(record, "tokens_per_s")?);
    arm.peaks.push(number(record, "peak_mib")?);
    eprintln!("xtask: {side} {record}");
    Ok(())
}

/// One line per arm, then the ratios that are promised.
fn show(arms: &BTreeMap<Key, Arm>) -> Result<()> {
    println!(
        "{:<5} {:<5} {:<11} {:<5} {:>10} {:>9}",
        "side", "shape", "mode", "dtype", "tokens/s", "peak MiB"
    );
    for ((side, shape, mode, dtype), arm) in arms {
        let (speed, peak) = (median(arm.speeds.clone()), median(arm.peaks.clone()));
        println!("{side:<5} {shape:<5} {mode:<11} {dtype:<5} {speed:>10.1} {peak:>9.0}");
    }
    // Best dtype against best dtype.
    let best = |side: &str, shape: &str, mode: &str| {
        arms.iter()
            .filter(|((s, h, m, _), _)| *s == side && h == shape && m == mode)
            .map(|(_, arm)| (median(arm.speeds.clone()), median(arm.peaks.clone())))
            .max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let mut missed = Vec::new();
    for (shape, mode, rival, least) in TARGETS {
        let (Some(ours), Some(peer)) = (best("ours", shape, mode), best("peer", shape, rival)) else {
            continue;
        };
        let ratio = ours.0 / peer.0;
        println!("{shape} {mode} against {rival}: {ratio:.2} x tokens/s (at least {least})");
        if ratio < least {
            missed.push(format!("{shape} {mode} against {rival}: {ratio:.2} of {least}"));
        }
        if rival == "added" {
            let share = ours.1 / peer.1;
            println!("{shape} {mode}: {share:.2} x the memory (at most {MEMORY})");
            if share > MEMORY {
                missed.push(format!("{shape} memory: {share:.2} of {MEMORY}"));
            }
        }
    }
    if !missed.is_empty() {
        bail!("below the mark: {}", missed.join("; "));
    }
    Ok(())
}
