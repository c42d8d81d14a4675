//! What a model must be able to do to be scored.
//!
//! The trait is small on purpose: every score of this crate is a sum of log-likelihoods of given tokens, and
//! a model that gives those sums can take part. Rows are independent of each other: a model must give a
//! row the same score whatever else is in its batch.

/// An error of a model, of whatever kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The target of a position that is not scored.
pub const IGNORED: i64 = -100;

/// A model that says how likely tokens are.
pub trait LanguageModel {
    /// The log-likelihood of the targets of each row, in the order of the rows.
    ///
    /// The likelihood of `targets[i]` is conditioned on `inputs[j]` for `j <= i` of the same segment.
    /// Logarithms are natural; log-softmax in 32 bits or more, sums in 64.
    ///
    /// # Errors
    /// Whatever stops the model: a token outside its vocabulary, a row longer than it can read, a device
    /// or connection that fails. No row is scored then.
    fn score(&mut self, rows: &[TokenRow]) -> Result<Vec<RowScore>, BoxError>;

    /// The most inputs that a row may have; `None` when there is no bound.
    fn max_row(&self) -> Option<usize> {
        None
    }
}

/// A row of tokens with a target for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRow {
    /// Token ids, `[L]`.
    pub inputs: Vec<i64>,
    /// The token that follows each input, or [`IGNORED`], `[L]`.
    pub targets: Vec<i64>,
    /// Number of the document that each input belongs to, `[L]`. A position sees only its own document.
    pub segments: Vec<i32>,
    /// Position of each input in its document, `[L]`.
    pub positions: Vec<i64>,
}

/// The score of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowScore {
    /// Sum of the natural logarithms of the likelihoods of the targets; 0 or less.
    pub log_likelihood: f64,
    /// How many targets were scored.
    pub targets: usize,
}

impl TokenRow {
    /// A row that is one document: `tokens[..n-1]` as inputs, `tokens[1..]` as targets.
    pub fn document(tokens: &[i64]) -> Self {
        let length = tokens.len().saturating_sub(1);
        Self {
            inputs: tokens[..length].to_vec(),
            targets: tokens.iter().skip(1).copied().collect(),
            segments: vec![0; length],
            positions: (0_i64..).take(length).collect(),
        }
    }

    /// A context and the continuation to score, as multiple-choice tasks have it: the targets inside the
    /// context are ignored. An empty context leaves the first token of the continuation unscored.
    pub fn continuation(context: &[i64], continuation: &[i64]) -> Self {
        let mut row = Self::document(&[context, continuation].concat());
        let ignored = context.len().saturating_sub(1).min(row.targets.len());
        row.targets[..ignored].fill(IGNORED);
        row
    }

    /// How many targets are to be scored.
    pub fn scored(&self) -> usize {
        self.targets.iter().filter(|t| **t != IGNORED).count()
    }
}
