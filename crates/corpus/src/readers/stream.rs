//! Lines of a plain, gzip or zstd file, with a limit on the length of a line and on the growth of the whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::document::Loss;
use crate::error::{Error, Result};

/// Decompressed bytes that need no justification, whatever the ratio.
const FREE_BYTES: u64 = 64 << 20;

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Limits of a [`LineReader`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest line in bytes.
    pub(crate) max_line_bytes: u64,
    /// The key of the recipe that sets it, for the message.
    pub(crate) key: &'static str,
    /// Decompressed bytes per compressed byte, above the first 64 MiB.
    pub(crate) max_ratio: u64,
}

/// Reads lines; knows its path and line number for messages.
pub(crate) struct LineReader {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// Size on disk when the file is compressed.
    compressed: Option<u64>,
    limits: Limits,
    line: u64,
    bytes: u64,
    /// The last line was longer than allowed, and the rest of it is still to come.
    within_long_line: bool,
}

impl LineReader {
    pub(crate) fn open(path: &Path, limits: Limits) -> Result<Self> {
        let io = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let file = BufReader::with_capacity(1 << 17, file);
        let extension = super::listing::extension(path);
        let (reader, compressed): (Box<dyn BufRead + Send>, _) = match extension.as_deref() {
            // Multi-member: gzip files made by concatenation or in parallel have many.
            Some("gz") => (Box::new(BufReader::new(MultiGzDecoder::new(file))), Some(len)),
            Some("zst") => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(io)?;
                // Files made with --long=31 need the largest window.
                decoder.window_log_max(31).map_err(io)?;
                (Box::new(BufReader::with_capacity(1 << 17, decoder)), Some(len))
            }
            _ => (Box::new(file), None),
        };
        Ok(Self {
            path: path.to_owned(),
            reader,
            compressed,
            limits,
            line: 0,
            bytes: 0,
            within_long_line: false,
        })
    }

    /// The number of the line read last, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// An error at the line read last.
    pub(crate) fn error(&self, loss: Loss, message: String) -> Error {
        Error::Line { path: self.path.clone(), line: self.line, loss, message }
    }

    /// Fills `line` with the next line and its line feed, if it has one, without a byte order mark at the beginning of the
    /// file; false at the end of the file. After a line
    /// that is too long, and only then, the next call goes on with the line after it.
    pub(crate) fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        let limit = self.limits.max_line_bytes;
        while self.within_long_line {
            self.take(line, 1 << 20)?;
            self.within_long_line = !line.is_empty() && !line.ends_with(b"\n");
        }
        self.take(line, limit.saturating_add(1))?;
        if line.is_empty() {
            return Ok(false);
        }
        self.line += 1;
        if self.line == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.len() as u64 > limit {
            self.within_long_line = !line.ends_with(b"\n");
            let message = format!("line longer than {limit} bytes ({})", self.limits.key);
            return Err(self.error(Loss::LongLine, message));
        }
        Ok(true)
    }

    /// The first byte that is no white space and no byte order mark, which is passed over. Only before the first line,
    /// and only as far as the buffer goes.
    pub(crate) fn first_byte(&mut self) -> Result<Option<u8>> {
        let (compressed, path) = (self.compressed, &self.path);
        let fault = |source| match compressed {
            Some(_) => Error::Decompress { path: path.clone(), read: 0, source },
            None => Error::Io { action: "read", path: path.clone(), source },
        };
        if self.reader.fill_buf().map_err(fault)?.starts_with(BYTE_ORDER_MARK) {
            self.reader.consume(BYTE_ORDER_MARK.len());
        }
        Ok(self.reader.fill_buf().map_err(fault)?.trim_ascii_start().first().copied())
    }

    /// All that is still to come.
    pub(crate) fn rest(&mut self, limit: u64) -> Result<Vec<u8>> {
        let (mut all, mut some) = (Vec::new(), Vec::new());
        loop {
            self.take(&mut some, 1 << 20)?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&some);
            if all.len() as u64 > limit {
                let message = format!("{}: more than {limit} bytes", self.path.display());
                return Err(Error::Setting { key: "path", message });
            }
        }
    }

    /// At most `limit` bytes of a line.
    fn take(&mut self, line: &mut Vec<u8>, limit: u64) -> Result<()> {
        line.clear();
        let got = (&mut self.reader).take(limit).read_until(b'\n', line);
        self.bytes += line.len() as u64;
        got.map_err(|source| match self.compressed {
            Some(_) => Error::Decompress { path: self.path.clone(), read: self.bytes, source },
            None => Error::Io { action: "read", path: self.path.clone(), source },
        })?;
        self.check_growth()
    }

    fn check_growth(&self) -> Result<()> {
        let Some(compressed) = self.compressed else { return Ok(()) };
        let limit = FREE_BYTES.max(compressed.saturating_mul(self.limits.max_ratio));
        if self.bytes > limit {
            return Err(Error::Bomb { path: self.path.clone(), compressed, limit });
        }
        Ok(())
    }
}
