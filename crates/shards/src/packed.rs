//! Rows of one length cut from the concatenation of a shard's documents.
//!
//! Megatron-LM's cut: row i has the tokens i*L to i*L + L, so consecutive rows share one token and every token but
//! the first is a target exactly once. What remains at the end and is shorter than a row is dropped.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::reader::TokenShard;

/// The target that a loss must leave out, as in PyTorch.
pub const IGNORED: i64 = -100;

/// A shard as rows of L inputs and L targets, any of them in O(log documents).
#[derive(Clone, Debug)]
pub struct PackedRows {
    shard: Arc<TokenShard>,
    row_length: usize,
    mask_documents: bool,
}

impl PackedRows {
    /// Rows of `row_length` inputs, with document boundaries marked.
    pub fn new(shard: impl Into<Arc<TokenShard>>, row_length: usize) -> Result<Self> {
        if !(1..=i32::MAX as usize).contains(&row_length) {
            return Err(Error::RowLength { found: row_length });
        }
        Ok(Self { shard: shard.into(), row_length, mask_documents: true })
    }

    /// Whether documents are kept apart (they are unless this says `false`). Without: one segment, positions 0 to
    /// L - 1, and the last token of a document has the first of the next as its target.
    #[must_use]
    pub fn mask_documents(self, mask_documents: bool) -> Self {
        Self { mask_documents, ..self }
    }

    /// Whole rows: row i needs the tokens up to i*L + L.
    pub fn n_rows(&self) -> usize {
        self.shard.n_tokens().saturating_sub(1) / self.row_length
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
