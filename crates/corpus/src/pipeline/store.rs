//! The documents of one part on disk, with the hashes by which duplicates are found.
//!
//! `documents.zst` holds one record per document: length and JSON of what is known of it, length and bytes of its
//! text. `contents.bin` holds 16 bytes per document. `bands.bin` holds the band hashes of 1,024 documents at a time,
//! band by band, so that one band of all documents is read without the others and writing needs no memory. Where
//! repeated lines are looked for, `lines.bin` holds for each document a number and so many hashes of lines.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::document::Meta;
use crate::error::{Error, Result};

/// Documents whose band hashes lie together.
const CHUNK: usize = 1024;

/// What a document's record begins with.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) meta: Meta,
}

/// A document as it goes into a part.
pub(super) struct Stored {
    /// Head and text, as they are written.
    pub(super) record: Vec<u8>,
    /// Content hash.
    pub(super) content: u128,
    /// One hash per band.
    pub(super) bands: Vec<u64>,
    /// One hash per long line; none where repeated lines are not looked for.
    pub(super) lines: Vec<u64>,
}

impl Stored {
    /// The bytes of a record.
    pub(super) fn record(head: &Head, text: &str) -> Result<Vec<u8>> {
        let head = serde_json::to_vec(head).map_err(|source| Error::Json { what: "a document", source })?;
        let mut record = Vec::with_capacity(head.len() + text.len() + 8);
        for bytes in [head.as_slice(), text.as_bytes()] {
            record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            record.extend_from_slice(bytes);
        }
        Ok(record)
    }
}

/// Writes a part into a folder.
pub(super) struct PartWriter {
    dir: PathBuf,
    documents: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    contents: BufWriter<File>,
    bands: BufWriter<File>,
    lines: Option<BufWriter<File>>,
    chunk: Vec<u64>,
    per_document: usize,
}

const DOCUMENTS: &str = "documents.zst";
const CONTENTS: &str = "contents.bin";
const BANDS: &str = "bands.bin";
const LINES: &str = "lines.bin";

fn create(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 18, File::create(path).map_err(Error::io("write", path))?))
}

impl PartWriter {
    pub(super) fn new(dir: &Path, bands: usize, lines: bool) -> Result<Self> {
        let path = dir.join(DOCUMENTS);
        let io = || Error::io("write", &path);
        let mut documents = zstd::stream::write::Encoder::new(create(&path)?, 1).map_err(io())?;
        documents.include_checksum(true).map_err(io())?;
        Ok(Self {
            documents,
            contents: create(&dir.join(CONTENTS))?,
            bands: create(&dir.join(BANDS))?,
            lines: lines.then(|| create(&dir.join(LINES))).transpose()?,
            dir: dir.to_owned(),
            chunk: Vec::new(),
            per_document: bands,
        })
    }

    pub(super) fn push(&mut self, document: &Stored) -> Result<()> {
        let io = |name: &str| {
            let path = self.dir.join(name);
            move |source| Error::Io { action: "write", path, source }
        };
        self.documents.write_all(&document.record).map_err(io(DOCUMENTS))?;
        self.contents.write_all(&document.content.to_le_bytes()).map_err(io(CONTENTS))?;
        if let Some(lines) = &mut self.lines {
            let mut write = |bytes: &[u8]| lines.write_all(bytes).map_err(io(LINES));
            write(&(document.lines.len() as u32).to_le_bytes())?;
            document.lines.iter().try_for_each(|hash| write(&hash.to_le_bytes()))?;
        }
        debug_assert_eq!(document.bands.len(), self.per_document);
        self.chunk.extend_from_slice(&document.bands);
        if self.per_document > 0 && self.chunk.len() == CHUNK * self.per_document {
            self.flush_chunk()?;
        }
        Ok(())
    }

    fn flush_chunk(&mut self) -> Result<()> {
        let path = self.dir.join(BANDS);
        for band in 0..self.per_document {
            for hash in self.chunk.iter().skip(band).step_by(self.per_document) {
                self.bands.write_all(&hash.to_le_bytes()).map_err(Error::io("write", &path))?;
            }
        }
        self.chunk.clear();
        Ok(())
    }

    /// Flushes everything to the disk; the files and their sizes.
    pub(super) fn finish(mut self) -> Result<Vec<(String, u64)>> {
        self.flush_chunk()?;
        let path = self.dir.join(DOCUMENTS);
        let documents = self.documents.finish().map_err(Error::io("write", &path))?;
        let mut sizes = Vec::new();
        let mut files = vec![(DOCUMENTS, documents), (CONTENTS, self.contents), (BANDS, self.bands)];
        files.extend(self.lines.map(|lines| (LINES, lines)));
        for (name, file) in files {
            let path = self.dir.join(name);
            let file = file.into_inner().map_err(|error| Error::io("write", &path)(error.into_error()))?;
            file.sync_all().map_err(Error::io("write", &path))?;
            sizes.push((name.to_owned(), file.metadata().map_err(Error::io("read", &path))?.len()));
        }
        Ok(sizes)
    }
}

/// Reads the documents of a part, one after the other.
pub(super) struct PartReader {
    path: PathBuf,
    file: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
}

impl PartReader {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(DOCUMENTS);
        let file = File::open(&path).map_err(Error::io("read", &path))?;
        let decoder = zstd::stream::read::Decoder::new(file).map_err(Error::io("read", &path))?;
        Ok(Self { file: BufReader::with_capacity(1 << 17, decoder), path })
    }

    /// The next document, or none after the last.
    pub(super) fn next(&mut self) -> Result<Option<(Head, String)>> {
        let damaged = || Error::Work { path: self.path.clone() };
        let mut first = [0; 4];
        let got = self.file.read(&mut first).map_err(|_| damaged())?;
        if got == 0 {
            return Ok(None);
        }
        self.file.read_exact(&mut first[got..]).map_err(|_| damaged())?;
        let mut read = |length: [u8; 4]| {
            let length = u64::from(u32::from_le_bytes(length));
            let mut bytes = Vec::with_capacity(length.min(1 << 26) as usize);
            let got = (&mut self.file).take(length).read_to_end(&mut bytes);
            if got.is_ok_and(|got| got as u64 == length) { Ok(bytes) } else { Err(damaged()) }
        };
        let head = read(first)?;
        let second = read([4, 0, 0, 0])?.try_into().map_err(|_| damaged())?;
        let text = String::from_utf8(read(second)?).map_err(|_| damaged())?;
        let head = serde_json::from_slice(&head).map_err(|_| damaged())?;
        Ok(Some((head, text)))
    }
}

/// Calls `each` with the content hash of every document of a part.
pub(super) fn contents(dir: &Path, each: &mut dyn FnMut(u128)) -> Result<()> {
    let path = dir.join(CONTENTS);
    let mut file = BufReader::with_capacity(1 << 17, File::open(&path).map_err(Error::io("read", &path))?);
    let mut hash = [0; 16];
    while !at_end(&mut file, &path)? {
        file.read_exact(&mut hash).map_err(|_| Error::Work { path: path.clone() })?;
        each(u128::from_le_bytes(hash));
    }
    Ok(())
}

/// Reads the hashes of lines of a part, document by document.
pub(super) struct LineReader {
    path: PathBuf,
    file: BufReader<File>,
}

impl LineReader {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(LINES);
        let file = File::open(&path).map_err(Error::io("read", &path))?;
        Ok(Self { file: BufReader::with_capacity(1 << 17, file), path })
    }

    /// The hashes of the next document.
    pub(super) fn next(&mut self, hashes: &mut Vec<u64>) -> Result<()> {
        let damaged = |_| Error::Work { path: self.path.clone() };
        hashes.clear();
        let mut number = [0; 4];
        self.file.read_exact(&mut number).map_err(damaged)?;
        for _ in 0..u32::from_le_bytes(number) {
            let mut hash = [0; 8];
            self.file.read_exact(&mut hash).map_err(damaged)?;
            hashes.push(u64::from_le_bytes(hash));
        }
        Ok(())
    }
}

/// Calls `each` with the hash of every document of a part in one band of so many.
pub(super) fn band(
    dir: &Path,
    documents: usize,
    band: usize,
    bands: usize,
    each: &mut dyn FnMut(u64),
) -> Result<()> {
    let path = dir.join(BANDS);
    let mut file = File::open(&path).map_err(Error::io("read", &path))?;
    let mut bytes = vec![0; CHUNK * 8];
    for first in (0..documents).step_by(CHUNK) {
        let n = CHUNK.min(documents - first);
        let at = (first * bands + n * band) * 8;
        file.seek(SeekFrom::Start(at as u64)).map_err(Error::io("read", &path))?;
        file.read_exact(&mut bytes[..n * 8]).map_err(|_| Error::Work { path: path.clone() })?;
        bytes[..n * 8].as_chunks().0.iter().for_each(|&hash| each(u64::from_le_bytes(hash)));
    }
    Ok(())
}

fn at_end(file: &mut BufReader<File>, path: &Path) -> Result<bool> {
    use std::io::BufRead;
    Ok(file.fill_buf().map_err(Error::io("read", path))?.is_empty())
}
