//! Writes documents of tokens as a Megatron-LM `.bin`/`.idx` pair.

use std::path::{Path, PathBuf};

use crate::atomic::{self, Pending};
use crate::error::{Error, Result};
use crate::index::{self, MAGIC, TokenType, VERSION};

/// A shard in the making. Tokens go to disk as they come; 4 bytes per document stay in memory.
///
/// Nothing is visible under the final names before [`ShardWriter::finish`]; a writer that is dropped leaves nothing.
/// Empty documents are kept, so that document numbers stay those of the caller.
pub struct ShardWriter {
    prefix: PathBuf,
    token_type: TokenType,
    vocab_size: usize,
    bin: Pending,
    lengths: Vec<u32>,
    tokens: u64,
    buffer: Vec<u8>,
}

impl ShardWriter {
    /// Starts `PREFIX.bin` and `PREFIX.idx`; the folder must exist. Tokens are u16 below 65,500 tokens of vocabulary
    /// and i32 from there, as Megatron chooses.
    pub fn new(prefix: &Path, vocab_size: usize) -> Result<Self> {
        if !(1..=i32::MAX as usize).contains(&vocab_size) {
            return Err(Error::VocabularySize { found: vocab_size });
        }
        let (bin, _) = index::paths(prefix);
        Ok(Self {
            prefix: prefix.to_path_buf(),
            token_type: TokenType::for_vocabulary(vocab_size),
            vocab_size,
            bin: Pending::create(&bin)?,
            lengths: Vec::new(),
            tokens: 0,
            buffer: Vec::new(),
        })
    }

    /// Appends one document. A token outside the vocabulary is an error and appends nothing.
    pub fn push(&mut self, document: &[u32]) -> Result<()> {
        let most = i32::MAX as usize;
        if document.len() > most {
            let (path, document, tokens) = (self.prefix.clone(), self.lengths.len(), document.len());
            return Err(Error::DocumentLength { path, document, tokens, most });
        }
        self.buffer.clear();
        for &token in document {
            if token as usize >= self.vocab_size {
                let (path, vocab_size) = (self.prefix.clone(), self.vocab_size);
                return Err(Error::Token { path, document: self.lengths.len(), token, vocab_size });
            }
            match self.token_type {
                // The vocabulary is below 65,500 here.
                TokenType::U16 => self.buffer.extend_from_slice(&(token as u16).to_le_bytes()),
                TokenType::I32 => self.buffer.extend_from_slice(&token.to_le_bytes()),
            }
        }
        self.bin.write(&self.buffer)?;
        self.lengths.push(document.len() as u32);
        self.tokens += document.len() as u64;
        Ok(())
    }

    /// Documents so far.
    pub fn n_documents(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens so far.
    pub fn n_tokens(&self) -> u64 {
        self.tokens
    }

    /// Puts both files in place, `.idx` last: a shard with an index is a whole shard. An old shard of the same
    /// name is replaced, and its index is gone before its tokens are.
    pub fn finish(self) -> Result<ShardInfo> {
        let (_, idx_path) = index::paths(&self.prefix);
        let mut idx = Pending::create(&idx_path)?;
        let documents = self.lengths.len() as u64;
        idx.write(MAGIC)?;
        idx.write(&VERSION.to_le_bytes())?;
        idx.write(&[self.token_type.code()])?;
        idx.write(&documents.to_le_bytes())?;
        idx.write(&(documents + 1).to_le_bytes())?;
        for length in &self.lengths {
            idx.write(&length.to_le_bytes())?;
        }
        let mut offset = 0u64;
        for &length in &self.lengths {
            idx.write(&offset.to_le_bytes())?;
            offset += u64::from(length) * self.token_type.bytes() as u64;
        }
        // One sequence per document.
        for boundary in 0..=documents {
            idx.write(&boundary.to_le_bytes())?;
        }
        let (bin, idx) = (self.bin.flush()?, idx.flush()?);
        let info = ShardInfo {
            prefix: self.prefix,
            token_type: self.token_type,
            documents,
            tokens: self.tokens,
            bin_bytes: bin.bytes,
            idx_bytes: idx.bytes,
            bin_digest: bin.digest.clone(),
            idx_digest: idx.digest.clone(),
        };
        atomic::remove(&idx_path)?;
        bin.rename()?;
        idx.rename()?;
        Ok(info)
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Both paths without `.bin` and `.idx`.
    pub prefix: PathBuf,
    /// How tokens lie in the `.bin` file.
    pub token_type: TokenType,
    /// Documents, empty ones included.
    pub documents: u64,
    /// Tokens.
    pub tokens: u64,
    /// Size of the `.bin` file.
    pub bin_bytes: u64,
    /// Size of the `.idx` file.
    pub idx_bytes: u64,
    /// `blake3:` and the hash of the `.bin` file.
    pub bin_digest: String,
    /// `blake3:` and the hash of the `.idx` file.
    pub idx_digest: String,
}
