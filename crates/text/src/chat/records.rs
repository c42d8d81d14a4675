//! Files of records: a JSON list, JSON lines, plain or compressed, or Parquet.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{ChatError, ChatResult, Fault};
use super::parquet::ParquetRows;

/// Endings of the names of files that can be read.
const ENDINGS: &[&str] = &[
    ".json",
    ".json.gz",
    ".json.zst",
    ".jsonl",
    ".jsonl.gz",
    ".jsonl.zst",
    ".ndjson",
    ".ndjson.gz",
    ".ndjson.zst",
    ".parquet",
];

/// The records of one file in order, each with its number from 1: its place in a list, its line in JSON lines, its row in
/// Parquet. A line that is no JSON is a fault of that record alone, and the next one can be read; any other error is the
/// last item.
pub struct Records {
    path: PathBuf,
    from: From,
}

enum From {
    List(std::iter::Enumerate<std::vec::IntoIter<Value>>),
    Lines { reader: Box<dyn BufRead>, line: usize },
    Rows(Box<ParquetRows>),
}

impl Records {
    /// Opens a file. A list is read whole; lines are read one at a time.
    ///
    /// # Errors
    /// A name with an unknown ending, a file that cannot be read, or a `.json` that holds no list.
    pub fn open(path: &Path) -> ChatResult<Self> {
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        if !ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            return Err(ChatError::Malformed {
                path: path.to_owned(),
                expected: format!("a name that ends in {}", ENDINGS.join(", ")),
                found: name,
            });
        }
        if name.ends_with(".parquet") {
            let rows = ParquetRows::open(path)?;
            return Ok(Self { path: path.to_owned(), from: From::Rows(Box::new(rows)) });
        }
        let read = |source| ChatError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let mut reader: Box<dyn BufRead> = if name.ends_with(".gz") {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))))
        } else if name.ends_with(".zst") {
            Box::new(BufReader::new(zstd::Decoder::new(file).map_err(read)?))
        } else {
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        let from = if name.contains(".jsonl") || name.contains(".ndjson") {
            From::Lines { reader, line: 0 }
        } else {
            let mut text = String::new();
            reader.read_to_string(&mut text).map_err(read)?;
            let malformed = |found: String| ChatError::Malformed {
                path: path.to_owned(),
                expected: "a JSON list of records".to_owned(),
                found,
            };
            match serde_json::from_str(&text) {
                Ok(Value::Array(list)) => From::List(list.into_iter().enumerate()),
                Ok(_) => return Err(malformed("another JSON value".to_owned())),
                Err(error) => return Err(malformed(error.to_string())),
            }
        };
        Ok(Self { path: path.to_owned(), from })
    }

    fn next_line(
        reader: &mut dyn BufRead,
        line: &mut usize,
        path: &Path,
    ) -> Option<ChatResult<(usize, Value)>> {
        let mut text = String::new();
        loop {
            text.clear();
            *line += 1;
            match reader.read_line(&mut text) {
                Ok(0) => return None,
                Ok(_) if text.trim().is_empty() => continue,
                Ok(_) => {}
                Err(source) => return Some(Err(ChatError::Read { path: path.to_owned(), source })),
            }
            let number = *line;
            let fault = |error: serde_json::Error| {
                ChatError::conversation(Fault::Format, format!("not JSON: {error}")).at(path, number)
            };
            return Some(serde_json::from_str(text.trim()).map(|value| (number, value)).map_err(fault));
        }
    }
}

impl Iterator for Records {
    type Item = ChatResult<(usize, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.from {
            From::List(list) => list.next().map(|(i, value)| Ok((i + 1, value))),
            From::Lines { reader, line } => Self::next_line(reader, line, &self.path),
            From::Rows(rows) => rows.next().map(|row| row.map(|(n, columns)| (n, Value::Object(columns)))),
        };
        if matches!(&next, Some(Err(error)) if error.fault().is_none()) {
            // A stream that failed once has no next record.
            self.from = From::List(Vec::new().into_iter().enumerate());
        }
        next
    }
}

/// The files of a path: itself, or every readable one in a folder, by name.
///
/// # Errors
/// A path that is not there, or a folder without such files.
pub fn conversation_files(path: &Path) -> ChatResult<Vec<PathBuf>> {
    let read = |source| ChatError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        let name = file.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        if file.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ChatError::Malformed {
            path: path.to_owned(),
            expected: format!("files that end in {}", ENDINGS.join(", ")),
            found: "none".to_owned(),
        });
    }
    Ok(files)
}
