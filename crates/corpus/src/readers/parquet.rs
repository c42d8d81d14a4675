//! `kind = "parquet"`: columns of parquet files.
//!
//! Only the columns that the recipe names are read and decompressed, row group by row group, page by page. String,
//! large string and string view are one thing in the file (byte arrays that say they are UTF-8); binary columns are
//! taken when they hold UTF-8. All are read as bytes: the library's own conversion gives up a whole file for one text
//! that is not what its column says.

mod rows;

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Fields, Selection};
use super::jsonl::Paths;
use super::listing::{InputFile, Listing};
use super::template::Template;
use crate::document::{Document, Intake, Item, Items, Loss, OnError, Raw};
use crate::error::{Error, Result};
use crate::source::Environment;
use rows::Rows;

/// Parquet files, one document per row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ParquetSource {
    /// A file, a folder (all its .parquet files, sorted), or a list of both.
    pub path: Paths,
    /// How a row becomes a text: `{column}` is replaced by the column; `{{` and `}}` are braces.
    #[serde(default = "default_template")]
    pub template: String,
    /// The columns that hold what is known of a document.
    #[serde(default)]
    pub fields: Fields,
    /// A longer text is dropped and counted. Bytes; 16 MiB.
    #[serde(default = "default_max_document_bytes")]
    pub max_document_bytes: u64,
    /// A column chunk that grows by more than this factor (beyond its first 64 MiB) is an error; 200.
    #[serde(default = "default_max_ratio")]
    pub max_ratio: u64,
}

fn default_template() -> String {
    "{content}".to_owned()
}

const fn default_max_document_bytes() -> u64 {
    16 << 20
}

const fn default_max_ratio() -> u64 {
    200
}

/// Decompressed bytes of a column chunk that need no justification.
const FREE_BYTES: u64 = 64 << 20;

impl ParquetSource {
    pub(crate) fn check(&self) -> Result<()> {
        self.path.check()?;
        self.selection().map(drop)
    }

    fn selection(&self) -> Result<Selection> {
        let template =
            Template::parse(&self.template).map_err(|message| Error::Setting { key: "template", message })?;
        Ok(Selection::new(template, self.fields.clone()))
    }

    pub(crate) fn list(&self, environment: &Environment, on_error: OnError) -> Result<Listing> {
        self.path.list(environment, on_error, &[".parquet"])
    }
}

pub(crate) fn read(listing: &Listing, source: &ParquetSource) -> Result<Raw> {
    let intake = Intake::default();
    let items = RowItems {
        files: listing.files.clone().into(),
        selection: source.selection()?,
        max_document_bytes: source.max_document_bytes,
        max_ratio: source.max_ratio,
        current: None,
        intake: intake.clone(),
    };
    Ok(Raw { items: Box::new(items) as Items, intake, place: listing.place.clone() })
}

struct RowItems {
    files: VecDeque<InputFile>,
    selection: Selection,
    max_document_bytes: u64,
    max_ratio: u64,
    current: Option<Open>,
    intake: Intake,
}

struct Open {
    id: String,
    path: PathBuf,
    rows: Rows,
    row: u64,
    expected: u64,
}

impl RowItems {
    fn advance(&mut self) -> Result<Option<Item>> {
        loop {
            let Some(open) = &mut self.current else {
                let Some(file) = self.files.pop_front() else { return Ok(None) };
                if let Some(loss) = file.loss {
                    self.intake.one();
                    return Ok(Some(Item::lost(file.id.into(), loss)));
                }
                self.current = Some(self.open(file).inspect_err(|_| self.intake.one())?);
                continue;
            };
            let Some(row) = guard(&open.path, || open.rows.next().transpose()).transpose() else {
                let (path, row, expected) = (open.path.clone(), open.row, open.expected);
                self.current = None;
                if row == expected {
                    continue;
                }
                self.intake.one();
                let message = format!("{row} rows, expected {expected} as its footer says");
                return Err(Error::Parquet { path, message });
            };
            self.intake.one();
            open.row += 1;
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    self.current = None;
                    return Err(error);
                }
            };
            let id = format!("{}:{}", open.id, open.row);
            let object = match object(row) {
                Ok(object) => object,
                Err(NotUtf8) => return Ok(Some(Item::lost(id, Loss::NotUtf8))),
            };
            let (text, meta) = self.selection.document(&object).map_err(|message| Error::Row {
                path: open.path.clone(),
                row: open.row,
                message,
            })?;
            let (bytes, limit) = (text.len() as u64, self.max_document_bytes);
            if bytes > limit {
                return Ok(Some(Item::too_large(id, bytes, limit, "max-document-bytes")));
            }
            return Ok(Some(Item::Document(Document { id, text, meta })));
        }
    }

    fn open(&self, file: InputFile) -> Result<Open> {
        let path = file.path();
        let opened = File::open(&path).map_err(Error::io("read", &path))?;
        let reader = guard(&path, || SerializedFileReader::new(opened))?;
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema();
        let wanted = self.selection.wanted();
        let there = |name: &str| wanted.iter().any(|wanted| wanted == name);
        let fault = |message| Error::Parquet { path: path.clone(), message };
        if !schema.get_fields().iter().any(|field| there(field.name())) {
            let names: Vec<_> = schema.get_fields().iter().map(|f| f.name()).take(12).collect();
            let message =
                format!("none of the columns {}; the file has: {}", wanted.join(", "), names.join(", "));
            return Err(fault(message));
        }
        for group in metadata.row_groups() {
            for column in group.columns() {
                let name = column.column_path().parts().first();
                if !name.is_some_and(|name| wanted.contains(name)) {
                    continue;
                }
                let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
                let (compressed, grown) =
                    (number(column.compressed_size()), number(column.uncompressed_size()));
                let limit = FREE_BYTES.max(compressed.saturating_mul(self.max_ratio));
                if grown > limit {
                    return Err(Error::Bomb { path: path.clone(), compressed, limit });
                }
            }
        }
        let expected = metadata.file_metadata().num_rows() as u64;
        let rows = guard(&path, || Rows::new(reader, wanted))?;
        Ok(Open { id: file.id.into(), path, rows, row: 0, expected })
    }
}

impl Iterator for RowItems {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// A damaged file must not end the program, whatever the reader does with it.
fn guard<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let fault = |message| Error::Parquet { path: path.to_owned(), message };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| fault(short(&error))),
        Err(_) => Err(fault("its pages contradict each other".to_owned())),
    }
}

/// Characters of a message of the library, which may hold a whole cell.
const MESSAGE: usize = 200;

/// The beginning of a message, on one line.
fn short(error: &parquet::errors::ParquetError) -> String {
    let message = error.to_string().replace(char::is_control, " ");
    match message.char_indices().nth(MESSAGE) {
        None => message,
        Some((end, _)) => format!("{} …", &message[..end]),
    }
}

struct NotUtf8;

/// A row as the JSON object that it would be.
fn object(row: Row) -> Result<Map<String, Value>, NotUtf8> {
    row.into_columns().into_iter().map(|(name, field)| Ok((name, value(field)?))).collect()
}

fn value(field: Field) -> Result<Value, NotUtf8> {
    Ok(match field {
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => {
            Value::String(std::str::from_utf8(bytes.data()).map_err(|_| NotUtf8)?.to_owned())
        }
        Field::Group(row) => Value::Object(object(row)?),
        Field::ListInternal(list) => {
            let values: Result<Vec<_>, _> = list.elements().iter().cloned().map(value).collect();
            Value::Array(values?)
        }
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float(x) => x.into(),
        Field::Double(x) => x.into(),
        other => Value::String(other.to_string()),
    })
}
