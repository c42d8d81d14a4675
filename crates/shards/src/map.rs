//! Files as memory. The one module of this crate with unsafe code.
#![expect(unsafe_code, reason = "mapping a file is unsafe whatever is done with it")]

use std::fs::{self, File};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result, io};

/// Maps a regular file for reading. Anything else (a folder, a pipe that would block) is an error.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let metadata = fs::metadata(path).map_err(io(path, "open"))?;
    if !metadata.is_file() {
        return Err(Error::Corrupt {
            path: path.to_path_buf(),
            field: "file".into(),
            expected: "a regular file".into(),
            found: "a folder or device".into(),
        });
    }
    let file = File::open(path).map_err(io(path, "open"))?;
    // SAFETY: the map is private to this crate, read-only, and only ever read as bytes, for which every value is
    // valid. Shards are written to a temporary name and renamed, so no program of ours changes or shortens a file
    // that has this name; another program that did would make later reads fail with SIGBUS, which no check here
    // could prevent.
    unsafe { MmapOptions::new().map(&file) }.map_err(io(path, "map"))
}
