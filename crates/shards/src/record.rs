//! `shards.json`: what a folder of token shards was made from and what is in it, so that a reader need trust nothing.
//!
//! The program that makes shards fills a [`ShardsRecord`] and writes it last, when every file it names is in place.
//! The record has no time and no absolute path: the same input gives the same bytes. Hashes of the documents, which
//! at 16 bytes each would be most of the record, lie in `PREFIX.hashes` beside each shard (see [`HashesWriter`]); the
//! record has the digest of that file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::atomic::Pending;
use crate::error::{Error, Result, io};
use crate::index::{self, TokenType};
use crate::reader::TokenShard;
use crate::writer::ShardInfo;

/// The record's file name in the folder of the shards.
pub const RECORD_NAME: &str = "shards.json";

/// The format that this version writes and reads.
pub const RECORD_FORMAT: &str = "llama-pro-shards/1";

/// A record of a million parts is smaller; a larger file is something else and is not read into memory.
const MOST_BYTES: u64 = 1 << 30;

/// Bytes of one document's hash.
pub const HASH_BYTES: usize = 16;

/// What a folder of shards is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardsRecord {
    /// [`RECORD_FORMAT`].
    pub format: String,
    /// Digest of the tokenizer file that made the ids.
    pub tokenizer: String,
    /// Largest token id + 1; decides the token type of the `.bin` files.
    pub vocab_size: usize,
    /// What stands at the ends of every document.
    pub boundaries: Boundaries,
    /// All that decided the bytes besides the input: filters, deduplication, split, seeds.
    pub parameters: Map<String, Value>,
    /// Where the documents came from, in order.
    pub sources: Vec<SourceRecord>,
    /// The shards, in order.
    pub shards: Vec<ShardRecord>,
}

/// The policy on document boundaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundaries {
    /// The id that begins every document, or none.
    pub bos: Option<u32>,
    /// The id that ends every document, or none.
    pub eos: Option<u32>,
}

/// One source: what came in and what became of it. `documents == kept + dropped + failed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Its name in the recipe.
    pub name: String,
    /// One digest over its inputs and keys.
    pub digest: String,
    /// The files, where there are few enough to name; may be empty.
    pub inputs: Vec<InputRecord>,
    /// Documents that came in.
    pub documents: u64,
    /// Documents that are in the shards.
    pub kept: u64,
    /// Documents left out on purpose, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Documents that could not be read, by reason.
    pub failed: BTreeMap<String, u64>,
}

/// One input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRecord {
    /// Path within the source, `/` between folders.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// `blake3:` and the hash of the content.
    pub digest: String,
}

/// One `.bin`/`.idx` pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// File name without `.bin` and `.idx`, in the folder of the record.
    pub name: String,
    /// `u16` or `i32`.
    pub token_type: String,
    /// Documents, empty ones included.
    pub documents: u64,
    /// Tokens, with BOS and EOS.
    pub tokens: u64,
    /// UTF-8 bytes of text that became these tokens.
    pub text_bytes: u64,
    /// Tokens of each source, by name; may be empty.
    pub tokens_by_source: BTreeMap<String, u64>,
    /// The `.bin` file.
    pub bin: FileRecord,
    /// The `.idx` file.
    pub idx: FileRecord,
    /// The `.hashes` file, if there is one.
    pub hashes: Option<FileRecord>,
}

/// A file of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Size.
    pub bytes: u64,
    /// `blake3:` and the hash of the content.
    pub digest: String,
}

impl ShardsRecord {
    /// Puts `dir/shards.json` in place, whole or not at all. Call it after the shards are finished.
    ///
    /// # Errors
    /// When counts of a source do not add up (a defect of the caller that must not reach the disk), or the file
    /// cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(RECORD_NAME);
        self.check(&path)?;
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| corrupt(&path, "record", "a JSON object", &error))?;
        text.push('\n');
        let mut file = Pending::create(&path)?;
        file.write(text.as_bytes())?;
        file.flush()?.rename()
    }

    /// Reads `dir/shards.json`; `None` where there is no such file. Shards are not opened.
    ///
    /// # Errors
    /// A file that is no record of this format, or whose counts do not add up.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD_NAME);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, "open")(error)),
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(io(&path, "read"))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(corrupt(&path, "size", "at most 1 GiB", &"more"));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt(&path, "record", "a JSON object", &error))?;
        // The format first: another one may lack or add any key.
        match value.get("format") {
            Some(Value::String(format)) if format == RECORD_FORMAT => {}
            found => {
                let found = found.map_or_else(|| "none".to_owned(), Value::to_string);
                return Err(corrupt(&path, "format", RECORD_FORMAT, &found));
            }
        }
        let record: Self = serde_json::from_value(value)
            .map_err(|error| corrupt(&path, "record", "the keys of this format", &error))?;
        record.check(&path)?;
        Ok(Some(record))
    }

    /// Reads every file that the record names and compares it: sizes, digests, counts, token type, ids below the
    /// vocabulary size.
    ///
    /// # Errors
    /// Names the first file and field that differs.
    pub fn verify(&self, dir: &Path) -> Result<()> {
        for shard in &self.shards {
            let prefix = dir.join(&shard.name);
            let (bin, idx) = index::paths(&prefix);
            let files = [
                (bin, Some(&shard.bin)),
                (idx, Some(&shard.idx)),
                (hashes_path(&prefix), shard.hashes.as_ref()),
            ];
            for (path, expected) in files {
                let Some(expected) = expected else { continue };
                let (bytes, digest) = digest(&path)?;
                compare(&path, "size", &expected.bytes, &bytes)?;
                compare(&path, "digest", &expected.digest, &digest)?;
            }
            let open = TokenShard::open(&prefix)?;
            compare(&prefix, "documents", &shard.documents, &(open.n_documents() as u64))?;
            compare(&prefix, "tokens", &shard.tokens, &(open.n_tokens() as u64))?;
            compare(&prefix, "token type", &shard.token_type.as_str(), &open.token_type().name())?;
            if let Some(hashes) = &shard.hashes {
                compare(
                    &hashes_path(&prefix),
                    "size",
                    &(shard.documents * HASH_BYTES as u64),
                    &hashes.bytes,
                )?;
            }
            open.check_vocabulary(self.vocab_size)?;
        }
        Ok(())
    }

    fn check(&self, path: &Path) -> Result<()> {
        for source in &self.sources {
            let out =
                |counts: &BTreeMap<String, u64>| counts.values().fold(0u64, |sum, &n| sum.saturating_add(n));
            let sum = source.kept.saturating_add(out(&source.dropped)).saturating_add(out(&source.failed));
            let field = format!("source {}: kept + dropped + failed", source.name);
            compare(path, &field, &source.documents, &sum)?;
        }
        for shard in &self.shards {
            let name = Path::new(&shard.name);
            if name.file_name() != Some(name.as_os_str()) {
                return Err(corrupt(
                    path,
                    "shard name",
                    "a file name without folders",
                    &format!("{:?}", shard.name),
                ));
            }
        }
        Ok(())
    }
}

impl ShardRecord {
    /// The record of what [`crate::ShardWriter::finish`] wrote.
    pub fn new(info: &ShardInfo, text_bytes: u64, hashes: Option<FileRecord>) -> Self {
        Self {
            name: info.prefix.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            token_type: info.token_type.name().to_owned(),
            documents: info.documents,
            tokens: info.tokens,
            text_bytes,
            tokens_by_source: BTreeMap::new(),
            bin: FileRecord { bytes: info.bin_bytes, digest: info.bin_digest.clone() },
            idx: FileRecord { bytes: info.idx_bytes, digest: info.idx_digest.clone() },
            hashes,
        }
    }
}

impl TokenType {
    /// As `shards.json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::U16 => "u16",
            Self::I32 => "i32",
        }
    }
}

/// Writes `PREFIX.hashes`: one hash of [`HASH_BYTES`] bytes per document of the shard, in its order, nothing else.
/// Which hash (of the text, say blake3 cut to 16 bytes) is the caller's choice and belongs into `parameters`.
pub struct HashesWriter {
    file: Pending,
    documents: u64,
}

impl HashesWriter {
    /// Starts `PREFIX.hashes`; the folder must exist. Dropped without [`HashesWriter::finish`], it leaves nothing.
    ///
    /// # Errors
    /// When the temporary file cannot be made.
    pub fn new(prefix: &Path) -> Result<Self> {
        Ok(Self { file: Pending::create(&hashes_path(prefix))?, documents: 0 })
    }

    /// The hash of the next document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, hash: [u8; HASH_BYTES]) -> Result<()> {
        self.documents += 1;
        self.file.write(&hash)
    }

    /// Hashes so far.
    pub fn n_documents(&self) -> u64 {
        self.documents
    }

    /// Puts the file in place. Call it before [`crate::ShardWriter::finish`], whose index says that all is there.
    ///
    /// # Errors
    /// When the file cannot be flushed or renamed.
    pub fn finish(self) -> Result<FileRecord> {
        let file = self.file.flush()?;
        let record = FileRecord { bytes: file.bytes, digest: file.digest.clone() };
        file.rename()?;
        Ok(record)
    }
}

fn hashes_path(prefix: &Path) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(".hashes");
    PathBuf::from(name)
}

fn digest(path: &Path) -> Result<(u64, String)> {
    let mut hash = blake3::Hasher::new();
    let file = fs::File::open(path).map_err(io(path, "open"))?;
    hash.update_reader(file).map_err(io(path, "read"))?;
    Ok((hash.count(), format!("blake3:{}", hash.finalize().to_hex())))
}

fn compare<T: PartialEq + std::fmt::Display>(
    path: &Path,
    field: &str,
    expected: &T,
    found: &T,
) -> Result<()> {
    if expected == found { Ok(()) } else { Err(corrupt(path, field, &expected.to_string(), found)) }
}

fn corrupt(path: &Path, field: &str, expected: &str, found: &dyn std::fmt::Display) -> Error {
    let (path, field) = (path.to_path_buf(), field.to_owned());
    Error::Corrupt { path, field, expected: expected.to_owned(), found: found.to_string() }
}
