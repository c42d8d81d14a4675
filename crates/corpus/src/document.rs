//! The stream of documents: line endings made one, exact duplicates dropped, every loss counted.
//!
//! A duplicate inside a source is dropped whatever file it comes from: otherwise the same text could stand in
//! training and in validation. What came in is counted by the readers, what became of it is counted here, and
//! at the end of the stream the two must agree.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::readers::Names;

/// One text, the unit of splitting and of packing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it comes from, stable between machines: a relative path, `path:line`, `crate-1.2.3/src/lib.rs`.
    pub id: String,
    /// UTF-8 text with `\n` line endings and no NUL.
    pub text: String,
    /// What the source says of it.
    pub meta: Meta,
}

/// What is known of a document besides its text, as far as its source tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Path of the file in its repository or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Licences, as SPDX identifiers where the source has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub license: Vec<String>,
    /// Programming or natural language, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Stars of its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stars: Option<u64>,
}

/// What happens when an input cannot be read or used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// One error that names it, and nothing is written.
    #[default]
    Stop,
    /// It is left out, counted as failed under a name, and the rest goes on.
    Skip,
}

/// What came in and what became of it. `seen = kept + dropped + failed`, always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files, chunks or lines that were looked at.
    pub seen: u64,
    /// Documents handed on.
    pub kept: u64,
    /// Left out by a rule: rule -> number.
    pub dropped: BTreeMap<String, u64>,
    /// Left out because they could not be read as text: reason -> number.
    pub failed: BTreeMap<String, u64>,
    /// Bytes of text in the documents handed on.
    pub bytes: u64,
    /// NUL characters taken out of documents.
    pub nuls_removed: u64,
}

impl Counts {
    /// Adds the counts of another stream.
    pub(crate) fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.kept += other.kept;
        self.bytes += other.bytes;
        self.nuls_removed += other.nuls_removed;
        for (mine, others) in [(&mut self.dropped, &other.dropped), (&mut self.failed, &other.failed)] {
            for (reason, n) in others {
                *mine.entry(reason.clone()).or_default() += n;
            }
        }
    }

    /// Documents that were kept up to here and are dropped after all.
    pub(crate) fn drop_kept(&mut self, rule: &str, documents: u64) {
        if documents > 0 {
            self.kept -= documents;
            *self.dropped.entry(rule.to_owned()).or_default() += documents;
        }
    }

    /// Kept, dropped and failed together; equals `seen`.
    pub fn accounted(&self) -> u64 {
        self.kept + self.dropped.values().sum::<u64>() + self.failed.values().sum::<u64>()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} seen, {} kept", self.seen, self.kept)?;
        for (reason, n) in self.dropped.iter().chain(&self.failed) {
            write!(f, ", {n} {reason}")?;
        }
        Ok(())
    }
}

/// Why something that came in did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Larger than max-file-bytes or max-document-bytes.
    TooLarge,
    /// The source's max-bytes was reached by others.
    OverMaxBytes,
    /// Nothing but white space.
    Empty,
    /// The same text came before.
    Duplicate,
    /// The file says that a program wrote it, or is a table of data.
    Generated,
    /// Not enough prose is left after cleaning.
    NoProse,
    /// Not enough code is left after cleaning.
    TooShort,
    /// Not valid UTF-8.
    NotUtf8,
    /// A line that is no JSON object.
    NotJson,
    /// The object or row lacks a field that the recipe names, or it is not a text.
    NoField,
    /// A line longer than the limit.
    LongLine,
    /// A file that ends early or is damaged; what came before the damage was read.
    Damaged,
    /// A compressed file that grows beyond the limit; what came before it was read.
    Bomb,
    /// A file or folder that the system does not let be read.
    Unreadable,
    /// A file whose content changed while it was read; none of it is kept.
    Changed,
}

impl Loss {
    /// As reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::OverMaxBytes => "over-max-bytes",
            Self::Empty => "empty",
            Self::Duplicate => "duplicate",
            Self::Generated => "generated",
            Self::NoProse => "no-prose",
            Self::TooShort => "too-short",
            Self::NotUtf8 => "not-utf8",
            Self::NotJson => "not-json",
            Self::NoField => "no-field",
            Self::LongLine => "line-too-long",
            Self::Damaged => "damaged-file",
            Self::Bomb => "decompression-bomb",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed-while-read",
        }
    }

    /// Whether it could not be read, as opposed to left out by a rule.
    pub fn is_failure(self) -> bool {
        use Loss::{Bomb, Changed, Damaged, LongLine, NoField, NotJson, NotUtf8, Unreadable};
        matches!(self, NotUtf8 | NotJson | NoField | LongLine | Damaged | Bomb | Unreadable | Changed)
    }
}

/// What a reader gives for each unit that it reads.
pub(crate) enum Item {
    Document(Document),
    Lost { id: String, loss: Loss, detail: String },
}

impl Item {
    pub(crate) fn lost(id: String, loss: Loss) -> Self {
        Self::Lost { id, loss, detail: String::new() }
    }

    /// Larger than a limit, whose key in the recipe is named.
    pub(crate) fn too_large(id: String, bytes: u64, limit: u64, key: &str) -> Self {
        let detail = format!("{bytes} bytes, at most {limit} ({key})");
        Self::Lost { id, loss: Loss::TooLarge, detail }
    }
}

/// How many units a reader has taken in; the reader counts, the stream compares.
#[derive(Clone, Default)]
pub(crate) struct Intake(Arc<AtomicU64>);

impl Intake {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A boxed stream of what a reader finds. A reader can go on after an error: what failed is counted already, and
/// the next call gives what comes after it.
pub(crate) type Items = Box<dyn Iterator<Item = Result<Item>>>;

/// A source that has been opened.
pub(crate) struct Raw {
    pub(crate) items: Items,
    pub(crate) intake: Intake,
    pub(crate) place: String,
}

impl Raw {
    /// Errors that concern one input become a counted loss.
    pub(crate) fn lenient(self, names: Names) -> Self {
        let items = self.items.map(move |item| {
            item.or_else(|error| match error.lost(&names) {
                Some((id, loss, detail)) => {
                    tracing::warn!("skipped: {error}");
                    Ok(Item::Lost { id, loss, detail })
                }
                None => Err(error),
            })
        });
        Self { items: Box::new(items), ..self }
    }
}

/// The documents of one source, in an order that does not depend on the machine. Ends after the first error.
pub struct Documents {
    items: Items,
    intake: Intake,
    place: String,
    counts: Counts,
    seen_texts: HashSet<u128>,
    ended: bool,
}

impl Documents {
    pub(crate) fn new(raw: Raw) -> Self {
        let Raw { items, intake, place } = raw;
        Self { items, intake, place, counts: Counts::default(), seen_texts: HashSet::new(), ended: false }
    }

    /// The counts up to here; complete once the stream has ended.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Folder, file or list of crates, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn lose(&mut self, id: &str, loss: Loss) {
        tracing::debug!(id, reason = loss.name(), "left out");
        let map = if loss.is_failure() { &mut self.counts.failed } else { &mut self.counts.dropped };
        *map.entry(loss.name().to_owned()).or_default() += 1;
    }

    fn admit(&mut self, document: Document) -> Option<Document> {
        let (text, nuls) = normalise(document.text);
        self.counts.nuls_removed += nuls;
        if text.trim().is_empty() {
            self.lose(&document.id, Loss::Empty);
            return None;
        }
        if !self.seen_texts.insert(content_key(&text)) {
            self.lose(&document.id, Loss::Duplicate);
            return None;
        }
        self.counts.kept += 1;
        self.counts.bytes += text.len() as u64;
        Some(Document { text, ..document })
    }

    fn finish(&mut self) -> Option<Result<Document>> {
        self.ended = true;
        let (seen, accounted) = (self.counts.seen, self.counts.accounted());
        (seen != accounted).then(|| Err(Error::Tally { place: self.place.clone(), seen, accounted }))
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let item = self.items.next();
            self.counts.seen = self.intake.get();
            match item {
                None => return self.finish(),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                Some(Ok(Item::Lost { id, loss, .. })) => self.lose(&id, loss),
                Some(Ok(Item::Document(document))) => {
                    if let Some(document) = self.admit(document) {
                        return Some(Ok(document));
                    }
                }
            }
        }
        None
    }
}

/// 128 bits of blake3: two different texts of one corpus do not meet.
pub(crate) fn content_key(text: &str) -> u128 {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(key)
}

/// `\r\n` to `\n`, no byte order mark, no NUL; and how many NULs there were.
pub(crate) fn normalise(mut text: String) -> (String, u64) {
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        text = rest.to_owned();
    }
    if memchr::memchr(b'\r', text.as_bytes()).is_some() && text.contains("\r\n") {
        text = text.replace("\r\n", "\n");
    }
    let nuls = memchr::memchr_iter(0, text.as_bytes()).count() as u64;
    if nuls > 0 {
        text = text.replace('\0', "");
    }
    (text, nuls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(items: Vec<Item>, intake: u64) -> Documents {
        let counter = Intake::default();
        (0..intake).for_each(|_| counter.one());
        let items = Box::new(items.into_iter().map(Ok));
        Documents::new(Raw { items, intake: counter, place: "here".to_owned() })
    }

    fn document(id: &str, text: &str) -> Item {
        Item::Document(Document { id: id.to_owned(), text: text.to_owned(), meta: Meta::default() })
    }

    #[test]
    fn texts_are_normalised_and_duplicates_after_that_are_dropped() {
        let items = vec![
            document("a", "\u{feff}one\r\ntwo\0\n"),
            document("b", "one\ntwo\n"),
            document("c", " \n\0"),
            Item::lost("d".to_owned(), Loss::NotUtf8),
        ];
        let mut stream = stream(items, 4);
        let kept: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
        assert_eq!((kept.len(), kept[0].id.as_str(), kept[0].text.as_str()), (1, "a", "one\ntwo\n"));
        let counts = stream.counts();
        assert_eq!((counts.seen, counts.accounted(), counts.kept, counts.bytes), (4, 4, 1, 8));
        assert_eq!(counts.nuls_removed, 2);
        assert_eq!(counts.to_string(), "4 seen, 1 kept, 1 duplicate, 1 empty, 1 not-utf8");
    }

    #[test]
    fn a_unit_that_vanishes_is_an_error() {
        let last = stream(vec![document("a", "one")], 2).last().unwrap();
        assert!(matches!(last, Err(Error::Tally { seen: 2, accounted: 1, .. })));
    }
}
