//! A recipe of instruction tuning: everything that decides a run. configs/sft holds commented ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use llama_pro_model::LORA_TARGETS;
use llama_pro_text::chat::Format;
use llama_pro_train::{Keep, Parameters, TrainConfig};
use serde::{Deserialize, Serialize};

use super::texts::CONVERSATIONS;
use crate::job::benchmarks::Benchmarks;
use crate::recipe::{EvalText, KeepText};

/// The recipe that runs when none is named.
const MINIATURE: &str = include_str!("../../../../configs/sft/miniature.toml");

/// The model of the newest run of `pretrain`, which is made where there is none.
pub(crate) const LAST_PRETRAIN: &str = "last-pretrain";

/// An instruction-tuning run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Recipe {
    /// Relative paths start here. Default: the folder the command is run in, which the run folder's copy records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    /// Decides the order of the data. Default 0.
    #[serde(default)]
    pub(crate) seed: u64,
    /// auto, cpu, cuda or cuda:N. Default auto: the first GPU if there is one.
    #[serde(default = "auto")]
    pub(crate) device: String,
    /// A model folder in Hugging Face layout, or "last-pretrain".
    pub(crate) model: String,
    /// The chat template: "own" (the model's), a built-in one (tulu, alpaca, chatml, llama-2, llama-3, plain), or a file
    /// that ends in .jinja. Default: the model's own where it has one, otherwise tulu, the paper's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// The moment that templates take for now, in seconds since 1970 (UTC). Default: the beginning of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) now: Option<i64>,
    pub(crate) data: Data,
    pub(crate) train: TrainConfig,
    /// General text that keeps the old ability: rows beside the conversations. Left out: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<KeepText>,
    /// Low-rank adapters in place of training the weights themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lora: Option<Lora>,
    #[serde(default)]
    pub(crate) eval: Eval,
    /// Tasks of `eval` that are scored before and after. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) benchmarks: Option<Benchmarks>,
}

/// What is learned from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Data {
    /// Tokens per row.
    pub(crate) sequence_length: usize,
    /// Whether several conversations share a row, without seeing each other. Default true.
    #[serde(default = "yes")]
    pub(crate) packing: bool,
    /// Passes over the data, which decide the number of steps in place of train.steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<f64>,
    /// What happens to a conversation with more tokens than a row. Default drop.
    #[serde(default)]
    pub(crate) over_long: OverLong,
    /// What happens to a record that cannot be learned from. Default error.
    #[serde(default)]
    pub(crate) unusable: Unusable,
    /// Share of the conversations of each set, by what they say, that is held out. Default 0.
    #[serde(default)]
    pub(crate) validation: f64,
    /// The instruction sets.
    pub(crate) sets: Vec<InstructionSet>,
}

/// Of a conversation that is longer than a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OverLong {
    /// It is left out and counted.
    #[default]
    Drop,
    /// It is cut at the end of the row and counted; where nothing to learn is left, it is left out.
    Truncate,
    /// The run does not begin.
    Error,
}

/// Of a record that cannot be learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unusable {
    /// The run does not begin, and the record is named.
    #[default]
    Error,
    /// It is left out and counted by what is wrong with it.
    Drop,
}

/// One set of instructions: from files, or generated.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct InstructionSet {
    /// Name in tables.
    pub(crate) name: String,
    /// A file (.json, .jsonl, plain, .gz or .zst), or a folder of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// alpaca, sharegpt, messages, prompt-completion or query-response. Default: found by the fields of each record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
    /// Questions of the generator, in place of a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generated: Option<Generated>,
    /// How often each conversation is seen in an epoch: 2 is twice, 0.5 a half of them. Default 1.
    #[serde(default = "one")]
    pub(crate) weight: f64,
    /// The first so many conversations only. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_conversations: Option<usize>,
}

/// Arithmetic and small tasks of code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Generated {
    /// Another seed gives other questions. Default 0.
    #[serde(default)]
    pub(crate) seed: u64,
    /// How many.
    pub(crate) conversations: usize,
}

/// Low-rank adapters (arXiv 2106.09685).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Lora {
    /// Rank of the update. Default 8.
    #[serde(default = "rank")]
    pub(crate) rank: usize,
    /// The update is multiplied by alpha / rank. Default 16.
    #[serde(default = "alpha")]
    pub(crate) alpha: f64,
    /// Modules that get one, in every block. Default: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.
    #[serde(default = "targets")]
    pub(crate) targets: Vec<String>,
}

/// How the model is asked before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Eval {
    /// Held-out questions of the generator that are asked and answered greedily; 0 asks none. Default 0.
    #[serde(default)]
    pub(crate) questions: usize,
    /// Decides which of them. Default 0.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Longest answer. Default 64.
    #[serde(default = "new_tokens")]
    pub(crate) max_new_tokens: usize,
    /// Answers that are shown. Default 3.
    #[serde(default = "three")]
    pub(crate) examples: usize,
    /// Held-out rows per text and conversations at most. Default 128.
    #[serde(default = "rows")]
    pub(crate) rows: usize,
    /// Rows scored together. Default 16.
    #[serde(default = "batch")]
    pub(crate) batch_rows: usize,
    /// Rows of the text to keep that are compared with the base at each validation. Default 16.
    #[serde(default = "batch")]
    pub(crate) validation_rows: usize,
    /// Texts whose perplexity should not rise: the watch on forgetting.
    #[serde(default)]
    pub(crate) texts: Vec<EvalText>,
    /// Share of the documents of each text, by hash, that is scored, and what decides which. Those of the pretraining
    /// recipe score what was held out there. Defaults 1 and 0.
    #[serde(default = "one")]
    pub(crate) share: f64,
    #[serde(default)]
    pub(crate) split_seed: u64,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            questions: 0,
            seed: 0,
            max_new_tokens: new_tokens(),
            examples: three(),
            rows: rows(),
            batch_rows: batch(),
            validation_rows: batch(),
            texts: Vec::new(),
            share: 1.0,
            split_seed: 0,
        }
    }
}

fn auto() -> String {
    "auto".to_owned()
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn rank() -> usize {
    8
}
fn alpha() -> f64 {
    16.0
}
fn targets() -> Vec<String> {
    LORA_TARGETS.map(str::to_owned).into()
}
fn new_tokens() -> usize {
    64
}
fn three() -> usize {
    3
}
fn rows() -> usize {
    128
}
fn batch() -> usize {
    16
}

/// Reads a recipe file, or the embedded one, applies `--set` and checks what can be checked without looking at data.
pub(crate) fn load(path: Option<&Path>, overrides: &[String]) -> Result<Recipe> {
    let (path, text) = match path {
        Some(path) => (path, std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => (Path::new("configs/sft/miniature.toml"), MINIATURE.to_owned()),
    };
    let mut recipe = read(path, &text, overrides)?;
    if recipe.folder.is_none() {
        recipe.folder = Some(std::env::current_dir()?);
    }
    if recipe.now.is_none() {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        recipe.now = Some(since.as_secs() as i64);
    }
    Ok(recipe)
}

/// A recipe from its text.
pub(crate) fn read(path: &Path, text: &str, overrides: &[String]) -> Result<Recipe> {
    let (mut recipe, _) = llama_pro_run::load_recipe::<Recipe>(path, text, overrides)?;
    recipe.train.resolve(recipe.data.sequence_length)?;
    recipe.check()?;
    Ok(recipe)
}

impl Recipe {
    /// Refuses what cannot be, before any work is done.
    fn check(&self) -> Result<()> {
        if self.data.epochs.is_none() {
            self.train.check()?;
        }
        let length = self.data.sequence_length;
        ensure!((2..=1 << 24).contains(&length), "data.sequence-length = {length}: expected 2 to 2^24");
        if let Some(epochs) = self.data.epochs {
            ensure!(epochs > 0.0 && epochs <= 1e6, "data.epochs = {epochs}: expected at most 1e6, above 0");
        }
        let share = self.data.validation;
        ensure!((0.0..1.0).contains(&share), "data.validation = {share}: expected a share from 0 to below 1");
        ensure!(!self.data.sets.is_empty(), "[[data.sets]]: expected at least one set");
        for (i, set) in self.data.sets.iter().enumerate() {
            let (name, weight) = (&set.name, set.weight);
            ensure!(
                set.path.is_some() != set.generated.is_some(),
                "data.sets.{name}: expected one of `path` and `generated`"
            );
            ensure!(
                weight > 0.0 && weight <= 1000.0,
                "data.sets.{name}.weight = {weight}: expected more than 0 and at most 1000"
            );
            ensure!(
                !self.data.sets[..i].iter().any(|other| other.name == *name),
                "data.sets.{name}: the name is used twice"
            );
        }
        let share = self.eval.share;
        ensure!(share > 0.0 && share <= 1.0, "eval.share = {share}: expected a share above 0, at most 1");
        self.check_monitor()?;
        if let Some(keep) = &self.keep {
            keep.check()?;
            let (kept, rows) = (self.kept_rows(), self.train.rows_per_step);
            ensure!(
                (1..rows).contains(&kept),
                "keep.share = {}: {kept} of the {rows} rows of a step, expected at least one and not all of them",
                keep.share
            );
            let taken = self.eval.texts.iter().any(|t| t.name == keep.name);
            ensure!(!taken, "eval.texts.{}: the name of the text to keep, which is scored anyway", keep.name);
        }
        if let Some(lora) = &self.lora {
            ensure!((1..=4096).contains(&lora.rank), "lora.rank = {}: expected 1 to 4096", lora.rank);
            for target in &lora.targets {
                ensure!(
                    LORA_TARGETS.contains(&target.as_str()),
                    "lora.targets: no module is called `{target}`: expected some of {}",
                    LORA_TARGETS.join(", ")
                );
            }
            ensure!(!lora.targets.is_empty(), "lora.targets is empty: no module would be trained");
            ensure!(
                lora.alpha.is_finite() && lora.alpha > 0.0,
                "lora.alpha = {}: expected a positive number",
                lora.alpha
            );
        }
        for (key, n) in [("max-new-tokens", self.eval.max_new_tokens), ("rows", self.eval.rows)] {
            ensure!((1..=1 << 20).contains(&n), "eval.{key} = {n}: expected 1 to 2^20");
        }
        for (key, n) in [("batch-rows", self.eval.batch_rows), ("validation-rows", self.eval.validation_rows)]
        {
            ensure!((1..=1 << 16).contains(&n), "eval.{key} = {n}: expected 1 to 2^16");
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

    /// What decides the result of a run besides its data and its model: every key with its value.
    pub(crate) fn identity(&self) -> Result<BTreeMap<String, String>> {
        let mut all = self.train.identity();
        all.insert("seed".to_owned(), self.seed.to_string());
        all.insert("lora".to_owned(), serde_json::to_string(&self.lora)?);
        let keep = self.keep_weights();
        all.insert("keep.replay".to_owned(), keep.replay.to_string());
        all.insert("keep.kl".to_owned(), keep.kl.to_string());
        if self.train.judges() {
            all.insert("eval.rows".to_owned(), self.eval.rows.to_string());
        }
        Ok(all.into_iter().map(|(key, value)| (format!("recipe {key}"), value)).collect())
    }

    /// What validations are judged by must be scored.
    fn check_monitor(&self) -> Result<()> {
        let conversations = (self.data.validation > 0.0).then_some(CONVERSATIONS);
        let texts = self.eval.texts.iter().map(|text| text.name.as_str());
        let keep = self.keep.iter().map(|keep| keep.name.as_str());
        let scored: Vec<&str> = conversations.into_iter().chain(keep).chain(texts).collect();
        let monitor = self.train.monitor.as_deref().unwrap_or(CONVERSATIONS);
        if self.train.keeps_best() || self.train.monitor.is_some() {
            ensure!(
                scored.contains(&monitor),
                "train.monitor = \"{monitor}\": it is not scored, so no validation is the best; expected {}",
                match scored.is_empty() {
                    true => "data.validation above 0, or a text in [[eval.texts]]".to_owned(),
                    false => format!("one of {}", scored.join(", ")),
                }
            );
        }
        Ok(())
    }

    /// Rows of a step that are text to keep.
    pub(crate) fn kept_rows(&self) -> usize {
        let share = self.keep.as_ref().map_or(0.0, |keep| keep.share);
        (share * self.train.rows_per_step as f64).round() as usize
    }

    /// Weights of replay and KL.
    pub(crate) fn keep_weights(&self) -> Keep {
        self.keep.as_ref().map_or_else(Keep::default, KeepText::weights)
    }

    /// In words: what is trained.
    pub(crate) fn trains(&self) -> &'static str {
        match (&self.lora, self.train.parameters) {
            (Some(_), _) => "low-rank adapters",
            (None, Parameters::All) => "every weight",
            (None, Parameters::Added) => "the new blocks",
        }
    }
}
