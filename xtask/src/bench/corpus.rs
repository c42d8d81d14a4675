//! The rows `dedup` and `prepare` of `cargo xtask bench data`.
//!
//! Near duplicates are looked for in one set with a known truth, by us and by the peer in turn, and both results are
//! scored by the same script. `prepare` has no peer that does all of it: its row is what it does with 10, 100 and
//! 1,000 MB, where the time must grow as the input and the memory must not.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::data::Setup;
use super::{median, number, records};
use crate::cargo::{command, run};

/// Near-duplicate removal beside tests/peers/dedup_numpy.py.
pub(super) fn dedup(setup: &Setup, scratch: &Path) -> Result<()> {
    let set = scratch.join("dedup");
    if !set.join("pairs.jsonl").exists() {
        eprintln!("xtask: making the set with planted duplicates, once");
        run(setup.peers.script("make_dedup_set.py").arg(&set).stdout(std::process::Stdio::null()))?;
    }
    let threads = setup.options.threads.to_string();
    let (mut ours, mut peer, mut mb) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..setup.options.repeats {
        let mut program = command(&setup.program, Some(&setup.libtorch));
        program.args(["bench", "dedup", "--passes", "1", "--threads", &threads, "--input"]);
        program.arg(set.join("docs.jsonl")).arg("--clusters").arg(set.join("ours.json"));
        let record = records(&mut program)?.swap_remove(0);
        mb = number(&record, "mb")?;
        ours.push(number(&record, "wall_mb_s")?);
        let mut numpy = setup.peers.script("dedup_numpy.py");
        numpy.arg(&set).arg(set.join("numpy")).args(["0.7", "256", &threads]);
        let record = records(&mut numpy)?.swap_remove(0);
        peer.push(mb / (number(&record, "signatures")? + number(&record, "cluster")?));
    }
    let (ours, peer) = (median(ours), median(peer));
    let score = |clusters: &Path| -> Result<Value> {
        let mut script = setup.peers.script("dedup_score.py");
        Ok(records(script.arg(&set).arg(clusters))?.swap_remove(0))
    };
    println!("dedup, {mb:.1} MB, {threads} threads; precision and recall of removals at Jaccard 0.7");
    for (label, speed, clusters) in [
        ("llama-pro", ours, set.join("ours.json")),
        ("dedup_numpy.py", peer, set.join("numpy/clusters.json")),
    ] {
        let score = score(&clusters).with_context(|| label.to_owned())?;
        println!(
            "  {label:<20} {speed:>8.1} MB/s {:>6.2}x  precision {:.4}  recall {:.4}",
            ours / speed,
            number(&score, "removal_precision")?,
            number(&score, "removal_recall")?
        );
    }
    Ok(())
}

/// The whole pipeline on growing inputs.
pub(super) fn prepare(setup: &Setup, scratch: &Path) -> Result<()> {
    let threads = setup.options.threads.to_string();
    println!("prepare (read, filter, near duplicates, tokenize, join), {threads} threads");
    for megabytes in ["10", "100", "1000"] {
        let folder = scratch.join("prepare");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let mut program = command(&setup.program, Some(&setup.libtorch));
        program.args(["bench", "prepare", "--megabytes", megabytes, "--threads", &threads, "--input"]);
        program.arg(&setup.corpus).arg("--tokenizer").arg(setup.options.tokenizers.join("llama2"));
        program.arg("--scratch").arg(&folder);
        let record = records(&mut program)?.swap_remove(0);
        println!(
            "  {megabytes:>5} MB {:>8.1} s {:>8.1} MB/s {:>8.1} MB/s of processor time, peak memory {:.0} MB",
            number(&record, "seconds")?,
            number(&record, "wall_mb_s")?,
            number(&record, "cpu_mb_s")?,
            number(&record, "peak_bytes")? / 1e6
        );
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}
