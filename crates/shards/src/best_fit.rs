//! Rows that keep documents whole: best-fit-decreasing packing (Ding et al. 2024, arXiv 2404.10830).
//!
//! A document of n tokens has n - 1 inputs with a target. What is longer than a row is cut into pieces of a row's length
//! first; then all pieces, longest first, each go into the fullest row that has room. So a document that fits in a row is
//! never cut, and little is left empty. The plan is a function of the document lengths and the row length alone. Pieces
//! of one length keep the order of their documents; of rows that are equally full the one filled last is taken.
//!
//! Lengths are sorted by counting, and the fullest row with room is found in a bit set over the room that is left, so
//! that the plan for millions of documents takes about a second.

use crate::reader::TokenShard;

/// Which pieces make up each row.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the pieces of each row begin in `pieces`, and the end.
    rows: Vec<usize>,
    pieces: Vec<Piece>,
}

/// Inputs that follow each other in one document, each with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Number of the first input in the concatenation of all documents.
    pub(crate) start: u64,
    /// Inputs; the target of the last is the token behind them.
    pub(crate) length: u32,
}

impl Plan {
    pub(crate) fn new(shard: &TokenShard, row_length: usize) -> Self {
        let mut starts = (0..=shard.n_documents()).map(|document| shard.document_start(document));
        let mut start = starts.next().unwrap_or(0);
        let mut pieces = Vec::new();
        for end in starts {
            let mut at = start;
            // Without a token behind it an input has no target.
            while at + 1 < end {
                let length = row_length.min(end - 1 - at);
                pieces.push(Piece { start: at as u64, length: length as u32 });
                at += length;
            }
            start = end;
        }
        Self::of(&longest_first(pieces, row_length), row_length)
    }

    /// Pieces that come longest first.
    fn of(sorted: &[Piece], row_length: usize) -> Self {
        let mut open = Rooms::new(row_length);
        let mut row_of: Vec<u32> = Vec::with_capacity(sorted.len());
        let mut counts: Vec<usize> = Vec::new();
        for piece in sorted {
            let length = piece.length as usize;
            let (row, room) = open.take(length).unwrap_or_else(|| {
                counts.push(0);
                (counts.len() as u32 - 1, row_length)
            });
            row_of.push(row);
            counts[row as usize] += 1;
            open.put(row, room - length);
        }
        // To the pieces of each row in one array: where each row begins, then every piece to its place.
        let mut rows = vec![0];
        rows.extend(counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        }));
        let mut next = rows.clone();
        let mut pieces = vec![Piece { start: 0, length: 0 }; sorted.len()];
        for (piece, &row) in sorted.iter().zip(&row_of) {
            pieces[next[row as usize]] = *piece;
            next[row as usize] += 1;
        }
        Self { rows, pieces }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len() - 1
    }

    /// The pieces of a row, longest first.
    pub(crate) fn row(&self, row: usize) -> &[Piece] {
        &self.pieces[self.rows[row]..self.rows[row + 1]]
    }

    /// Inputs of all rows that are not padding.
    pub(crate) fn n_inputs(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.length)).sum()
    }
}

/// Counting sort: pieces of one length stay in their order.
fn longest_first(pieces: Vec<Piece>, longest: usize) -> Vec<Piece> {
    let mut places = vec![0usize; longest + 2];
    for piece in &pieces {
        places[longest - piece.length as usize + 1] += 1;
    }
    for at in 1..places.len() {
        places[at] += places[at - 1];
    }
    let mut sorted = pieces.clone();
    for piece in pieces {
        let place = &mut places[longest - piece.length as usize];
        sorted[*place] = piece;
        *place += 1;
    }
    sorted
}

/// Rows that are not full, by the room that is left in them.
struct Rooms {
    /// Rows with each room, the one filled last on top.
    rows: Vec<Vec<u32>>,
    /// Bit r: there is a row with room r.
    some: Vec<u64>,
}

impl Rooms {
    fn new(row_length: usize) -> Self {
        Self { rows: vec![Vec::new(); row_length + 1], some: vec![0; row_length / 64 + 1] }
    }

    /// The fullest row with room for so many, and its room.
    fn take(&mut self, length: usize) -> Option<(u32, usize)> {
        let first = self.some[length / 64] & (u64::MAX << (length % 64));
        let later = (length / 64 + 1..self.some.len()).map(|word| (word, self.some[word]));
        let (word, bits) = std::iter::once((length / 64, first)).chain(later).find(|(_, bits)| *bits != 0)?;
        let room = word * 64 + bits.trailing_zeros() as usize;
        let row = self.rows[room].pop()?;
        if self.rows[room].is_empty() {
            self.some[word] &= !(1 << (room % 64));
        }
        Some((row, room))
    }

    fn put(&mut self, row: u32, room: usize) {
        if room > 0 {
            self.rows[room].push(row);
            self.some[room / 64] |= 1 << (room % 64);
        }
    }
}
