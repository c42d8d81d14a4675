//! What a tensor is on disk, where its bytes come from when it is written, and its digest.

use std::borrow::Cow;

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;

/// A tensor to be written.
pub struct Tensor<'a> {
    /// The Hugging Face name.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The bytes: little-endian, rows one after the other.
    pub source: Source<'a>,
}

/// Where the bytes of a tensor to be written come from.
pub enum Source<'a> {
    /// From memory.
    Bytes(Cow<'a, [u8]>),
    /// From another checkpoint, without passing through a tensor.
    Copy {
        /// The checkpoint; only its file is read, not its mapping.
        checkpoint: &'a Checkpoint,
        /// The tensor's name there.
        name: String,
    },
    /// All bytes zero.
    Zeros,
    /// Made when it is its turn, such as a trained tensor that lies on a device.
    Lazy(Box<dyn Fn() -> Vec<u8> + Send + Sync + 'a>),
}

/// A tensor in a file, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Index of the file in `Checkpoint::shards`.
    pub shard: usize,
    /// Where its bytes begin, counted from the start of the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// The digest of a tensor's bytes as it stands in manifests: `blake3:` and 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    label(&blake3::hash(bytes))
}

pub(crate) fn label(hash: &blake3::Hash) -> String {
    format!("blake3:{}", hash.to_hex())
}

/// Bytes of a tensor, or `None` where the sizes overflow or sub-byte elements fill no whole number of bytes.
pub(crate) fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, &size| n.checked_mul(u64::try_from(size).ok()?))?;
    let bits = elements.checked_mul(u64::try_from(dtype.bitsize()).ok()?)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}
