//! The tokens of all parts joined into the shards of each source.

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use llama_pro_shards::{HASH_BYTES, HashesWriter, ShardRecord, ShardWriter, ShardsRecord, TokenType};
use llama_pro_text::FimForm;
use tempfile::NamedTempFile;

use super::Context;
use super::read::{EXAMPLES, Example};
use super::tokens::{DocumentLine, SIDES, TokenRecord};
use crate::error::{Error, Result};
use crate::report::{FimReport, LineReport};

/// What the shards of one source hold.
#[derive(Default)]
pub(super) struct Joined {
    /// Training and validation; the second only if there is a split.
    pub(super) shards: Vec<ShardRecord>,
    /// Documents that the limit on tokens left out.
    pub(super) over_max_tokens: u64,
    pub(super) over_max_tokens_bytes: u64,
    /// Repeated lines that were taken out, and of which documents nothing was left.
    pub(super) lines: LineReport,
    pub(super) emptied: Vec<Example>,
    /// Documents that fill-in-the-middle turned.
    pub(super) fim: FimReport,
}

/// Writes `NAME-train` and `NAME-validation` with `.bin`, `.idx`, `.hashes` and `.documents.jsonl.zst`.
pub(super) fn source(context: &Context<'_>, index: usize, parts: &[TokenRecord]) -> Result<Joined> {
    let source = &context.recipe.sources[index];
    let mut joined = Joined::default();
    for part in parts {
        joined.lines.join(&part.lines);
        joined.emptied.extend(part.emptied.iter().take(EXAMPLES - joined.emptied.len()).cloned());
    }
    let sides = if context.recipe.split.validation > 0.0 { 2 } else { 1 };
    for (number, side) in SIDES.into_iter().take(sides).enumerate() {
        let name = format!("{}-{side}", source.name);
        let limit = source.max_tokens.filter(|_| number == 0);
        let last = limit.map(|limit| last_of_sample(parts, side, limit)).transpose()?;
        let prefix = context.out.join(&name);
        let mut shard = ShardWriter::new(&prefix, context.tokenizer.vocab_size())?;
        let mut hashes = HashesWriter::new(&prefix)?;
        let mut lines = Lines::new(context.out, &name)?;
        let mut text_bytes = 0;
        for part in parts {
            let mut tokens = PartTokens::open(context, part, side)?;
            each_line(part, side, |line| {
                let taken = match (&last, &line.sample) {
                    (Some(last), Some(place)) => place <= last,
                    _ => true,
                };
                let document = tokens.next(line.tokens)?;
                if taken {
                    shard.push(document)?;
                    hashes.push(hash(&line.hash, part)?)?;
                    text_bytes += line.bytes;
                    match line.fim {
                        Some(FimForm::Psm) => joined.fim.psm += 1,
                        Some(FimForm::Spm) => joined.fim.spm += 1,
                        None => {}
                    }
                    lines.push(&DocumentLine { sample: None, ..line })?;
                } else {
                    joined.over_max_tokens += 1;
                    joined.over_max_tokens_bytes += line.bytes;
                }
                Ok(())
            })?;
            tokens.end()?;
        }
        lines.finish()?;
        let hashes = hashes.finish()?;
        let mut record = ShardRecord::new(&shard.finish()?, text_bytes, Some(hashes));
        record.tokens_by_source.insert(source.name.clone(), record.tokens);
        joined.shards.push(record);
    }
    Ok(joined)
}

/// Removes the shards of an earlier run that this one does not write again: of a source that has gone or was renamed, or
/// of a side that there no longer is.
pub(super) fn remove_others(context: &Context<'_>, before: &ShardsRecord) -> Result<()> {
    let sides = if context.recipe.split.validation > 0.0 { 2 } else { 1 };
    let sources = || context.recipe.sources.iter();
    let stays = |name: &str| {
        sources().any(|source| SIDES[..sides].iter().any(|side| name == format!("{}-{side}", source.name)))
    };
    for shard in before.shards.iter().filter(|shard| !stays(&shard.name)) {
        // Written by `prepare`, it is the name of a source and a side; anything else is not a file of ours.
        let source = SIDES.iter().find_map(|side| shard.name.strip_suffix(side)?.strip_suffix('-'));
        if source.is_none_or(|source| crate::prepare::check_name(source).is_err()) {
            continue;
        }
        for extension in ["bin", "idx", "hashes", "documents.jsonl.zst"] {
            let path = context.out.join(format!("{}.{extension}", shard.name));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The tokens of one side of a part, read once from front to back. A map of the file would count as memory, part by
/// part up to the size of the largest.
struct PartTokens {
    file: BufReader<File>,
    path: PathBuf,
    token_type: TokenType,
    bytes: Vec<u8>,
    tokens: Vec<u32>,
}

impl PartTokens {
    fn open(context: &Context<'_>, part: &TokenRecord, side: &str) -> Result<Self> {
        let path = part.dir.join(format!("{side}.bin"));
        let file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(Error::io("read", &path))?);
        let token_type = TokenType::for_vocabulary(context.tokenizer.vocab_size());
        Ok(Self { file, path, token_type, bytes: Vec::new(), tokens: Vec::new() })
    }

    /// The next document, of so many tokens.
    fn next(&mut self, tokens: u64) -> Result<&[u32]> {
        let bytes = tokens.saturating_mul(self.token_type.bytes() as u64);
        self.bytes.clear();
        let got = (&mut self.file).take(bytes).read_to_end(&mut self.bytes);
        if got.map_err(Error::io("read", &self.path))? as u64 != bytes {
            return Err(Error::Work { path: self.path.clone() });
        }
        self.tokens.clear();
        match self.token_type {
            TokenType::U16 => {
                let all = self.bytes.as_chunks().0;
                self.tokens.extend(all.iter().map(|&two| u32::from(u16::from_le_bytes(two))));
            }
            TokenType::I32 => {
                let all = self.bytes.as_chunks().0;
                self.tokens.extend(all.iter().map(|&four| u32::from_le_bytes(four)));
            }
        }
        Ok(&self.tokens)
    }

    /// Refuses tokens that belong to no document.
    fn end(mut self) -> Result<()> {
        match self.file.fill_buf().map_err(Error::io("read", &self.path))?.is_empty() {
            true => Ok(()),
            false => Err(Error::Work { path: self.path }),
        }
    }
}

/// The last place of the shortest beginning of the order with at least `limit` tokens. 32 bytes of memory for each
/// document of the source.
fn last_of_sample(parts: &[TokenRecord], side: &str, limit: u64) -> Result<String> {
    let mut places = Vec::new();
    for part in parts {
        each_line(part, side, |line| {
            let place = line.sample.as_deref().and_then(|place| u128::from_str_radix(place, 16).ok());
            places.push((place.unwrap_or(0), line.tokens));
            Ok(())
        })?;
    }
    places.sort_unstable();
    let mut sum = 0;
    for &(place, tokens) in &places {
        sum += tokens;
        if sum >= limit {
            return Ok(format!("{place:032x}"));
        }
    }
    Ok("g".to_owned()) // behind every hexadecimal number
}

fn each_line(part: &TokenRecord, side: &str, mut each: impl FnMut(DocumentLine) -> Result<()>) -> Result<()> {
    let path = part.dir.join(format!("{side}.jsonl"));
    let file = BufReader::with_capacity(1 << 17, File::open(&path).map_err(Error::io("read", &path))?);
    for line in file.lines() {
        let line = line.map_err(Error::io("read", &path))?;
        each(serde_json::from_str(&line).map_err(|_| Error::Work { path: path.clone() })?)?;
    }
    Ok(())
}

fn hash(hex: &str, part: &TokenRecord) -> Result<[u8; HASH_BYTES]> {
    let number = u128::from_str_radix(hex, 16).map_err(|_| Error::Work { path: part.dir.clone() })?;
    Ok(number.to_be_bytes())
}

/// `NAME.documents.jsonl.zst` on its way.
struct Lines {
    file: zstd::stream::write::Encoder<'static, NamedTempFile>,
    path: PathBuf,
}

impl Lines {
    fn new(out: &Path, name: &str) -> Result<Self> {
        let path = out.join(format!("{name}.documents.jsonl.zst"));
        let io = || Error::io("write", &path);
        let file = tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(out).map_err(io())?;
        let file = zstd::stream::write::Encoder::new(file, 3).map_err(io())?;
        Ok(Self { file, path })
    }

    fn push(&mut self, line: &DocumentLine) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|source| Error::Json { what: "a document", source })?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(Error::io("write", &self.path))
    }

    fn finish(self) -> Result<()> {
        let io = || Error::io("write", &self.path);
        let file = self.file.finish().map_err(io())?;
        file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(io())?;
        file.as_file().sync_all().map_err(io())?;
        file.persist(&self.path).map_err(|error| io()(error.error))?;
        Ok(())
    }
}
