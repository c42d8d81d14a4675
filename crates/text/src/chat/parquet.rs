//! Rows of a Parquet file as JSON records, the way public instruction sets are distributed: lists of structs are lists of
//! objects, whatever the file calls the levels between.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::SerializedFileReader;
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::error::{ChatError, ChatResult};

/// The rows of a file in order, read one row group at a time.
pub struct ParquetRows {
    path: PathBuf,
    rows: RowIter<'static>,
    number: usize,
}

impl ParquetRows {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no Parquet.
    pub fn open(path: &Path) -> ChatResult<Self> {
        let file = File::open(path).map_err(|source| ChatError::Read { path: path.to_owned(), source })?;
        let reader = SerializedFileReader::new(file).map_err(|e| malformed(path, &e))?;
        Ok(Self { path: path.to_owned(), rows: RowIter::from_file_into(Box::new(reader)), number: 0 })
    }
}

impl Iterator for ParquetRows {
    /// The number of the row, from 1, and its columns.
    type Item = ChatResult<(usize, Map<String, Value>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.number += 1;
        let number = self.number;
        let row = self.rows.next()?;
        Some(row.map_err(|e| malformed(&self.path, &e)).and_then(|row| {
            let unread = |column: String| ChatError::Malformed {
                path: self.path.clone(),
                expected: format!("columns of text, numbers, lists and structs in row {number}"),
                found: format!("column `{column}` of another kind"),
            };
            Ok((number, object(&row).map_err(unread)?))
        }))
    }
}

fn malformed(path: &Path, error: &ParquetError) -> ChatError {
    ChatError::Malformed {
        path: path.to_owned(),
        expected: "a Parquet file".to_owned(),
        found: error.to_string().replace('\n', " "),
    }
}

/// The columns of a row, or the name of one that JSON has no value for.
fn object(row: &Row) -> Result<Map<String, Value>, String> {
    row.get_column_iter()
        .map(|(name, field)| Ok((name.clone(), value(field).ok_or_else(|| name.clone())?)))
        .collect()
}

fn value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(b) => (*b).into(),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float(x) => f64::from(*x).into(),
        Field::Double(x) => (*x).into(),
        Field::Str(s) => s.clone().into(),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).ok()?.into(),
        Field::Group(row) => Value::Object(object(row).ok()?),
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Option<Vec<_>>>()?.into(),
        _ => return None,
    })
}
