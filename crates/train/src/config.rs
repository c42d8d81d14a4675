//! `[train]` of a recipe: every number of the optimizer and the loop, with the meaning, unit and default of each.

use std::collections::BTreeMap;

use llama_pro_checkpoint::cost::Recompute;
use serde::{Deserialize, Serialize};

use crate::{Dtype, Error, Keeps, MomentKind, Outliers, Parameters, Result, Schedule};

/// Optimizer, schedule and loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Optimizer steps.
    #[serde(default)]
    pub steps: u64,
    /// Rows of `data.sequence-length` tokens per step, over all micro-batches. Default: from `tokens-per-step`.
    #[serde(default)]
    pub rows_per_step: usize,
    /// Tokens per step, a multiple of `data.sequence-length`: the other way to say `rows-per-step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_step: Option<u64>,
    /// Rows per forward pass on a GPU; the rest is accumulated. Default: all rows of a step at once. On a CPU the length of
    /// the rows decides it, see [`crate::rows_per_pass`].
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// added (the new blocks) or all. Default added.
    #[serde(default)]
    pub parameters: Parameters,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine or of the decay. Default 0.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// cosine, wsd (stable, then a straight line down) or constant. Default cosine, the paper's.
    #[serde(default)]
    pub schedule: Schedule,
    /// Share of the steps that warm up linearly (rounded up). Default 0.06, the paper's.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// Steps that warm up, in place of the share `warmup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Share of the steps, at the end, over which wsd decays (rounded up). Default 0.2.
    #[serde(default = "default_decay")]
    pub decay: f64,
    /// AdamW decay rates. Default [0.9, 0.95].
    #[serde(default = "default_betas")]
    pub betas: (f64, f64),
    /// AdamW epsilon. Default 1e-8.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay on matrices; norms and biases have none. Default 0.1, the paper's.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Whether the embedding and the head, where they are trained, decay like the other matrices. Default true.
    #[serde(default = "yes")]
    pub decay_embeddings: bool,
    /// Global gradient norm above which gradients are scaled down. Default 1.0, the paper's.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// f32 or bf16. Default f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// f32 or 8bit: how the two moments of AdamW are kept, in 8 or in 2.03 bytes per trained weight. Default f32.
    #[serde(default)]
    pub moments: MomentKind,
    /// take, skip or stop: what happens to a step whose loss or gradient norm is more than 6 standard deviations above the
    /// mean of the 128 steps before it. Default take.
    #[serde(default)]
    pub outliers: Outliers,
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
    /// Whether checkpoints are written beside the training, from a copy in memory of 12 bytes per trained weight. Default
    /// true; false: training waits for the disk and needs no copy.
    #[serde(default = "yes")]
    pub background_checkpoints: bool,
    /// Steps between validations during the run; 0 validates only before and after. Default 0.
    #[serde(default)]
    pub validate_every: u64,
    /// The held-out text whose nats per token say which validation is best. Default: the mean over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
    /// Whether the checkpoint of the best validation is kept besides the newest. Default false; `result = "best"` and
    /// `early-stop` imply it.
    #[serde(default)]
    pub keep_best: bool,
    /// Ends the run after this many validations in a row that were no better than the best. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u64>,
    /// last or best: the weights that are scored and written when the run ends. Default last.
    #[serde(default)]
    pub result: Keeps,
    /// Steps between plain lines on stderr where no terminal is there. Default 10.
    #[serde(default = "default_log_every")]
    pub log_every: u64,
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
fn default_decay() -> f64 {
    0.2
}
fn yes() -> bool {
    true
}
fn default_log_every() -> u64 {
    10
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
            tokens_per_step: None,
            micro_rows: None,
            parameters: Parameters::default(),
            learning_rate,
            min_learning_rate: 0.0,
            schedule: Schedule::default(),
            warmup: default_warmup(),
            warmup_steps: None,
            decay: default_decay(),
            betas: default_betas(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            decay_embeddings: true,
            clip: default_clip(),
            dtype: Dtype::default(),
            moments: MomentKind::default(),
            outliers: Outliers::default(),
            recompute: Recompute::None,
            checkpoint_every: default_checkpoint_every(),
            keep_checkpoints: default_keep_checkpoints(),
            background_checkpoints: true,
            validate_every: 0,
            monitor: None,
            keep_best: false,
            early_stop: None,
            result: Keeps::default(),
            log_every: default_log_every(),
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
        rule(
            (1..=1 << 20).contains(&rows),
            "train.rows-per-step",
            rows.to_string(),
            "expected 1 to 2^20, here or through train.tokens-per-step",
        )?;
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
        if let Some(steps) = self.warmup_steps {
            let short = "expected fewer than train.steps";
            rule(steps < self.steps, "train.warmup-steps", steps.to_string(), short)?;
        }
        let decay = self.decay;
        rule(
            decay > 0.0 && decay <= 1.0,
            "train.decay",
            decay.to_string(),
            "expected a share above 0 and at most 1",
        )?;
        let room = self.schedule != Schedule::Wsd || self.warmup_steps() + self.decay_steps() <= self.steps;
        rule(room, "train.decay", decay.to_string(), "warm-up and decay are longer than the run")?;
        let (a, b) = self.betas;
        rule(
            share(a) && share(b),
            "train.betas",
            format!("[{a}, {b}]"),
            "expected two numbers from 0 to below 1",
        )?;
        // The kernels compute in float32, where a smaller number is 0 or loses its digits: 0 / 0 is no number.
        let normal = self.eps.is_finite() && self.eps >= f64::from(f32::MIN_POSITIVE);
        rule(normal, "train.eps", self.eps.to_string(), "expected at least 1.2e-38")?;
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
        )?;
        rule(self.log_every > 0, "train.log-every", self.log_every.to_string(), "expected at least 1")?;
        let validates = self.validate_every > 0;
        let needs = "it needs validations during the run: set train.validate-every";
        rule(validates || !self.keep_best, "train.keep-best", "true".to_owned(), needs)?;
        rule(validates || self.result == Keeps::Last, "train.result", "best".to_owned(), needs)?;
        if let Some(patience) = self.early_stop {
            rule(validates, "train.early-stop", patience.to_string(), needs)?;
            rule(patience > 0, "train.early-stop", patience.to_string(), "expected at least 1")?;
        }
        Ok(())
    }

    /// Turns `tokens-per-step` into `rows-per-step`, for rows of `row_length` tokens.
    ///
    /// # Errors
    /// Tokens that are no whole number of rows, or another number of rows than `rows-per-step` states.
    pub fn resolve(&mut self, row_length: usize) -> Result<()> {
        let Some(tokens) = self.tokens_per_step else { return Ok(()) };
        let wrong =
            |expected| Error::Config { key: "train.tokens-per-step", value: tokens.to_string(), expected };
        let length = row_length.max(1) as u64;
        if tokens == 0 || !tokens.is_multiple_of(length) {
            return Err(wrong("expected a multiple of data.sequence-length"));
        }
        let rows = usize::try_from(tokens / length).unwrap_or(usize::MAX);
        if self.rows_per_step != 0 && self.rows_per_step != rows {
            return Err(wrong("says another number of rows than train.rows-per-step; give one of the two"));
        }
        self.rows_per_step = rows;
        Ok(())
    }

    /// Whether looks at held-out text decide when the run ends or what it gives.
    pub fn judges(&self) -> bool {
        self.early_stop.is_some() || self.result == Keeps::Best
    }

    /// Every key that decides the result of a run, with its value. How a step is cut into micro-batches changes nothing on a
    /// CPU, and on a GPU only the rounding of sums; what is computed twice, and when checkpoints and log lines are written,
    /// changes nothing.
    pub fn identity(&self) -> BTreeMap<String, String> {
        let mut left_out = vec![
            "tokens-per-step",
            "micro-rows",
            "recompute",
            "checkpoint-every",
            "keep-checkpoints",
            "keep-best",
            "background-checkpoints",
            "log-every",
            // A run that has met what is no number goes on by skipping it, or not at all; the program warns.
            "outliers",
        ];
        // Looks at held-out text change nothing unless the run ends by them.
        if !self.judges() {
            left_out.extend(["validate-every", "monitor", "early-stop", "result"]);
        }
        // A struct of numbers, words and pairs always has a JSON form, which is an object.
        let json = serde_json::to_value(self).unwrap_or_default();
        let keys =
            json.as_object().into_iter().flatten().filter(|(key, _)| !left_out.contains(&key.as_str()));
        keys.map(|(key, value)| (format!("train.{key}"), value.to_string())).collect()
    }

    /// Rows per forward pass as the recipe has it.
    pub fn micro_rows(&self) -> usize {
        self.micro_rows.unwrap_or(self.rows_per_step)
    }

    /// Steps of linear warm-up.
    pub fn warmup_steps(&self) -> u64 {
        self.warmup_steps.unwrap_or((self.warmup * self.steps as f64).ceil() as u64)
    }

    /// Steps of decay of the schedule wsd.
    pub fn decay_steps(&self) -> u64 {
        (self.decay * self.steps as f64).ceil() as u64
    }

    /// Whether the checkpoint of the best validation is kept.
    pub fn keeps_best(&self) -> bool {
        self.keep_best || self.early_stop.is_some() || self.result == Keeps::Best
    }
}
