//! Tensors over mapped files: a frozen weight is never copied, and its pages are shared with the page cache.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;
use tch::{Kind, Tensor};

use crate::ffi::{self, Error};

/// A CPU tensor of `shape` and `kind` whose memory is `range` of the mapping. Nothing is copied: the tensor and all its
/// views hold the mapping open. The mapping is copy on write (checkpoint's are): writing the tensor in place changes
/// private pages and never the file, but it gives up the point, so callers hand it out as a frozen weight.
///
/// # Errors
/// [`Error::Misaligned`] when its start is not aligned to the element (then the caller copies); otherwise when the
/// range lies outside the mapping or its length is not that of the shape.
pub fn tensor_over_mapping(
    mapping: Arc<MmapMut>,
    range: Range<usize>,
    shape: &[i64],
    kind: Kind,
) -> Result<Tensor, Error> {
    let scalar_type = match kind {
        // The numbers of c10::ScalarType, which are part of PyTorch's file formats and never change.
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::BFloat16 => 15,
        other => return Err(Error::Argument(format!("no mapped tensors of {other:?}, only floating point"))),
    };
    let element = kind.elt_size_in_bytes();
    let elements =
        shape.iter().try_fold(1usize, |n, &d| usize::try_from(d).ok().and_then(|d| n.checked_mul(d)));
    if elements.and_then(|n| n.checked_mul(element)) != Some(range.len()) {
        return Err(Error::Argument(format!(
            "shape {shape:?} of {kind:?} does not fill {} bytes of the mapping",
            range.len()
        )));
    }
    let bytes = mapping.get(range.clone()).ok_or_else(|| {
        Error::Argument(format!("bytes {range:?} lie outside a mapping of {} bytes", mapping.len()))
    })?;
    let data = bytes.as_ptr();
    if data.align_offset(element) != 0 {
        return Err(Error::Misaligned(range.start));
    }
    let owner = Box::into_raw(Box::new(Arc::clone(&mapping))).cast::<c_void>();
    let mut out = std::ptr::null_mut();
    // SAFETY: `data` points at `range.len()` readable and writable bytes, as many as the shape says (checked above), and
    // they stay mapped until `release` drops the Arc in `owner`, which libtorch calls once, when the last view is gone.
    // Nobody holds a Rust reference into them for longer than a call.
    let message = unsafe {
        ffi::lp_tensor_over(&mut out, data.cast(), shape.as_ptr(), shape.len(), scalar_type, owner, release)
    };
    ffi::check(message)?;
    // SAFETY: on success `out` is a new at::Tensor that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
}

extern "C" fn release(owner: *mut c_void) {
    // SAFETY: `owner` came from Box::into_raw in `tensor_over_mapping` and is released once.
    drop(unsafe { Box::from_raw(owner.cast::<Arc<MmapMut>>()) });
}
