//! Inference with keys and values kept: what generation and multiple-choice scoring share.
//!
//! A forward pass takes any number of [`Segment`]s, each a run of new tokens of one sequence, laid end to end with no
//! padding. Where the keys and values of a sequence lie is a list of [`Span`]s of slots in the cache, so two sequences
//! that begin alike point at the same slots and nothing is ever copied (the idea of paged attention, arXiv 2309.06180,
//! and of prefix trees over requests, arXiv 2312.07104).

mod choices;
mod engine;
mod generate;
mod plan;
mod sample;
mod session;
mod tensors;
#[cfg(test)]
mod tests;

pub(crate) use choices::choices;
pub(crate) use engine::Engine;
pub use generate::generate;
pub use sample::Sampling;
pub use session::Session;

/// Slots are handed out in pages of this many: a span begins at a multiple of it.
pub(crate) const PAGE: usize = 16;

/// Consecutive tokens of a sequence in consecutive slots of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First slot, a multiple of [`PAGE`].
    pub(crate) slot: usize,
    /// Tokens in it.
    pub(crate) len: usize,
}

/// New tokens of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Their ids; at least one.
    pub(crate) tokens: Vec<i64>,
    /// The whole sequence up to and including these tokens, from position 0. The last span holds all new tokens.
    pub(crate) spans: Vec<Span>,
    /// Which of the new tokens' outputs are asked for, ascending.
    pub(crate) wanted: Vec<usize>,
}

impl Segment {
    /// Length of the sequence, these tokens included.
    pub(crate) fn end(&self) -> usize {
        self.spans.iter().map(|s| s.len).sum()
    }

    /// Position of the first new token.
    pub(crate) fn start(&self) -> usize {
        self.end() - self.tokens.len()
    }

    /// The slots of the new tokens.
    pub(crate) fn new_slots(&self) -> std::ops::Range<usize> {
        let last = self.spans[self.spans.len() - 1];
        last.slot + last.len - self.tokens.len()..last.slot + last.len
    }
}

/// The next multiple of [`PAGE`].
pub(crate) fn page_up(slots: usize) -> usize {
    slots.div_ceil(PAGE) * PAGE
}
