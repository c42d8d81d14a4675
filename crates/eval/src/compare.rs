//! Two tables side by side: what changed, and whether it is more than chance.
//!
//! The same rows scored by two models are compared row by row. The differences vary far less than the rows
//! do, because a hard row is hard for both; so the standard error is that of the differences.

use serde::{Deserialize, Serialize};

use crate::perplexity::ratio_stderr;
use crate::{Error, EvalSet, EvalTable, Result};

/// Headings for [`SetChange::cells`].
pub const HEADERS: [&str; 6] = ["text", "tokens", "before", "after", "change", "verdict"];

/// A change counts when it is beyond this many standard errors.
const BEYOND: f64 = 2.0;

/// What became of one text. `eval/changes.json` of a run folder is a list of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetChange {
    /// Name of the text.
    pub name: String,
    /// Tokens that were scored.
    pub tokens: u64,
    /// Perplexity before.
    pub before: f64,
    /// Perplexity after.
    pub after: f64,
    /// Nats per token after, less those before: below 0 is better.
    pub difference: f64,
    /// Standard error of the difference, by pairs of rows where both tables have the same rows, else from
    /// the two standard errors. `None` when neither can be had.
    pub stderr: Option<f64>,
    /// Whether rows were compared pairwise.
    pub paired: bool,
    /// What the difference means.
    pub verdict: Verdict,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Fewer nats per token, by more than two standard errors.
    Better,
    /// More nats per token, by more than two standard errors.
    Worse,
    /// No difference beyond two standard errors.
    Same,
    /// There is no standard error to judge by.
    Unknown,
}

/// Compares two tables text by text, in the order of `before`.
///
/// # Errors
/// [`Error::MissingSet`] when a text is in only one of them.
pub fn compare(before: &EvalTable, after: &EvalTable) -> Result<Vec<SetChange>> {
    let only = |set: &EvalSet, found| Error::MissingSet { set: set.name.clone(), found };
    if let Some(set) = after.sets.iter().find(|s| before.set(&s.name).is_none()) {
        return Err(only(set, "after"));
    }
    before
        .sets
        .iter()
        .map(|b| Ok(SetChange::of(b, after.set(&b.name).ok_or_else(|| only(b, "before"))?)))
        .collect()
}

impl SetChange {
    fn of(before: &EvalSet, after: &EvalSet) -> Self {
        let paired = !before.rows.is_empty()
            && before.rows.len() == after.rows.len()
            && before.rows.iter().zip(&after.rows).all(|(b, a)| b.targets == a.targets);
        let stderr = if paired {
            let pairs = before.rows.iter().zip(&after.rows);
            ratio_stderr(pairs.map(|(b, a)| (b.log_likelihood - a.log_likelihood, b.targets)))
        } else {
            before.stderr.zip(after.stderr).map(|(b, a)| b.hypot(a))
        };
        let difference = after.nats_per_token - before.nats_per_token;
        let verdict = match stderr {
            None => Verdict::Unknown,
            Some(e) if difference.abs() <= BEYOND * e => Verdict::Same,
            Some(_) if difference < 0.0 => Verdict::Better,
            // Also what is not a number, which must not pass as an improvement.
            Some(_) => Verdict::Worse,
        };
        Self {
            name: before.name.clone(),
            tokens: after.tokens,
            before: before.perplexity,
            after: after.perplexity,
            difference,
            stderr,
            paired,
            verdict,
        }
    }

    /// Change of the perplexity in per cent; below 0 is better.
    pub fn percent(&self) -> f64 {
        self.difference.exp_m1() * 100.0
    }

    /// The row of a printed table under [`HEADERS`].
    pub fn cells(&self) -> [String; 6] {
        let range = self.stderr.map_or_else(String::new, |e| format!(" ± {:.1}", 200.0 * e));
        [
            self.name.clone(),
            self.tokens.to_string(),
            format!("{:.3}", self.before),
            format!("{:.3}", self.after),
            format!("{:+.1} %{range}", self.percent()),
            self.verdict.to_string(),
        ]
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "no difference seen",
            Self::Unknown => "too few rows to say",
        })
    }
}
