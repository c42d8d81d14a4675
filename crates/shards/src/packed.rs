//! Rows of one length made from a shard's documents, in one of two ways.
//!
//! Concatenate and split, which is Megatron-LM's: row i has the tokens i*L to i*L + L of the concatenation, so
//! consecutive rows share one token and every token but the first is a target exactly once. What remains at the end and
//! is shorter than a row is dropped. Best fit: see `best_fit`; every token but the first of each document is a target
//! exactly once, and rows end in padding.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::best_fit::Plan;
use crate::error::{Error, Result};
use crate::reader::TokenShard;

/// The target that a loss must leave out, as in PyTorch.
pub const IGNORED: i64 = -100;

/// The input where there is none. Every vocabulary has it, and no loss is taken on it.
const PADDING: i64 = 0;

/// A shard as rows of L inputs and L targets, any of them in O(log documents).
#[derive(Clone, Debug)]
pub struct PackedRows {
    shard: Arc<TokenShard>,
    row_length: usize,
    mask_documents: bool,
    /// Best fit, if that is the way.
    plan: Option<Arc<Plan>>,
}

/// How documents become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// One after the other, cut wherever a row ends.
    #[default]
    Split,
    /// Whole where they fit in a row, padding at the end of rows; documents are always kept apart.
    BestFit,
}

impl PackedRows {
    /// Rows of `row_length` inputs, with document boundaries marked.
    pub fn new(shard: impl Into<Arc<TokenShard>>, row_length: usize) -> Result<Self> {
        if !(1..=i32::MAX as usize).contains(&row_length) {
            return Err(Error::RowLength { found: row_length });
        }
        Ok(Self { shard: shard.into(), row_length, mask_documents: true, plan: None })
    }

    /// Rows of `row_length` inputs in which documents are whole where they fit. Takes time and memory in proportion to
    /// the number of pieces (documents, where none is longer than a row): 16 bytes each and 8 for each row, and 36 bytes
    /// each while it is planned.
    ///
    /// # Errors
    /// A row length that no row can have.
    pub fn best_fit(shard: impl Into<Arc<TokenShard>>, row_length: usize) -> Result<Self> {
        let rows = Self::new(shard, row_length)?;
        let plan = Some(Arc::new(Plan::new(&rows.shard, row_length)));
        Ok(Self { plan, ..rows })
    }

    /// Rows made in either way.
    ///
    /// # Errors
    /// A row length that no row can have.
    pub fn packed(shard: impl Into<Arc<TokenShard>>, row_length: usize, packing: Packing) -> Result<Self> {
        match packing {
            Packing::Split => Self::new(shard, row_length),
            Packing::BestFit => Self::best_fit(shard, row_length),
        }
    }

    /// The way in which they are made.
    pub fn packing(&self) -> Packing {
        if self.plan.is_some() { Packing::BestFit } else { Packing::Split }
    }

    /// Inputs of all rows together that are not padding.
    pub fn n_inputs(&self) -> u64 {
        match &self.plan {
            None => self.n_rows() as u64 * self.row_length as u64,
            Some(plan) => plan.n_inputs(),
        }
    }

    /// Whether documents are kept apart (they are unless this says `false`; with best fit always). Without: one segment, positions 0 to
    /// L - 1, and the last token of a document has the first of the next as its target.
    #[must_use]
    pub fn mask_documents(self, mask_documents: bool) -> Self {
        Self { mask_documents: mask_documents || self.plan.is_some(), ..self }
    }

    /// Rows; those that are cut are whole: row i needs the tokens up to i*L + L.
    pub fn n_rows(&self) -> usize {
        match &self.plan {
            None => self.shard.n_tokens().saturating_sub(1) / self.row_length,
            Some(plan) => plan.n_rows(),
        }
    }

    /// L.
    pub fn row_length(&self) -> usize {
        self.row_length
    }

    /// Whether documents are kept apart.
    pub fn masks_documents(&self) -> bool {
        self.mask_documents
    }

    /// The shard below.
    pub fn shard(&self) -> &Arc<TokenShard> {
        &self.shard
    }

    /// One row. Panics unless `row < n_rows()`.
    pub fn row(&self, row: usize) -> Row {
        assert!(row < self.n_rows(), "row {row} of {}", self.n_rows());
        if let Some(plan) = &self.plan {
            return self.planned(plan, row);
        }
        let (length, start) = (self.row_length, row * self.row_length);
        let tokens: Vec<i64> = self.shard.tokens_iter(start..start + length + 1).map(i64::from).collect();
        let mut packed = Row {
            inputs: tokens[..length].to_vec(),
            targets: tokens[1..].to_vec(),
            segments: vec![0; length],
            positions: (0..length as i64).collect(),
        };
        if self.mask_documents {
            self.mark(start, &mut packed);
        }
        packed
    }

    /// The pieces of the plan one after the other, then padding: the id 0, which is no target and which no other
    /// token sees, since it is a segment of its own.
    fn planned(&self, plan: &Plan, row: usize) -> Row {
        let mut packed = Row { inputs: vec![], targets: vec![], segments: vec![], positions: vec![] };
        let mut segment = 0;
        for piece in plan.row(row) {
            let (start, length) = (piece.start as usize, piece.length as usize);
            let mut tokens = self.shard.tokens_iter(start..start + length + 1).map(i64::from);
            let mut before = tokens.next();
            for (position, token) in (0..).zip(tokens) {
                packed.inputs.extend(before.replace(token));
                packed.targets.push(token);
                packed.positions.push(position);
            }
            packed.segments.resize(packed.inputs.len(), segment);
            segment += 1;
        }
        let padding = self.row_length - packed.inputs.len();
        packed.positions.extend(0..padding as i64);
        packed.inputs.resize(self.row_length, PADDING);
        packed.targets.resize(self.row_length, IGNORED);
        packed.segments.resize(self.row_length, segment);
        packed
    }

    /// Sets segments, positions and ignored targets of the row whose first token is number `start`.
    fn mark(&self, start: usize, row: &mut Row) {
        let end = start + self.row_length;
        let mut document = self.shard.document_of(start);
        let (mut segment, mut from) = (0, start);
        while from < end {
            document += 1;
            let next = self.shard.document_start(document);
            if next <= from {
                // An empty document: no token of the row is its own.
                continue;
            }
            let within = from - start..next.min(end) - start;
            row.segments[within.clone()].fill(segment);
            for (position, at) in (0..).zip(within) {
                row.positions[at] = position;
            }
            // The token before a boundary has the other document's first token as its target. So has the last of
            // the row where the next row begins a document; after the last document there is no such token.
            if next <= end {
                row.targets[next - 1 - start] = IGNORED;
            }
            segment += 1;
            from = next;
        }
    }
}

/// Inputs of a model and what it should answer; all four of length L.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token ids.
    pub inputs: Vec<i64>,
    /// The token after each input; [`IGNORED`] where that begins another document.
    pub targets: Vec<i64>,
    /// Number of the document within the row, from 0: attention stays within equal numbers.
    pub segments: Vec<i32>,
    /// Position within the document as far as it lies in this row: a document that continues from the row before
    /// starts at 0 again, since its earlier tokens cannot be seen.
    pub positions: Vec<i64>,
}
