//! From sequences to forward passes in which what several sequences begin with is computed once.
//!
//! The sequences are sorted, which makes them a prefix tree; the tree is walked depth first, and its nodes are laid end
//! to end into passes of a fixed number of tokens. A node's slots are given up when everything below it is done, so the
//! cache holds one path and one pass, whatever the number of sequences.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{PAGE, Segment, Span, page_up};

/// A beginning shorter than this is computed again rather than shared: a segment has its own cost.
const WORTH_SHARING: usize = 8;

/// Tokens of one pass: beyond some hundred rows matrix products get no faster.
const PASS: usize = 512;

/// A sequence and the positions whose outputs are asked for.
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<i64>,
    pub(crate) wanted: Range<usize>,
}

/// Row `row` of a pass's output is position `position` of sequence `sequence`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) row: usize,
    pub(crate) sequence: usize,
    pub(crate) position: usize,
}

/// One forward pass.
#[derive(Default)]
pub(crate) struct Pass {
    pub(crate) segments: Vec<Segment>,
    pub(crate) asked: Vec<Asked>,
}

/// All passes, and how many slots they need.
pub(crate) struct Plan {
    pub(crate) passes: Vec<Pass>,
    pub(crate) slots: usize,
    /// Where each sequence lies at the end; only meaningful in a plan that keeps everything.
    pub(crate) ends: Vec<Vec<Span>>,
}

/// What a plan may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Share, and reuse the slots of what is done.
    Share,
    /// Share, and keep every slot: the sequences go on afterwards.
    Keep,
    /// One segment per sequence, nothing shared: rotary angles that depend on the whole length.
    Alone,
}

/// Plans the passes over `sequences`. Empty sequences are passed over.
pub(crate) fn plan(sequences: &[Sequence], mode: Mode) -> Plan {
    let mut order: Vec<usize> = (0..sequences.len()).filter(|&i| !sequences[i].tokens.is_empty()).collect();
    order.sort_by(|&a, &b| sequences[a].tokens.cmp(&sequences[b].tokens));
    let mut planner = Planner {
        sequences,
        order,
        mode,
        plan: Plan { passes: Vec::new(), slots: 0, ends: vec![Vec::new(); sequences.len()] },
        pass: Pass::default(),
        tokens: 0,
        rows: 0,
        path: Vec::new(),
        next: 0,
    };
    let n = planner.order.len();
    if mode == Mode::Alone {
        for i in 0..n {
            let length = planner.sequence(i).tokens.len();
            planner.place(i..i + 1, 0, length);
            planner.finish(i);
            planner.path.clear();
        }
    } else if n > 0 {
        planner.visit(0..n, 0);
    }
    planner.flush();
    planner.plan
}

struct Planner<'a> {
    sequences: &'a [Sequence],
    /// Sorted by tokens.
    order: Vec<usize>,
    mode: Mode,
    plan: Plan,
    /// The pass that is being filled, its tokens and its wanted rows.
    pass: Pass,
    tokens: usize,
    rows: usize,
    /// The spans from the root to where the walk is.
    path: Vec<Span>,
    /// The next free slot.
    next: usize,
}

impl Planner<'_> {
    fn sequence(&self, place: usize) -> &Sequence {
        &self.sequences[self.order[place]]
    }

    /// Everything below a node: the sequences of `range` begin alike for `depth` tokens, which lie on the path.
    fn visit(&mut self, range: Range<usize>, depth: usize) {
        let (first, last) = (&self.sequence(range.start).tokens, &self.sequence(range.end - 1).tokens);
        let common = depth + first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
        let same = common == last.len(); // sorted: then all of them are one sequence
        let above = self.path.len();
        let mut from = depth;
        if same || common - depth >= WORTH_SHARING {
            self.place(range.clone(), depth, common);
            from = common;
        }
        let mut start = range.start;
        while start < range.end {
            // Those that end here come first, then those of each next token.
            let next = self.sequence(start).tokens.get(common).copied();
            let end = (start..range.end)
                .find(|&i| self.sequence(i).tokens.get(common).copied() != next)
                .unwrap_or(range.end);
            match next {
                Some(_) => self.visit(start..end, from),
                None => {
                    let here = self.path.len();
                    if from < common {
                        self.place(start..end, from, common);
                    }
                    (start..end).for_each(|i| self.finish(i));
                    self.path.truncate(here);
                }
            }
            start = end;
        }
        self.path.truncate(above);
    }

    fn finish(&mut self, place: usize) {
        if self.mode == Mode::Keep {
            self.plan.ends[self.order[place]] = self.path.clone();
        }
    }

    /// Puts tokens `from..to`, common to the sequences of `range`, into passes and onto the path.
    fn place(&mut self, range: Range<usize>, from: usize, to: usize) {
        let mut from = from;
        while from < to {
            if self.tokens >= PASS || (self.tokens > 0 && self.tokens + (to - from).min(4 * PAGE) > PASS) {
                self.flush();
            }
            let room = if self.mode == Mode::Alone { usize::MAX } else { PASS - self.tokens.min(PASS) };
            let end = to.min(from.saturating_add(room));
            self.path.push(Span { slot: self.next, len: end - from });
            self.next = page_up(self.next + end - from);
            self.plan.slots = self.plan.slots.max(self.next);
            let tokens = self.sequence(range.start).tokens[from..end].to_vec();
            self.tokens += tokens.len();
            let positions = |i: usize| {
                let wanted = &self.sequence(i).wanted;
                wanted.start.max(from)..wanted.end.min(end)
            };
            let wanted: BTreeSet<usize> = range.clone().flat_map(positions).collect();
            let wanted: Vec<usize> = wanted.into_iter().collect();
            let asked = range.clone().flat_map(|i| positions(i).map(move |position| (i, position)));
            let asked: Vec<Asked> = asked
                .filter_map(|(i, position)| {
                    let row = self.rows + wanted.binary_search(&position).ok()?;
                    Some(Asked { row, sequence: self.order[i], position })
                })
                .collect();
            self.pass.asked.extend(asked);
            self.rows += wanted.len();
            let wanted = wanted.into_iter().map(|position| position - from).collect();
            self.pass.segments.push(Segment { tokens, spans: self.path.clone(), wanted });
            from = end;
        }
    }

    /// Ends a pass. What lies beyond the path is done then, and its slots are free again.
    fn flush(&mut self) {
        if self.mode != Mode::Keep {
            self.next = self.path.last().map_or(0, |span| page_up(span.slot + span.len));
        }
        if !self.pass.segments.is_empty() {
            self.plan.passes.push(std::mem::take(&mut self.pass));
        }
        (self.tokens, self.rows) = (0, 0);
    }
}
