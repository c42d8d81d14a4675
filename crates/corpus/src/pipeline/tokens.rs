//! One part of documents to tokens: a training and a validation shard in the work folder.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use llama_pro_shards::ShardWriter;
use llama_pro_text::FimForm;
use serde::{Deserialize, Serialize};

use super::lines::PartLines;
use super::read::{EXAMPLES, Example, PartRecord, excerpt};
use super::store::{Head, LineReader, PartReader};
use super::{Context, PART_RECORD, flow, parts, work};
use crate::dedup::find_kept;
use crate::dedup::lines::{Stripped, bit};
use crate::document::{Meta, content_key};
use crate::error::{Error, Result};
use crate::report::LineReport;
use crate::split::{is_validation, sample_key};

/// The two sides of the split, as files are named.
pub(super) const SIDES: [&str; 2] = ["train", "validation"];

/// The account of a part's tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    pub(super) key: String,
    /// Documents, text bytes and tokens of both sides.
    pub(super) sides: [Tally; 2],
    /// Repeated lines that were taken out.
    #[serde(default)]
    pub(super) lines: LineReport,
    /// Documents of which nothing was left then: the first ones.
    #[serde(default)]
    pub(super) emptied: Vec<Example>,
    pub(super) sizes: Vec<(String, u64)>,
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

/// Sums of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    pub(super) tokens: u64,
}

/// What is known of a document in a shard: one line of `NAME-SIDE.documents.jsonl.zst`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DocumentLine {
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) meta: Meta,
    /// UTF-8 bytes of text.
    pub(super) bytes: u64,
    /// Tokens, BOS and EOS included.
    pub(super) tokens: u64,
    /// 128 bits of the blake3 hash of the text.
    pub(super) hash: String,
    /// In which form fill-in-the-middle turned it; only where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fim: Option<FimForm>,
    /// Its place in the order in which a limited sample is taken; only where there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sample: Option<String>,
}

/// A document on its way to the tokenizer, and the place of its first line.
type Stored = (Head, String, u64);

enum Outcome {
    Document {
        document: Tokenised,
        stripped: Stripped,
    },
    /// Only repeated lines.
    Emptied {
        example: Example,
        stripped: Stripped,
    },
}

struct Tokenised {
    side: usize,
    line: DocumentLine,
    tokens: Vec<u32>,
}

/// Tokenises the documents of a part that have no duplicate before them, unless that was done.
pub(super) fn part(
    context: &Context<'_>,
    source: usize,
    record: &PartRecord,
    fates: &[u8],
    lines: Option<PartLines<'_>>,
) -> Result<TokenRecord> {
    let key = key(context, source, record, fates, lines)?;
    let dir = context.work.join("tokens").join(&key);
    if parts::is_there(&dir) {
        let mut done: TokenRecord = work::read_json(&dir.join(PART_RECORD))?;
        let whole = |(name, size): &(String, u64)| dir.join(name).metadata().is_ok_and(|m| m.len() == *size);
        if done.sizes.iter().all(whole) {
            done.dir = dir;
            return Ok(done);
        }
    }
    let folder = work::temporary(&dir)?;
    let mut done = TokenRecord { key, ..TokenRecord::default() };
    let mut writers = SIDES.map(|_| None).into_iter().collect::<Vec<Option<Side>>>();
    for (writer, side) in writers.iter_mut().zip(SIDES) {
        *writer = Some(Side::new(folder.path(), side, context.tokenizer.vocab_size())?);
    }
    flow::run(
        context.cancel,
        |out| read(record, fates, lines.is_some(), out),
        |stored| one(context, source, lines, stored),
        |outcome| {
            let document = match outcome {
                Outcome::Document { document, stripped } => {
                    done.lines.add(stripped);
                    document
                }
                Outcome::Emptied { example, stripped } => {
                    done.lines.add(stripped);
                    done.lines.emptied += 1;
                    if done.emptied.len() < EXAMPLES {
                        done.emptied.push(example);
                    }
                    return Ok(());
                }
            };
            let tally = &mut done.sides[document.side];
            tally.documents += 1;
            tally.bytes += document.line.bytes;
            tally.tokens += document.line.tokens;
            writers[document.side].as_mut().map_or(Ok(()), |writer| writer.push(&document))
        },
    )?;
    for writer in writers.into_iter().flatten() {
        done.sizes.extend(writer.finish()?);
    }
    work::publish(folder, &dir, PART_RECORD, &done)?;
    done.dir = dir;
    Ok(done)
}

fn read(record: &PartRecord, fates: &[u8], lines: bool, out: &mut flow::Batches<Stored>) -> Result<()> {
    let mut documents = PartReader::open(&record.dir)?;
    let mut lines = lines.then(|| LineReader::open(&record.dir)).transpose()?;
    let (mut first, mut hashes) = (0, Vec::new());
    for &fate in fates {
        let Some((head, text)) = documents.next()? else {
            return Err(Error::Work { path: record.dir.clone() });
        };
        lines.as_mut().map_or(Ok(()), |lines| lines.next(&mut hashes))?;
        let bytes = text.len();
        if find_kept(fate) && !out.push((head, text, first), bytes) {
            break;
        }
        first += hashes.len() as u64;
    }
    Ok(())
}

fn one(
    context: &Context<'_>,
    source: usize,
    lines: Option<PartLines<'_>>,
    (head, text, first): Stored,
) -> Result<Outcome> {
    let Some(lines) = lines else {
        let document = tokenise(context, source, head, &text)?;
        return Ok(Outcome::Document { document, stripped: Stripped::default() });
    };
    let mut stripped = lines.rule.strip(&text, |place| bit(lines.bits, first + place));
    let left = std::mem::take(&mut stripped.text);
    if left.trim().is_empty() {
        let detail =
            format!("{} lines, each in more than {} documents", stripped.lines, lines.rule.max_documents);
        let example = Example { id: head.id, detail, excerpt: excerpt(&text) };
        return Ok(Outcome::Emptied { example, stripped });
    }
    Ok(Outcome::Document { document: tokenise(context, source, head, &left)?, stripped })
}

fn tokenise(context: &Context<'_>, source: usize, head: Head, text: &str) -> Result<Tokenised> {
    let Head { id, meta } = head;
    let split = &context.recipe.split;
    let held_out = is_validation(text, split.validation, split.seed);
    let marks = &context.boundaries;
    let mut tokens: Vec<u32> = marks.bos.into_iter().collect();
    let encoded = match context.fim(source).filter(|_| !held_out) {
        Some(fim) => context.tokenizer.with_encoder(|encoder| fim.encode_into(encoder, text, &mut tokens)),
        None => context.tokenizer.encode_into(text, &mut tokens).map(|()| None),
    };
    let fim = encoded.map_err(|source| Error::Tokenize { id: id.clone(), source })?;
    tokens.extend(marks.eos);
    let sample = context.recipe.sources[source].max_tokens.is_some();
    let line = DocumentLine {
        id,
        meta,
        bytes: text.len() as u64,
        tokens: tokens.len() as u64,
        hash: format!("{:032x}", content_key(text)),
        fim,
        sample: sample.then(|| format!("{:032x}", sample_key(text, split.seed))),
    };
    Ok(Tokenised { side: usize::from(held_out), line, tokens })
}

fn key(
    context: &Context<'_>,
    source: usize,
    record: &PartRecord,
    fates: &[u8],
    lines: Option<PartLines<'_>>,
) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let split = &context.recipe.split;
    let sample = context.recipe.sources[source].max_tokens.is_some();
    let rest = (
        "llama-pro corpus tokens 1",
        &record.key,
        context.tokenizer.digest(),
        context.boundaries,
        split.validation.to_bits(),
        split.seed,
        sample,
    );
    let rest = serde_json::to_vec(&rest).map_err(|source| Error::Json { what: "the recipe", source })?;
    hasher.update(&rest);
    if let Some(fim) = context.fim(source) {
        let how = serde_json::to_vec(&("fim", &context.recipe.fim, fim.ids()));
        hasher.update(&how.map_err(|source| Error::Json { what: "the recipe", source })?);
    }
    if let Some(lines) = lines {
        hasher.update(b"lines").update(&lines.rule.max_documents.to_le_bytes());
        lines.bits.iter().for_each(|word| {
            hasher.update(&word.to_le_bytes());
        });
    }
    // Which documents are kept, not why others are not.
    for &fate in fates {
        hasher.update(&[u8::from(find_kept(fate))]);
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// The shard of one side and what is known of its documents.
struct Side {
    shard: ShardWriter,
    lines: BufWriter<File>,
    path: PathBuf,
    name: &'static str,
}

impl Side {
    fn new(dir: &Path, name: &'static str, vocab_size: usize) -> Result<Self> {
        let path = dir.join(format!("{name}.jsonl"));
        let lines = BufWriter::new(File::create(&path).map_err(Error::io("write", &path))?);
        Ok(Self { shard: ShardWriter::new(&dir.join(name), vocab_size)?, lines, path, name })
    }

    fn push(&mut self, document: &Tokenised) -> Result<()> {
        self.shard.push(&document.tokens)?;
        let mut line = serde_json::to_vec(&document.line)
            .map_err(|source| Error::Json { what: "a document", source })?;
        line.push(b'\n');
        self.lines.write_all(&line).map_err(Error::io("write", &self.path))
    }

    fn finish(self) -> Result<Vec<(String, u64)>> {
        let file = self.lines.into_inner();
        let file = file.map_err(|error| Error::io("write", &self.path)(error.into_error()))?;
        file.sync_all().map_err(Error::io("write", &self.path))?;
        let lines = file.metadata().map_err(Error::io("read", &self.path))?.len();
        let info = self.shard.finish()?;
        Ok(vec![
            (format!("{}.jsonl", self.name), lines),
            (format!("{}.bin", self.name), info.bin_bytes),
            (format!("{}.idx", self.name), info.idx_bytes),
        ])
    }
}
