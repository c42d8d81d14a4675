//! One part: read, cleaned, filtered, and left on disk with its hashes and its account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llama_pro_shards::InputRecord;
use serde::{Deserialize, Serialize};

use super::parts::{self, Keyed, Part};
use super::store::{Head, PartWriter, Stored};
use super::{Context, PART_RECORD, flow, work};
use crate::decontaminate::Match;
use crate::dedup::MinHash;
use crate::document::{Counts, Document, Item, Loss, OnError, content_key, normalise};
use crate::error::{Error, Result};
use crate::filter::{PiiCounts, judge_tokens};

/// Examples that are kept of each rule.
pub(super) const EXAMPLES: usize = 3;

/// Characters of an example.
const EXCERPT: usize = 200;

/// Files of a source that are named in the record of the shards; more would be a second listing of the disk.
pub(super) const NAMED_FILES: usize = 1000;

/// Contaminated documents that the report shows; all are counted.
const SHOWN_CONTAMINATIONS: usize = 1000;

/// The rule of contaminated documents.
pub(super) const CONTAMINATED: &str = "contaminated";

/// The account of a part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    pub(super) key: String,
    /// Inputs, where they are few.
    pub(super) inputs: Vec<InputRecord>,
    pub(super) files: u64,
    pub(super) input_bytes: u64,
    /// What came in and what became of it, before duplicates are looked for.
    pub(super) counts: Counts,
    pub(super) pii: PiiCounts,
    pub(super) examples: BTreeMap<String, Vec<Example>>,
    /// The first contaminated documents.
    pub(super) contaminated: Vec<Contamination>,
    /// Band hashes per document.
    pub(super) bands: usize,
    /// Hashes of lines.
    #[serde(default)]
    pub(super) lines: u64,
    /// Files of the part and their sizes.
    pub(super) sizes: Vec<(String, u64)>,
    /// The folder; not written, since the work folder may be moved.
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

/// A document that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The document.
    pub id: String,
    /// What was found against it.
    pub detail: String,
    /// How its text begins.
    pub excerpt: String,
}

/// A document that holds a piece of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contamination {
    /// The document.
    pub id: String,
    /// What it holds.
    #[serde(flatten)]
    pub found: Match,
}

/// The beginning of a text, for an example.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).collect()
}

/// What becomes of one item.
enum Outcome {
    Kept { stored: Stored, text_bytes: u64, nuls: u64, pii: PiiCounts },
    Out { rule: &'static str, failed: bool, example: Example, contamination: Option<Match> },
}

/// Reads a part, unless that was done before, and gives its record.
pub(super) fn part(context: &Context<'_>, part: &mut Part) -> Result<PartRecord> {
    let source = &context.recipe.sources[part.source];
    loop {
        let keyed = parts::key(context.recipe, source, &context.outside(part.source), part)?;
        let dir = context.work.join("parts").join(&keyed.key);
        if let Some(record) = there(&dir)? {
            return Ok(record);
        }
        let temporary = work::temporary(&dir)?;
        let mut record = fill(context, part, &keyed, temporary.path())?;
        let changed = parts::changed(part, &keyed);
        if !changed.is_empty() {
            let place = part.listing.files[changed[0]].path().display().to_string();
            if context.recipe.on_error == OnError::Stop {
                return Err(Error::Changed { name: source.name.clone(), place });
            }
            tracing::warn!("skipped: {place} changed while it was read");
            changed.into_iter().for_each(|i| part.listing.files[i].loss = Some(Loss::Changed));
            continue;
        }
        work::publish(temporary, &dir, PART_RECORD, &record)?;
        record.dir = dir;
        return Ok(record);
    }
}

fn there(dir: &Path) -> Result<Option<PartRecord>> {
    if !parts::is_there(dir) {
        return Ok(None);
    }
    let mut record: PartRecord = work::read_json(&dir.join(PART_RECORD))?;
    let whole = |(name, size): &(String, u64)| dir.join(name).metadata().is_ok_and(|m| m.len() == *size);
    if !record.sizes.iter().all(whole) {
        return Ok(None);
    }
    dir.clone_into(&mut record.dir);
    Ok(Some(record))
}

fn fill(context: &Context<'_>, part: &Part, keyed: &Keyed, dir: &Path) -> Result<PartRecord> {
    let recipe = context.recipe;
    let source = &recipe.sources[part.source];
    let minhash = context.minhash.as_ref().filter(|_| source.near_dedup);
    let bands = minhash.map_or(0, MinHash::bands);
    let mut writer = PartWriter::new(dir, bands, source.line_dedup.is_on())?;
    let files = part.listing.files.len();
    let inputs = part.listing.files.iter().zip(&keyed.digests).filter(|_| files <= NAMED_FILES);
    let digest = |bytes: &[u8; 32]| format!("blake3:{}", blake3::Hash::from_bytes(*bytes).to_hex());
    let mut record = PartRecord {
        key: keyed.key.clone(),
        inputs: inputs
            .map(|(file, bytes)| InputRecord {
                path: file.id.to_string(),
                bytes: file.len,
                digest: digest(bytes),
            })
            .collect(),
        files: files as u64,
        input_bytes: part.bytes(),
        bands,
        ..PartRecord::default()
    };
    let mut seen = 0;
    flow::run(
        context.cancel,
        |out| {
            let raw = source.source.open(&part.listing, recipe.on_error)?;
            for item in raw.items {
                let item = item?;
                let bytes = match &item {
                    Item::Document(document) => document.text.len(),
                    Item::Lost { .. } => 0,
                };
                if !out.push(item, bytes) {
                    break;
                }
            }
            seen = raw.intake.get();
            Ok(())
        },
        |item| one(context, part, minhash, item),
        |outcome| record.take(&mut writer, outcome),
    )?;
    record.counts.seen = seen;
    record.sizes = writer.finish()?;
    let (seen, accounted) = (record.counts.seen, record.counts.accounted());
    if seen != accounted {
        return Err(Error::Tally { place: part.listing.place.clone(), seen, accounted });
    }
    Ok(record)
}

fn one(context: &Context<'_>, part: &Part, minhash: Option<&MinHash>, item: Item) -> Result<Outcome> {
    let out = |rule, failed, id: String, detail: String, text: &str| {
        let example = Example { id, detail, excerpt: excerpt(text) };
        Ok(Outcome::Out { rule, failed, example, contamination: None })
    };
    let document = match item {
        Item::Lost { id, loss, detail } => return out(loss.name(), loss.is_failure(), id, detail, ""),
        Item::Document(document) => document,
    };
    let source = &context.recipe.sources[part.source];
    let mut document = document;
    if let Err(against) = source.filters.convert(&mut document) {
        return out(against.rule, false, document.id, against.detail, &document.text);
    }
    let (text, nuls) = normalise(document.text);
    let mut document = Document { text, ..document };
    let bytes = document.text.len() as u64;
    if bytes > context.recipe.max_document_bytes {
        let detail = format!("{bytes} bytes, at most {}", context.recipe.max_document_bytes);
        return out(Loss::TooLarge.name(), false, document.id, detail, &document.text);
    }
    if document.text.trim().is_empty() {
        return out(Loss::Empty.name(), false, document.id, String::new(), "");
    }
    let mut verdict = source.filters.judge(&mut document, &context.aids[part.source]);
    if let (Ok(()), Some(rule)) = (&verdict, source.filters.chars_per_token(&document)) {
        let ids = context.tokenizer.encode(&document.text);
        let ids = ids.map_err(|source| Error::Tokenize { id: document.id.clone(), source })?;
        verdict = judge_tokens(rule, &document, ids.len());
    }
    if let Err(against) = verdict {
        return out(against.rule, false, document.id, against.detail, &document.text);
    }
    if let Some(found) = context.decontaminator.as_ref().and_then(|d| d.find(&document)) {
        let detail = format!("{} {}: {}", found.benchmark, found.item, found.text);
        let example = Example { id: document.id, detail, excerpt: excerpt(&document.text) };
        return Ok(Outcome::Out { rule: CONTAMINATED, failed: false, example, contamination: Some(found) });
    }
    let pii = source.filters.replace_pii(&mut document.text);
    let mut bands = Vec::new();
    if let Some(minhash) = minhash {
        minhash.push_bands(&document.text, &mut bands);
    }
    let content = content_key(&document.text);
    let text_bytes = document.text.len() as u64;
    let head = Head { id: document.id, meta: document.meta };
    let record = Stored::record(&head, &document.text)?;
    let lines = source.line_dedup.get().map_or_else(Vec::new, |rule| rule.hashes(&document.text));
    Ok(Outcome::Kept { stored: Stored { record, content, bands, lines }, text_bytes, nuls, pii })
}

/// What the report shows has been shown by the parts before, or is too much. All parts' records are in memory at once,
/// so the rest of what they show is let go of.
pub(super) struct Shown {
    /// Files of each source.
    files: Vec<usize>,
    contaminations: usize,
    source: usize,
    examples: BTreeMap<String, usize>,
}

impl Shown {
    pub(super) fn new(parts: &[Part]) -> Self {
        let mut files = Vec::new();
        for part in parts {
            files.resize(files.len().max(part.source + 1), 0);
            files[part.source] += part.listing.files.len();
        }
        Self { files, contaminations: 0, source: 0, examples: BTreeMap::new() }
    }

    /// Takes the parts in their order.
    pub(super) fn trim(&mut self, source: usize, record: &mut PartRecord) {
        if source != self.source {
            (self.source, self.examples) = (source, BTreeMap::new());
        }
        for (rule, examples) in &mut record.examples {
            let before = self.examples.entry(rule.clone()).or_default();
            examples.truncate(EXAMPLES - *before);
            *before += examples.len();
        }
        record.examples.retain(|_, examples| !examples.is_empty());
        record.contaminated.truncate(SHOWN_CONTAMINATIONS - self.contaminations);
        self.contaminations += record.contaminated.len();
        if self.files[source] > NAMED_FILES {
            record.inputs = Vec::new();
        }
    }
}

impl PartRecord {
    fn take(&mut self, writer: &mut PartWriter, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Kept { stored, text_bytes, nuls, pii } => {
                writer.push(&stored)?;
                self.counts.kept += 1;
                self.lines += stored.lines.len() as u64;
                self.counts.bytes += text_bytes;
                self.counts.nuls_removed += nuls;
                self.pii.add(&pii);
            }
            Outcome::Out { rule, failed, example, contamination } => {
                let map = if failed { &mut self.counts.failed } else { &mut self.counts.dropped };
                *map.entry(rule.to_owned()).or_default() += 1;
                if let Some(found) = contamination
                    && self.contaminated.len() < SHOWN_CONTAMINATIONS
                {
                    self.contaminated.push(Contamination { id: example.id.clone(), found });
                }
                let examples = self.examples.entry(rule.to_owned()).or_default();
                if examples.len() < EXAMPLES {
                    examples.push(example);
                }
            }
        }
        Ok(())
    }
}
