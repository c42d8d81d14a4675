//! The files, against a second reader written from the table of the format and nothing else.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "../../corpus/tests/it/cases.rs"]
mod cases;
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::{shard, written};
use llama_pro_shards::{Error, ShardWriter, TokenShard, TokenType};
use proptest::prelude::*;
use tempfile::TempDir;

/// An `.idx` file field by field, as Megatron's `_IndexReader` takes it apart.
#[derive(Debug, PartialEq)]
struct Idx {
    magic: [u8; 9],
    version: u64,
    dtype: u8,
    sequence_count: u64,
    document_count: u64,
    lengths: Vec<i32>,
    pointers: Vec<i64>,
    document_indices: Vec<i64>,
}

impl Idx {
    fn parse(mut bytes: &[u8]) -> Self {
        fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
            let (head, tail) = bytes.split_first_chunk::<N>().unwrap();
            *bytes = tail;
            *head
        }
        let b = &mut bytes;
        let magic = take::<9>(b);
        let version = u64::from_le_bytes(take(b));
        let [dtype] = take::<1>(b);
        let sequence_count = u64::from_le_bytes(take(b));
        let document_count = u64::from_le_bytes(take(b));
        let lengths = (0..sequence_count).map(|_| i32::from_le_bytes(take(b))).collect();
        let pointers = (0..sequence_count).map(|_| i64::from_le_bytes(take(b))).collect();
        let document_indices = (0..document_count).map(|_| i64::from_le_bytes(take(b))).collect();
        assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
        Self { magic, version, dtype, sequence_count, document_count, lengths, pointers, document_indices }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.push(self.dtype);
        bytes.extend(self.sequence_count.to_le_bytes());
        bytes.extend(self.document_count.to_le_bytes());
        bytes.extend(self.lengths.iter().flat_map(|length| length.to_le_bytes()));
        bytes.extend(self.pointers.iter().flat_map(|pointer| pointer.to_le_bytes()));
        bytes.extend(self.document_indices.iter().flat_map(|index| index.to_le_bytes()));
        bytes
    }
}

/// What Megatron's `IndexedDataset` returns for each sequence.
fn read_like_megatron(prefix: &Path) -> Vec<Vec<u32>> {
    let idx = Idx::parse(&fs::read(path(prefix, ".idx")).unwrap());
    let bin = fs::read(path(prefix, ".bin")).unwrap();
    let size = if idx.dtype == 8 { 2 } else { 4 };
    idx.lengths
        .iter()
        .zip(&idx.pointers)
        .map(|(&length, &pointer)| {
            let bytes = &bin[pointer as usize..pointer as usize + length as usize * size];
            let token =
                |chunk: &[u8]| chunk.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            bytes.chunks(size).map(token).collect()
        })
        .collect()
}

#[test]
fn golden_bytes() {
    // Written down by hand from the table: documents [7, 300], [] and [65499].
    let (_dir, prefix) = written(&[vec![7, 300], vec![], vec![65_498]], 65_499);
    let mut expected = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
    expected.extend(b"\x02\0\0\0\0\0\0\0\x01\0\0\0");
    expected.extend(b"\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0");
    expected.extend(b"\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
    assert_eq!(fs::read(path(&prefix, ".idx")).unwrap(), expected);
    assert_eq!(fs::read(path(&prefix, ".bin")).unwrap(), b"\x07\0\x2c\x01\xda\xff");
}

#[test]
fn token_type_follows_the_vocabulary() {
    for (vocab_size, token_type, code, bytes) in [
        (65_499, TokenType::U16, 8, 2),
        (65_500, TokenType::I32, 4, 4),
        (32_000, TokenType::U16, 8, 2),
        (128_256, TokenType::I32, 4, 4),
    ] {
        let largest = vocab_size as u32 - 1;
        let (_dir, prefix) = written(&[vec![0, largest]], vocab_size);
        assert_eq!(Idx::parse(&fs::read(path(&prefix, ".idx")).unwrap()).dtype, code);
        assert_eq!(fs::metadata(path(&prefix, ".bin")).unwrap().len(), 2 * bytes);
        let shard = TokenShard::open(&prefix).unwrap();
        assert_eq!((shard.token_type(), shard.document(0)), (token_type, vec![0, largest]));
    }
}

proptest! {
    #![proptest_config(cases::cases(64))]
    #[test]
    fn both_readers_return_what_was_written(
        documents in prop::collection::vec(prop::collection::vec(0u32..60_000, 0..20), 0..20),
        wide in any::<bool>(),
    ) {
        let (_dir, prefix) = written(&documents, if wide { 128_256 } else { 60_000 });
        prop_assert_eq!(&read_like_megatron(&prefix), &documents);
        let shard = TokenShard::open(&prefix).unwrap();
        prop_assert_eq!(shard.n_documents(), documents.len());
        let read: Vec<_> = (0..shard.n_documents()).map(|document| shard.document(document)).collect();
        let all = documents.concat();
        prop_assert_eq!(read, documents);
        prop_assert_eq!(shard.n_tokens(), all.len());
        prop_assert_eq!(shard.tokens(0..all.len()), &all[..]);
        let (a, b) = (all.len() / 3, all.len() / 2);
        prop_assert_eq!(shard.tokens(a..b), &all[a..b]);
        shard.check_vocabulary(60_000).unwrap();
    }
}

/// Opens what `idx` is beside good tokens: an error or a shard that can be read to the end, never a panic.
fn open_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
    // Written once; thousands of flushes to the disk would take minutes.
    static GOOD: LazyLock<(TempDir, PathBuf, Vec<u8>)> = LazyLock::new(|| {
        let (dir, prefix) = written(&[vec![1, 2, 3], vec![], vec![4; 9]], 100);
        let idx = fs::read(path(&prefix, ".idx")).unwrap();
        (dir, prefix, idx)
    });
    let (_, good, idx) = &*GOOD;
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("x");
    fs::hard_link(path(good, ".bin"), path(&prefix, ".bin")).unwrap();
    let mut idx = idx.clone();
    change(&mut idx);
    fs::write(path(&prefix, ".idx"), &idx).unwrap();
    let shard = TokenShard::open(&prefix)?;
    let n: usize = (0..shard.n_documents()).map(|document| shard.document(document).len()).sum();
    assert_eq!(n, shard.n_tokens());
    _ = shard.check_vocabulary(5);
    Ok(())
}

proptest! {
    #![proptest_config(cases::cases(2000))]
    #[test]
    fn damaged_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        header in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
        extra in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        _ = open_changed(|idx| {
            for (at, value) in edits {
                // Half of the cases change the 34 bytes of the header only, where most checks are.
                let at = at.index(if header { 34 } else { idx.len() });
                idx[at] = value;
            }
            idx.extend(extra);
            if let Some(cut) = cut {
                idx.truncate(cut.index(idx.len()));
            }
        });
    }

    /// Counts and arrays of any value, of the size that the counts ask for.
    #[test]
    fn consistent_sizes_with_any_values_never_panic(
        sequences in 0u64..6,
        boundaries in 0u64..6,
        values in prop::collection::vec(prop_oneof![-2i64..30, any::<i64>()], 20),
        code in prop_oneof![Just(8u8), Just(4), any::<u8>()],
    ) {
        let mut values = values.into_iter().cycle();
        _ = open_changed(|idx| {
            idx.truncate(17);
            idx.push(code);
            idx.extend(sequences.to_le_bytes());
            idx.extend(boundaries.to_le_bytes());
            idx.extend((0..sequences).flat_map(|_| (values.next().unwrap() as i32).to_le_bytes()));
            idx.extend((0..sequences + boundaries).flat_map(|_| values.next().unwrap().to_le_bytes()));
        });
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        let opened = open_changed(|idx| {
            idx.clear();
            if magic {
                idx.extend(b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08");
            }
            idx.extend(bytes);
        });
        prop_assert!(opened.is_err());
    }
}

#[test]
fn each_field_is_checked() {
    let (_dir, prefix) = written(&[vec![1, 2, 3], vec![4; 9]], 100);
    let original = fs::read(path(&prefix, ".idx")).unwrap();
    let check = |expected: &str, change: &dyn Fn(&mut Idx)| {
        let mut idx = Idx::parse(&original);
        change(&mut idx);
        fs::write(path(&prefix, ".idx"), idx.bytes()).unwrap();
        let message = TokenShard::open(&prefix).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should have {expected:?}");
        assert!(message.contains("corpus.train."), "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    check("magic: expected MMIDIDX\\x00\\x00, found XMIDIDX", &|idx| idx.magic[0] = b'X');
    check("version: expected 1, found 2", &|idx| idx.version = 2);
    check("token type: expected 8 (u16) or 4 (i32), found 5 (i64)", &|idx| idx.dtype = 5);
    check("token type: expected 8 (u16) or 4 (i32), found 0", &|idx| idx.dtype = 0);
    check(".bin: size: expected 48 bytes as in the index, found 24", &|idx| {
        idx.dtype = 4;
        idx.pointers[1] = 12;
    });
    check("size: expected more than memory holds", &|idx| idx.sequence_count = u64::MAX);
    check("size: expected more than memory holds", &|idx| idx.document_count = 1 << 63);
    check("size: expected 94 bytes for 3 sequences", &|idx| idx.sequence_count = 3);
    check("document count: expected at least", &|idx| {
        idx.document_count = 0;
        idx.document_indices.clear();
    });
    check("length of sequence 0: expected 0 or more, found -1", &|idx| idx.lengths[0] = -1);
    check("offset of sequence 0: expected 0, found 2", &|idx| idx.pointers[0] = 2);
    check("offset of sequence 1: expected 6, found 4", &|idx| idx.pointers[1] = 4);
    check("offset of sequence 1: expected 6, found -6", &|idx| idx.pointers[1] = -6);
    check(".bin: size: expected 26 bytes as in the index, found 24", &|idx| idx.lengths[1] = 10);
    check("document boundary 0: expected 0, found 1", &|idx| idx.document_indices[0] = 1);
    check("document boundary 1: expected 0 to 2, found 3", &|idx| idx.document_indices[1] = 3);
    check("document boundary 1: expected 0 to 2, found -1", &|idx| idx.document_indices[1] = -1);
    check("document boundary 2: expected 2 to 2, found 1", &|idx| {
        idx.document_indices[1] = 2;
        idx.document_indices[2] = 1;
    });
    check("last document boundary: expected all 2 sequences, found 1", &|idx| idx.document_indices[2] = 1);

    fs::write(path(&prefix, ".idx"), [&original[..], &[0, 0]].concat()).unwrap();
    let message = TokenShard::open(&prefix).unwrap_err().to_string();
    assert!(message.contains("size: expected 82 bytes"), "{message}");
    fs::write(path(&prefix, ".idx"), &original[..33]).unwrap();
    let message = TokenShard::open(&prefix).unwrap_err().to_string();
    assert!(message.contains("size: expected a header of 34 bytes, found 33"), "{message}");
    fs::write(path(&prefix, ".idx"), &original).unwrap();
    fs::write(path(&prefix, ".bin"), [0; 23]).unwrap();
    let message = TokenShard::open(&prefix).unwrap_err().to_string();
    assert!(message.contains(".bin: size: expected 24 bytes as in the index, found 23"), "{message}");
}

#[test]
fn missing_files_and_folders_are_named() {
    let (dir, prefix) = written(&[vec![1]], 100);
    let message = |prefix: &Path| TokenShard::open(prefix).unwrap_err().to_string();
    assert!(message(&dir.path().join("other")).contains("other.bin: cannot open"));
    fs::remove_file(path(&prefix, ".idx")).unwrap();
    assert!(message(&prefix).contains("corpus.train.idx: cannot open"));
    fs::create_dir(path(&prefix, ".idx")).unwrap();
    assert!(message(&prefix).contains("corpus.train.idx: file: expected a regular file"));
    let error = ShardWriter::new(&dir.path().join("no/where"), 100).err().unwrap();
    assert!(error.to_string().contains("where.bin: cannot create a temporary file"), "{error}");
}

#[test]
fn documents_of_several_sequences() {
    let (_dir, prefix) = written(&[vec![1, 2], vec![3], vec![], vec![4, 5, 6]], 100);
    let mut idx = Idx::parse(&fs::read(path(&prefix, ".idx")).unwrap());
    idx.document_indices = vec![0, 2, 2, 4];
    idx.document_count = 4;
    fs::write(path(&prefix, ".idx"), idx.bytes()).unwrap();
    let shard = TokenShard::open(&prefix).unwrap();
    let documents: Vec<_> = (0..shard.n_documents()).map(|document| shard.document(document)).collect();
    assert_eq!(documents, [vec![1, 2, 3], vec![], vec![4, 5, 6]]);
}

#[test]
fn empty_shards() {
    for documents in [vec![], vec![vec![], vec![]]] {
        let shard = shard(&documents, 100);
        assert_eq!((shard.n_documents(), shard.n_tokens()), (documents.len(), 0));
        assert!(shard.tokens(0..0).is_empty());
        shard.check_vocabulary(1).unwrap();
    }
}

#[test]
fn tokens_outside_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new(&dir.path().join("s"), 100).unwrap();
    writer.push(&[99]).unwrap();
    let error = writer.push(&[1, 100]).unwrap_err();
    assert!(matches!(error, Error::Token { document: 1, token: 100, vocab_size: 100, .. }), "{error}");
    // The refused document left nothing behind.
    writer.push(&[5]).unwrap();
    writer.finish().unwrap();
    let shard = TokenShard::open(&dir.path().join("s")).unwrap();
    assert_eq!(shard.tokens(0..2), [99, 5]);

    let error = shard.check_vocabulary(99).unwrap_err();
    assert!(matches!(error, Error::Token { document: 0, token: 99, .. }), "{error}");
    for size in [0, 1 << 31] {
        let error = ShardWriter::new(&dir.path().join("t"), size).err().unwrap();
        assert!(matches!(error, Error::VocabularySize { .. }), "{error}");
    }
}

#[test]
fn files_appear_at_the_end_and_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("s");
    let names =
        || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let mut writer = ShardWriter::new(&prefix, 100).unwrap();
    writer.push(&[1; 50_000]).unwrap();
    assert!(!path(&prefix, ".bin").exists() && !path(&prefix, ".idx").exists());
    drop(writer);
    assert!(names().is_empty(), "{:?}", names());

    let write = |document: &[u32]| {
        let mut writer = ShardWriter::new(&prefix, 100).unwrap();
        writer.push(document).unwrap();
        writer.finish().unwrap()
    };
    let info = write(&[1, 2, 3]);
    assert_eq!(names().len(), 2);
    for (extension, bytes, digest) in
        [(".bin", info.bin_bytes, &info.bin_digest), (".idx", info.idx_bytes, &info.idx_digest)]
    {
        let file = path(&prefix, extension);
        let content = fs::read(&file).unwrap();
        assert_eq!(content.len() as u64, bytes);
        assert_eq!(format!("blake3:{}", blake3::hash(&content).to_hex()), *digest);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!((info.documents, info.tokens, info.token_type), (1, 3, TokenType::U16));
    // Same documents, same bytes; others replace them.
    let before = TokenShard::open(&prefix).unwrap().content_digest();
    assert_eq!(write(&[1, 2, 3]), info);
    assert_eq!(TokenShard::open(&prefix).unwrap().content_digest(), before);
    write(&[1, 2, 4]);
    assert_ne!(TokenShard::open(&prefix).unwrap().content_digest(), before);
}

fn path(prefix: &Path, extension: &str) -> PathBuf {
    format!("{}{extension}", prefix.display()).into()
}
