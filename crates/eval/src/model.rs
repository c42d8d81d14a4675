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

    /// The most requests that gain by being in one call of [`choices`](Self::choices) or [`generate`](Self::generate);
    /// `None` when more are always better. Answers are kept call by call, so a model that may fail any time names few.
    fn at_once(&self) -> Option<usize> {
        None
    }

    /// Scores the continuations of each request, in the order given.
    ///
    /// A model sees all requests of a call at once, so it may compute a context once for all its continuations, and
    /// what several contexts begin with once for all of them. Scores must not depend on what else is in the call.
    ///
    /// # Errors
    /// As [`score`](Self::score); a context or a continuation without tokens; a model that cannot do it.
    fn choices(&mut self, requests: &[ChoiceRequest]) -> Result<Vec<Vec<ChoiceScore>>, BoxError> {
        let _ = requests;
        Err("this model does not score continuations".into())
    }

    /// Continues each prompt greedily. `done(i, tokens)` is asked after every new token of request `i`, with all its new
    /// tokens; a request ends when it says `true`, when `max_new_tokens` are there, or where the model can read no
    /// more. The answer has all new tokens, the last one included.
    ///
    /// # Errors
    /// As [`score`](Self::score); a prompt without tokens; a model that cannot do it.
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        done: &mut dyn FnMut(usize, &[i64]) -> bool,
    ) -> Result<Vec<Vec<i64>>, BoxError> {
        let _ = (requests, done);
        Err("this model does not generate".into())
    }
}

/// A context and the continuations to score after it. Both hold at least one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChoiceRequest {
    /// Token ids of what is given.
    pub context: Vec<i64>,
    /// Token ids of each continuation.
    pub continuations: Vec<Vec<i64>>,
}

/// The score of one continuation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChoiceScore {
    /// Sum of the natural logarithms of the likelihoods of its tokens; 0 or less.
    pub log_likelihood: f64,
    /// Whether every token of it is the likeliest one at its place.
    pub is_greedy: bool,
}

/// A prompt to continue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateRequest {
    /// Token ids, at least one.
    pub prompt: Vec<i64>,
    /// The most tokens to add.
    pub max_new_tokens: usize,
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
