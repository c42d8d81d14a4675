//! Rows against the same rows made from the concatenated documents with nothing but loops.

mod common;

use common::shard;
use llama_pro_shards::{Error, IGNORED, PackedRows, Row};
use proptest::prelude::*;

/// Row by row from a flat list of (token, document), by the definition of each field.
fn brute_force(documents: &[Vec<u32>], length: usize, mask: bool) -> Vec<Row> {
    let mut flat = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        for &token in document {
            flat.push((i64::from(token), number));
        }
    }
    let mut rows = Vec::new();
    let mut start = 0;
    while start + length < flat.len() {
        let mut row = Row { inputs: vec![], targets: vec![], segments: vec![], positions: vec![] };
        for at in 0..length {
            let (token, document) = flat[start + at];
            let (target, target_document) = flat[start + at + 1];
            let new = at > 0 && flat[start + at - 1].1 != document;
            row.inputs.push(token);
            row.targets.push(if mask && target_document != document { IGNORED } else { target });
            let last = |values: &[i32]| values.last().copied().unwrap_or(0);
            row.segments.push(last(&row.segments) + i32::from(mask && new));
            let position = if mask && new { 0 } else { row.positions.last().map_or(0, |last| last + 1) };
            row.positions.push(position);
        }
        rows.push(row);
        start += length;
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn rows_equal_the_definition(
        lengths in prop::collection::vec(0usize..9, 0..30),
        length in 1usize..12,
        mask in any::<bool>(),
        wide in any::<bool>(),
    ) {
        let mut next = 0..;
        let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| next.by_ref().take(n).collect()).collect();
        let shard = shard(&documents, if wide { 100_000 } else { 1000 });
        let packed = PackedRows::new(shard, length).unwrap().mask_documents(mask);
        let rows: Vec<Row> = (0..packed.n_rows()).map(|row| packed.row(row)).collect();
        prop_assert_eq!(rows, brute_force(&documents, length, mask));
    }
}

#[test]
fn an_example() {
    let documents = [vec![10, 11, 12], vec![], vec![20], vec![30, 31, 32, 33, 34]];
    let packed = PackedRows::new(shard(&documents, 100), 4).unwrap();
    assert_eq!(packed.n_rows(), 2);
    let first = Row {
        inputs: vec![10, 11, 12, 20],
        targets: vec![11, 12, IGNORED, IGNORED],
        segments: vec![0, 0, 0, 1],
        positions: vec![0, 1, 2, 0],
    };
    let second = Row {
        inputs: vec![30, 31, 32, 33],
        targets: vec![31, 32, 33, 34],
        segments: vec![0; 4],
        positions: vec![0, 1, 2, 3],
    };
    assert_eq!((packed.row(0), packed.row(1)), (first, second));
    let unmasked = packed.mask_documents(false).row(0);
    assert_eq!(unmasked.targets, [11, 12, 20, 30]);
    assert_eq!((unmasked.segments, unmasked.positions), (vec![0; 4], vec![0, 1, 2, 3]));
}

#[test]
fn the_last_partial_row_is_dropped() {
    for (tokens, rows) in [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2)] {
        let packed = PackedRows::new(shard(&[vec![1; tokens]], 100), 4).unwrap();
        assert_eq!(packed.n_rows(), rows, "{tokens} tokens");
    }
    for length in [0, 1 << 31] {
        let error = PackedRows::new(shard(&[vec![1]], 100), length).unwrap_err();
        assert!(matches!(error, Error::RowLength { found } if found == length), "{error}");
    }
}

#[test]
fn every_token_but_the_first_is_a_target_once() {
    let document: Vec<u32> = (0..101).collect();
    let packed = PackedRows::new(shard(&[document], 1000), 10).unwrap();
    let targets: Vec<i64> = (0..packed.n_rows()).flat_map(|row| packed.row(row).targets).collect();
    assert_eq!(targets, (1..101).collect::<Vec<_>>());
}
