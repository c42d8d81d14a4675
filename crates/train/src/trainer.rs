//! A model, its optimizer and one step: backward over the micro-batches, then the update, or an error before it.

use std::collections::BTreeSet;

use llama_pro_checkpoint::cost::{MemoryPlan, Recompute, Step, Trained};
use llama_pro_model::{Attends, Llama, attends_by, guarded};
use llama_pro_torch_ext::has_kernels;
use tch::{Device, Kind, Tensor};

use crate::batch::MicroBatch;
use crate::moments::MomentKind;
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
    /// Whether the step was looked at and not taken.
    pub skipped: bool,
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
    pub(crate) reference: Option<Llama>,
    pub(crate) optimizer: Optimizer,
    keep: Keep,
    /// Of the recipe, and what it comes to for the shape of the last micro-batch.
    recompute: Recompute,
    recomputed: Option<(Vec<i64>, Vec<bool>)>,
    /// Whether a step has had several micro-batches.
    accumulates: bool,
    /// Whether checkpoints are written from a copy.
    copies_state: bool,
    /// Bytes of the largest step that was planned.
    largest_plan: u64,
}

impl Trainer {
    /// `reference` is the base for the KL term, needed only where the model has no new blocks to skip.
    ///
    /// # Errors
    /// A config that cannot be, a model in which nothing is trained, or a KL term with no base to compare with.
    pub fn new(model: Llama, reference: Option<Llama>, config: &TrainConfig, keep: Keep) -> Result<Self> {
        config.check()?;
        let optimizer = guarded(Error::Torch, || Ok(Optimizer::new(&model, config)))?;
        if optimizer.slots.is_empty() {
            return Err(Error::Setup("no tensor of the model is to be trained".to_owned()));
        }
        if keep.kl > 0.0 {
            check_base(&model, reference.as_ref())?;
        }
        let recompute = config.recompute;
        Ok(Self {
            model,
            reference,
            optimizer,
            keep,
            recompute,
            recomputed: None,
            accumulates: false,
            copies_state: config.background_checkpoints,
            largest_plan: 0,
        })
    }

    /// One optimizer step over `micros`; `step` counts from 1 and is for messages. The loss is normalised by the targets
    /// of the whole step, so splitting it into other micro-batches gives the same gradients.
    ///
    /// # Errors
    /// A step with no counted target, a loss or norm that is no number, or an error of libtorch. The weights and the
    /// optimizer are then as before, and the gradients are cleared.
    pub fn step(&mut self, micros: &[MicroBatch], step: u64, learning_rate: f64) -> Result<StepStats> {
        self.step_if(micros, step, learning_rate, &mut |_| Ok(true))
    }

    /// [`Trainer::step`] that is taken only if `admit` says so, when loss and norm are known and nothing has changed yet.
    ///
    /// # Errors
    /// As [`Trainer::step`], and whatever `admit` refuses with.
    pub fn step_if(
        &mut self,
        micros: &[MicroBatch],
        step: u64,
        learning_rate: f64,
        admit: &mut dyn FnMut(&StepStats) -> Result<bool>,
    ) -> Result<StepStats> {
        let result = guarded(Error::Torch, || self.step_or_fail(micros, step, learning_rate, admit));
        if !matches!(result, Ok(StepStats { skipped: false, .. })) {
            self.optimizer.clear();
        }
        result
    }

    fn step_or_fail(
        &mut self,
        micros: &[MicroBatch],
        step: u64,
        learning_rate: f64,
        admit: &mut dyn FnMut(&StepStats) -> Result<bool>,
    ) -> Result<StepStats> {
        let n_targets: u64 = micros.iter().map(|m| m.n_targets).sum();
        if n_targets == 0 {
            return Err(Error::Setup(format!("step {step}: its rows hold no token to predict")));
        }
        // The sums of the first step with several passes stay, be the next one a single pass.
        if micros.len() > 1 && !self.accumulates {
            self.accumulates = true;
            self.recomputed = None;
        }
        let mut sums = MicroStats::default();
        for micro in micros {
            self.choose_recomputed(micro)?;
            let reference = self.reference.as_ref();
            let again = &self.recomputed.as_ref().map_or(&[][..], |(_, blocks)| blocks);
            let part = objective::backward(&self.model, reference, micro, self.keep, n_targets, again)?;
            if micros.len() > 1 {
                self.optimizer.gather()?;
            }
            sums.objective += part.objective;
            sums.new = (sums.new.0 + part.new.0, sums.new.1 + part.new.1);
            sums.keep = (sums.keep.0 + part.keep.0, sums.keep.1 + part.keep.1);
            sums.kl += part.kl;
            if !sums.objective.is_finite() {
                // The other micro-batches could not mend it.
                let stats = StepStats { sums, n_targets, grad_norm: f64::NAN, skipped: true };
                return admit_or_fail(stats, step, admit);
            }
        }
        let (grads, grad_norm) = self.optimizer.gradients()?;
        let stats = admit_or_fail(StepStats { sums, n_targets, grad_norm, skipped: false }, step, admit)?;
        if !stats.skipped {
            self.optimizer.step(&grads, grad_norm, learning_rate)?;
        }
        Ok(stats)
    }

    /// What the step takes in memory, by the shape of `micro`, while a checkpoint is on its way to the disk.
    pub fn memory_plan(&self, micro: &MicroBatch) -> MemoryPlan {
        let shape = micro.ids.size();
        let width = self.model.kind().elt_size_in_bytes() as u64;
        let moments = match self.optimizer.kind {
            MomentKind::Float32 => Step::MOMENTS_F32,
            MomentKind::Eight => Step::MOMENTS_8BIT,
        };
        let (rows, length, accumulates) = (shape[0] as u64, shape[1] as u64, self.accumulates);
        let (config, device) = (self.model.config(), self.model.device());
        let attends = attends_by(config, self.model.kind(), device);
        // Documents and windows each have a mask where attention knows neither.
        let windows: BTreeSet<Option<usize>> = config.sliding_window.iter().copied().collect();
        let dense = |window: &&Option<usize>| {
            micro.segments.is_some() || window.is_some_and(|window| (window as u64) < length)
        };
        let masks = windows.iter().filter(dense).count() as u64 * rows * length * length;
        let reference = self.reference.iter().flat_map(Llama::parameters);
        let step = Step {
            accumulates,
            moments,
            // On a GPU the copy lies in the memory of the host.
            snapshot: self.copies_state && device == Device::Cpu,
            kernels: has_kernels(self.model.kind(), device),
            repeats_keys: attends == Attends::Plain,
            masks: if attends == Attends::Plain { masks } else { 0 },
            chunk: objective::head_chunk(&self.model).unsigned_abs(),
            kl: self.keep.kl > 0.0 && micro.keep_rows > 0,
            reference: reference.map(|p| p.tensor.numel() as u64 * width).sum(),
            ..Step::new(rows, length, width)
        };
        MemoryPlan::new(config, &trained_parts(&self.model), step, self.recompute)
    }

    /// Says what a step takes in memory before there is a batch: forward passes of `shape` rows and tokens, several of them
    /// or one, with several documents in a row, and with rows of kept text.
    ///
    /// # Errors
    /// A limit of memory that it cannot keep.
    pub fn expect(&mut self, shape: (i64, i64), several: bool, documents: bool, keeps: bool) -> Result<()> {
        let zeros = || Tensor::zeros([shape.0, shape.1], (Kind::Int64, self.model.device()));
        let mut micro = MicroBatch::tokens(&zeros());
        micro.segments = documents.then(zeros);
        micro.keep_rows = i64::from(keeps);
        self.accumulates = several;
        self.choose_recomputed(&micro)
    }

    /// Turns the policy into blocks, once for each shape.
    fn choose_recomputed(&mut self, micro: &MicroBatch) -> Result<()> {
        let shape = micro.ids.size();
        if self.recomputed.as_ref().is_some_and(|(known, _)| *known == shape) {
            return Ok(());
        }
        let plan = self.memory_plan(micro);
        if let Recompute::Budget(limit) = self.recompute
            && plan.total() > limit
        {
            return Err(Error::Config {
                key: "train.recompute",
                value: format!("\"{}\"", self.recompute),
                expected: match (self.model.device(), self.copies_state) {
                    (Device::Cpu, true) => {
                        "a step does not fit even with every block computed again; train.background-checkpoints = false \
                         saves the copy that a checkpoint is written from"
                    }
                    (Device::Cpu, false) => {
                        "a step does not fit even with every block computed again; lower data.sequence-length, or where a \
                         step has fewer than 2,048 tokens train.rows-per-step"
                    }
                    _ => "a step does not fit even with every block computed again; lower train.micro-rows",
                },
            });
        }
        // Rows of conversations are as long as the longest of them: only a larger step than those before is news.
        if plan.total() <= self.largest_plan {
            self.recomputed = Some((shape, plan.recomputed));
            return Ok(());
        }
        self.largest_plan = plan.total();
        let gib = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 30));
        tracing::info!(
            "memory of a step of {shape:?} tokens, GiB: weights {}, gradients {}, optimizer {}, kept by blocks {} ({} of \
             {} computed again), at the head {}, most activations at once {}, a checkpoint's copy {}, together {}",
            gib(plan.weights),
            gib(plan.gradients),
            gib(plan.optimizer),
            gib(plan.kept.iter().sum()),
            plan.recomputed.iter().filter(|&&again| again).count(),
            plan.recomputed.len(),
            gib(plan.logits),
            gib(plan.activations),
            gib(plan.snapshot),
            gib(plan.total()),
        );
        self.recomputed = Some((shape, plan.recomputed));
        Ok(())
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

/// What `admit` makes of a step. One that is no number is never taken, whatever it says.
fn admit_or_fail(
    stats: StepStats,
    step: u64,
    admit: &mut dyn FnMut(&StepStats) -> Result<bool>,
) -> Result<StepStats> {
    let taken = admit(&stats)?;
    let numbers = [("loss", stats.sums.objective), ("gradient norm", stats.grad_norm)];
    if taken && let Some((what, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite()) {
        return Err(Error::NonFinite { step, what, value });
    }
    Ok(StepStats { skipped: !taken, ..stats })
}

/// Which parts of a loaded model are trained, as the plan of memory reads it.
pub fn trained_parts(model: &Llama) -> Trained {
    let trained = |name: &str| model.parameters().iter().any(|p| p.trained && p.name == name);
    let blocks = (0..model.n_blocks())
        .map(|i| model.parameters().iter().any(|p| p.trained && p.block() == Some(i)))
        .collect();
    Trained {
        embedding: trained("model.embed_tokens.weight"),
        blocks,
        norm: trained("model.norm.weight"),
        head: trained("lm_head.weight"),
        adapters: model.lora_scale().map(|_| {
            let trained = model.parameters().iter().filter(|p| p.trained);
            trained.map(|p| p.tensor.numel() as u64).sum()
        }),
    }
}

/// The KL term needs the base: beside the model, or inside it with nothing but new blocks trained, so that skipping them
/// gives the base. New blocks below the lowest trained one (an older expansion) would be part of what both share.
pub(crate) fn check_base(model: &Llama, reference: Option<&Llama>) -> Result<()> {
    let fail = |line: &str| Err(Error::Setup(format!("keep.kl needs the base: {line}")));
    if let Some(base) = reference {
        let sizes = (base.config().vocab_size, model.config().vocab_size);
        return if sizes.0 == sizes.1 { Ok(()) } else { fail("its vocabulary differs from the model's") };
    }
    let added = model.added();
    if !added.contains(&true) {
        return fail("the model has no new blocks to skip, and no base was given beside it");
    }
    if added[..model.first_trained_block()].contains(&true) {
        return fail("an older expansion is frozen below the trained blocks; give the base beside the model");
    }
    let old_trained = |p: &&llama_pro_model::Parameter| p.trained && !p.block().is_some_and(|i| added[i]);
    match model.parameters().iter().find(old_trained) {
        Some(p) => {
            fail(&format!("`{}` of the base itself is trained; give the base beside the model", p.name))
        }
        None => Ok(()),
    }
}
