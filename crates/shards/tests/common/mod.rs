//! Shards for tests, in folders that go away.
#![allow(dead_code, reason = "each test program uses a part")]
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::path::PathBuf;

use llama_pro_shards::{PackedRows, ShardWriter, TokenShard};
use tempfile::TempDir;

/// A shard of these documents. The folder must outlive it only by name: maps stay valid without.
pub(crate) fn shard(documents: &[Vec<u32>], vocab_size: usize) -> TokenShard {
    let (_dir, prefix) = written(documents, vocab_size);
    TokenShard::open(&prefix).unwrap()
}

pub(crate) fn written(documents: &[Vec<u32>], vocab_size: usize) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("corpus.train");
    let mut writer = ShardWriter::new(&prefix, vocab_size).unwrap();
    for document in documents {
        writer.push(document).unwrap();
    }
    writer.finish().unwrap();
    (dir, prefix)
}

/// `n_rows` rows of `row_length` in one document of the tokens `first`, `first` + 1, ...
pub(crate) fn rows(first: u32, n_rows: usize, row_length: usize) -> PackedRows {
    let document: Vec<u32> = (first..).take(n_rows * row_length + 1).collect();
    let rows = PackedRows::new(shard(&[document], 1 << 20), row_length).unwrap();
    assert_eq!(rows.n_rows(), n_rows);
    rows
}
