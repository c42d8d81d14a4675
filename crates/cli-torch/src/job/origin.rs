//! Where a run comes from, recorded when it begins and held against what is there when it goes on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use llama_pro_model::describe;
use llama_pro_run::{Invocation, Provenance, RunFolder};
use llama_pro_train::differences;
use tch::Device;

/// Sets the number of threads. The last bits of a result on the CPU depend on it, so a run that goes on takes the number
/// it began with unless another was asked for. Returns what decides those bits.
pub(crate) fn set_threads(
    run: &RunFolder,
    device: Device,
    resumed: bool,
    asked: Option<u32>,
) -> Result<String> {
    if device != Device::Cpu {
        return Ok(describe(device));
    }
    if resumed && asked.is_none() && run.provenance().exists() {
        let recorded = Provenance::read(&run.provenance())?.inputs.get("threads").cloned();
        if let Some(n) = recorded.and_then(|n| n.parse::<i32>().ok()).filter(|n| (1..=4096).contains(n)) {
            tch::set_num_threads(n);
        }
    }
    Ok(tch::get_num_threads().to_string())
}

/// Writes where a new run comes from; of one that goes on, refuses whatever is no longer what it was made of.
pub(crate) fn record(run: &RunFolder, inputs: &BTreeMap<String, String>) -> Result<()> {
    let command: Vec<String> = std::env::args().collect();
    let path = run.provenance();
    if !path.exists() {
        let program = format!("llama-pro {}", env!("CARGO_PKG_VERSION"));
        let mut now = Provenance::new(program, command, None);
        for (name, digest) in inputs {
            now.input(name, digest);
        }
        return Ok(run.write_provenance(&now)?);
    }
    let mut then = Provenance::read(&path)?;
    let changed = differences(&then.inputs, inputs);
    ensure!(
        changed.is_empty(),
        "{}: cannot go on, since this is no longer what the run was made of: {}",
        run.dir().display(),
        changed.join("; ")
    );
    then.resumed.push(Invocation::now(command));
    Ok(run.write_provenance(&then)?)
}
