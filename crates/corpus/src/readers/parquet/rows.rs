//! Rows of a parquet file with every text as the bytes that it is.
//!
//! The library makes a `String` of each text as it reads a row. If one is no UTF-8, that is an error in the middle of
//! the row: the other columns stay behind, and all that follows is lost. So it is shown the same columns without the
//! promise that they are UTF-8, and what they hold is judged where the row is whole.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, Type as PhysicalType};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::{ReaderIter, RowIter, TreeBuilder};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};

/// Rows decoded at a time: with the largest allowed documents still less than a gigabyte.
const BATCH_ROWS: usize = 32;

/// The rows of some columns, row group by row group.
pub(super) struct Rows {
    file: SerializedFileReader<File>,
    /// All columns, and those that are read.
    schema: SchemaDescPtr,
    projection: SchemaDescPtr,
    group: usize,
    rows: Option<ReaderIter>,
}

impl Rows {
    /// The columns whose names are wanted, which must be some.
    pub(super) fn new(file: SerializedFileReader<File>, wanted: &[String]) -> Result<Self> {
        let schema = file.metadata().file_metadata().schema();
        let fields = schema.get_fields().iter().map(as_bytes).collect::<Result<Vec<_>>>()?;
        let root = |fields: Vec<Arc<Type>>| {
            let root = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
            Ok::<_, ParquetError>(Arc::new(SchemaDescriptor::new(Arc::new(root))))
        };
        let those = fields.iter().filter(|field| wanted.iter().any(|name| name == field.name()));
        let (projection, schema) = (root(those.cloned().collect())?, root(fields)?);
        Ok(Self { file, schema, projection, group: 0, rows: None })
    }

    /// The next row, or an error after which there is none.
    pub(super) fn next(&mut self) -> Option<Result<Row>> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return Some(row);
            }
            if self.group == self.file.num_row_groups() {
                return None;
            }
            match self.open(self.group) {
                Ok(rows) => self.rows = Some(rows),
                Err(error) => return Some(Err(error)),
            }
            self.group += 1;
        }
    }

    fn open(&self, group: usize) -> Result<ReaderIter> {
        let group = self.file.get_row_group(group)?;
        // Of the metadata, rows are built from the number of rows and the types of the columns alone.
        let columns = self.schema.columns().iter().map(|column| {
            let of = ColumnChunkMetaData::builder(column.clone());
            of.build()
        });
        let metadata = RowGroupMetaData::builder(self.schema.clone())
            .set_num_rows(group.metadata().num_rows())
            .set_column_metadata(columns.collect::<Result<_>>()?)
            .build()?;
        let group = Bytes { group, metadata };
        TreeBuilder::new().with_batch_size(BATCH_ROWS).as_iter(self.projection.clone(), &group)
    }
}

/// A row group that says of its columns what `metadata` says.
struct Bytes<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    metadata: RowGroupMetaData,
}

impl RowGroupReader for Bytes<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        &self.metadata
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        self.group.get_column_page_reader(column)
    }

    fn get_column_bloom_filter(&self, column: usize) -> Option<&Sbbf> {
        self.group.get_column_bloom_filter(column)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        self.group.get_row_iter(projection)
    }
}

/// The same type, but its texts are bytes of which nothing is promised.
fn as_bytes(of: &Arc<Type>) -> Result<Arc<Type>> {
    let info = of.get_basic_info();
    let id = info.has_id().then(|| info.id());
    match &**of {
        Type::PrimitiveType { physical_type: PhysicalType::BYTE_ARRAY, .. }
            if matches!(
                info.converted_type(),
                ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
            ) =>
        {
            let builder = Type::primitive_type_builder(of.name(), PhysicalType::BYTE_ARRAY).with_id(id);
            builder.with_repetition(info.repetition()).build().map(Arc::new)
        }
        Type::PrimitiveType { .. } => Ok(of.clone()),
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(as_bytes).collect::<Result<Vec<_>>>()?;
            let builder = Type::group_type_builder(of.name()).with_fields(fields).with_id(id);
            let builder = builder.with_converted_type(info.converted_type());
            let builder = builder.with_logical_type(info.logical_type_ref().cloned());
            // Only the root has none, and it does not come here.
            builder.with_repetition(info.repetition()).build().map(Arc::new)
        }
    }
}
