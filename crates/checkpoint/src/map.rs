//! The one place where memory is mapped.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it")]

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// Maps a whole file, copy on write: nothing in this crate writes to it, but tensors are made over it, and a tensor
/// can be written to by safe code. Such a write then changes a private page, never the file, and faults nowhere. No
/// swap is reserved, so a file larger than memory maps too.
pub(crate) fn map(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the map is private to this process, and only plain bytes are read from it, for which every bit pattern
    // is valid. What cannot be excluded is another process that changes the file while it is mapped: changed bytes
    // would then be seen as such, and reading past a new, shorter end kills the process with SIGBUS. Files of weights
    // are replaced by rename here and elsewhere, never written in place.
    unsafe { MmapOptions::new().no_reserve_swap().map_copy(file) }
}
