//! How a token is drawn from logits: the processors of transformers, in the order in which it applies them (repetition
//! penalty, temperature, top-k, top-p, min-p), then one draw whose randomness is a function of seed, stream and place.
//!
//! References: repetition penalty arXiv 1909.05858, top-k arXiv 1805.04833, top-p arXiv 1904.09751, min-p arXiv
//! 2407.01082.

use crate::{Error, Result};

/// Settings of sampling, with the names and meanings of transformers' `GenerationConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token and looks at nothing below but the penalty.
    pub temperature: f64,
    /// Only so many of the likeliest tokens stay (and those as likely as the last of them); `None`: all.
    pub top_k: Option<usize>,
    /// The likeliest tokens stay until their likelihoods add up to this; 1: all.
    pub top_p: f64,
    /// Tokens stay that are at least this fraction as likely as the likeliest; 0: all.
    pub min_p: f64,
    /// Logits of tokens that were there before, in the prompt too, are divided by it when positive and multiplied when
    /// negative; 1: nothing.
    pub repetition_penalty: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: None, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 };

    /// Whether the likeliest token of the bare logits is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }

    /// Refuses settings that no distribution can have.
    ///
    /// # Errors
    /// Names the setting, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, value: f64, expected: &str| {
            Err(Error::Input(format!("{what} is {value}: expected {expected}")))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", self.temperature, "a number of at least 0 (0 takes the likeliest)");
        }
        if self.top_k == Some(0) {
            return refuse("top-k", 0.0, "a number of at least 1");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top-p", self.top_p, "a number above 0 and up to 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min-p", self.min_p, "a number from 0 to 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return refuse(
                "repetition penalty",
                self.repetition_penalty,
                "a number above 0 (1 does nothing)",
            );
        }
        Ok(())
    }

    /// Picks the token that follows `seen` (prompt and new tokens). `stream` tells apart the texts that are made with
    /// one seed, `place` the tokens of a text.
    pub fn pick(&self, seen: &[i64], logits: &mut [f32], stream: u64, place: u64) -> i64 {
        self.penalize(seen, logits);
        if self.temperature == 0.0 {
            return largest(logits);
        }
        let candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|c| c.1).sum();
        let mut rest = uniform(self.seed, stream, place) * total;
        for &(token, weight) in &candidates {
            rest -= weight;
            if rest < 0.0 {
                return i64::from(token);
            }
        }
        // Rounding may leave a last crumb; a logit that is no number leaves no candidate, and then the first token.
        candidates.last().map_or(0, |c| i64::from(c.0))
    }

    /// What the processors leave: logits after penalty and temperature, minus infinity where a token was removed.
    pub fn process(&self, seen: &[i64], logits: &mut [f32]) {
        self.penalize(seen, logits);
        if self.temperature == 0.0 {
            return;
        }
        let kept = self.candidates(logits);
        let divisor = self.temperature as f32;
        let values: Vec<f32> = kept.iter().map(|&(token, _)| logits[token as usize] / divisor).collect();
        logits.fill(f32::NEG_INFINITY);
        for (&(token, _), value) in kept.iter().zip(values) {
            logits[token as usize] = value;
        }
    }

    fn penalize(&self, seen: &[i64], logits: &mut [f32]) {
        let penalty = self.repetition_penalty as f32;
        if penalty == 1.0 {
            return;
        }
        let mut tokens = seen.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(logit) = usize::try_from(token).ok().and_then(|t| logits.get_mut(t)) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    /// The tokens that stay, each with its likelihood relative to the likeliest (1 for that one), likeliest first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let divisor = self.temperature as f32;
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) / divisor;
        let weight = |logit: f32| f64::from(logit / divisor - best).exp();
        let mut list: Vec<(u32, f64)> = (0u32..)
            .zip(logits)
            .map(|(token, &logit)| (token, weight(logit)))
            .filter(|c| c.1 > 0.0)
            .collect();
        let down = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if let Some(k) = self.top_k.filter(|&k| k < list.len()) {
            let threshold = list.select_nth_unstable_by(k - 1, down).1.1;
            list.retain(|c| c.1 >= threshold);
        }
        if self.top_p < 1.0 {
            let total: f64 = list.iter().map(|c| c.1).sum();
            // All tokens no likelier than this add up to less than what top-p leaves out: no need to sort them.
            let least = (1.0 - self.top_p) * total / list.len() as f64;
            list.retain(|c| c.1 >= least);
            list.sort_unstable_by(down);
            let mut before = 0.0;
            let kept = list.iter().take_while(|c| {
                let stays = before < self.top_p * total;
                before += c.1;
                stays
            });
            let kept = kept.count().max(1);
            list.truncate(kept);
        }
        list.retain(|c| c.1 >= self.min_p);
        list.sort_unstable_by(down);
        list
    }
}

/// The place of the largest number, of equals the first.
fn largest(logits: &[f32]) -> i64 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0i64..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

/// A number from 0 up to 1, always the same for the same three: the finalizer of splitmix64 over each in turn.
fn uniform(seed: u64, stream: u64, place: u64) -> f64 {
    let mut state = 0u64;
    for word in [seed, stream, place] {
        state = (state ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    (state >> 11) as f64 / (1u64 << 53) as f64
}
