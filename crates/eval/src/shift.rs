//! How far one model's distribution of the next token has moved from another's.
//!
//! Token shift (Lin et al., arXiv 2312.01552, as LLaMA Pro uses it): at each position, the rank that the base gives to the
//! token that the other model likes best. Rank 1 is unshifted, 2 and 3 are marginal, and beyond is shifted.

use serde::Serialize;

use crate::{Error, Result};

/// What was found over all positions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shift {
    /// Positions.
    pub positions: u64,
    /// Those whose token is the base's first.
    pub unshifted: u64,
    /// Those whose token is the base's second or third.
    pub marginal: u64,
    /// Those whose token is farther down.
    pub shifted: u64,
    /// Sum over positions of the divergence of the base from the tuned model, `KL(tuned || base)`, in nats.
    pub divergence: f64,
}

impl Shift {
    /// Adds one position, from the logits that both models give for it, `[vocabulary]` each.
    ///
    /// # Errors
    /// [`Error::Input`]: vocabularies of different sizes, an empty one, a logit that is no number.
    pub fn add(&mut self, base: &[f32], tuned: &[f32]) -> Result<()> {
        if base.len() != tuned.len() || base.is_empty() {
            let what = format!("two models have vocabularies of {} and {} tokens", base.len(), tuned.len());
            return Err(Error::Input(what));
        }
        if let Some(logit) = base.iter().chain(tuned).find(|logit| logit.is_nan()) {
            return Err(Error::Input(format!("a logit is {logit}")));
        }
        self.add_rank(rank(base, greedy(tuned)));
        self.divergence += divergence(tuned, base);
        Ok(())
    }

    /// Adds one position of which only the rank is known, from 1: the divergence stays what it was.
    pub fn add_rank(&mut self, rank: usize) {
        self.positions += 1;
        match rank {
            0 | 1 => self.unshifted += 1,
            2 | 3 => self.marginal += 1,
            _ => self.shifted += 1,
        }
    }

    /// Adds one position from the base's most likely tokens, best first: a token that is not among them has a rank beyond
    /// their number, so there must be three at least.
    ///
    /// # Errors
    /// [`Error::Input`]: fewer than three tokens, none of which is the one.
    pub fn add_top(&mut self, top: &[i64], token: i64) -> Result<()> {
        let found = top.iter().position(|other| *other == token);
        if found.is_none() && top.len() < 3 {
            return Err(Error::Input(format!(
                "{} most likely tokens do not tell the rank; expected 3",
                top.len()
            )));
        }
        self.add_rank(found.map_or(top.len() + 1, |place| place + 1));
        Ok(())
    }

    /// Takes in what was found of other positions.
    pub fn merge(&mut self, other: &Self) {
        self.positions += other.positions;
        self.unshifted += other.unshifted;
        self.marginal += other.marginal;
        self.shifted += other.shifted;
        self.divergence += other.divergence;
    }

    /// Shares of unshifted, marginal and shifted positions; `None` where there are none.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let all = self.positions as f64;
        (self.positions > 0).then(|| [self.unshifted, self.marginal, self.shifted].map(|n| n as f64 / all))
    }

    /// Mean divergence per position in nats.
    pub fn mean_divergence(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.divergence / self.positions as f64)
    }
}

/// The likeliest token; the first of equals.
fn greedy(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// 1 plus the number of tokens that come before this one: those with more, and equals with a lower number.
fn rank(logits: &[f32], token: usize) -> usize {
    let own = logits[token];
    let before = logits.iter().enumerate().filter(|(i, logit)| **logit > own || **logit == own && *i < token);
    1 + before.count()
}

/// `KL(p || q)` of two softmax distributions, in 64 bits.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |logits: &[f32]| {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| (f64::from(*x) - f64::from(top)).exp()).sum();
        f64::from(top) + sum.ln()
    };
    let (p_sum, q_sum) = (log_sum(p), log_sum(q));
    let term = |(x, y): (&f32, &f32)| {
        let (log_p, log_q) = (f64::from(*x) - p_sum, f64::from(*y) - q_sum);
        // A token of no likelihood adds nothing, whatever the other model thinks of it.
        if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) }
    };
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}
