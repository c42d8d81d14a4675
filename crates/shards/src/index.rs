//! The layout of Megatron-LM's `.idx` file, the same for reader and writer.
//!
//! Little-endian, nothing aligned: magic (9 bytes), u64 version, u8 token type, u64 sequences S, u64 D, then
//! i32 lengths[S] in tokens, i64 offsets[S] in bytes of the `.bin` file, i64 documents[D]: 0 and, for each document,
//! the number of the sequence after its last one. Megatron-LM `megatron/core/datasets/indexed_dataset.py`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(crate) const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
pub(crate) const VERSION: u64 = 1;
pub(crate) const HEADER_BYTES: usize = 34;

/// Megatron's own limit: u16 would do up to 65,536, but its tools switch here.
const U16_VOCABULARY: usize = 65_500;

/// How a token lies in the `.bin` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Two bytes, for vocabularies below 65,500.
    U16,
    /// Four bytes, signed in Megatron's table; ids are never negative.
    I32,
}

impl TokenType {
    /// What Megatron's tools choose for a vocabulary size.
    pub fn for_vocabulary(vocab_size: usize) -> Self {
        if vocab_size < U16_VOCABULARY { Self::U16 } else { Self::I32 }
    }

    /// Bytes of one token.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::I32 => 4,
        }
    }

    /// The number for this type in the header.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::I32 => 4,
            Self::U16 => 8,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::U16, Self::I32].into_iter().find(|token_type| token_type.code() == code)
    }
}

/// Names of the header's token types that are not tokens here, for error messages.
pub(crate) fn code_name(code: u8) -> String {
    let name = match code {
        1 => "u8",
        2 => "i8",
        3 => "i16",
        5 => "i64",
        6 => "f64",
        7 => "f32",
        _ => return code.to_string(),
    };
    format!("{code} ({name})")
}

/// `PREFIX.bin` and `PREFIX.idx`. The prefix may have dots of its own.
pub(crate) fn paths(prefix: &Path) -> (PathBuf, PathBuf) {
    let with = |extension: &str| {
        let mut name = OsString::from(prefix);
        name.push(extension);
        PathBuf::from(name)
    };
    (with(".bin"), with(".idx"))
}

/// Where the three arrays begin, and the size of the whole file. `None` where the sum does not fit in memory.
pub(crate) fn layout(sequences: u64, documents: u64) -> Option<Layout> {
    let sequences = usize::try_from(sequences).ok()?;
    let documents = usize::try_from(documents).ok()?;
    let offsets = sequences.checked_mul(4)?.checked_add(HEADER_BYTES)?;
    let document_ends = sequences.checked_mul(8)?.checked_add(offsets)?;
    let end = documents.checked_mul(8)?.checked_add(document_ends)?;
    Some(Layout { sequences, boundaries: documents, offsets, document_ends, end })
}

/// Array positions in an `.idx` file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// S.
    pub sequences: usize,
    /// D, one more than there are documents.
    pub boundaries: usize,
    /// Byte position of offsets[0]; lengths[0] is at `HEADER_BYTES`.
    pub offsets: usize,
    /// Byte position of documents[0].
    pub document_ends: usize,
    /// Size of the file.
    pub end: usize,
}
