//! `[train]` of a recipe: every number of the optimizer and the loop, with the meaning, unit and default of each.

use llama_pro_checkpoint::cost::Recompute;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What the forward and backward pass compute in. Master weights and moments are float32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// float32 throughout.
    #[default]
    F32,
    /// bfloat16 weights and activations, float32 master copies of what is trained.
    Bf16,
}

/// Which weights are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameters {
    /// Those of the new blocks, as expansion.json names them.
    #[default]
    Added,
    /// Every weight.
    All,
}

/// Optimizer, schedule and loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows of `data.sequence-length` tokens per step, over all micro-batches.
    pub rows_per_step: usize,
    /// Rows per forward pass; the rest is accumulated. Default: all rows of a step at once.
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// added (the new blocks) or all. Default added.
    #[serde(default)]
    pub parameters: Parameters,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine. Default 0.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// Share of the steps that warm up linearly (rounded up). Default 0.06, the paper's.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// AdamW decay rates. Default [0.9, 0.95].
    #[serde(default = "default_betas")]
    pub betas: (f64, f64),
    /// AdamW epsilon. Default 1e-8.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay on matrices; norms and biases have none. Default 0.1, the paper's.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Global gradient norm above which gradients are scaled down. Default 1.0, the paper's.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// f32 or bf16. Default f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// Which activations are computed again in the backward pass instead of being kept: none, new-blocks, all-blocks, or a
    /// limit on all memory such as "24 GiB", for which as few blocks as possible are. The gradients are the same bits.
    /// Default none.
    #[serde(default, with = "recompute")]
    pub recompute: Recompute,
    /// Steps between checkpoints; 0 writes none but the last. Default 100.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Checkpoints kept, the newest. Default 2.
    #[serde(default = "default_keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// Steps between validations during the run; 0 validates only before and after. Default 0.
    #[serde(default)]
    pub validate_every: u64,
}

/// A recompute policy as the text of a recipe.
mod recompute {
    use llama_pro_checkpoint::cost::Recompute;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Recompute, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Recompute, D::Error> {
        let text = String::deserialize(from)?;
        Recompute::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}`: {}", Recompute::EXPECTED)))
    }
}

fn default_warmup() -> f64 {
    0.06
}
fn default_betas() -> (f64, f64) {
    (0.9, 0.95)
}
fn default_eps() -> f64 {
    1e-8
}
fn default_weight_decay() -> f64 {
    0.1
}
fn default_clip() -> f64 {
    1.0
}
fn default_checkpoint_every() -> u64 {
    100
}
fn default_keep_checkpoints() -> usize {
    2
}

impl TrainConfig {
    /// The defaults with what has none.
    pub fn new(steps: u64, rows_per_step: usize, learning_rate: f64) -> Self {
        Self {
            steps,
            rows_per_step,
            micro_rows: None,
            parameters: Parameters::default(),
            learning_rate,
            min_learning_rate: 0.0,
            warmup: default_warmup(),
            betas: default_betas(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            clip: default_clip(),
            dtype: Dtype::default(),
            recompute: Recompute::None,
            checkpoint_every: default_checkpoint_every(),
            keep_checkpoints: default_keep_checkpoints(),
            validate_every: 0,
        }
    }

    /// Refuses numbers that cannot be.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn check(&self) -> Result<()> {
        let rule = |ok: bool, key: &'static str, value: String, expected: &'static str| {
            if ok { Ok(()) } else { Err(Error::Config { key, value, expected }) }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let steps = (1..=1 << 40).contains(&self.steps);
        rule(steps, "train.steps", self.steps.to_string(), "expected 1 to 2^40")?;
        let rows = self.rows_per_step;
        rule((1..=1 << 20).contains(&rows), "train.rows-per-step", rows.to_string(), "expected 1 to 2^20")?;
        let micro = self.micro_rows.unwrap_or(rows);
        rule(
            micro > 0 && rows.is_multiple_of(micro),
            "train.micro-rows",
            micro.to_string(),
            "expected a divisor of train.rows-per-step",
        )?;
        let rate = self.learning_rate;
        rule(positive(rate), "train.learning-rate", rate.to_string(), "expected a positive number")?;
        let low = self.min_learning_rate;
        rule(
            (0.0..=rate).contains(&low),
            "train.min-learning-rate",
            low.to_string(),
            "expected 0 to train.learning-rate",
        )?;
        rule(
            share(self.warmup),
            "train.warmup",
            self.warmup.to_string(),
            "expected a share from 0 to below 1",
        )?;
        let (a, b) = self.betas;
        rule(
            share(a) && share(b),
            "train.betas",
            format!("[{a}, {b}]"),
            "expected two numbers from 0 to below 1",
        )?;
        rule(positive(self.eps), "train.eps", self.eps.to_string(), "expected a positive number")?;
        let decay = self.weight_decay;
        rule(
            decay.is_finite() && decay >= 0.0,
            "train.weight-decay",
            decay.to_string(),
            "expected 0 or more",
        )?;
        rule(positive(self.clip), "train.clip", self.clip.to_string(), "expected a positive number")?;
        rule(
            self.keep_checkpoints > 0,
            "train.keep-checkpoints",
            self.keep_checkpoints.to_string(),
            "expected at least 1",
        )
    }

    /// Rows per forward pass.
    pub fn micro_rows(&self) -> usize {
        self.micro_rows.unwrap_or(self.rows_per_step)
    }
}
