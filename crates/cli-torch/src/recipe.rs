//! A recipe: everything that decides a run, as one TOML file. configs/ holds commented ones; unknown keys are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use llama_pro_corpus::SourceKind;
use llama_pro_expand::Placement;
use llama_pro_shards::Packing;
use llama_pro_train::{Keep, Parameters, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::job::benchmarks::Benchmarks;
use crate::scratch::Scratch;

/// The recipe that runs when none is named.
const MINIATURE: &str = include_str!("../../../configs/pretrain/miniature.toml");

/// The name of the base inside the program.
pub(crate) const EMBEDDED: &str = "embedded";

/// A pretraining run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Recipe {
    /// Relative paths start here. Default: the folder the command is run in, which the run folder's copy records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    /// Decides the order of the data, and the weights of a model from scratch. Default 0.
    #[serde(default)]
    pub(crate) seed: u64,
    /// auto, cpu, cuda or cuda:N. Default auto: the first GPU if there is one.
    #[serde(default = "auto")]
    pub(crate) device: String,
    /// Write the trained new blocks alone, `delta/`, in place of the whole model, `model/`. Default false.
    #[serde(default)]
    pub(crate) delta: bool,
    pub(crate) base: Base,
    /// Left out: the base is not expanded (it already is, or every weight is trained).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expand: Option<Expand>,
    pub(crate) data: Data,
    /// How the old ability is kept. Left out: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<KeepText>,
    pub(crate) train: TrainConfig,
    #[serde(default)]
    pub(crate) eval: Eval,
    /// Tasks of `eval` that are scored before and after. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) benchmarks: Option<Benchmarks>,
    #[serde(default)]
    pub(crate) control: Control,
}

/// Where the base model comes from: one of the two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Base {
    /// A model folder in Hugging Face layout, or "embedded" for the tiny one inside the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// A new model with random weights and a tokenizer trained on the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scratch: Option<Scratch>,
}

/// Where new blocks go: `blocks` (and `per-group`), or `at`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Expand {
    /// New blocks in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<usize>,
    /// New blocks on top of each group. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_group: Option<usize>,
    /// Places of the new blocks in the grown model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Vec<usize>>,
}

/// What is learned from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Data {
    /// Tokens per row.
    pub(crate) sequence_length: usize,
    /// Share of the documents, by hash, that is held out. Default 0.05.
    #[serde(default = "validation_share")]
    pub(crate) validation: f64,
    /// Decides which documents are held out. Default 0. It stays the same over runs with other seeds, so that they are
    /// scored on the same text and a base is never scored on what it was trained on.
    #[serde(default)]
    pub(crate) split_seed: u64,
    /// Whether tokens see only their own document. Default true.
    #[serde(default = "yes")]
    pub(crate) mask_documents: bool,
    /// How documents become rows: `split`, one after the other and cut where a row ends, or `best-fit`, whole where they
    /// fit in a row, which ends in padding and keeps documents apart whatever `mask-documents` says. Default split.
    #[serde(default)]
    pub(crate) packing: Packing,
    /// BOS before each document. Default: if the tokenizer has one; true requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bos: Option<bool>,
    /// EOS after each document. Default: if the tokenizer has one; true requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) eos: Option<bool>,
    /// The domains.
    pub(crate) sources: Vec<DataSource>,
}

/// One domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DataSource {
    /// Name in tables and file names.
    pub(crate) name: String,
    /// Share of the rows, relative to the other sources.
    pub(crate) weight: f64,
    /// Training tokens at most, a fair sample by document hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u64>,
    /// Where its documents come from.
    pub(crate) source: SourceKind,
}

/// General text that keeps the old ability.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KeepText {
    /// Name in tables and file names.
    pub(crate) name: String,
    /// Share of all rows that is this text. Default 0.125.
    #[serde(default = "eighth")]
    pub(crate) share: f64,
    /// Weight of the plain loss on it. Default 1.
    #[serde(default = "unit")]
    pub(crate) replay: f64,
    /// Weight of KL(base || model) on it, the base being the same weights with the new blocks skipped. Default 0.
    #[serde(default)]
    pub(crate) kl: f64,
    /// Share of its documents that is held out; default data.validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validation: Option<f64>,
    /// Where its documents come from.
    pub(crate) source: SourceKind,
}

/// How models are scored before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Eval {
    /// Held-out rows per set at most. Default 128.
    #[serde(default = "eval_rows")]
    pub(crate) rows: usize,
    /// Rows scored together. Default 16.
    #[serde(default = "eval_batch")]
    pub(crate) batch_rows: usize,
    /// Rows per set for validation during the run. Default 16.
    #[serde(default = "eval_batch")]
    pub(crate) validation_rows: usize,
    /// Further texts to score, all of them held out.
    #[serde(default)]
    pub(crate) sets: Vec<EvalText>,
}

/// A text that is only scored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EvalText {
    /// Name in tables and file names.
    pub(crate) name: String,
    /// Where its documents come from.
    pub(crate) source: SourceKind,
}

/// The comparison run of `--control full`: every weight of the unexpanded base, the same batches.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Control {
    /// Peak learning rate of the control; default train.learning-rate. New blocks take higher ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learning_rate: Option<f64>,
}

impl Default for Eval {
    fn default() -> Self {
        Self { rows: eval_rows(), batch_rows: eval_batch(), validation_rows: eval_batch(), sets: Vec::new() }
    }
}

fn auto() -> String {
    "auto".to_owned()
}
fn validation_share() -> f64 {
    0.05
}
fn yes() -> bool {
    true
}
fn eighth() -> f64 {
    0.125
}
fn unit() -> f64 {
    1.0
}
fn eval_rows() -> usize {
    128
}
fn eval_batch() -> usize {
    16
}

/// Reads a recipe file, or the embedded one, applies `--set` and checks what can be checked without looking at data.
pub(crate) fn load(path: Option<&Path>, overrides: &[String]) -> Result<Recipe> {
    let (path, text) = match path {
        Some(path) => (path, std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => (Path::new("configs/pretrain/miniature.toml"), MINIATURE.to_owned()),
    };
    let mut recipe = read(path, &text, overrides)?;
    if recipe.folder.is_none() {
        recipe.folder = Some(std::env::current_dir()?);
    }
    Ok(recipe)
}

/// Reads the text of a recipe, applies overrides, resolves what is said in two ways, and checks it.
pub(crate) fn read(path: &Path, text: &str, overrides: &[String]) -> Result<Recipe> {
    let (mut recipe, _) = llama_pro_run::load_recipe::<Recipe>(path, text, overrides)?;
    recipe.train.resolve(recipe.data.sequence_length)?;
    recipe.check()?;
    Ok(recipe)
}

impl Recipe {
    /// Refuses what cannot be, before any work is done.
    pub(crate) fn check(&self) -> Result<()> {
        self.train.check()?;
        match (&self.base.model, &self.base.scratch) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => bail!("[base]: expected one of `model` and `scratch`"),
        }
        if let Some(expand) = &self.expand {
            expand.placement()?;
        }
        ensure!(
            self.expand.is_none() || self.base.scratch.is_none(),
            "[expand]: a model from scratch has nothing to keep; leave [expand] out and set train.parameters = \"all\""
        );
        let length = self.data.sequence_length;
        ensure!((2..=1 << 24).contains(&length), "data.sequence-length = {length}: expected 2 to 2^24");
        share(self.data.validation, "data.validation")?;
        ensure!(!self.data.sources.is_empty(), "[[data.sources]]: expected at least one source");
        for source in &self.data.sources {
            let weight = source.weight;
            ensure!(
                weight.is_finite() && weight >= 0.0,
                "data.sources.{}.weight = {weight}: expected 0 or more",
                source.name
            );
        }
        ensure!(
            self.data.sources.iter().any(|s| s.weight > 0.0),
            "[[data.sources]]: every weight is 0, so nothing would be learned from"
        );
        let mut names: Vec<&str> = self.data.sources.iter().map(|s| s.name.as_str()).collect();
        if let Some(keep) = &self.keep {
            keep.check()?;
            names.push(&keep.name);
        }
        names.extend(self.eval.sets.iter().map(|s| s.name.as_str()));
        for (i, name) in names.iter().enumerate() {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            ensure!(
                plain && !name.is_empty() && !name.starts_with('.'),
                "name `{name}`: expected ASCII letters, digits, '-', '_' and '.', since files are named after it"
            );
            ensure!(!names[..i].contains(name), "name `{name}` is used twice; each source needs its own");
        }
        if let Some(monitor) = &self.train.monitor {
            ensure!(
                names.contains(&monitor.as_str()),
                "train.monitor = \"{monitor}\": no text of that name; expected one of {}",
                names.join(", ")
            );
        }
        let Eval { rows, batch_rows, validation_rows, .. } = self.eval;
        for (key, n) in [("rows", rows), ("batch-rows", batch_rows), ("validation-rows", validation_rows)] {
            ensure!(n > 0, "eval.{key} = {n}: expected at least 1");
            // A batch is held in memory whole.
            let most = if key == "batch-rows" { 1 << 16 } else { 1 << 30 };
            ensure!(n <= most, "eval.{key} = {n}: expected at most {most}");
        }
        if let Some(rate) = self.control.learning_rate {
            ensure!(
                rate.is_finite() && rate > 0.0,
                "control.learning-rate = {rate}: expected a positive number"
            );
        }
        Ok(())
    }

    /// Where relative paths start.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_default()
    }

    /// A path of the recipe.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.folder().join(path)
    }

    /// Input tokens of the whole run.
    pub(crate) fn input_tokens(&self) -> u64 {
        let row = (self.train.rows_per_step as u64).saturating_mul(self.data.sequence_length as u64);
        self.train.steps.saturating_mul(row)
    }

    /// What decides the result of a run besides its data and its model: every key with its value. A checkpoint of a run
    /// with others is refused, by key.
    pub(crate) fn identity(&self) -> BTreeMap<String, String> {
        let mut all = self.train.identity();
        let keep = self.keep_weights();
        all.insert("seed".to_owned(), self.seed.to_string());
        all.insert("keep.replay".to_owned(), keep.replay.to_string());
        all.insert("keep.kl".to_owned(), keep.kl.to_string());
        if self.train.judges() {
            all.insert("eval.validation-rows".to_owned(), self.eval.validation_rows.to_string());
        }
        all.into_iter().map(|(key, value)| (format!("recipe {key}"), value)).collect()
    }

    /// The same run as a control: every weight of the unexpanded base on the same batches.
    pub(crate) fn into_control(mut self) -> Self {
        self.expand = None;
        self.train.parameters = Parameters::All;
        if let Some(rate) = self.control.learning_rate {
            self.train.min_learning_rate *= rate / self.train.learning_rate;
            self.train.learning_rate = rate;
        }
        self
    }

    /// Weights of replay and KL.
    pub(crate) fn keep_weights(&self) -> Keep {
        self.keep.as_ref().map_or_else(Keep::default, KeepText::weights)
    }
}

impl KeepText {
    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        share(self.share, "keep.share")?;
        if let Some(validation) = self.validation {
            share(validation, "keep.validation")?;
        }
        ensure!(
            self.replay.is_finite() && self.replay >= 0.0 && self.kl.is_finite() && self.kl >= 0.0,
            "[keep]: replay and kl are weights, expected 0 or more"
        );
        ensure!(
            self.replay > 0.0 || self.kl > 0.0,
            "[keep]: replay and kl are both 0, so its rows would teach nothing; leave [keep] out instead"
        );
        Ok(())
    }

    /// As the trainer takes them.
    pub(crate) fn weights(&self) -> Keep {
        Keep { replay: self.replay, kl: self.kl }
    }
}

fn share(x: f64, key: &str) -> Result<()> {
    ensure!(x > 0.0 && x < 1.0, "{key} = {x}: expected a share between 0 and 1");
    Ok(())
}

impl Expand {
    /// As the expansion crate takes it.
    pub(crate) fn placement(&self) -> Result<Placement> {
        match (self.blocks, &self.at) {
            (Some(blocks), None) => Ok(Placement::Blocks { blocks, per_group: self.per_group.unwrap_or(1) }),
            (None, Some(at)) if self.per_group.is_none() => Ok(Placement::At(at.clone())),
            _ => bail!("[expand]: expected `blocks`, with or without `per-group`, or `at` alone"),
        }
    }
}

#[cfg(test)]
mod tests;
