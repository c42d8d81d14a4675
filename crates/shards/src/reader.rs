//! Reads a Megatron-LM `.bin`/`.idx` pair through memory maps, after checking all of the index.

use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

use crate::error::{Error, Result};
use crate::index::{self, HEADER_BYTES, Layout, MAGIC, TokenType, VERSION};
use crate::map::map;

/// A checked shard. Cheap to share between threads; nothing but the index is read before it is asked for.
///
/// A document may consist of several sequences, as Megatron allows; they lie one after the other.
pub struct TokenShard {
    prefix: PathBuf,
    bin: Mmap,
    idx: Mmap,
    layout: Layout,
    token_type: TokenType,
    tokens: usize,
}

impl TokenShard {
    /// Opens `PREFIX.bin` and `PREFIX.idx` and checks every field of the index against the others and against both
    /// file sizes. Token values are not looked at: see [`TokenShard::check_vocabulary`].
    pub fn open(prefix: &Path) -> Result<Self> {
        let (bin_path, idx_path) = index::paths(prefix);
        let (bin, idx) = (map(&bin_path)?, map(&idx_path)?);
        let check = Check { path: &idx_path };
        let (token_type, layout) = check.header(&idx)?;
        let bytes = check.sequences(&idx, layout, token_type)?;
        check.documents(&idx, layout)?;
        if bin.len() as u64 != bytes {
            let check = Check { path: &bin_path };
            return Err(check.corrupt("size", format!("{bytes} bytes as in the index"), bin.len()));
        }
        // Rows are drawn in random order. A hint that the system refuses changes nothing but speed.
        _ = bin.advise(Advice::Random);
        let tokens = bin.len() / token_type.bytes();
        Ok(Self { prefix: prefix.to_path_buf(), bin, idx, layout, token_type, tokens })
    }

    /// Both paths without `.bin` and `.idx`.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// How tokens lie in the `.bin` file.
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Documents, empty ones included.
    pub fn n_documents(&self) -> usize {
        self.layout.boundaries - 1
    }

    /// Tokens of all documents.
    pub fn n_tokens(&self) -> usize {
        self.tokens
    }

    /// The tokens of one document. Panics unless `document < n_documents()`.
    pub fn document(&self, document: usize) -> Vec<u32> {
        self.tokens(self.document_start(document)..self.document_start(document + 1))
    }

    /// A range of the concatenation of all documents. Panics unless it ends by `n_tokens()`.
    pub fn tokens(&self, range: Range<usize>) -> Vec<u32> {
        self.tokens_iter(range).collect()
    }

    /// As [`TokenShard::tokens`], one by one.
    pub(crate) fn tokens_iter(&self, range: Range<usize>) -> impl Iterator<Item = u32> + '_ {
        let size = self.token_type.bytes();
        let bytes = &self.bin[range.start * size..range.end * size];
        bytes.chunks_exact(size).map(|token| match *token {
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => unreachable!("chunks are 2 or 4 bytes"),
        })
    }

    /// Number in the concatenation of the first token of a document; `n_tokens()` for the one after the last.
    /// Panics unless `document <= n_documents()`.
    pub fn document_start(&self, document: usize) -> usize {
        assert!(document < self.layout.boundaries, "document {document} of {}", self.n_documents());
        // Checked in open: within 0..=sequences, and offsets are multiples of the token size.
        let sequence = i64_at(&self.idx, self.layout.document_ends, document) as usize;
        if sequence == self.layout.sequences {
            return self.tokens;
        }
        i64_at(&self.idx, self.layout.offsets, sequence) as usize / self.token_type.bytes()
    }

    /// Reads every token and refuses one that is not below `vocab_size`. For shards of unknown origin, before a
    /// model looks them up in a table.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<()> {
        let outside = |&(_, token): &(usize, u32)| token as usize >= vocab_size;
        match self.tokens_iter(0..self.tokens).enumerate().find(outside) {
            None => Ok(()),
            Some((position, token)) => {
                let document = self.document_of(position);
                Err(Error::Token { path: self.prefix.clone(), document, token, vocab_size })
            }
        }
    }

    /// `blake3:` and the hash of both files, index first. Reads all of them.
    pub fn content_digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        // The index fixes the number of bytes that follow it, so the two cannot be confused.
        hash.update(&self.idx).update(&self.bin);
        format!("blake3:{}", hash.finalize().to_hex())
    }

    /// The document that a token belongs to, by binary search. `position < n_tokens()`.
    pub(crate) fn document_of(&self, position: usize) -> usize {
        // The last document that starts at or before the position: of several with one start, all but the last
        // are empty.
        let (mut low, mut high) = (0, self.n_documents());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.document_start(middle) <= position { low = middle } else { high = middle }
        }
        low
    }
}

impl std::fmt::Debug for TokenShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenShard")
            .field("prefix", &self.prefix)
            .field("token_type", &self.token_type)
            .field("documents", &self.n_documents())
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

/// The checks of an index, each with the file to blame.
struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn header(&self, idx: &[u8]) -> Result<(TokenType, Layout)> {
        let Some(header) = idx.first_chunk::<HEADER_BYTES>() else {
            return Err(self.corrupt("size", format!("a header of {HEADER_BYTES} bytes"), idx.len()));
        };
        if &header[..MAGIC.len()] != MAGIC {
            let found = header[..MAGIC.len()].escape_ascii();
            return Err(self.corrupt("magic", MAGIC.escape_ascii(), found));
        }
        let version = u64_at(header, 9);
        if version != VERSION {
            return Err(self.corrupt("version", VERSION, version));
        }
        let code = header[17];
        let Some(token_type) = TokenType::from_code(code) else {
            return Err(self.corrupt("token type", "8 (u16) or 4 (i32)", index::code_name(code)));
        };
        let (sequences, boundaries) = (u64_at(header, 18), u64_at(header, 26));
        if boundaries == 0 {
            return Err(self.corrupt("document count", "at least the leading 0", boundaries));
        }
        match index::layout(sequences, boundaries) {
            Some(layout) if layout.end == idx.len() => Ok((token_type, layout)),
            layout => {
                let expected =
                    layout.map_or("more than memory holds".into(), |layout| layout.end.to_string());
                let expected = format!(
                    "{expected} bytes for {sequences} sequences and {boundaries} document boundaries"
                );
                Err(self.corrupt("size", expected, idx.len()))
            }
        }
    }

    /// Lengths from 0 up, offsets without gap or overlap. Returns the bytes that the `.bin` file must have.
    fn sequences(&self, idx: &[u8], layout: Layout, token_type: TokenType) -> Result<u64> {
        let mut end = 0u64;
        for sequence in 0..layout.sequences {
            let length = i32_at(idx, HEADER_BYTES, sequence);
            let offset = i64_at(idx, layout.offsets, sequence);
            let Ok(length) = u32::try_from(length) else {
                return Err(self.corrupt(format!("length of sequence {sequence}"), "0 or more", length));
            };
            // No overflow: fewer than 2^61 sequences fit in a file, and `end` grows only if it equals an i64.
            if u64::try_from(offset) != Ok(end) {
                return Err(self.corrupt(format!("offset of sequence {sequence}"), end, offset));
            }
            end += u64::from(length) * token_type.bytes() as u64;
        }
        Ok(end)
    }

    fn documents(&self, idx: &[u8], layout: Layout) -> Result<()> {
        let sequences = layout.sequences as i64;
        let mut last = 0;
        for boundary in 0..layout.boundaries {
            let found = i64_at(idx, layout.document_ends, boundary);
            let field = || format!("document boundary {boundary}");
            if boundary == 0 && found != 0 {
                return Err(self.corrupt(field(), 0, found));
            }
            if !(last..=sequences).contains(&found) {
                return Err(self.corrupt(field(), format!("{last} to {sequences}"), found));
            }
            last = found;
        }
        if last != sequences {
            return Err(self.corrupt("last document boundary", format!("all {sequences} sequences"), last));
        }
        Ok(())
    }

    fn corrupt(
        &self,
        field: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        Error::Corrupt {
            path: self.path.to_path_buf(),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

// The arrays of the format are not aligned, so they are read byte by byte instead of being cast.

fn u64_at(bytes: &[u8], position: usize) -> u64 {
    u64::from_le_bytes(chunk(bytes, position))
}

fn i64_at(bytes: &[u8], array: usize, index: usize) -> i64 {
    i64::from_le_bytes(chunk(bytes, array + 8 * index))
}

fn i32_at(bytes: &[u8], array: usize, index: usize) -> i32 {
    i32::from_le_bytes(chunk(bytes, array + 4 * index))
}

fn chunk<const N: usize>(bytes: &[u8], position: usize) -> [u8; N] {
    let mut chunk = [0; N];
    chunk.copy_from_slice(&bytes[position..position + N]);
    chunk
}
