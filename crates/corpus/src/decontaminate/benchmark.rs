//! The items of a benchmark file: JSON lines, one JSON array of objects, or a table of comma-separated values.

use std::path::Path;

use serde_json::{Map, Value};

use super::Benchmark;
use crate::document::Loss;
use crate::error::{Error, Result};
use crate::readers::{Limits, LineReader};

/// Arrays and tables are read whole; a larger one is no benchmark.
const MOST_BYTES: u64 = 1 << 30;

/// Calls `each` with every item and its number: the line of JSON lines, otherwise the place among the items, from 1.
pub(super) fn items(
    benchmark: &Benchmark,
    path: &Path,
    each: &mut dyn FnMut(u64, Map<String, Value>),
) -> Result<()> {
    let limits = Limits { max_line_bytes: 64 << 20, key: "64 MiB", max_ratio: 1000 };
    let mut reader = LineReader::open(path, limits)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    if name.ends_with(".csv") {
        return table(benchmark.header, path, &reader.rest(MOST_BYTES)?, each);
    }
    if !benchmark.header {
        let message = format!("benchmark `{}`: only .csv files have a header", benchmark.name);
        return Err(Error::Setting { key: "header", message });
    }
    // No object begins so, and no line of JSON lines is an array here.
    if reader.first_byte()? == Some(b'[') {
        return array(path, &reader.rest(MOST_BYTES)?, each);
    }
    let mut line = Vec::new();
    while reader.next_line(&mut line)? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = serde_json::from_slice(&line)
            .map_err(|error| reader.error(Loss::NotJson, format!("not a JSON object: {error}")))?;
        each(reader.line(), object);
    }
    Ok(())
}

/// `serde_json` names line and column.
fn array(path: &Path, bytes: &[u8], each: &mut dyn FnMut(u64, Map<String, Value>)) -> Result<()> {
    let fault = |error: serde_json::Error| {
        let (path, line) = (path.to_owned(), error.line() as u64);
        Error::Line {
            path,
            line,
            loss: Loss::NotJson,
            message: format!("not an array of JSON objects: {error}"),
        }
    };
    let objects: Vec<Map<String, Value>> = serde_json::from_slice(bytes).map_err(fault)?;
    (1..).zip(objects).for_each(|(number, object)| each(number, object));
    Ok(())
}

/// Cells are texts; one that is a JSON list is its texts, as the columns of Hugging Face's sets are written to tables.
fn table(
    header: bool,
    path: &Path,
    bytes: &[u8],
    each: &mut dyn FnMut(u64, Map<String, Value>),
) -> Result<()> {
    let fault = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        let message = format!("not a table of comma-separated values: {error}");
        Error::Line { path: path.to_owned(), line, loss: Loss::Damaged, message }
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(header).from_reader(bytes);
    let names: Vec<String> = match header {
        true => reader.headers().map_err(fault)?.iter().map(str::to_owned).collect(),
        false => Vec::new(),
    };
    for (number, record) in (1..).zip(reader.records()) {
        let record = record.map_err(fault)?;
        let cell = |text: &str| match text.starts_with('[') {
            true => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
            false => Value::from(text),
        };
        let name = |column: usize| names.get(column).cloned().unwrap_or_else(|| (column + 1).to_string());
        each(number, record.iter().enumerate().map(|(column, text)| (name(column), cell(text))).collect());
    }
    Ok(())
}
