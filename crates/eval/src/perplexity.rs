//! Perplexity over rows of tokens, with its standard error.
//!
//! Nats per token is the ratio S / N of summed nats to summed tokens. Tokens of one row are not
//! independent, rows nearly are, so the standard error is that of a ratio estimator over rows (Cochran,
//! Sampling Techniques, chapter 6): with r = S / N, s_i nats and n_i tokens in each of m rows,
//! variance = m / (m - 1) * sum (s_i - r n_i)^2 / N^2.

use crate::{Error, IGNORED, LanguageModel, Result, RowScore, TokenRow};

/// How well a model predicts a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Perplexity {
    /// Mean negative log-likelihood of a token, in nats.
    pub nats_per_token: f64,
    /// `exp(nats_per_token)`.
    pub perplexity: f64,
    /// Tokens that were scored.
    pub tokens: u64,
    /// Standard error of `nats_per_token` over rows; `None` with fewer than two rows.
    pub stderr: Option<f64>,
    /// The score of each row, for comparing two models row by row.
    pub rows: Vec<RowScore>,
}

/// Scores `rows` in batches of `rows_per_batch`. Rows are read as they are needed, one batch at a time, and
/// the result does not depend on the size of the batches.
///
/// # Errors
/// [`Error::Model`] from the model; [`Error::Answer`] when it answers with other rows than it was asked
/// about or with something that is no number; [`Error::Row`] for a row whose parts differ in length or that
/// is longer than the model reads; [`Error::Input`] when there is nothing to score.
pub fn perplexity(
    model: &mut dyn LanguageModel,
    rows: impl IntoIterator<Item = TokenRow>,
    rows_per_batch: usize,
) -> Result<Perplexity> {
    if rows_per_batch == 0 {
        return Err(Error::Input("expected at least one row per batch, found 0".to_owned()));
    }
    let mut scores: Vec<RowScore> = Vec::new();
    let mut batch = Vec::with_capacity(rows_per_batch);
    for (i, row) in rows.into_iter().enumerate() {
        check_row(i, &row, model.max_row())?;
        batch.push(row);
        if batch.len() == rows_per_batch {
            score_batch(model, &mut batch, &mut scores)?;
        }
    }
    score_batch(model, &mut batch, &mut scores)?;
    Perplexity::from_rows(scores)
}

impl Perplexity {
    /// The figures that follow from the scores of rows.
    ///
    /// # Errors
    /// [`Error::Input`] when no token was scored.
    pub fn from_rows(rows: Vec<RowScore>) -> Result<Self> {
        let tokens: usize = rows.iter().map(|r| r.targets).sum();
        if tokens == 0 {
            return Err(Error::Input(format!(
                "there is nothing to score: {} rows with no targets",
                rows.len()
            )));
        }
        let nats = rows.iter().map(|r| -r.log_likelihood).sum::<f64>();
        let nats_per_token = nats / tokens as f64;
        let stderr = ratio_stderr(rows.iter().map(|r| (-r.log_likelihood, r.targets)));
        Ok(Self { nats_per_token, perplexity: nats_per_token.exp(), tokens: tokens as u64, stderr, rows })
    }
}

/// Standard error of (sum of values) / (sum of counts) over independent pairs of the two. Pairs without a
/// count say nothing and are left out. `None` with fewer than two pairs.
pub(crate) fn ratio_stderr(pairs: impl Iterator<Item = (f64, usize)>) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = pairs.filter(|(_, n)| *n > 0).map(|(s, n)| (s, n as f64)).collect();
    if pairs.len() < 2 {
        return None;
    }
    let m = pairs.len() as f64;
    let (sum, count) = pairs.iter().fold((0.0, 0.0), |(a, b), (s, n)| (a + s, b + n));
    let ratio = sum / count;
    let squares: f64 = pairs.iter().map(|(s, n)| (s - ratio * n).powi(2)).sum();
    Some((m / (m - 1.0) * squares).sqrt() / count)
}

fn score_batch(
    model: &mut dyn LanguageModel,
    batch: &mut Vec<TokenRow>,
    scores: &mut Vec<RowScore>,
) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let first = scores.len();
    let answers =
        model.score(batch).map_err(|source| Error::Model { first, last: first + batch.len() - 1, source })?;
    if answers.len() != batch.len() {
        let (expected, found) = (format!("{} rows", batch.len()), format!("{}", answers.len()));
        return Err(Error::Answer { row: first, expected, found });
    }
    for (i, (row, answer)) in batch.iter().zip(&answers).enumerate() {
        let wrong = |expected: String, found: String| Error::Answer { row: first + i, expected, found };
        if answer.targets != row.scored() {
            return Err(wrong(format!("{} scored targets", row.scored()), answer.targets.to_string()));
        }
        // A sum of logarithms of likelihoods; a hair above zero is rounding.
        if !answer.log_likelihood.is_finite() || answer.log_likelihood > 1e-3 {
            let expected = "a finite log-likelihood of 0 or less".to_owned();
            return Err(wrong(expected, answer.log_likelihood.to_string()));
        }
    }
    scores.extend(answers);
    batch.clear();
    Ok(())
}

fn check_row(i: usize, row: &TokenRow, max: Option<usize>) -> Result<()> {
    let fail = |message: String| Err(Error::Row { row: i, message });
    let length = row.inputs.len();
    let others = [row.targets.len(), row.segments.len(), row.positions.len()];
    if others != [length; 3] {
        return fail(format!(
            "{length} inputs, but {} targets, {} segments and {} positions",
            others[0], others[1], others[2]
        ));
    }
    if max.is_some_and(|m| length > m) {
        return fail(format!("{length} tokens, but the model reads at most {}", max.unwrap_or(0)));
    }
    match row.targets.iter().find(|t| **t < 0 && **t != IGNORED) {
        Some(bad) => fail(format!("expected targets of 0 or more, or {IGNORED}, found {bad}")),
        None => Ok(()),
    }
}
