//! Best-fit packing against a slow definition, and what it promises about documents.

mod common;

use common::shard;
use llama_pro_shards::{IGNORED, PackedRows, Packing, Row};
use proptest::prelude::*;

/// Each document with a target, cut to at most `length` inputs; longest first; each to the fullest row with room, the
/// one filled last of those.
fn definition(documents: &[Vec<u32>], length: usize) -> Vec<Vec<Vec<u32>>> {
    // A piece is its inputs and the target of the last.
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    for document in documents.iter().filter(|document| document.len() > 1) {
        let mut at = 0;
        while at + 1 < document.len() {
            let end = (at + length).min(document.len() - 1);
            pieces.push(document[at..=end].to_vec());
            at = end;
        }
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len())); // stable
    // Rows with the time of their last change: of equally full ones the latest changed is on top.
    let mut rows: Vec<(Vec<Vec<u32>>, usize, usize)> = Vec::new();
    for (time, piece) in pieces.into_iter().enumerate() {
        let inputs = piece.len() - 1;
        let fits = rows.iter_mut().filter(|(_, room, _)| *room >= inputs && *room > 0);
        match fits.min_by_key(|(_, room, changed)| (*room, std::cmp::Reverse(*changed))) {
            Some((row, room, changed)) => {
                row.push(piece);
                *room -= inputs;
                *changed = time;
            }
            None => rows.push((vec![piece], length - inputs, time)),
        }
    }
    rows.into_iter().map(|(row, ..)| row).collect()
}

fn expected(pieces: &[Vec<u32>], length: usize) -> Row {
    let mut row = Row { inputs: vec![], targets: vec![], segments: vec![], positions: vec![] };
    for (segment, piece) in (0..).zip(pieces) {
        for (position, pair) in (0..).zip(piece.windows(2)) {
            row.inputs.push(i64::from(pair[0]));
            row.targets.push(i64::from(pair[1]));
            row.segments.push(segment);
            row.positions.push(position);
        }
    }
    for position in 0..(length - row.inputs.len()) as i64 {
        row.inputs.push(0);
        row.targets.push(IGNORED);
        row.segments.push(pieces.len() as i32);
        row.positions.push(position);
    }
    row
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn rows_equal_the_definition(
        lengths in prop::collection::vec(prop_oneof![0usize..6, 0usize..200], 0..60),
        length in prop_oneof![1usize..8, 60usize..140],
    ) {
        let mut next = 1..;
        let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| next.by_ref().take(n).collect()).collect();
        let packed = PackedRows::best_fit(shard(&documents, 1 << 20), length).unwrap();
        let rows: Vec<Row> = (0..packed.n_rows()).map(|row| packed.row(row)).collect();
        let definition = definition(&documents, length);
        prop_assert_eq!(rows.len(), definition.len());
        for (row, pieces) in rows.iter().zip(&definition) {
            prop_assert_eq!(row, &expected(pieces, length));
        }
        // Every token but the first of each document is a target once, and nothing else is.
        let mut targets: Vec<i64> = rows.iter().flat_map(|row| &row.targets).copied().filter(|&t| t != IGNORED).collect();
        targets.sort_unstable();
        let wanted: Vec<i64> = documents.iter().flat_map(|document| document.iter().skip(1)).map(|&t| t.into()).collect();
        prop_assert_eq!(packed.n_inputs(), wanted.len() as u64);
        prop_assert_eq!(targets, wanted);
    }
}

#[test]
fn an_example() {
    let documents = [vec![1, 2, 3], vec![4], vec![], vec![5, 6, 7, 8, 9, 10], vec![11, 12]];
    let packed = PackedRows::best_fit(shard(&documents, 100), 4).unwrap();
    // Inputs: 2, 4 and 1 of the long document, 1. The row of 1-3 has room for both single ones.
    assert_eq!((packed.n_rows(), packed.packing()), (2, Packing::BestFit));
    let second = Row {
        inputs: vec![1, 2, 9, 11],
        targets: vec![2, 3, 10, 12],
        segments: vec![0, 0, 1, 2],
        positions: vec![0, 1, 0, 0],
    };
    assert_eq!(packed.row(1), second);
    assert_eq!(packed.row(0).inputs, [5, 6, 7, 8]);
    assert!(packed.clone().mask_documents(false).masks_documents());
}

/// Documents with the lengths of a real corpus, roughly: little is left empty, and it takes no long time.
#[test]
fn rows_are_nearly_full() {
    let mut state = 1u64;
    let lengths = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let uniform = (state >> 40) as f64 / (1u64 << 24) as f64;
        (8.0 * (1.0 / (1.0 - uniform)).powf(1.1)).min(20_000.0) as usize + 2
    });
    let documents: Vec<Vec<u32>> = lengths.take(50_000).map(|length| vec![1; length]).collect();
    let packed = PackedRows::best_fit(shard(&documents, 100), 2048).unwrap();
    let places = packed.n_rows() as f64 * 2048.0;
    assert!(packed.n_inputs() as f64 > 0.999 * places, "{} of {places}", packed.n_inputs());
}
