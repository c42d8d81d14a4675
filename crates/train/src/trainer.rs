//! A model, its optimizer and one step: backward over the micro-batches, then the update, or an error before it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_pro_model::Llama;

use crate::batch::MicroBatch;
use crate::objective::{self, Keep, MicroStats};
use crate::optimizer::Optimizer;
use crate::{Error, Result, TrainConfig};

/// What one step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepStats {
    /// Sums over the whole step, in nats.
    pub sums: MicroStats,
    /// Counted targets.
    pub n_targets: u64,
    /// Global gradient norm before the clip.
    pub grad_norm: f64,
}

impl StepStats {
    /// Mean cross-entropy of the new domains' targets; of the kept text where there are no others.
    pub fn loss(&self) -> f64 {
        let (nats, n) = if self.sums.new.1 > 0 { self.sums.new } else { self.sums.keep };
        nats / n.max(1) as f64
    }

    /// Mean cross-entropy of the kept text, if the step had any.
    pub fn keep_loss(&self) -> Option<f64> {
        (self.sums.keep.1 > 0).then(|| self.sums.keep.0 / self.sums.keep.1 as f64)
    }
}

/// Trains a model in place.
pub struct Trainer {
    pub(crate) model: Llama,
    reference: Option<Llama>,
    pub(crate) optimizer: Optimizer,
    keep: Keep,
}

impl Trainer {
    /// `reference` is the base for the KL term, needed only where the model has no new blocks to skip.
    ///
    /// # Errors
    /// A config that cannot be, or a model in which nothing is trained.
    pub fn new(model: Llama, reference: Option<Llama>, config: &TrainConfig, keep: Keep) -> Result<Self> {
        config.check()?;
        let optimizer = Optimizer::new(&model, config);
        if optimizer.slots.is_empty() {
            let line = "no tensor is trained: the model has no expansion.json and train.parameters is not \"all\"";
            return Err(Error::NothingToTrain(line.to_owned()));
        }
        Ok(Self { model, reference, optimizer, keep })
    }

    /// One optimizer step over `micros`; `step` counts from 1 and is for messages. The loss is normalised by the targets
    /// of the whole step, so splitting it into other micro-batches gives the same gradients.
    ///
    /// # Errors
    /// A loss or norm that is no number (nothing is changed then), or an error of libtorch.
    pub fn step(&mut self, micros: &[MicroBatch], step: u64, learning_rate: f64) -> Result<StepStats> {
        let n_targets = micros.iter().map(|m| m.n_targets).sum::<u64>().max(1);
        let mut sums = MicroStats::default();
        for micro in micros {
            let part = guarded(|| {
                objective::backward(&self.model, self.reference.as_ref(), micro, self.keep, n_targets)
            })?;
            sums.objective += part.objective;
            sums.new = (sums.new.0 + part.new.0, sums.new.1 + part.new.1);
            sums.keep = (sums.keep.0 + part.keep.0, sums.keep.1 + part.keep.1);
            sums.kl += part.kl;
            if !sums.objective.is_finite() {
                let value = sums.objective / n_targets as f64;
                return Err(Error::NonFinite { step, what: "loss", value });
            }
        }
        let optimizer = &mut self.optimizer;
        let grad_norm = guarded(|| optimizer.step(step, learning_rate))?;
        Ok(StepStats { sums, n_targets, grad_norm })
    }

    /// The model as it is now.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// Bytes of optimizer state and of gradients.
    pub fn state_bytes(&self) -> (u64, u64) {
        self.optimizer.bytes()
    }

    /// Number of trained weights.
    pub fn n_trained(&self) -> u64 {
        self.optimizer.slots.iter().map(|s| s.weight.numel() as u64).sum()
    }
}

/// tch panics where libtorch throws (out of memory can come from any operation): one step is the unit that fails.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        Err(Error::Torch(text.lines().next().unwrap_or("unknown failure").to_owned()))
    })
}
