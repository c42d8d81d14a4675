//! Instruction tuning's batches: conversations whose tokens carry a flag, packed into rows without seeing each other, or
//! one to a row.
//!
//! A conversation of n tokens takes n - 1 places: the last token is only a target, and the first is only an input, so
//! nothing is predicted across a boundary. Positions begin again with every conversation, and attention stays within it.
//! The loss of a step is summed over its targets and divided by their number (see [`crate::Trainer::step`]), not row by
//! row: how conversations are packed changes no gradient.

use std::collections::BTreeMap;

use llama_pro_model::loss::IGNORED;
use llama_pro_shards::{Permutation, Row};
use tch::{Device, Kind};

use crate::batch::MicroBatch;
use crate::passes::passes;
use crate::{Batches, Error, Result};

/// Segment of places that hold no token.
const PADDING: i32 = -1;

/// A tokenized conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Token ids, `[n]`, n of 2 or more.
    pub ids: Vec<u32>,
    /// Whether each is a target, `[n]`. That of the first does not count.
    pub trained: Vec<bool>,
}

impl Conversation {
    /// Places in a row.
    fn places(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }
}

/// Conversations as batches.
pub struct ConversationBatches {
    conversations: Vec<Conversation>,
    /// Which conversations stand in each row.
    rows: Vec<Vec<u32>>,
    row_length: usize,
    packed: bool,
    rows_per_step: usize,
    micro_rows: usize,
    seed: u64,
}

impl ConversationBatches {
    /// Arranges conversations of at most `row_length` + 1 tokens. `packed` puts as many into a row as fit: the longest
    /// first, each into the fullest row that has room for it (best fit decreasing). `micro_rows` is as for
    /// [`crate::SampledRows::new`].
    ///
    /// # Errors
    /// No conversation, one of fewer than 2 tokens or with flags of another number, or one that is longer than a row.
    pub fn new(
        conversations: Vec<Conversation>,
        row_length: usize,
        packed: bool,
        rows_per_step: usize,
        micro_rows: usize,
        seed: u64,
    ) -> Result<Self> {
        let fail = |line: String| Err(Error::Setup(line));
        if conversations.is_empty() || rows_per_step == 0 || micro_rows == 0 {
            return fail("there is no conversation to learn from".to_owned());
        }
        for (i, c) in conversations.iter().enumerate() {
            let n = c.ids.len();
            if n < 2 || c.trained.len() != n || n > row_length + 1 {
                return fail(format!(
                    "conversation {i} has {n} tokens and {} flags: expected 2 to {} of both",
                    c.trained.len(),
                    row_length + 1
                ));
            }
        }
        let rows = match packed {
            true => pack(&conversations, row_length, seed),
            false => (0..conversations.len() as u32).map(|i| vec![i]).collect(),
        };
        Ok(Self { conversations, rows, row_length, packed, rows_per_step, micro_rows, seed })
    }

    /// Rows of an epoch.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Places of the longest row.
    pub fn longest_row(&self) -> usize {
        self.rows.iter().map(|row| self.places(row)).max().unwrap_or(0)
    }

    /// Places that hold a token in a row of these conversations.
    fn places(&self, row: &[u32]) -> usize {
        row.iter().map(|&i| self.conversations[i as usize].places()).sum()
    }

    /// Share of the places of all rows that hold a token.
    pub fn filled(&self) -> f64 {
        let places: usize = self.conversations.iter().map(Conversation::places).sum();
        places as f64 / (self.rows.len() * self.row_length) as f64
    }

    /// Row number `k` of the run: epoch after epoch, each in an order of its own.
    fn at(&self, k: u64) -> &[u32] {
        let n = self.rows.len() as u64;
        let mut hash = blake3::Hasher::new_derive_key("llama-pro conversation order 1");
        hash.update(&self.seed.to_le_bytes()).update(&(k / n).to_le_bytes());
        let mut key = [0; 8];
        hash.finalize_xof().fill(&mut key);
        &self.rows[Permutation::new(n, u64::from_le_bytes(key)).at(k % n) as usize]
    }

    fn row(&self, members: &[u32], length: usize) -> Row {
        let mut row = Row {
            inputs: vec![0; length],
            targets: vec![IGNORED; length],
            segments: vec![PADDING; length],
            positions: (0..length as i64).collect(),
        };
        let mut from = 0;
        for (segment, &member) in (0..).zip(members) {
            let Conversation { ids, trained } = &self.conversations[member as usize];
            for i in 0..ids.len() - 1 {
                row.inputs[from + i] = i64::from(ids[i]);
                if trained[i + 1] {
                    row.targets[from + i] = i64::from(ids[i + 1]);
                }
                row.segments[from + i] = segment;
                row.positions[from + i] = i as i64;
            }
            from += ids.len() - 1;
        }
        for (i, position) in row.positions[from..].iter_mut().enumerate() {
            *position = i as i64;
        }
        row
    }
}

impl Batches for ConversationBatches {
    fn micro_batches(&self, step: u64, device: Device) -> Result<Vec<MicroBatch>> {
        let first = step * self.rows_per_step as u64;
        let members: Vec<&[u32]> = (0..self.rows_per_step as u64).map(|i| self.at(first + i)).collect();
        let places: Vec<usize> = members.iter().map(|row| self.places(row)).collect();
        let micros = passes(&places, self.micro_rows, device).into_iter().map(|pass| {
            // As long as its longest row: padding is computed like anything else.
            let length = places[pass.clone()].iter().copied().max().unwrap_or(self.row_length);
            let rows: Vec<(Row, bool)> =
                members[pass].iter().map(|row| (self.row(row, length), false)).collect();
            MicroBatch::new(&rows, device)
        });
        Ok(micros.collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("llama-pro conversations 1");
        hash.update(&self.seed.to_le_bytes()).update(&(self.row_length as u64).to_le_bytes());
        hash.update(&[u8::from(self.packed)]);
        for c in &self.conversations {
            hash.update(&(c.ids.len() as u64).to_le_bytes());
            for (id, trained) in c.ids.iter().zip(&c.trained) {
                hash.update(&id.to_le_bytes()).update(&[u8::from(*trained)]);
            }
        }
        format!("blake3:{}", hash.finalize().to_hex())
    }

    fn tokens(&self, micros: &[MicroBatch]) -> u64 {
        let count = |m: &MicroBatch| match &m.segments {
            Some(segments) => segments.ge(0).sum(Kind::Int64).int64_value(&[]) as u64,
            None => m.ids.numel() as u64,
        };
        micros.iter().map(count).sum()
    }
}

/// Best fit decreasing. Conversations of one length are taken in an order that the seed decides.
fn pack(conversations: &[Conversation], row_length: usize, seed: u64) -> Vec<Vec<u32>> {
    let n = conversations.len() as u64;
    let shuffle = Permutation::new(n, seed);
    let mut order: Vec<u32> = (0..n).map(|i| shuffle.at(i) as u32).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(conversations[i as usize].places()));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // Places left over to the rows that have so many.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for member in order {
        let need = conversations[member as usize].places();
        let found = open.range(need..).next().map(|(&left, _)| left);
        let (row, left) = match found.and_then(|left| Some((open.get_mut(&left)?.pop()?, left))) {
            Some((row, left)) => {
                if open.get(&left).is_some_and(Vec::is_empty) {
                    open.remove(&left);
                }
                (row, left)
            }
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, row_length)
            }
        };
        rows[row].push(member);
        open.entry(left - need).or_default().push(row);
    }
    rows
}
