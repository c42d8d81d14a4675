//! Which tensor goes into which shard, and every byte of the headers, known before anything is written.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::header;
use crate::tensor::{Source, Tensor, byte_len};
use crate::weights::Weights;

/// A file of weights to be written.
pub(crate) struct PlannedFile<'a> {
    pub(crate) name: String,
    /// Length, JSON and padding.
    pub(crate) header: Vec<u8>,
    pub(crate) tensors: Vec<PlannedTensor<'a>>,
    /// Size of the whole file in bytes.
    pub(crate) size: u64,
}

/// A tensor with its place in the file.
pub(crate) struct PlannedTensor<'a> {
    pub(crate) tensor: Tensor<'a>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl PlannedFile<'_> {
    /// Bytes that take space on the disk: zeros are left as a hole.
    pub(crate) fn stored(&self) -> u64 {
        let zeros = |t: &&PlannedTensor<'_>| matches!(t.tensor.source, Source::Zeros);
        self.size - self.tensors.iter().filter(zeros).map(|t| t.len).sum::<u64>()
    }
}

/// Fills shards in the order given, as transformers does: a new one begins where the next tensor would take the
/// current one beyond `max_shard_bytes` (of tensors, without the header).
pub(crate) fn shards<'a>(
    out: &Path,
    tensors: Vec<Tensor<'a>>,
    max_shard_bytes: u64,
    weights: Weights,
) -> Result<Vec<PlannedFile<'a>>> {
    let mut groups: Vec<Vec<(Tensor<'a>, u64)>> = vec![Vec::new()];
    let mut filled = 0;
    for (tensor, len) in check(out, tensors)? {
        let full = filled + len > max_shard_bytes && groups.last().is_some_and(|group| !group.is_empty());
        if full {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += len;
        if let Some(group) = groups.last_mut() {
            group.push((tensor, len));
        }
    }
    let (count, stem) = (groups.len(), weights.stem());
    let name = |at: usize| match count {
        1 => weights.single(),
        _ => format!("{stem}-{:05}-of-{count:05}.safetensors", at + 1),
    };
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    groups.into_iter().enumerate().map(|(at, group)| file(out, name(at), &metadata, group)).collect()
}

/// One file with all the tensors.
pub(crate) fn single<'a>(
    out: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<Tensor<'a>>,
) -> Result<PlannedFile<'a>> {
    let group = check(out, tensors)?;
    file(out, out.display().to_string(), metadata, group)
}

/// Wide elements come first, and the order given is kept among equals, so that every tensor begins at a
/// multiple of its element's size whatever the mixture.
fn file<'a>(
    out: &Path,
    name: String,
    metadata: &BTreeMap<String, String>,
    mut group: Vec<(Tensor<'a>, u64)>,
) -> Result<PlannedFile<'a>> {
    group.sort_by_key(|(tensor, _)| std::cmp::Reverse(tensor.dtype.bitsize()));
    let entries = group.iter().map(|(t, len)| (t.name.as_str(), t.dtype, t.shape.as_slice(), *len));
    let header = header::build(metadata, entries);
    if header.len() as u64 > header::LONGEST {
        return Err(Error::usage(out, format!("the header of {name} would have {} bytes", header.len())));
    }
    let mut at = header.len() as u64;
    let mut place = |(tensor, len)| {
        let planned = PlannedTensor { tensor, offset: at, len };
        at += len;
        planned
    };
    let tensors = group.into_iter().map(&mut place).collect();
    Ok(PlannedFile { name, header, tensors, size: at })
}

/// Every tensor once, each with as many bytes as its dtype and shape say.
fn check<'a>(out: &Path, tensors: Vec<Tensor<'a>>) -> Result<Vec<(Tensor<'a>, u64)>> {
    let mut seen = HashSet::with_capacity(tensors.len());
    let mut total = 0u64;
    let mut one = |tensor: Tensor<'a>| {
        let fail = |problem: String| Err(Error::tensor(out, &tensor.name, problem));
        if tensor.name == "__metadata__" || !seen.insert(tensor.name.clone()) {
            return fail("the name is taken".to_owned());
        }
        let Some(len) = byte_len(tensor.dtype, &tensor.shape) else {
            return fail(format!(
                "shape {:?} of {} is no countable number of bytes",
                tensor.shape, tensor.dtype
            ));
        };
        total = match total.checked_add(len) {
            Some(sum) if sum < 1 << 60 => sum,
            _ => return fail("all tensors together are too large".to_owned()),
        };
        match &tensor.source {
            Source::Bytes(bytes) if bytes.len() as u64 != len => fail(format!(
                "shape {:?} of {} takes {len} bytes, given are {}",
                tensor.shape,
                tensor.dtype,
                bytes.len()
            )),
            Source::Copy { checkpoint, name } => {
                let info = checkpoint.info(name)?;
                if (info.dtype, &info.shape) == (tensor.dtype, &tensor.shape) {
                    return Ok((tensor, len));
                }
                fail(format!(
                    "planned as {} {:?}, but {name} is {} {:?}",
                    tensor.dtype, tensor.shape, info.dtype, info.shape
                ))
            }
            _ => Ok((tensor, len)),
        }
    };
    tensors.into_iter().map(&mut one).collect()
}
