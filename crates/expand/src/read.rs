//! Tensors read in pieces: digest, zero check and comparison in one pass and in constant memory.
//!
//! The pieces come through `pread`, not through the mapping: pages of a mapping that were touched count as resident
//! memory, and a file that another process cuts short gives an error here instead of a signal.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use llama_pro_checkpoint::Checkpoint;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::record::TensorRecord;

const PIECE: usize = 1 << 18;

/// A checkpoint with its files open for reading in pieces.
pub(crate) struct Reader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    files: Vec<(File, PathBuf)>,
}

/// What one pass over a tensor found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) digest: String,
    /// Offset of the first byte that is not 0.
    pub(crate) nonzero: Option<u64>,
    /// For each twin, the offset of the first byte that differs.
    pub(crate) differs: Vec<Option<u64>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Result<Self> {
        let open = |shard: &llama_pro_checkpoint::Shard| {
            let path = shard.path().to_owned();
            let file = File::open(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
            Ok((file, path))
        };
        Ok(Self { checkpoint, files: checkpoint.shards().iter().map(open).collect::<Result<_>>()? })
    }

    /// Reads a tensor once, and each twin beside it. Twins must be of the same length; a shorter or longer one
    /// differs where the shorter ends.
    pub(crate) fn inspect(&self, name: &str, twins: &[(&Reader<'_>, &str)]) -> Result<Findings> {
        let len = self.checkpoint.info(name)?.len;
        let mut hasher = blake3::Hasher::new();
        let mut found = Findings { digest: String::new(), nonzero: None, differs: vec![None; twins.len()] };
        let mut lengths = Vec::with_capacity(twins.len());
        for (reader, twin) in twins {
            lengths.push(reader.checkpoint.info(twin)?.len);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE))];
        let mut other = vec![0; if twins.is_empty() { 0 } else { piece.len() }];
        let mut at = 0;
        while at < len {
            let take = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let bytes = &mut piece[..take];
            self.read(name, at, bytes)?;
            hasher.update(bytes);
            if found.nonzero.is_none() {
                found.nonzero = bytes.iter().position(|byte| *byte != 0).map(|index| at + index as u64);
            }
            for (((reader, twin), twin_len), differs) in twins.iter().zip(&lengths).zip(&mut found.differs) {
                if differs.is_some() {
                    continue;
                }
                let common = usize::try_from(twin_len.saturating_sub(at)).unwrap_or(take).min(take);
                reader.read(twin, at, &mut other[..common])?;
                *differs = if bytes[..common] == other[..common] {
                    (common < take).then(|| at + common as u64)
                } else {
                    bytes
                        .iter()
                        .zip(&other[..common])
                        .position(|(a, b)| a != b)
                        .map(|index| at + index as u64)
                };
            }
            at += take as u64;
        }
        for (twin_len, differs) in lengths.iter().zip(&mut found.differs) {
            if differs.is_none() && *twin_len > len {
                *differs = Some(len);
            }
        }
        found.digest = format!("blake3:{}", hasher.finalize().to_hex());
        Ok(found)
    }

    fn read(&self, name: &str, at: u64, into: &mut [u8]) -> Result<()> {
        let info = self.checkpoint.info(name)?;
        let (file, path) = &self.files[info.shard];
        file.read_exact_at(into, info.offset + at).map_err(|source| Error::Io { path: path.clone(), source })
    }
}

/// What a record says of every tensor of a folder: read in parallel.
pub(crate) fn records(checkpoint: &Checkpoint) -> Result<BTreeMap<String, TensorRecord>> {
    let reader = Reader::new(checkpoint)?;
    let names: Vec<&str> = checkpoint.names().collect();
    let record = |name: &&str| {
        let info = checkpoint.info(name)?;
        let digest = reader.inspect(name, &[])?.digest;
        Ok(((*name).to_owned(), TensorRecord { dtype: info.dtype, shape: info.shape.clone(), digest }))
    };
    names.par_iter().map(record).collect()
}
