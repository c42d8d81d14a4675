//! Documents from .jsonl, .json, .csv and .parquet files, plain or gzipped.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use llama_pro_text::chat::{ChatError, ParquetRows};
use serde_json::Value;

use crate::tasks::Doc;
use crate::{Error, Result};

/// The most bytes that a file may have once it is unpacked. The largest public set of these tasks has some 50 MB.
const MOST_BYTES: u64 = 2 << 30;

/// Reads a file of documents by its name: one JSON object a line, one list of objects, a table with a head, or Parquet.
///
/// # Errors
/// [`Error::Data`] with the line or row, for what is not that.
pub fn read_documents(path: &Path) -> Result<Vec<Doc>> {
    documents(path, &[])
}

/// The same, where these columns of a table are text even if they hold nothing but digits.
pub(super) fn documents(path: &Path, text_columns: &[String]) -> Result<Vec<Doc>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".parquet") {
        return parquet(path);
    }
    let text = text(path)?;
    if name.contains(".csv") { csv(path, &text, text_columns) } else { json(path, &text) }
}

fn fail(path: &Path, message: impl Into<String>) -> Error {
    Error::Data { place: path.display().to_string(), message: message.into() }
}

fn text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| fail(path, format!("cannot read: {e}")))?;
    let zipped = path.extension().is_some_and(|end| end == "gz");
    let reader: Box<dyn Read> =
        if zipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut bytes = Vec::new();
    reader
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(path, format!("cannot read: {e}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(fail(path, format!("expected at most {MOST_BYTES} bytes of text, found more")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        fail(path, format!("line {line}: not UTF-8"))
    })
}

fn json(path: &Path, text: &str) -> Result<Vec<Doc>> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with('[') {
        let docs: Vec<Value> =
            serde_json::from_str(start).map_err(|e| fail(path, format!("not JSON: {e}")))?;
        return docs
            .into_iter()
            .enumerate()
            .map(|(i, v)| object(path, &format!("item {}", i + 1), v))
            .collect();
    }
    let lines = start.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let place = format!("line {}", i + 1);
            let value =
                serde_json::from_str(line).map_err(|e| fail(path, format!("{place}: not JSON: {e}")))?;
            object(path, &place, value)
        })
        .collect()
}

fn object(path: &Path, place: &str, value: Value) -> Result<Doc> {
    match value {
        Value::Object(doc) => Ok(doc),
        other => {
            let kind = match other {
                Value::Array(_) => "a list",
                Value::String(_) => "a string",
                Value::Number(_) => "a number",
                _ => "something else",
            };
            Err(fail(path, format!("{place}: expected an object with columns, found {kind}")))
        }
    }
}

/// A table whose first row names the columns. A column of whole numbers is one, a column of JSON lists or objects is
/// that, and everything else is text.
fn csv(path: &Path, text: &str, text_columns: &[String]) -> Result<Vec<Doc>> {
    let wrong = |e: csv::Error| fail(path, format!("not a table: {}", e.to_string().replace('\n', " ")));
    let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let names: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().map_err(wrong)?;
    let mut docs: Vec<Doc> = rows.iter().map(|_| Doc::new()).collect();
    for (i, name) in names.iter().enumerate() {
        let cells = || rows.iter().map(|row| row.get(i).unwrap_or(""));
        let all = |read: fn(&str) -> Option<Value>| cells().map(read).collect::<Option<Vec<Value>>>();
        let typed = if text_columns.contains(name) { None } else { all(number).or_else(|| all(nested)) };
        let values = typed.unwrap_or_else(|| cells().map(Value::from).collect());
        for (doc, value) in docs.iter_mut().zip(values) {
            doc.insert(name.clone(), value);
        }
    }
    Ok(docs)
}

/// A whole number, written as numbers are: `007` and `+7` are text.
fn number(cell: &str) -> Option<Value> {
    let number: i64 = cell.parse().ok()?;
    (number.to_string() == cell).then(|| number.into())
}

fn nested(cell: &str) -> Option<Value> {
    if !cell.starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str(cell).ok()
}

fn parquet(path: &Path) -> Result<Vec<Doc>> {
    let wrong = |error| match error {
        ChatError::Read { source, .. } => fail(path, format!("cannot read: {source}")),
        ChatError::Malformed { expected, found, .. } => {
            fail(path, format!("not Parquet: expected {expected}, found {found}"))
        }
        other => fail(path, other.to_string()),
    };
    ParquetRows::open(path).map_err(wrong)?.map(|row| row.map(|(_, doc)| doc).map_err(wrong)).collect()
}
