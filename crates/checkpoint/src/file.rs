//! One safetensors file, its header checked, its bytes mapped; and careful opening of files in general.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapMut;

use crate::error::{Error, Result};
use crate::header::{self, HeaderTensor, LONGEST};
use crate::map::map;

/// A mapped safetensors file: a shard of a checkpoint, or any other file of tensors.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    map: Arc<MmapMut>,
    size: u64,
    data_begin: u64,
    metadata: BTreeMap<String, String>,
    by_offset: Vec<HeaderTensor>,
    by_name: BTreeMap<String, usize>,
}

impl TensorFile {
    /// Opens a file and checks its header against its size. No tensor is read.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = open_regular(path)?;
        let mut length = [0; 8];
        if size < 8 {
            return Err(Error::file(path, format!("{size} bytes are too few for a safetensors file")));
        }
        file.read_exact_at(&mut length, 0).map_err(|e| Error::io("read", path, e))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            return Err(Error::file(
                path,
                format!("the header claims {length} bytes, allowed are {LONGEST}"),
            ));
        }
        if length > size - 8 {
            let problem =
                format!("the header claims {length} bytes, but the file has only {size}: it is truncated");
            return Err(Error::file(path, problem));
        }
        let mut text = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut text, 8).map_err(|e| Error::io("read", path, e))?;
        let data_begin = 8 + length;
        let header = header::parse_header(path, &text, size - data_begin)?;
        let map = map(&file).map_err(|e| Error::io("map", path, e))?;
        let by_name =
            header.tensors.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at)).collect();
        Ok(Self {
            path: path.into(),
            file,
            map: Arc::new(map),
            size,
            data_begin,
            metadata: header.metadata,
            by_offset: header.tensors,
            by_name,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the whole file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The strings of `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The tensors in the order of their bytes; `begin` and `end` count from [`Self::data_begin`].
    pub fn tensors(&self) -> &[HeaderTensor] {
        &self.by_offset
    }

    /// Where the data part begins in the file.
    pub fn data_begin(&self) -> u64 {
        self.data_begin
    }

    /// The header's entry for a tensor.
    pub fn info(&self, name: &str) -> Result<&HeaderTensor> {
        match self.by_name.get(name) {
            Some(&at) => Ok(&self.by_offset[at]),
            None => Err(Error::tensor(&self.path, name, "is not in this file")),
        }
    }

    /// The bytes of a tensor, in the mapping.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let range = self.range(self.info(name)?);
        Ok(&self.map[range])
    }

    /// The mapping and the byte range of a tensor in it.
    pub fn mapped(&self, name: &str) -> Result<(Arc<MmapMut>, Range<usize>)> {
        let range = self.range(self.info(name)?);
        Ok((Arc::clone(&self.map), range))
    }

    /// Fits, because the mapping covers the file and the header was checked against its size.
    fn range(&self, tensor: &HeaderTensor) -> Range<usize> {
        (self.data_begin + tensor.begin) as usize..(self.data_begin + tensor.end) as usize
    }

    /// The open file, for copying without touching the mapping.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Opens a regular file for reading and gives its size. A pipe or a device would block or never end.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    if !meta.is_file() {
        return Err(Error::WrongKind { path: path.into(), expected: "regular file" });
    }
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
    Ok((file, size))
}

/// Reads a text file of bounded size.
pub(crate) fn read_text(path: &Path, largest: u64) -> Result<String> {
    let (file, size) = open_regular(path)?;
    if size > largest {
        return Err(Error::file(path, format!("{size} bytes are too many, allowed are {largest}")));
    }
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    String::from_utf8(bytes)
        .map_err(|e| Error::file(path, format!("no UTF-8 from byte {}", e.utf8_error().valid_up_to())))
}
