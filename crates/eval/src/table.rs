//! The table of perplexities that a run writes before and after training.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Perplexity, Result, RowScore};

/// `eval/before.json` and `eval/after.json` of a run folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalTable {
    /// What was scored: a folder, or a name.
    pub model: String,
    /// One entry per text, in the order of the recipe.
    pub sets: Vec<EvalSet>,
}

/// The perplexity of one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalSet {
    /// Name of the text: "prose", "code".
    pub name: String,
    /// Mean negative log-likelihood of a token, in nats.
    pub nats_per_token: f64,
    /// `exp(nats_per_token)`.
    pub perplexity: f64,
    /// Tokens that were scored.
    pub tokens: u64,
    /// Standard error of `nats_per_token` over rows.
    #[serde(default)]
    pub stderr: Option<f64>,
    /// Nats and tokens of each row, written as pairs, for comparing row by row.
    #[serde(default, serialize_with = "write_rows", deserialize_with = "read_rows")]
    pub rows: Vec<RowScore>,
}

impl EvalTable {
    /// An empty table.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), sets: Vec::new() }
    }

    /// Adds a text.
    pub fn push(&mut self, name: impl Into<String>, score: Perplexity) -> &mut Self {
        let Perplexity { nats_per_token, perplexity, tokens, stderr, rows } = score;
        self.sets.push(EvalSet { name: name.into(), nats_per_token, perplexity, tokens, stderr, rows });
        self
    }

    /// The entry of a text.
    pub fn set(&self, name: &str) -> Option<&EvalSet> {
        self.sets.iter().find(|s| s.name == name)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::File { path: path.to_path_buf(), message };
        let text = std::fs::read_to_string(path).map_err(|e| fail(format!("cannot read: {e}")))?;
        serde_json::from_str(&text).map_err(|e| fail(format!("not a table of scores: {e}")))
    }
}

fn write_rows<S: Serializer>(rows: &[RowScore], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|r| (-r.log_likelihood, r.targets)))
}

fn read_rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RowScore>, D::Error> {
    let pairs = Vec::<(f64, usize)>::deserialize(deserializer)?;
    Ok(pairs.into_iter().map(|(nats, targets)| RowScore { log_likelihood: -nats, targets }).collect())
}
