//! `cargo xtask regress`: the first steps of training runs against committed curves.
//!
//! A unit test says that a formula is right; a curve says that nothing has moved, in any part that training passes
//! through. On the kind of CPU that a curve was made on every loss and norm must be equal to the bit. On another kind the
//! kernels add in another order, and the stated bands hold.

mod curve;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{build_program, command};
use crate::host::Host;
use crate::libtorch::{Want, locate};
use curve::{Curve, Verdict};

/// Where the committed curves lie.
const GOLDEN: &str = "tests/golden";

/// Steps of the miniature that are compared.
const STEPS: usize = 8;

/// A training run that has a golden curve.
struct Case {
    name: &'static str,
    /// The words of llama-pro; `{fixture}` and `{out}` are put in.
    words: &'static str,
    read: fn(&Path) -> Result<Curve>,
}

/// One thread, so that the machine's number of cores is no part of it.
const CASES: [Case; 3] = [
    Case {
        name: "debug-added",
        words: "--threads 1 debug train {fixture}/llama2-train-added/expanded --train added \
                --tokens {fixture}/llama2-train-added/curve.safetensors --out {out}/curve.safetensors",
        read: debug_curve,
    },
    Case {
        name: "debug-all",
        words: "--threads 1 debug train {fixture}/llama2-train-full/expanded --train all \
                --tokens {fixture}/llama2-train-full/curve.safetensors --out {out}/curve.safetensors",
        read: debug_curve,
    },
    Case {
        name: "miniature",
        words: "--threads 1 pretrain --run {out}/run --set train.steps=8 --set train.validate-every=4 \
                --set train.checkpoint-every=0 --set eval.rows=2 --set eval.validation-rows=2",
        read: run_curve,
    },
];

/// Runs every case and compares; with a reason, writes the curves down instead.
///
/// # Errors
/// A run that fails, a curve that differs, or a golden file that is not there.
pub(crate) fn run(host: &Host, bless: Option<&str>) -> Result<()> {
    if let Some(reason) = bless {
        ensure!(!reason.trim().is_empty(), "--bless needs the reason why the curves may change");
    }
    let libtorch = locate(host, Want::default())?;
    let program = build_program(host, &libtorch.root)?;
    let target = program.parent().and_then(Path::parent).context("the program lies in no target folder")?;
    // The working folder stays, so that the prepared texts of the miniature are found again.
    let work = target.join("regress");
    let cpu = curve::cpu_kind();
    let mut failed = Vec::new();
    for case in &CASES {
        let found = train(case, host, &program, &libtorch.root, &work)?;
        let golden = host.workspace.join(GOLDEN).join(format!("{}.json", case.name));
        if let Some(reason) = bless {
            found.write(&golden, reason, cpu.as_deref())?;
            println!("{}: {} steps written to {}", case.name, found.steps(), golden.display());
            continue;
        }
        let verdict = Curve::compare_file(&golden, &found, cpu.as_deref())?;
        println!("{}: {verdict}", case.name);
        if !matches!(verdict, Verdict::Equal { .. } | Verdict::Near { .. }) {
            failed.push(case.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: training is no longer what it was. Where that is meant: cargo xtask regress --bless \"REASON\"",
        failed.join(", ")
    )
}

fn train(case: &Case, host: &Host, program: &Path, libtorch: &Path, work: &Path) -> Result<Curve> {
    let out = work.join(case.name);
    if out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
    }
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let fixture = host.workspace.join("tests/fixtures");
    let place = |word: &str| -> OsString {
        word.replace("{fixture}", &fixture.to_string_lossy()).replace("{out}", &out.to_string_lossy()).into()
    };
    let mut command: Command = command(program, Some(libtorch));
    command.args(case.words.split_whitespace().map(place)).current_dir(work).env("LLAMA_PRO_LOG", "error");
    let output = command.output().with_context(|| format!("starting {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{}: the run failed: {}",
        case.name,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    (case.read)(&out)
}

/// What `debug train` writes.
fn debug_curve(out: &Path) -> Result<Curve> {
    let file: PathBuf = out.join("curve.safetensors");
    let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let numbers = |name| curve::float32(&bytes, name).with_context(|| file.display().to_string());
    Ok(Curve { loss: numbers("loss")?, grad_norm: numbers("grad_norm")?, data: None })
}

/// What a run folder holds.
fn run_curve(out: &Path) -> Result<Curve> {
    let file = out.join("run/metrics.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut curve = curve::metrics(&text).with_context(|| file.display().to_string())?;
    ensure!(curve.steps() == STEPS, "{}: {} steps, expected {STEPS}", file.display(), curve.steps());
    let file = out.join("run/provenance.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let provenance: serde_json::Value = serde_json::from_str(&text)?;
    curve.data = provenance["inputs"]["data"].as_str().map(str::to_owned);
    Ok(curve)
}
