//! `kind = "text"`: .txt, .md and .tex files, whole or cut into documents.
//!
//! Read as a stream of lines, so a file of any size needs the memory of its largest document.

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::listing::{self, InputFile, Listing};
use super::stream::{Limits, LineReader};
use crate::document::{Document, Intake, Item, Items, Loss, Meta, OnError, Raw};
use crate::error::{Error, Result};
use crate::source::Environment;

/// A text file, or a folder of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TextSource {
    /// A file, or a folder whose .txt, .md and .tex files are read in the order of their paths.
    pub path: PathBuf,
    /// Where a document ends: "file", "blank-lines", or the separator itself, such as "<|endoftext|>".
    #[serde(default)]
    pub split: Split,
    /// With "blank-lines": a paragraph joins the document before it unless it begins with one of these. For
    /// collections whose documents have blank lines inside, such as stories: `["Once upon a time", "One day"]`.
    #[serde(default)]
    pub starts_with: Vec<String>,
    /// A longer document is dropped and counted. Bytes; 16 MiB.
    #[serde(default = "default_max_document_bytes")]
    pub max_document_bytes: u64,
}

const fn default_max_document_bytes() -> u64 {
    16 << 20
}

/// Where one document ends and the next begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Split {
    /// `"file"`: the whole file is one document.
    #[default]
    File,
    /// `"blank-lines"`: at one or more blank lines.
    BlankLines,
    /// Anything else: at this text, which belongs to neither side. May span lines.
    Separator(String),
}

impl From<String> for Split {
    fn from(text: String) -> Self {
        match text.as_str() {
            "file" => Self::File,
            "blank-lines" => Self::BlankLines,
            _ => Self::Separator(text),
        }
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        match split {
            Split::File => "file".to_owned(),
            Split::BlankLines => "blank-lines".to_owned(),
            Split::Separator(text) => text,
        }
    }
}

impl TextSource {
    pub(crate) fn check(&self) -> Result<()> {
        if self.split == Split::Separator(String::new()) {
            return Err(Error::Setting {
                key: "split",
                message: "expected \"file\", \"blank-lines\" or a separator, found an empty text".to_owned(),
            });
        }
        if !self.starts_with.is_empty() && self.split != Split::BlankLines {
            return Err(Error::Setting {
                key: "starts-with",
                message: "only has a meaning with split = \"blank-lines\"".to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn list(&self, environment: &Environment, on_error: OnError) -> Result<Listing> {
        let path = environment.resolve(&self.path);
        let files = if path.is_dir() {
            listing::walk(&path, "", false, on_error, |relative, _| {
                let extension = listing::extension(relative);
                extension.is_some_and(|extension| ["txt", "md", "tex"].contains(&extension.as_str()))
            })?
        } else {
            vec![listing::single(&path)?]
        };
        Ok(Listing { place: path.display().to_string(), files })
    }
}

pub(crate) fn read(listing: &Listing, source: &TextSource) -> Raw {
    let intake = Intake::default();
    let items = TextItems {
        files: listing.files.clone().into(),
        source: source.clone(),
        current: None,
        ready: VecDeque::new(),
        intake: intake.clone(),
    };
    let items: Items = Box::new(items);
    Raw { items, intake, place: listing.place.clone() }
}

struct TextItems {
    files: VecDeque<InputFile>,
    source: TextSource,
    current: Option<Cutter>,
    ready: VecDeque<Chunk>,
    intake: Intake,
}

impl TextItems {
    fn advance(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                // Nothing between two separators is no document, and nothing is lost by it.
                if chunk.loss.is_none() && chunk.bytes.trim_ascii().is_empty() {
                    continue;
                }
                self.intake.one();
                return Ok(Some(chunk.into_item(&self.source)));
            }
            match &mut self.current {
                Some(cutter) => {
                    match cutter.read_line(&self.source, &mut self.ready) {
                        Ok(true) => {}
                        Ok(false) => self.current = None,
                        Err(error) => {
                            // What was not finished before the damage is not a document. After a long line others
                            // may come, unless the file is one.
                            match matches!(error, Error::Line { .. }) && self.source.split != Split::File {
                                true => cutter.lose(),
                                false => self.current = None,
                            }
                            self.intake.one();
                            return Err(error);
                        }
                    }
                }
                None => match self.files.pop_front() {
                    Some(file) if file.loss.is_some() => {
                        self.intake.one();
                        return Ok(Some(Item::lost(file.id.into(), file.loss.unwrap_or(Loss::Unreadable))));
                    }
                    Some(file) => match Cutter::open(file, &self.source) {
                        Ok(cutter) => self.current = Some(cutter),
                        Err(error) => {
                            self.intake.one();
                            return Err(error);
                        }
                    },
                    None => return Ok(None),
                },
            }
        }
    }
}

impl Iterator for TextItems {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// A finished piece of a file.
struct Chunk {
    id: String,
    path: String,
    bytes: Vec<u8>,
    loss: Option<Loss>,
}

impl Chunk {
    fn into_item(self, source: &TextSource) -> Item {
        let Self { id, path, bytes, loss } = self;
        let language = listing::language(std::path::Path::new(&path));
        if let Some(loss) = loss {
            return Item::lost(id, loss);
        }
        let Ok(text) = String::from_utf8(bytes) else { return Item::lost(id, Loss::NotUtf8) };
        // The white space around a separator belongs to the separator.
        let text = if source.split == Split::File { text } else { text.trim().to_owned() };
        let meta = Meta { path: Some(path), language, ..Meta::default() };
        Item::Document(Document { id, text, meta })
    }
}

/// Cuts one file into chunks.
struct Cutter {
    file_id: String,
    reader: LineReader,
    line: Vec<u8>,
    /// The document so far.
    pending: Vec<u8>,
    /// The line on which it began.
    first_line: u64,
    /// It is already longer than allowed; its bytes are not kept.
    oversized: bool,
    /// It holds a line that was too long and is counted already; what is left of it is passed over.
    lost: bool,
    /// The line before was blank, or there was none.
    after_blank: bool,
}

impl Cutter {
    fn open(file: InputFile, source: &TextSource) -> Result<Self> {
        // A line may hold many documents, so its limit is far above theirs.
        let max_line_bytes = source.max_document_bytes.saturating_mul(4).max(1 << 28);
        let limits = Limits {
            max_line_bytes,
            key: "four times max-document-bytes, and 256 MiB at least",
            max_ratio: u64::MAX,
        };
        Ok(Self {
            reader: LineReader::open(&file.path(), limits)?,
            file_id: file.id.into(),
            line: Vec::new(),
            pending: Vec::new(),
            first_line: 1,
            oversized: false,
            lost: false,
            after_blank: true,
        })
    }

    /// Takes one line; false at the end of the file, when the last chunk is ready.
    fn read_line(&mut self, source: &TextSource, ready: &mut VecDeque<Chunk>) -> Result<bool> {
        if !self.reader.next_line(&mut self.line)? {
            let rest = std::mem::take(&mut self.pending);
            self.emit(rest, source, ready);
            return Ok(false);
        }
        // A separator with line feeds in it must match files with carriage returns too.
        if self.line.ends_with(b"\r\n") {
            self.line.truncate(self.line.len() - 2);
            self.line.push(b'\n');
        }
        match &source.split {
            Split::File => self.append(source, 0),
            Split::BlankLines => self.by_blank_lines(source, ready),
            Split::Separator(separator) => self.by_separator(separator.as_bytes(), source, ready),
        }
        Ok(true)
    }

    /// Gives up the document of which a line could not be read.
    fn lose(&mut self) {
        self.pending.clear();
        (self.oversized, self.lost, self.after_blank) = (false, true, false);
    }

    /// Adds the line to the document; of an oversized one only the last `tail` bytes are kept.
    fn append(&mut self, source: &TextSource, tail: usize) {
        if !self.oversized && self.pending.trim_ascii().is_empty() {
            self.first_line = self.reader.line();
        }
        self.pending.extend_from_slice(&self.line);
        self.limit(source, tail);
    }

    fn limit(&mut self, source: &TextSource, tail: usize) {
        self.oversized |= self.pending.len() as u64 > source.max_document_bytes;
        if self.oversized {
            self.pending.drain(..self.pending.len().saturating_sub(tail));
        }
    }

    /// Ends a document: `bytes` is all of it, unless it was oversized.
    fn emit(&mut self, bytes: Vec<u8>, source: &TextSource, ready: &mut VecDeque<Chunk>) {
        if std::mem::take(&mut self.lost) {
            self.oversized = false;
            return;
        }
        let oversized = std::mem::take(&mut self.oversized) || bytes.len() as u64 > source.max_document_bytes;
        let id = match source.split {
            Split::File => self.file_id.clone(),
            _ => format!("{}:{}", self.file_id, self.first_line),
        };
        let path = self.file_id.clone();
        ready.push_back(Chunk { id, path, bytes, loss: oversized.then_some(Loss::TooLarge) });
    }

    fn by_blank_lines(&mut self, source: &TextSource, ready: &mut VecDeque<Chunk>) {
        if self.line.trim_ascii().is_empty() {
            self.after_blank = true;
            return;
        }
        if std::mem::take(&mut self.after_blank) {
            let starters = &source.starts_with;
            if starters.is_empty() || starters.iter().any(|start| self.line.starts_with(start.as_bytes())) {
                let document = std::mem::take(&mut self.pending);
                self.emit(document, source, ready);
            } else if !self.pending.is_empty() {
                self.pending.push(b'\n');
            }
        }
        self.append(source, 0);
    }

    fn by_separator(&mut self, separator: &[u8], source: &TextSource, ready: &mut VecDeque<Chunk>) {
        // A separator may have begun in the lines before; its first bytes are kept even of oversized documents.
        let tail = separator.len() - 1;
        let mut from = self.pending.len().saturating_sub(tail);
        if !self.oversized && self.pending.trim_ascii().is_empty() {
            self.first_line = self.reader.line();
        }
        self.pending.extend_from_slice(&self.line);
        let mut start = 0;
        while let Some(at) = memchr::memmem::find(&self.pending[from..], separator) {
            let document = self.pending[start..from + at].to_vec();
            self.emit(document, source, ready);
            self.first_line = self.reader.line();
            start = from + at + separator.len();
            from = start;
        }
        self.pending.drain(..start);
        self.limit(source, tail);
    }
}
