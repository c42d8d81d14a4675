//! Where a run comes from, recorded when it begins and held against what is there when it goes on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use llama_pro_model::describe;
use llama_pro_run::{Invocation, Provenance, RunFolder};
use llama_pro_train::{Dtype, TrainConfig, differences};
use tch::{Device, Kind};

use crate::rate;

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

/// Refuses to go on with a run that another command began: its recipe would only look wrong.
pub(crate) fn check_command(run: &RunFolder, recipe: &toml::Table, command: &str) -> Result<()> {
    // Only a recipe of pretraining names a base.
    let begun = if recipe.contains_key("base") { "pretrain" } else { "sft" };
    let dir = run.dir().display();
    ensure!(begun == command, "{dir}: this is a run of {begun}; go on with `{begun} --resume --run {dir}`");
    Ok(())
}

/// Keys that a resume may change although what follows is then not what the undisturbed run would have been.
pub(crate) fn warn_of_changes(begun: &TrainConfig, now: &TrainConfig, device: Device) {
    if device != Device::Cpu && begun.micro_rows() != now.micro_rows() {
        let (then, now) = (begun.micro_rows(), now.micro_rows());
        tracing::warn!(
            "train.micro-rows was {then}, is {now}: the same batches, but sums are rounded in another order, so from here \
             on losses are those of the undisturbed run to rounding and not to the bit"
        );
    }
    if begun.outliers != now.outliers {
        tracing::warn!(
            "train.outliers is another: steps may be taken, skipped or refused that were not before"
        );
    }
}

/// bfloat16 on a CPU that multiplies it slowly, or not at all, is slower than float32, and rounds more. Some have the
/// instructions and are slower all the same, so it is tried: a few milliseconds.
pub(crate) fn warn_of_slow_bfloat16(train: &TrainConfig, device: Device) {
    if train.dtype != Dtype::Bf16 || device != Device::Cpu {
        return;
    }
    let of = |kind| rate::products(512, 512, 512, kind, device);
    let ratio = of(Kind::BFloat16) / of(Kind::Float);
    if ratio < 1.0 {
        tracing::warn!(
            "train.dtype = \"bf16\": this processor multiplies bfloat16 at {ratio:.2} times the speed of float32, so \"f32\" \
             is faster here"
        );
    }
}
