//! A run of the loop in a folder of its own, on the committed batches of the fixture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use llama_pro_checkpoint::Checkpoint;
use llama_pro_model::{Llama, LoadOptions, Trained};
use llama_pro_run::RunFolder;
use llama_pro_train::{
    Batches, Fit, Keep, Look, MicroBatch, Observer, Outcome, Result, Saved, StepReport, TrainConfig, Trainer,
    fit,
};
use tch::{Device, Tensor};

use super::{Expected, fixture};

/// The committed tokens, each step in micro-batches of so many rows; some steps may be spoilt.
pub(crate) struct Replay {
    pub(crate) tokens: Tensor,
    pub(crate) micro_rows: i64,
    /// Steps, from 0, that hold a single target.
    pub(crate) spoilt: Vec<u64>,
}

impl Replay {
    pub(crate) fn new() -> Self {
        let tokens = Expected::read(&fixture("llama2-train-added").join("curve.safetensors")).get("tokens");
        Self { tokens, micro_rows: 4, spoilt: Vec::new() }
    }
}

impl Batches for Replay {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let steps = self.tokens.size()[0];
        let rows = self.tokens.get(step as i64 % steps).view([8, 64]).to_device(device);
        if self.spoilt.contains(&step) {
            // One target in all: its gradient is averaged over nothing, so its norm stands out.
            let mut one = MicroBatch::tokens(&rows.narrow(0, 0, 1));
            let _ = one.targets.narrow(1, 1, 63).fill_(-100);
            one.n_targets = 1;
            return Ok(vec![one]);
        }
        Ok(rows.split(self.micro_rows, 0).iter().map(MicroBatch::tokens).collect())
    }

    fn fingerprint(&self) -> String {
        "fixture".to_owned()
    }
}

/// Hears everything, stops where it is told, and says what validations find.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) losses: Vec<(u64, u64, u64)>,
    pub(crate) skipped: Vec<u64>,
    pub(crate) resumed: Option<u64>,
    pub(crate) saved: Vec<u64>,
    /// Nats per token of one validation after the other.
    pub(crate) validations: Vec<f64>,
    /// Steps whose held-out rows were looked at.
    pub(crate) looks: Vec<u64>,
    /// A signal comes in the middle of the look after this step.
    pub(crate) break_off: Option<u64>,
    pub(crate) stop_at: u64,
    /// Steps after whose validation a gradient is no number.
    pub(crate) poison: Vec<u64>,
}

impl Ear {
    pub(crate) fn until(stop_at: u64) -> Self {
        Self { stop_at, ..Self::default() }
    }
}

struct Hears<'a> {
    ear: &'a mut Ear,
    stop: &'a AtomicBool,
}

impl Observer for Hears<'_> {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        let bits = (report.stats.loss().to_bits(), report.stats.grad_norm.to_bits());
        self.ear.losses.push((report.step, bits.0, bits.1));
        if report.stats.skipped {
            self.ear.skipped.push(report.step);
        }
        if report.step == self.ear.stop_at {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
    fn validate(&mut self, step: u64, trainer: &Trainer, stop: &AtomicBool) -> Result<Look> {
        if self.ear.break_off == Some(step) {
            stop.store(true, Ordering::Relaxed);
            return Ok(Look::BrokenOff);
        }
        if self.ear.poison.contains(&step) {
            let parameter = trainer.model().parameters().iter().filter(|p| p.trained).nth(3).unwrap();
            let _ = tch::no_grad(|| parameter.tensor.grad().fill_(f64::NAN));
        }
        self.ear.looks.push(step);
        Ok(Look::Seen((!self.ear.validations.is_empty()).then(|| self.ear.validations.remove(0))))
    }
    fn saved(&mut self, step: u64, _: &Path) {
        self.ear.saved.push(step);
    }
    fn resumed(&mut self, saved: &Saved) -> Result<()> {
        self.ear.resumed = Some(saved.step);
        Ok(())
    }
}

pub(crate) fn trainer(config: &TrainConfig) -> Trainer {
    tch::set_num_threads(1);
    let checkpoint = Checkpoint::open(&fixture("llama2-train-added/expanded")).unwrap();
    let new = |n: &str| ["model.layers.2.", "model.layers.5."].iter().any(|p| n.starts_with(p));
    let trained = Trained::Names(checkpoint.names().filter(|n| new(n)).map(str::to_owned).collect());
    let options = LoadOptions { trained, added: vec![2, 5], ..LoadOptions::default() };
    Trainer::new(Llama::load(&checkpoint, &options).unwrap(), None, config, Keep::default()).unwrap()
}

/// A run folder, made where it is not there.
pub(crate) fn folder(dir: &Path) -> RunFolder {
    match dir.join("recipe.toml").exists() {
        true => RunFolder::resume(dir).unwrap(),
        false => RunFolder::create(dir, &Default::default()).unwrap(),
    }
}

/// Trains in `dir`, from its newest checkpoint where there is one.
pub(crate) fn go(
    dir: &Path,
    config: &TrainConfig,
    batches: &dyn Batches,
    ear: &mut Ear,
) -> Result<(Trainer, Outcome)> {
    let run = folder(dir);
    let mut trainer = trainer(config);
    let stop = AtomicBool::new(false);
    let inputs = BTreeMap::from([("data".to_owned(), batches.fingerprint())]);
    let setup = Fit { config, batches, run: &run, inputs, resume: true, stop: &stop };
    let outcome = fit(&mut trainer, &setup, &mut Hears { ear, stop: &stop })?;
    Ok((trainer, outcome))
}

/// The trained weights, to the bit.
pub(crate) fn weights(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let trained = trainer.model().parameters().iter().filter(|p| p.trained);
    let bits = |t: &Tensor| Vec::<f32>::try_from(t.detach().flatten(0, -1)).unwrap();
    trained.map(|p| (p.name.clone(), bits(&p.tensor).iter().map(|x| x.to_bits()).collect())).collect()
}

/// A file of a checkpoint.
pub(crate) fn file(dir: &Path, step: u64, name: &str) -> PathBuf {
    dir.join(format!("checkpoints/step-{step:08}/{name}"))
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}
