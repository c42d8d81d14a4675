//! The one place where memory is mapped.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it")]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a whole file for reading.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process, and only plain bytes are read from it, for which
    // every bit pattern is valid. What cannot be excluded is another process that changes the file while it is
    // mapped: changed bytes would then be seen as such, and reading past a new, shorter end kills the process
    // with SIGBUS. Files of weights are replaced by rename here and elsewhere, never written in place.
    unsafe { Mmap::map(file) }
}
